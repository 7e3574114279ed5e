from .atomic_checkpoint_hook import AtomicCheckpointHook
from .no_decay_constructor import NoDecayConstructor
from .visualization_hook import SegVisualizationHook
from .vocabulary_check_hook import VocabularyCheckHook, ensure_vocabulary_check

__all__ = [
    'AtomicCheckpointHook',
    'NoDecayConstructor',
    'SegVisualizationHook',
    'VocabularyCheckHook',
    'ensure_vocabulary_check',
]
