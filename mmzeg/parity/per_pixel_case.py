"""Check a golden case of the released per-pixel baseline."""

from pathlib import Path

import torch

from mmzeg.parity.comparison import Comparison
from mmzeg.parity.model_configs import per_pixel_config
from mmzeg.parity.options import CheckOptions
from mmzeg.parity.released_case import load_released_case

WEIGHTS = 'per_pixel_official.safetensors'
# Golden maps hold every n-th pixel.
MAP_STEP = 8


def check_per_pixel(folder: Path, settings: dict, options: CheckOptions) -> Comparison:
    """Compare loss, logits and semantic maps.

    Args:
        folder (Path): The case.
        settings (dict): Content of its ``case.json``.
        options (CheckOptions): Device.
    """
    case = load_released_case(folder, settings, WEIGHTS, per_pixel_config, options)
    model = case.model
    comparison = case.comparison
    # One training pass
    model.train()
    loss = model.loss(case.inputs, case.samples)['decode.loss_cls']
    comparison.compare_loss('loss_sem_seg', loss.item(), settings['losses']['loss_sem_seg'])
    # Test without and with calibration
    model.eval()
    comparison.compare_tensor('text_embed_all', model.decode_head.classifier.text_embeddings(training=False))
    with torch.no_grad():
        logits = model.decode_head(model.extract_feat(case.inputs))
        comparison.compare_tensor('logits_stride4', logits)
        for mode, gamma in (('gamma0', 0.0), ('gamma', settings['gamma'])):
            model.gamma = gamma
            for index, sample in enumerate(model.predict(case.inputs, case.samples)):
                semantic_map = sample.seg_logits.data[:, ::MAP_STEP, ::MAP_STEP]
                comparison.compare_tensor(f'sem_seg_{mode}_{index}', semantic_map)
                comparison.compare_tensor(f'argmax_{mode}_{index}', sample.pred_sem_seg.data[0])
    return comparison
