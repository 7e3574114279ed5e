"""Part 2: the procedural dataset's test split in half precision, against float32."""

import copy
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmzeg.benchmarking.gpu_report.options import ReportOptions
from mmzeg.benchmarking.gpu_report.section import Section
from mmzeg.evaluation.zero_shot_miou import SCORES, count_areas, summarize_areas
from mmzeg.models.scorers import build_scorer
from mmzeg.utils.config_files import read_config
from mmzeg.utils.float_precision import without_tf32

CONFIG = 'zegformer_r18_world'


@dataclass(frozen=True)
class PrecisionSetting:
    """A precision of CLIP, and of the network: None is float32."""

    name: str
    clip: str
    network: torch.dtype | None = None


FLOAT32 = PrecisionSetting('float32', 'fp32')
BFLOAT16 = (
    PrecisionSetting('CLIP bfloat16', 'bf16'),
    PrecisionSetting('CLIP and network bfloat16', 'bf16', torch.bfloat16),
)
# Without a GPU, open_clip's float16 is missing operations.
FLOAT16 = (
    PrecisionSetting('CLIP float16', 'fp16'),
    PrecisionSetting('CLIP and network float16', 'fp16', torch.float16),
)


def compare_precisions(options: ReportOptions) -> Section:
    """Train a model of the procedural dataset for a short time, and test it in every precision."""
    section = Section('Half precision')
    sizes = options.sizes
    rows = section.add_table(
        f'Test split of the procedural dataset, {sizes.world_images} images, `{CONFIG}` after {sizes.world_iterations} '
        'training iterations. "equal labels" is the percentage of the pixels that have the same class as in float32. '
        'Scores are in percent.'
    )
    settings = [FLOAT32, *(FLOAT16 if options.torch_device.type == 'cuda' else ()), *BFLOAT16]
    cfg = read_config(CONFIG)
    cfg.model.decode_head.classifier.text_encoder.precision = 'fp32'
    model = None
    with section.step(f'training of {sizes.world_iterations} iterations'):
        model = train_world_model(cfg, options)
    if model is None:
        return section
    baseline: list[Tensor] = []
    for setting in settings:
        with section.step(setting.name), without_tf32():
            predictions, metrics = evaluate(model, cfg, setting, options)
            baseline = baseline or predictions
            pairs = zip(predictions, baseline, strict=True)
            num_equal = sum((ours == reference).sum().item() for ours, reference in pairs)
            agreement = 100 * num_equal / sum(prediction.numel() for prediction in baseline)
            rows.append({'precision': setting.name, 'equal labels': agreement, **metrics})
            problem = f'{setting.name}: only {agreement:.2f} % of the labels are equal'
            section.check(agreement >= sizes.min_agreement, problem)
            for score in SCORES:
                difference = abs(metrics[score] - rows[0][score])
                problem = f'{setting.name}: {score} differs by {difference:.2f} points'
                section.check(difference <= sizes.max_score_difference, problem)
    return section


def train_world_model(cfg: Config, options: ReportOptions) -> nn.Module:
    """Train a config's model in float32 for the report's number of iterations, and return it in eval mode."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to(options.device).train()
    optim_wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    batches = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    for _ in range(options.sizes.world_iterations):
        model.train_step(next(batches), optim_wrapper)
    return model.eval()


@torch.inference_mode()
def evaluate(
    model: nn.Module, cfg: Config, setting: PrecisionSetting, options: ReportOptions
) -> tuple[list[Tensor], dict[str, float]]:
    """Return the label maps (H, W) of test images, and ``seen_mIoU``, ``unseen_mIoU`` and ``hIoU`` in percent."""
    scorer = dict(cfg.model.scorer)
    model.scorer = build_scorer(dict(scorer, clip=dict(scorer['clip'], precision=setting.clip)))
    dataloader = copy.deepcopy(cfg.test_dataloader)
    dataloader.dataset.length = options.sizes.world_images
    predictions = []
    areas = 0
    for batch in Runner.build_dataloader(dataloader):
        autocast = torch.autocast(options.torch_device.type, setting.network) if setting.network else nullcontext()
        with autocast:
            (sample,) = model.test_step(batch)
        prediction = sample.pred_sem_seg.data[0].cpu()
        labels = sample.gt_sem_seg.data[0].cpu()
        areas = areas + count_areas(prediction, labels, len(model.vocabulary), 255, sample.img_path)
        predictions.append(prediction)
    metrics, _, _ = summarize_areas(list(areas.numpy()), model.vocabulary.seen_mask)
    return predictions, {score: metrics[score] for score in SCORES}
