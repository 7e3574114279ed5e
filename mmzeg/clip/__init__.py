from .clip import CLIP
from .embedding_file import EmbeddingFile
from .loading import load_clip
from .prompts import get_templates

__all__ = ['CLIP', 'EmbeddingFile', 'get_templates', 'load_clip']
