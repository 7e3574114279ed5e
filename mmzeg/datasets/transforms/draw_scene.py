"""Draw a scene of the procedural dataset where other pipelines load an image and its label map."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmzeg.datasets.world import draw_scene
from mmzeg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class DrawScene(BaseTransform):
    """Draw a scene: replaces ``LoadImageFromFile`` and ``LoadAnnotations``."""

    def transform(self, results: dict) -> dict:
        """Draw ``scene``; add ``img`` (H, W, 3) uint8 BGR, ``gt_seg_map`` (H, W) uint8, and their shapes."""
        image, label_map = draw_scene(results['scene'])
        # Map the world's labels to the dataset's, where it uses only some of the classes.
        lookup_table = np.arange(256, dtype=np.uint8)
        for old, new in (results.get('label_map') or {}).items():
            lookup_table[old] = new
        results['img'] = np.ascontiguousarray(image[..., ::-1])
        results['gt_seg_map'] = lookup_table[label_map]
        results['img_shape'] = label_map.shape
        results['ori_shape'] = label_map.shape
        results['seg_fields'].append('gt_seg_map')
        return results
