from .draw_scene import DrawScene
from .load_labels import LoadLabels
from .photometric_distortion import PhotoMetricDistortion
from .random_flip import RandomFlip
from .resize import ResizeShortestEdge

__all__ = ['DrawScene', 'LoadLabels', 'PhotoMetricDistortion', 'RandomFlip', 'ResizeShortestEdge']
