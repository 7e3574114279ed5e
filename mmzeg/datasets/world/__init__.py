from .backend import WorldBackend, scene_name
from .scenes import Scene, draw_object, draw_scene
from .vocabulary import CLASSES, OBJECTS, OUTSIDE, SEEN, SYNONYMS, TEXTURES, UNSEEN

__all__ = [
    'CLASSES',
    'OBJECTS',
    'OUTSIDE',
    'SEEN',
    'SYNONYMS',
    'TEXTURES',
    'UNSEEN',
    'Scene',
    'WorldBackend',
    'draw_object',
    'draw_scene',
    'scene_name',
]
