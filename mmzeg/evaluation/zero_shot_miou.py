"""mIoU over seen classes, over unseen classes, and their harmonic mean (reference "The task")."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine import dist
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from prettytable import PrettyTable
from torch import Tensor

from mmzeg.registry import METRICS
from mmzeg.vocabulary import Vocabulary


@METRICS.register_module()
class ZeroShotMIoU(BaseMetric):
    """Results ``seen_mIoU unseen_mIoU hIoU mIoU aAcc mAcc``, in percent, not rounded.

    Only three counters a class are kept, whatever the number of images; a process holds its newest sample back until it
    is known whether it is one that the distributed sampler repeated to fill up.
    A class that the ground truth does not hold is left out of every mean, as the released evaluator does; a mean over
    no class is NaN.

    Args:
        ignore_index (int): Label value that is not evaluated. Defaults to 255.
        unseen_classes (list[str], optional): Defaults to the dataset's ``metainfo['unseen_classes']``, else to none.
        kwargs: What mmengine's ``BaseMetric`` takes: ``collect_device``, ``prefix``.
    """

    def __init__(self, ignore_index: int = 255, unseen_classes: Sequence[str] | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.ignore_index, self.unseen_classes = ignore_index, unseen_classes
        self._reset()

    def _reset(self) -> None:
        self.results.clear()
        self._counters: Tensor | None = None
        self._newest: Tensor | None = None
        self._samples = 0

    @property
    def vocabulary(self) -> Vocabulary:
        """The dataset's classes, and which are unseen.

        Raises:
            ValueError: The dataset names no classes, or an unseen class is not among them.
        """
        meta = self.dataset_meta or {}
        if not meta.get('classes'):
            raise ValueError('ZeroShotMIoU: the dataset names no classes: give it metainfo=dict(classes=NAMES)')
        unseen = meta.get('unseen_classes', ()) if self.unseen_classes is None else self.unseen_classes
        return Vocabulary(meta['classes'], unseen=unseen)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count a batch.

        Args:
            data_batch (dict): Unused; mmengine's contract.
            data_samples (Sequence[dict]): With ``pred_sem_seg`` and ``gt_sem_seg``, each holding ``data`` (1, H, W).

        Raises:
            ValueError: Sizes differ, or a label value is outside the class list; names the file.
        """
        num_classes = len(self.vocabulary)
        for sample in data_samples:
            prediction = sample['pred_sem_seg']['data'].squeeze(0)
            label = sample['gt_sem_seg']['data'].squeeze(0).to(prediction.device)
            counted = count(prediction, label, num_classes, self.ignore_index, sample.get('img_path', 'an image'))
            if self._newest is not None:
                self._counters = self._newest if self._counters is None else self._counters + self._newest
            self._newest = counted
            self._samples += 1

    def evaluate(self, size: int) -> dict[str, float]:
        """Metrics over the ``size`` samples of the dataset, equal on every process; the counters start anew."""
        total = torch.zeros(3, len(self.vocabulary), dtype=torch.int64)
        if self._counters is not None:
            total += self._counters
        # mmengine deals sample k * world_size + rank to a process as its k-th; those beyond the dataset are repeats.
        newest_index = (self._samples - 1) * dist.get_world_size() + dist.get_rank()
        if self._newest is not None and newest_index < size:
            total += self._newest
        counted = torch.tensor(self._samples)
        device = dist.get_comm_device() if dist.is_distributed() else torch.device('cpu')
        total, counted = total.to(device), counted.to(device)
        dist.all_reduce(total)
        dist.all_reduce(counted)
        self._reset()
        if counted == 0:
            print_log('ZeroShotMIoU saw no sample: is the test dataset empty?', 'current', 30)
        metrics = self.compute_metrics(list(total.cpu().numpy()))
        return {f'{self.prefix}/{name}' if self.prefix else name: value for name, value in metrics.items()}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Metrics from the counters: intersection, prediction and label areas, each (C,), in pixels."""
        intersection, predicted, labelled = (np.asarray(part, dtype=np.float64) for part in results)
        vocabulary = self.vocabulary
        present = labelled > 0
        with np.errstate(divide='ignore', invalid='ignore'):
            iou = np.where(present, 100 * intersection / (predicted + labelled - intersection), np.nan)
            accuracy = np.where(present, 100 * intersection / labelled, np.nan)
        seen = np.array(vocabulary.seen_mask)
        seen_miou, unseen_miou = _mean(iou[seen]), _mean(iou[~seen])
        total = seen_miou + unseen_miou
        metrics = dict(
            seen_mIoU=seen_miou,
            unseen_mIoU=unseen_miou,
            hIoU=2 * seen_miou * unseen_miou / total if total > 0 else total,
            mIoU=_mean(iou),
            aAcc=float(100 * intersection.sum() / labelled.sum()) if present.any() else float('nan'),
            mAcc=_mean(accuracy),
        )
        table = PrettyTable(['class', 'seen', 'IoU', 'Acc'], align='l')
        for name, is_seen, one_iou, one_accuracy in zip(vocabulary.names, seen, iou, accuracy, strict=True):
            table.add_row([name, 'seen' if is_seen else 'unseen', f'{one_iou:.2f}', f'{one_accuracy:.2f}'])
        print_log('\n' + table.get_string(), 'current')
        return metrics


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float('nan')


def count(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int, name: str) -> Tensor:
    """Pixels of every class: (3, C) int64 intersection, predicted, labelled, over the pixels that are not ignored.

    Raises:
        ValueError: Sizes differ, or a value lies outside [0, C); names ``name``.
    """
    if prediction.shape != label.shape:
        raise ValueError(f'{name}: the prediction is {tuple(prediction.shape)} and its label {tuple(label.shape)}')
    label = label.long()
    valid = label != ignore_index
    label, prediction = label[valid], prediction.long()[valid]
    for values, what in ((label, 'label'), (prediction, 'predicted')):
        bad = values[(values < 0) | (values >= num_classes)]
        if len(bad):
            raise ValueError(
                f'{name}: {what} value {bad[0].item()} is outside the {num_classes} classes: check the class list and '
                f'ignore_index={ignore_index}'
            )
    areas = [label[label == prediction], prediction, label]
    return torch.stack([torch.bincount(area, minlength=num_classes) for area in areas]).cpu()
