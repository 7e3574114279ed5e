from .check_labels import CheckLabels
from .draw_scene import DrawScene
from .resize import ResizeShortestEdge

__all__ = ['CheckLabels', 'DrawScene', 'ResizeShortestEdge']
