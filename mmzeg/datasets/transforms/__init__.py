from .check_labels import CheckLabels
from .resize import ResizeShortestEdge

__all__ = ['CheckLabels', 'ResizeShortestEdge']
