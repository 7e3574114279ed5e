from .camvid import CamVidDataset
from .transforms import CheckLabels, DrawScene, ResizeShortestEdge
from .world_dataset import WorldDataset, WorldSynonymsDataset

__all__ = ['CamVidDataset', 'CheckLabels', 'DrawScene', 'ResizeShortestEdge', 'WorldDataset', 'WorldSynonymsDataset']
