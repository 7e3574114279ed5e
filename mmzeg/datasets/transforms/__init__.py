from .draw_scene import DrawScene
from .load_labels import LoadLabels
from .resize import ResizeShortestEdge

__all__ = ['DrawScene', 'LoadLabels', 'ResizeShortestEdge']
