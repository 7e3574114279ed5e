"""Separate the errors of masks from the errors of classification: two upper bounds, and the recall of masks."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from prettytable import PrettyTable
from torch import Tensor

from mmzeg.evaluation.zero_shot_miou import SCORES, count_areas, summarize_areas
from mmzeg.models.image_sizes import valid_size
from mmzeg.models.segmentors import ZegFormer
from mmzeg.models.semantic_map import assemble_semantic_map
from mmzeg.utils.tables import format_score

TRUE_MASKS, TRUE_NAMES = 'true masks', 'true names'
# A ground-truth mask counts as recalled if a predicted mask has at least this IoU with it.
MIN_IOU = 0.5


class Diagnosis:
    """Evaluate masks and classification apart, over the processed images.

    ``true masks``: the scorer classifies the ground-truth mask of every class (errors of classification only).
    ``true names``: every predicted mask gets the class of the ground-truth mask that it overlaps most (errors of masks
    only).

    Args:
        model (ZegFormer): In eval mode, with a scorer.
        ignore_index (int): Label value that is not counted. Defaults to 255.
    """

    def __init__(self, model: ZegFormer, ignore_index: int = 255) -> None:
        self.model = model
        self.ignore_index = ignore_index
        self.areas: dict[str, Tensor | int] = {TRUE_MASKS: 0, TRUE_NAMES: 0}
        # Per class: ground-truth masks, and those that are recalled.
        self.num_masks = torch.zeros(len(model.vocabulary))
        self.num_recalled = torch.zeros(len(model.vocabulary))

    @torch.no_grad()
    def process(self, batch: dict) -> None:
        """Add a batch of a test data loader whose images are tested at their original size.

        Raises:
            ValueError: An image is tested at another size than that of its label; names the file.
        """
        # Predict mask logits.
        batch = self.model.data_preprocessor(batch, False)
        inputs = batch['inputs']
        features = self.model.extract_features(inputs, [sample.metainfo for sample in batch['data_samples']])
        (mask_logits,) = self.model.decode_head(features, last_layer_only=True)[1].float()
        images = self.model.denormalize(inputs)
        for image, image_mask_logits, sample in zip(images, mask_logits, batch['data_samples'], strict=True):
            self._process_image(image, image_mask_logits, sample)

    def results(self) -> dict[str, dict[str, float | None]]:
        """Return the metrics of both upper bounds, and the recall of seen and of unseen masks.

        Returns:
            dict: ``true masks`` and ``true names`` with the metrics of ``ZeroShotMIoU``; ``recall`` with ``seen`` and
            ``unseen``, in percent. None for a mean over nothing.
        """
        seen = torch.tensor(self.model.vocabulary.seen_mask)
        rows = {name: summarize_areas(areas, seen.tolist())[0] for name, areas in self.areas.items()}
        rows['recall'] = dict(seen=self._recall(seen), unseen=self._recall(~seen))
        # JSON has no NaN.
        return {
            name: {key: None if value != value else value for key, value in row.items()} for name, row in rows.items()
        }

    def _process_image(self, image: Tensor, mask_logits: Tensor, sample: SegDataSample) -> None:
        """Add one image (3, H, W) with its mask logits (Q, h, w)."""
        name = sample.metainfo['img_path']
        height, width = valid_size(sample.metainfo, image)
        label = sample.gt_sem_seg.data[0]
        if label.shape != (height, width):
            raise ValueError(f'{name}: tested at another size than its label: not supported')
        # Ground-truth masks of the classes in the image
        classes = label.unique()
        classes = classes[classes != self.ignore_index]
        true_masks = label == classes[:, None, None]
        # Predicted masks at the same size
        mask_probs = F.interpolate(mask_logits[None], size=image.shape[-2:], mode='bilinear', align_corners=False)[0]
        mask_probs = mask_probs[:, :height, :width].sigmoid()
        overlap = mask_iou(mask_probs > 0.5, true_masks)
        # Both upper bounds
        self._count(TRUE_MASKS, self._classify_masks(image, true_masks, (height, width)), label, name)
        labels = _label_by_overlap(mask_probs, overlap, classes, len(self.num_masks))
        self._count(TRUE_NAMES, labels, label, name)
        # Recall
        recalled = classes[overlap.max(0).values >= MIN_IOU]
        self.num_masks += torch.bincount(classes, minlength=len(self.num_masks)).cpu()
        self.num_recalled += torch.bincount(recalled, minlength=len(self.num_masks)).cpu()

    def _classify_masks(self, image: Tensor, masks: Tensor, valid: tuple[int, int]) -> Tensor:
        """Return the label map (H, W) of ground-truth masks (N, H, W) that the scorer classifies."""
        height, width = valid
        padding = (0, image.shape[2] - width, 0, image.shape[1] - height)
        mask_logits = F.pad((masks.float() - 0.5) * 20, padding, value=-10)
        clip_logits = self.model.scorer(image, mask_logits, self.model.vocabulary, valid)
        semantic_map = assemble_semantic_map(clip_logits.softmax(-1)[None], mask_logits[None], image.shape[-2:])[0]
        return semantic_map[:, :height, :width].argmax(0)

    def _count(self, row: str, prediction: Tensor, label: Tensor, name: str) -> None:
        areas = count_areas(prediction, label, len(self.num_masks), self.ignore_index, name)
        self.areas[row] = self.areas[row] + areas

    def _recall(self, classes: Tensor) -> float:
        return (100 * self.num_recalled[classes].sum() / self.num_masks[classes].sum()).item()


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU (Q, N) of binary masks (Q, H, W) and (N, H, W)."""
    first = first.flatten(1).float()
    second = second.flatten(1).float()
    intersection = first @ second.t()
    union = first.sum(1)[:, None] + second.sum(1) - intersection
    return intersection / union.clamp(min=1)


def diagnosis_table(results: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return the results of a diagnosis as a table and a line of text."""
    table = PrettyTable(['', *SCORES], align='r')
    for name in (TRUE_MASKS, TRUE_NAMES):
        table.add_row([name, *(format_score(results[name][score]) for score in SCORES)])
    recall = [f'{name} -' if value is None else f'{name} {value:.1f} %' for name, value in results['recall'].items()]
    return f'{table}\nrecall of masks at IoU {MIN_IOU}: {", ".join(recall)}'


def _label_by_overlap(mask_probs: Tensor, overlap: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Return the label map of predicted masks that get the class of the ground-truth mask that they overlap most.

    Args:
        mask_probs (Tensor): (Q, H, W) in 0..1.
        overlap (Tensor): (Q, N) IoU with the ground-truth masks.
        classes (Tensor): (N,) class index of each ground-truth mask.
        num_classes (int): C.

    Returns:
        Tensor: (H, W) class indices.
    """
    labels = classes[overlap.argmax(1)]
    scores = F.one_hot(labels, num_classes).float() * overlap.max(1).values[:, None]
    return torch.einsum('qc,qhw->chw', scores, mask_probs).argmax(0)
