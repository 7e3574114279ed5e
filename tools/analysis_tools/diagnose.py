"""Where a ZegFormer loses: masks or names? Ceilings with the other one true, and how many things the masks find.

python tools/analysis_tools/diagnose.py CONFIG CHECKPOINT
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import DictAction
from mmengine.utils import track_iter_progress
from prettytable import PrettyTable
from torch import Tensor

from mmzeg.evaluation.zero_shot_miou import count_areas, summarize_areas
from mmzeg.models import ZegFormer
from mmzeg.models.image_sizes import valid_size
from mmzeg.models.semantic_map import assemble_semantic_map
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors

sys.path.insert(0, str(Path(__file__).parent))
from sweep import SCORES, figure, ignore_index, load, require_scorer, write  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--data', choices=['val', 'test'], default='test', help='whose data loader')
    parser.add_argument('--out', type=Path, help='JSON file of the figures')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


class Diagnosis:
    """Two ceilings and the recall of class-agnostic masks, over the images it is given.

    ``true masks``: every class's true mask is named by the scorer (naming alone). ``true names``: every predicted
    segment gets the class that most of its pixels have (masks alone).
    """

    def __init__(self, model: ZegFormer, ignore_index: int = 255) -> None:
        self.model, self.ignore_index = model, ignore_index
        self.areas: dict[str, Tensor | int] = {'true masks': 0, 'true names': 0}
        self.found = torch.zeros(2, len(model.vocabulary))

    @torch.no_grad()
    def process(self, batch: dict) -> None:
        """Take a batch of a test data loader whose pictures are tested at their own size."""
        batch = self.model.data_preprocessor(batch, False)
        inputs, samples = batch['inputs'], batch['data_samples']
        (mask_logits,) = self.model.decode_head(self.model.extract_feat(inputs), last_layer_only=True)[1].float()
        images = self.model.denormalize(inputs)
        for image, masks, sample in zip(images, mask_logits, samples, strict=True):
            height, width = valid_size(sample.metainfo, image)
            label = sample.gt_sem_seg.data[0]
            if label.shape != (height, width):
                raise ValueError(f'{sample.metainfo["img_path"]}: tested at another size than its label: not supported')
            present = label.unique()
            present = present[present != self.ignore_index]
            true = label == present[:, None, None]
            soft = F.interpolate(masks[None], size=image.shape[-2:], mode='bilinear', align_corners=False)[0]
            soft = soft[:, :height, :width].sigmoid()
            self._count('true masks', self._named(image, true, (height, width)), label, sample)
            self._count('true names', true_names(soft, true, present, len(self.model.vocabulary)), label, sample)
            overlap = iou(soft > 0.5, true)
            for row, things in enumerate((present, present[overlap.max(0).values >= 0.5])):
                self.found[row] += torch.bincount(things, minlength=self.found.shape[1]).cpu()

    def results(self) -> dict[str, dict[str, float | None]]:
        """Metrics of both ceilings, and ``recall``: percent of seen and of unseen things met with an IoU of 0.5.

        None where there is nothing to take a mean over.
        """
        seen = torch.tensor(self.model.vocabulary.seen_mask)
        rows = {name: summarize_areas(areas, seen.tolist())[0] for name, areas in self.areas.items()}
        total, hit = self.found
        recall = {
            name: (100 * hit[which].sum() / total[which].sum()).item()
            for name, which in (('seen', seen), ('unseen', ~seen))
        }
        rows |= dict(recall=recall)
        # JSON has no NaN.
        return {name: {key: None if x != x else x for key, x in row.items()} for name, row in rows.items()}

    def _named(self, image: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = size
        logits = F.pad((masks.float() - 0.5) * 20, (0, image.shape[2] - width, 0, image.shape[1] - height), value=-10)
        names = self.model.scorer(image, logits, self.model.vocabulary, size)
        return assemble_semantic_map(names.softmax(-1)[None], logits[None], image.shape[-2:])[0, :, :height, :width].argmax(0)

    def _count(self, row: str, predicted: Tensor, label: Tensor, sample) -> None:
        counted = count_areas(predicted, label, self.found.shape[1], self.ignore_index, sample.metainfo['img_path'])
        self.areas[row] = self.areas[row] + counted


def iou(predicted: Tensor, true: Tensor) -> Tensor:
    """(Q, N) IoU of binary masks (Q, H, W) and (N, H, W)."""
    predicted, true = predicted.flatten(1).float(), true.flatten(1).float()
    common = predicted @ true.t()
    return common / (predicted.sum(1)[:, None] + true.sum(1) - common).clamp(min=1)


def true_names(masks: Tensor, true: Tensor, present: Tensor, num_classes: int) -> Tensor:
    """Label map (H, W): masks (Q, H, W) in 0..1, each named by the true mask (N, H, W) that it meets best."""
    overlap = iou(masks > 0.5, true)
    scores = F.one_hot(present[overlap.argmax(1)], num_classes).float() * overlap.max(1).values[:, None]
    return torch.einsum('qc,qhw->chw', scores, masks).argmax(0)


def table(results: dict) -> str:
    """The figures as people read them."""
    drawn = PrettyTable(['', *SCORES], align='r')
    for name in ('true masks', 'true names'):
        drawn.add_row([name, *(figure(results[name][score]) for score in SCORES)])
    recall = (f'{name} -' if share is None else f'{name} {share:.1f} %' for name, share in results['recall'].items())
    return f'{drawn}\nrecall of masks at IoU 0.5: {", ".join(recall)}'


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    require_scorer(cfg)
    runner, loader = load(cfg, args.checkpoint, args.data)
    diagnosis = Diagnosis(runner.model, ignore_index(cfg, args.data))
    for batch in track_iter_progress((loader, len(loader))):
        diagnosis.process(batch)
    results = diagnosis.results()
    print('\n' + table(results))
    if args.out:
        write(args.out, results)


if __name__ == '__main__':
    main()
