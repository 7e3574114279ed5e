"""Draws a scene of the procedural world where other pipelines load files."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmzeg.datasets.world import draw_scene
from mmzeg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class DrawScene(BaseTransform):
    """Stands for ``LoadImageFromFile`` and ``LoadAnnotations``."""

    def transform(self, results: dict) -> dict:
        """Draw ``scene``; adds ``img`` (H, W, 3) uint8 BGR, ``gt_seg_map`` (H, W) uint8, and their shapes."""
        picture, label = draw_scene(results['scene'])
        table = np.arange(256, dtype=np.uint8)
        for old, new in (results.get('label_map') or {}).items():
            table[old] = new
        results['img'] = np.ascontiguousarray(picture[..., ::-1])
        results['gt_seg_map'] = table[label]
        results['img_shape'] = results['ori_shape'] = label.shape
        results['seg_fields'].append('gt_seg_map')
        return results
