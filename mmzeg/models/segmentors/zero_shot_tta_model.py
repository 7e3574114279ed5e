"""Test-time augmentation of segmentors whose maps hold scores."""

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData

from mmzeg.registry import MODELS


@MODELS.register_module()
class ZeroShotTTAModel(BaseTTAModel):
    """Averages the semantic maps of a picture that was tested in several sizes and flips; arguments are MMEngine's.

    So the released code does it. mmseg's own takes maps for logits, and averages a softmax of what are scores already.
    """

    def merge_preds(self, data_samples_list: list[list]) -> list:
        """One sample of each picture's: ``seg_logits`` (C, H, W) are the mean of theirs, labels its argmax."""
        merged = []
        for samples in data_samples_list:
            mean = sum(sample.seg_logits.data for sample in samples) / len(samples)
            labels = PixelData(data=mean.argmax(0, keepdim=True))
            samples[0].set_data(dict(seg_logits=PixelData(data=mean), pred_sem_seg=labels))
            merged.append(samples[0])
        return merged
