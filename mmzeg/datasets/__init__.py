from .camvid import CamVidDataset
from .transforms import CheckLabels, ResizeShortestEdge

__all__ = ['CamVidDataset', 'CheckLabels', 'ResizeShortestEdge']
