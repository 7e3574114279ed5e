"""Check golden cases of the scorers that followed ZegFormer: IP-CLIP, OVSeg's mask prompts, FC-CLIP."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from mmzeg.clip.architecture import infer_config
from mmzeg.clip.feature_maps import feature_maps
from mmzeg.models.execution import Execution
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.scorers import CLIPDensePoolScorer, CLIPMaskPromptScorer, CLIPMaskScorer, CLIPScorer
from mmzeg.parity.comparison import Comparison
from mmzeg.parity.options import CheckOptions
from mmzeg.parity.released_case import TENSORS, require_files
from mmzeg.utils.weight_files import read_state

CLIP_WEIGHTS = 'clip.safetensors'
# Golden tensors that are inputs, and are not compared.
INPUTS = ('image', 'mask_logits', 'mask_embedding', 'text', 'seen', 'in_vocab_logits')
# The bound of FC-CLIP's code, which all published CLIPs reach; the scale that a tiny CLIP of a case holds is not used.
FC_CLIP_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class SuccessorCase:
    """A case that is ready to be checked.

    Args:
        settings (dict): Content of ``case.json``.
        golden (dict[str, Tensor]): All tensors of the case, on the device.
        clip (dict): Config of the case's CLIP.
        comparison (Comparison): Of all golden tensors but the inputs; no row yet.
    """

    settings: dict
    golden: dict[str, Tensor]
    clip: dict
    comparison: Comparison

    @property
    def image(self) -> Tensor:
        """The image (3, H, W) in 0..255, RGB."""
        return self.golden['image'].float()

    def encode(self, scorer: CLIPScorer) -> Tensor:
        """Return a scorer's embeddings (Q, d) of the case's masks, not normalized."""
        image = self.image
        return scorer.encode(image, self.golden['mask_logits'].float(), tuple(image.shape[1:]))[0]


def check_ip_clip(folder: Path, settings: dict, options: CheckOptions) -> Comparison:
    """Compare the class tokens' embeddings.

    Args:
        folder (Path): The case.
        settings (dict): Content of its ``case.json``.
        options (CheckOptions): Device.
    """
    with _load_case(folder, settings, options) as case:
        scorer = CLIPMaskScorer(
            case.clip,
            input_size=tuple(settings['input_size']),
            num_masked_layers=settings['layers'] - settings['start_layer'],
        )
        case.comparison.compare_tensor('embeddings', case.encode(scorer))
    return case.comparison


def check_mask_prompts(folder: Path, settings: dict, options: CheckOptions) -> Comparison:
    """Compare the crops' embeddings, and which masks have one; arguments as of ``check_ip_clip``."""
    with _load_case(folder, settings, options) as case:
        scorer = CLIPMaskPromptScorer(case.clip, mask_prompts=str(folder / TENSORS))
        scorer.execution = Execution.build(options.execution)
        embeddings = case.encode(scorer)
        case.comparison.compare_tensor('embeddings', embeddings)
        case.comparison.compare_tensor('valid', (embeddings != 0).any(1))
    return case.comparison


@torch.no_grad()
def check_fc_clip(folder: Path, settings: dict, options: CheckOptions) -> Comparison:
    """Compare the backbone's maps, the pooled embeddings and the ensemble; arguments as of ``check_ip_clip``."""
    with _load_case(folder, settings, options) as case:
        golden = case.golden
        comparison = case.comparison
        scorer = CLIPDensePoolScorer(
            case.clip,
            input_size='image',
            mask_resize='bilinear_logits',
            position_resize=dict(mode='bilinear'),
            attn_pool_query='image',
            empty_mask='zero_embedding',
            logit_scale=FC_CLIP_LOGIT_SCALE,
        )
        # Maps of the four stages, and the one that is pooled
        image = scorer.normalize(case.image, tuple(case.image.shape[1:]))[None]
        with scorer.clip.on(image.device) as network:
            is_resnet = isinstance(network.visual, ModifiedResNet)
            maps = feature_maps(network.visual, image)
            dense = maps[-1] if is_resnet else network.visual.trunk.norm_pre(maps[-1])
        for index, stage_map in enumerate(maps):
            comparison.compare_tensor(f'res{index + 2}', stage_map[0])
        comparison.compare_tensor('dense', dense[0])
        # Embeddings, and which masks cover a cell
        embeddings = case.encode(scorer)
        covers_cell = (embeddings != 0).any(1, keepdim=True)
        if not is_resnet:
            # A ConvNeXt's embeddings of masks without cells are those of zeros.
            scorer.empty_mask = 'zero_features'
            embeddings = case.encode(scorer)
        comparison.compare_tensor('embeddings', embeddings)
        # Ensemble of the golden embeddings: logits are 100 times the cosine, and the file's weights are rounded to
        # float16, after a ResNet's batch norm statistics were used in float32. That alone moves our ensemble by 3e-4.
        golden_embeddings = golden['embeddings']
        if settings['ensemble_on_valid_mask']:
            golden_embeddings = torch.where(covers_cell, golden_embeddings, torch.zeros_like(golden_embeddings))
        clip_logits = scorer.compare(golden_embeddings[None], golden['text'].float())
        fusion = ScoreFusion(
            'geometric',
            alpha=settings['alpha'],
            beta=settings['beta'],
            ensemble_on_valid_mask=settings['ensemble_on_valid_mask'],
        )
        ensemble = fusion(golden['in_vocab_logits'].float(), clip_logits, golden['seen'].bool())
        comparison.compare_tensor('ensemble', ensemble)
    return comparison


@contextmanager
def _load_case(folder: Path, settings: dict, options: CheckOptions) -> Iterator[SuccessorCase]:
    """Read a case; its CLIP can be loaded within the ``with`` block.

    Raises:
        FileNotFoundError: A file is missing; names it.
        ValueError: A file is truncated; names it.
    """
    weights = folder / CLIP_WEIGHTS
    require_files(folder / TENSORS, weights)
    golden = read_state(folder / TENSORS)
    compared = {name: tensor for name, tensor in golden.items() if name not in INPUTS}
    golden = {name: tensor.to(options.torch_device) for name, tensor in golden.items()}
    model_config = settings.get('clip') or _vision_transformer_config(weights, settings)
    preprocess_config = dict(
        mean=settings.get('mean', open_clip.OPENAI_DATASET_MEAN), std=settings.get('std', open_clip.OPENAI_DATASET_STD)
    )
    # open_clip's config next to the weights tells mmzeg.CLIP the architecture.
    with tempfile.TemporaryDirectory() as temporary:
        linked = Path(temporary, CLIP_WEIGHTS)
        linked.symlink_to(weights.resolve())
        config = dict(model_cfg=model_config, preprocess_cfg=preprocess_config)
        linked.with_name('open_clip_config.json').write_text(json.dumps(config))
        clip = dict(type='mmzeg.CLIP', pretrained=str(linked), precision='fp32')
        yield SuccessorCase(settings, golden, clip, Comparison(compared))


def _vision_transformer_config(weights: Path, settings: dict) -> dict:
    """Return open_clip's model config of weights in OpenAI's names; the case says the number of heads.

    Raises:
        ValueError: The weights have other names, or another number of layers than the case says.
    """
    config = infer_config(read_state(weights))
    num_layers = None if config is None else config['vision_cfg']['layers']
    if num_layers != settings['layers']:
        raise ValueError(f"{weights}: not a vision transformer in OpenAI's names with {settings['layers']} layers")
    config['vision_cfg']['head_width'] = config['vision_cfg']['width'] // settings['heads']
    return config
