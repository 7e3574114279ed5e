"""mIoU over seen classes, over unseen classes, and their harmonic mean (docs/en/method.md#evaluation)."""

import logging
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

# The three values by which zero-shot segmentation is compared, in the order of tables.
SCORES = ('seen_mIoU', 'unseen_mIoU', 'hIoU')


@METRICS.register_module()
class ZeroShotMIoU(BaseMetric):
    """Compute ``seen_mIoU unseen_mIoU hIoU mIoU aAcc mAcc`` in percent, not rounded.

    The metric keeps three counters per class, whatever the number of images. Each process adds its newest sample to the
    counters later, when it is known whether the distributed sampler repeated that sample to fill up the last batch.
    A class that is absent from the ground truth is left out of every mean. A mean over no class is NaN: ``unseen_mIoU``
    and ``hIoU`` if every class is seen. mmengine logs NaN and never takes it for the best checkpoint's score.
    ``save_best='hIoU'`` also needs ``rule='greater'``; mmengine knows the rule of the other keys.

    Args:
        ignore_index (int): Label value that is not evaluated; any integer. Defaults to 255.
        unseen_classes (list[str], optional): Defaults to the dataset's ``metainfo['unseen_classes']``, else to none.
        kwargs: What mmengine's ``BaseMetric`` takes: ``collect_device``, ``prefix``.
    """

    def __init__(self, ignore_index: int = 255, unseen_classes: Sequence[str] | None = None, **kwargs) -> None:
        self.ignore_index = ignore_index
        self.unseen_classes = unseen_classes
        self._vocabulary: Vocabulary | None = None
        # Of the last evaluation: name, mark, IoU and Acc in percent, per class.
        self.per_class: list[dict] = []
        super().__init__(**kwargs)
        self._reset()

    def _reset(self) -> None:
        self.results.clear()
        self._counters: Tensor | int = 0
        self._newest: Tensor | int = 0
        self._samples = 0

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Set the dataset's ``classes`` and ``unseen_classes``; ValueError, before any image, if they disagree."""
        self._dataset_meta = dataset_meta
        self._vocabulary = None
        if dataset_meta and dataset_meta.get('classes'):
            self._vocabulary = self.vocabulary

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the dataset's classes, and which of them are unseen.

        Raises:
            ValueError: The dataset names no classes, or an unseen class is not among them.
        """
        if self._vocabulary is not None:
            return self._vocabulary
        meta = self.dataset_meta or {}
        if not meta.get('classes'):
            raise ValueError('ZeroShotMIoU: the dataset names no classes: give it metainfo=dict(classes=NAMES)')
        unseen = meta.get('unseen_classes') if self.unseen_classes is None else self.unseen_classes
        return Vocabulary(meta['classes'], unseen=unseen)

    def process(self, data_batch: dict | None, data_samples: Sequence[dict]) -> None:
        """Add the pixel counts of a batch.

        Args:
            data_batch (dict): Unused; part of mmengine's interface.
            data_samples (Sequence[dict]): With ``pred_sem_seg`` and ``gt_sem_seg``, each holding ``data`` (1, H, W) of
                any integer type, on any device.

        Raises:
            ValueError: A sample has no label, sizes differ, or a value is outside the class list; names the file.
        """
        num_classes = len(self.vocabulary)
        for sample in data_samples:
            name = str(sample.get('img_path') or f'sample {self._samples}')
            if 'gt_sem_seg' not in sample:
                # A sample without a label map has no such key.
                remedy = (
                    "add dict(type='mmzeg.LoadLabels') to the pipeline"
                    if sample.get('seg_map_path')
                    else 'the dataset has no label maps: set data_prefix.seg_map_path to their folder'
                )
                raise ValueError(f'{name}: no label to compare with: {remedy}')
            prediction = _label_map(sample['pred_sem_seg'])
            label = _label_map(sample['gt_sem_seg'])
            areas = count_areas(prediction, label.to(prediction.device), num_classes, self.ignore_index, name)
            self._counters = self._counters + self._newest
            self._newest = areas
            self._samples += 1

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the metrics over the ``size`` samples of the dataset, equal on every process, and reset the counters.

        Raises:
            ValueError: More samples were processed than the sampler's repeats explain.
        """
        # A process's k-th sample is number k * world_size + rank; a number beyond the dataset is a repeat.
        newest_index = (self._samples - 1) * dist.get_world_size() + dist.get_rank()
        surplus = newest_index - dist.get_world_size() >= size
        total = torch.zeros(3, len(self.vocabulary), dtype=torch.int64) + self._counters
        if newest_index < size:
            total += self._newest
        sample_counts = torch.tensor([self._samples, int(surplus)])
        self._reset()
        # Sum over all processes.
        dist.all_reduce(total)
        dist.all_reduce(sample_counts)
        num_samples, num_surplus = sample_counts.tolist()
        # All processes raise, or none: the others would wait for one that raised.
        if num_surplus:
            raise ValueError(f'ZeroShotMIoU: {num_samples} samples for a dataset of {size}: evaluate each sample once')
        if num_samples == 0:
            print_log('ZeroShotMIoU got no sample: is the dataset empty?', 'current', logging.WARNING)
        metrics = self.compute_metrics(list(total.numpy()))
        return {f'{self.prefix}/{name}' if self.prefix else name: value for name, value in metrics.items()}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the metrics of the counters: intersection, predicted and labelled areas, each (C,), in pixels."""
        metrics, iou, accuracy = summarize_areas(results, self.vocabulary.seen_mask)
        marks = ['seen' if is_seen else 'unseen' for is_seen in self.vocabulary.seen_mask]
        columns = zip(self.vocabulary.names, marks, iou.tolist(), accuracy.tolist(), strict=True)
        self.per_class = [dict(name=name, mark=mark, IoU=value, Acc=acc) for name, mark, value, acc in columns]
        table = PrettyTable(['class', 'seen', 'IoU', 'Acc'], align='l')
        for row in self.per_class:
            table.add_row([row['name'], row['mark'], f'{row["IoU"]:.2f}', f'{row["Acc"]:.2f}'])
        print_log('\n' + table.get_string(), 'current')
        return metrics


def summarize_areas(areas: Sequence, seen_mask: Sequence[bool]) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Return metrics, IoU and accuracy of the areas of every class.

    Args:
        areas (Sequence): Intersection, predicted and labelled areas, each (C,), in pixels; see ``count_areas``.
        seen_mask (Sequence[bool]): Which of the C classes are seen.

    Returns:
        tuple: The metrics of ``ZeroShotMIoU``, IoU (C,) and accuracy (C,), in percent; NaN for a class without ground
        truth.
    """
    intersection, predicted, labelled = (np.asarray(area, dtype=np.float64) for area in areas)
    present = labelled > 0
    seen = np.array(seen_mask)
    # IoU and accuracy per class
    with np.errstate(divide='ignore', invalid='ignore'):
        iou = np.where(present, 100 * intersection / (predicted + labelled - intersection), np.nan)
        accuracy = np.where(present, 100 * intersection / labelled, np.nan)
    # Means over seen classes, over unseen classes, and over all
    seen_miou = _mean(iou[seen])
    unseen_miou = _mean(iou[~seen])
    total = seen_miou + unseen_miou
    metrics = dict(
        seen_mIoU=seen_miou,
        unseen_mIoU=unseen_miou,
        hIoU=0.0 if total == 0 else 2 * seen_miou * unseen_miou / total,
        mIoU=_mean(iou),
        aAcc=float(100 * intersection.sum() / labelled.sum()) if present.any() else float('nan'),
        mAcc=_mean(accuracy),
    )
    return metrics, iou, accuracy


def _mean(values: np.ndarray) -> float:
    """Return the mean without NaNs, NaN if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float('nan')


def _label_map(pixel_data: dict) -> Tensor:
    """Return the (H, W) label map of a sample's field as a tensor."""
    data = pixel_data['data']
    # torch 2.1 has no 16-bit unsigned integers.
    data = torch.from_numpy(data.astype(np.int64)) if isinstance(data, np.ndarray) else data
    return data[0] if data.ndim == 3 else data


def count_areas(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int, name: str) -> Tensor:
    """Count the pixels of every class that are not ignored.

    Args:
        prediction (Tensor): (H, W) class indices.
        label (Tensor): (H, W) class indices or ``ignore_index``, on the same device.
        num_classes (int): C.
        ignore_index (int): Label value that is not counted.
        name (str): The sample, for error messages.

    Returns:
        Tensor: (3, C) int64 intersection, predicted and labelled areas, on the CPU.

    Raises:
        ValueError: Sizes differ, or a value lies outside [0, C); names the sample.
    """
    if prediction.shape != label.shape:
        sizes = ' and its label '.join(' x '.join(map(str, labels.shape)) for labels in (prediction, label))
        raise ValueError(f'{name}: the prediction is {sizes}: resize predictions to the size of the label')
    label = label.long()
    valid = label != ignore_index
    label = label[valid]
    prediction = prediction.long()[valid]
    for values, kind in ((label, 'label'), (prediction, 'predicted')):
        invalid = values[(values < 0) | (values >= num_classes)]
        if len(invalid):
            raise ValueError(
                f'{name}: {kind} value {invalid[0].item()} is outside the {num_classes} classes: check the class list '
                f'and ignore_index={ignore_index}'
            )
    areas = [label[label == prediction], prediction, label]
    return torch.stack([torch.bincount(area, minlength=num_classes) for area in areas]).cpu()
