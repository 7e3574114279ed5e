from .clip import CLIP
from .loading import load_clip
from .prompts import get_templates

__all__ = ['CLIP', 'get_templates', 'load_clip']
