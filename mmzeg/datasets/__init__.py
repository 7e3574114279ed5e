from .camvid import CamVidDataset
from .folder_dataset import FolderDataset
from .transforms import DrawScene, LoadLabels, PhotoMetricDistortion, RandomFlip, ResizeShortestEdge
from .world_dataset import WorldDataset, WorldSynonymsDataset

__all__ = [
    'CamVidDataset',
    'DrawScene',
    'FolderDataset',
    'LoadLabels',
    'PhotoMetricDistortion',
    'RandomFlip',
    'ResizeShortestEdge',
    'WorldDataset',
    'WorldSynonymsDataset',
]
