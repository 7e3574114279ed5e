from .atomic_checkpoint_hook import AtomicCheckpointHook
from .vocabulary_check_hook import VocabularyCheckHook

__all__ = ['AtomicCheckpointHook', 'VocabularyCheckHook']
