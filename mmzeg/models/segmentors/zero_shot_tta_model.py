"""Test-time augmentation for segmentors whose maps hold scores, not logits."""

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData

from mmzeg.registry import MODELS


@MODELS.register_module()
class ZeroShotTTAModel(BaseTTAModel):
    """Average the semantic maps of an image tested in several sizes and flips, as released; arguments are MMEngine's.

    mmseg's own TTA model takes maps for logits and averages their softmax, but these maps hold scores already.
    """

    def merge_preds(self, data_samples_list: list[list]) -> list:
        """Merge the samples of each image: ``seg_logits`` (C, H, W) become their mean, labels its argmax."""
        merged = []
        for samples in data_samples_list:
            mean = sum(sample.seg_logits.data for sample in samples) / len(samples)
            labels = PixelData(data=mean.argmax(0, keepdim=True))
            samples[0].set_data(dict(seg_logits=PixelData(data=mean), pred_sem_seg=labels))
            merged.append(samples[0])
        return merged
