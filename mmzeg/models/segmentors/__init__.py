from .per_pixel_segmentor import PerPixelSegmentor
from .proposal_segmentor import ProposalSegmentor
from .zegformer import ZegFormer
from .zero_shot_segmentor import ZeroShotSegmentor
from .zero_shot_tta_model import ZeroShotTTAModel

__all__ = ['PerPixelSegmentor', 'ProposalSegmentor', 'ZegFormer', 'ZeroShotSegmentor', 'ZeroShotTTAModel']
