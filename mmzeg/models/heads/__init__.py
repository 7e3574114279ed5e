from .per_pixel_head import PerPixelHead
from .proposal_head import ProposalHead
from .zegformer_head import ZegFormerHead

__all__ = ['PerPixelHead', 'ProposalHead', 'ZegFormerHead']
