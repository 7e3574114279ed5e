"""Convert the parameter names of the released ZegFormer into mmzeg's."""

import math
import re

import torch
from torch import Tensor

TRANSFORMER = 'sem_seg_head.predictor.transformer.decoder.'
FPN, OUR_FPN = re.escape('sem_seg_head.pixel_decoder.'), 'decode_head.pixel_decoder.'
RULES = (
    (r'backbone\.stem\.conv1\.norm\.(\w+)', r'backbone.bn1.\1'),
    (r'backbone\.stem\.conv1\.(\w+)', r'backbone.conv1.\1'),
    (r'backbone\.res(\d)\.(\d+)\.shortcut\.norm\.(\w+)', r'backbone.layer{\1-1}.\2.downsample.1.\3'),
    (r'backbone\.res(\d)\.(\d+)\.shortcut\.(\w+)', r'backbone.layer{\1-1}.\2.downsample.0.\3'),
    (r'backbone\.res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)', r'backbone.layer{\1-1}.\2.bn\3.\4'),
    (r'backbone\.res(\d)\.(\d+)\.conv(\d)\.(\w+)', r'backbone.layer{\1-1}.\2.conv\3.\4'),
    (FPN + r'adapter_(\d)\.norm\.(\w+)', OUR_FPN + r'lateral_convs.{\1-1}.gn.\2'),
    (FPN + r'adapter_(\d)\.(\w+)', OUR_FPN + r'lateral_convs.{\1-1}.conv.\2'),
    (FPN + r'layer_4\.norm\.(\w+)', OUR_FPN + r'last_feat_conv.gn.\1'),
    (FPN + r'layer_4\.(\w+)', OUR_FPN + r'last_feat_conv.conv.\1'),
    (FPN + r'layer_(\d)\.norm\.(\w+)', OUR_FPN + r'output_convs.{\1-1}.gn.\2'),
    (FPN + r'layer_(\d)\.(\w+)', OUR_FPN + r'output_convs.{\1-1}.conv.\2'),
    (FPN + r'mask_features\.(\w+)', OUR_FPN + r'mask_feature.\1'),
    (re.escape(TRANSFORMER) + r'norm\.(\w+)', r'decode_head.transformer_decoder.post_norm.\1'),
    (
        re.escape(TRANSFORMER) + r'layers\.(\d+)\.self_attn\.(.+)',
        r'decode_head.transformer_decoder.layers.\1.self_attn.attn.\2',
    ),
    (
        re.escape(TRANSFORMER) + r'layers\.(\d+)\.multihead_attn\.(.+)',
        r'decode_head.transformer_decoder.layers.\1.cross_attn.attn.\2',
    ),
    (
        re.escape(TRANSFORMER) + r'layers\.(\d+)\.linear1\.(\w+)',
        r'decode_head.transformer_decoder.layers.\1.ffn.layers.0.0.\2',
    ),
    (
        re.escape(TRANSFORMER) + r'layers\.(\d+)\.linear2\.(\w+)',
        r'decode_head.transformer_decoder.layers.\1.ffn.layers.1.\2',
    ),
    (
        re.escape(TRANSFORMER) + r'layers\.(\d+)\.norm(\d)\.(\w+)',
        r'decode_head.transformer_decoder.layers.\1.norms.{\2-1}.\3',
    ),
    (r'sem_seg_head\.predictor\.query_embed\.weight', 'decode_head.query_embed.weight'),
    (r'sem_seg_head\.predictor\.input_proj\.(\w+)', r'decode_head.decoder_input_proj.\1'),
    (r'sem_seg_head\.predictor\.mask_embed\.layers\.(\d)\.(\w+)', r'decode_head.mask_embed.{\1*2}.\2'),
    (r'sem_seg_head\.predictor\.projection_layer\.(\w+)', r'decode_head.classifier.projection.\1'),
    (r'sem_seg_head\.predictor\.bg_feature', 'decode_head.classifier.no_object'),
    (r'sem_seg_head\.projection_layer\.(\w+)', r'decode_head.classifier.projection.\1'),
)
_BACKBONE_AND_PIXEL_DECODER = (
    'backbone.stem.conv1.weight',
    # ResNet-18 and -34 have no shortcut convolution in their first stage.
    *(f'backbone.res{stage}.0.conv1.weight' for stage in range(2, 6)),
    *(f'backbone.res{stage}.0.shortcut.weight' for stage in range(3, 6)),
    *(f'sem_seg_head.pixel_decoder.adapter_{level}.weight' for level in range(1, 4)),
    *(f'sem_seg_head.pixel_decoder.layer_{level}.weight' for level in range(1, 5)),
    'sem_seg_head.pixel_decoder.mask_features.weight',
)
ZEGFORMER = (
    *_BACKBONE_AND_PIXEL_DECODER,
    f'{TRANSFORMER}layers.0.linear1.weight',
    f'{TRANSFORMER}norm.weight',
    *(f'sem_seg_head.predictor.{name}.weight' for name in ('query_embed', 'input_proj', 'projection_layer')),
    *(f'sem_seg_head.predictor.mask_embed.layers.{layer}.weight' for layer in range(3)),
    'sem_seg_head.predictor.bg_feature',
    'sem_seg_head.predictor.logit_scale',
)
PER_PIXEL = (*_BACKBONE_AND_PIXEL_DECODER, 'sem_seg_head.projection_layer.weight', 'sem_seg_head.logit_scale')
SCALES = ('sem_seg_head.predictor.logit_scale', 'sem_seg_head.logit_scale')
CONSTANTS = (*SCALES, 'criterion.empty_weight')
# Trained with CLIP_CLASSIFICATION on, the released code saves its frozen CLIP too.
CLIP_NAME = re.compile(r'(?:.+\.)?clip_model\..+')


def our_name(name: str) -> str | None:
    """Return mmzeg's name of a released parameter; None if it is unknown."""
    for pattern, template in RULES:
        match = re.fullmatch(pattern, name)
        if match:
            ours = match.expand(template)
            ours = re.sub(r'\{(\d)-1\}', lambda m: str(int(m[1]) - 1), ours)
            return re.sub(r'\{(\d)\*2\}', lambda m: str(int(m[1]) * 2), ours)
    return None


def clip_names(state: dict[str, Tensor]) -> list[str]:
    """Return the names of CLIP's weights in a released checkpoint, which ``convert_released`` skips."""
    return [name for name in state if CLIP_NAME.fullmatch(name)]


def convert_released(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the weights of a released ZegFormer (as saved in training), or of the per-pixel baseline.

    Args:
        state (dict): All parameters and buffers by released name; those of a frozen CLIP (``clip_names``) are skipped.

    Returns:
        dict: Tensors by mmzeg's names, float32 where floating, with the counters that PyTorch's batch norm adds.

    Raises:
        ValueError: Names are unknown or missing, or the temperature is not the fixed 0.01; says which.
    """
    # Skip CLIP's weights: mmzeg reads CLIP from its own file.
    skipped = set(clip_names(state))
    state = {name: tensor for name, tensor in state.items() if name not in skipped}
    # Check that all names, and only known ones, are there.
    is_per_pixel = PER_PIXEL[-2] in state
    required = PER_PIXEL if is_per_pixel else ZEGFORMER
    missing = [name for name in required if name not in state]
    unknown = [name for name in state if name not in CONSTANTS and our_name(name) is None]
    if missing or unknown:
        model = 'per-pixel baseline' if is_per_pixel else 'ZegFormer'
        reason = f'it lacks {", ".join(missing[:5])}' if missing else f'unknown names: {", ".join(unknown[:5])}'
        raise ValueError(f'not the weights of a released {model} with a ResNet: {reason}')
    tau = released_tau(state)
    if not math.isclose(tau, 0.01, rel_tol=1e-2):
        raise ValueError(f'{required[-1]} gives 1 / tau = {1 / tau:.4g}; the released code fixes it at 100')
    # Rename, and bring the classifier's tensors into mmzeg's shapes.
    ours = {our_name(name): tensor.float() for name, tensor in state.items() if name not in CONSTANTS}
    no_object = ours.get('decode_head.classifier.no_object')
    if no_object is not None:
        if math.prod(no_object.shape) != no_object.shape[-1]:
            raise ValueError(f'bg_feature is {tuple(no_object.shape)}, expected (1, d)')
        ours['decode_head.classifier.no_object'] = no_object.reshape(-1)
    projection = ours['decode_head.classifier.projection.weight']
    ours['decode_head.classifier.projection.weight'] = projection.flatten(1)  # a 1x1 convolution in the baseline
    # Add the counters of batch norm, which detectron2's frozen norm does not have.
    for name in [name for name in ours if name.endswith('running_var')]:
        ours[name.replace('running_var', 'num_batches_tracked')] = torch.zeros((), dtype=torch.long)
    return ours


def released_tau(state: dict[str, Tensor]) -> float:
    """Return the temperature in released weights, as the file rounds it; stored as a scale or its logarithm."""
    scale = next(state[name] for name in SCALES if name in state).float().flatten()[0]
    return 1 / (scale.exp() if scale < 10 else scale).item()
