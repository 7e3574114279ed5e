"""Check a golden case of the released ZegFormer: one training pass, and a test in every mode."""

from pathlib import Path

import torch

from mmzeg.models.execution import Execution
from mmzeg.models.image_sizes import valid_size
from mmzeg.models.scorers.crops import crop_segments, mask_probabilities
from mmzeg.parity.comparison import Comparison
from mmzeg.parity.model_configs import MODES, zegformer_config
from mmzeg.parity.options import CheckOptions
from mmzeg.parity.released_case import ReleasedCase, load_released_case
from mmzeg.utils.released_names import our_name

WEIGHTS = 'zegformer_official.safetensors'
# The released code's name of a loss -> ours.
LOSS_NAMES = dict(loss_ce='loss_cls', loss_mask='loss_mask', loss_dice='loss_dice')
# Golden crops and maps hold every n-th pixel.
CROP_STEP = 16
MAP_STEP = 8


def check_zegformer(folder: Path, settings: dict, options: CheckOptions) -> Comparison:
    """Compare losses, matches, gradients, embeddings, logits, crops and maps.

    Args:
        folder (Path): The case.
        settings (dict): Content of its ``case.json``.
        options (CheckOptions): Device, and execution of the test.
    """
    case = load_released_case(folder, settings, WEIGHTS, zegformer_config, options)
    # The model hands it to the scorer in a test; crops are also checked without the model.
    case.model.execution = case.model.scorer.execution = Execution.build(options.execution)
    check_training(case)
    check_test(case)
    return case.comparison


def check_training(case: ReleasedCase) -> None:
    """Compare losses, matches and gradient norms of one training pass over the batch."""
    model = case.model
    comparison = case.comparison
    head = model.decode_head
    model.train()
    # Forward pass
    text = head.classifier.text_embeddings(training=True)
    comparison.compare_tensor('text_embed_seen', text)
    class_logits, mask_logits = head(model.extract_feat(case.inputs), text)
    comparison.compare_tensor('train_pred_logits', class_logits[-1].detach())
    comparison.compare_tensor('train_pred_masks', mask_logits[-1].detach())
    # Matches of the last layer
    targets = head.build_targets(case.samples)
    matches = head.match(class_logits, mask_logits, targets)[-1]
    for index, (ours, golden) in enumerate(zip(matches, case.settings['matches'], strict=True)):
        is_equal = [indices.tolist() for indices in ours] == golden
        comparison.add_row(f'matches_{index}', 0.0 if is_equal else 1.0, 0.0)
    # Losses of all layers
    losses = model.loss(case.inputs, case.samples)
    golden_losses = case.settings['losses']
    for name, golden in golden_losses.items():
        comparison.compare_loss(name, losses[_our_loss(name)].item(), golden)
    comparison.add_row('number of losses', abs(len(losses) - len(golden_losses)), 0.0)
    # Gradients of the summed losses
    sum(losses.values()).backward()
    _check_gradients(case)


def _our_loss(name: str) -> str:
    """Return our name of a released loss: ``loss_ce_0`` is of the first decoder layer, ``loss_ce`` of the last."""
    if not name[-1].isdigit():
        return f'decode.{LOSS_NAMES[name]}'
    kind, _, layer = name.rpartition('_')
    return f'decode.d{layer}.{LOSS_NAMES[kind]}'


def _check_gradients(case: ReleasedCase) -> None:
    """Compare gradient norms: 1e-3 relative, plus 1e-6 of the case's largest norm."""
    parameters = dict(case.model.named_parameters())
    golden_norms = case.settings['grad_norms']
    floor = 1e-6 * max(golden_norms.values())
    for name, golden in golden_norms.items():
        gradient = getattr(parameters.get(our_name(name)), 'grad', None)
        ours = float('nan') if gradient is None else gradient.norm().item()
        # The same as |ours - golden| <= 1e-3 * golden + floor.
        case.comparison.add_row(f'grad {name}', abs(ours - golden) / (golden + 1e3 * floor), 1e-3)


@torch.no_grad()
def check_test(case: ReleasedCase) -> None:
    """Compare embeddings, logits and crops, and the semantic maps of every mode."""
    model = case.model
    comparison = case.comparison
    model.eval()
    # Text embeddings of both prompt sets
    comparison.compare_tensor('text_embed_all', model.decode_head.classifier.text_embeddings(training=False))
    clip_text = model.scorer.clip.text_embeddings(case.settings['order'], model.scorer.prompts)
    comparison.compare_tensor('text_embed_all_clip', clip_text)
    # Backbone and head
    features = model.extract_feat(case.inputs)
    comparison.compare_tensor('res5', features[-1])
    class_logits, mask_logits = model.decode_head(features)
    comparison.compare_tensor('pred_logits', class_logits[-1])
    comparison.compare_tensor('aux_pred_logits', class_logits[:-1])
    comparison.compare_tensor('pred_masks', mask_logits[-1])
    _check_crops(case, mask_logits[-1])
    # Semantic and label maps
    for mode, fields in MODES.items():
        model.fusion.mode = fields['mode']
        model.fusion.gamma = fields.get('gamma', case.settings.get('gamma', 0.1))
        model.scorer.crop_modes = [fields.get('crop_mode', 'cropmask')]
        for index, sample in enumerate(model.predict(case.inputs, case.samples)):
            semantic_map = sample.seg_logits.data[:, ::MAP_STEP, ::MAP_STEP]
            comparison.compare_tensor(f'sem_seg_{mode}_{index}', semantic_map)
            comparison.compare_tensor(f'argmax_{mode}_{index}', sample.pred_sem_seg.data[0])


def _check_crops(case: ReleasedCase, mask_logits: torch.Tensor) -> None:
    """Compare the masked crops of all masks (B, Q, h, w), and their CLIP embeddings."""
    model = case.model
    scorer = model.scorer
    images = model.denormalize(case.inputs)
    for index, (image, image_mask_logits, sample) in enumerate(zip(images, mask_logits, case.samples, strict=True)):
        valid = valid_size(sample.metainfo, image)
        mask_probs = mask_probabilities(image_mask_logits, image.shape[-2:])
        is_batched = scorer.execution.is_batched(image.device)
        normalized = scorer.normalize(image, valid)
        crops = crop_segments(normalized, mask_probs, scorer.clip.image_size, 'cropmask', is_batched)
        case.comparison.compare_tensor(f'crops_{index}', crops[..., ::CROP_STEP, ::CROP_STEP])
        embeddings = scorer.encode(image, image_mask_logits, valid)[0]
        case.comparison.compare_tensor(f'clip_image_embed_{index}', embeddings)
