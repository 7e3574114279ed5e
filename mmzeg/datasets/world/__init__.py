from .backend import WorldBackend, scene_uri
from .scenes import Scene, draw_object, draw_scene
from .vocabulary import ABSENT_CLASS, CLASSES, OBJECTS, SEEN, SYNONYMS, TEXTURES, UNSEEN

__all__ = [
    'ABSENT_CLASS',
    'CLASSES',
    'OBJECTS',
    'SEEN',
    'SYNONYMS',
    'TEXTURES',
    'UNSEEN',
    'Scene',
    'WorldBackend',
    'draw_object',
    'draw_scene',
    'scene_uri',
]
