from .atomic_checkpoint_hook import AtomicCheckpointHook
from .check_hooks import ensure_check_hooks
from .no_decay_constructor import NoDecayConstructor
from .pipeline_check_hook import PipelineCheckHook
from .visualization_hook import SegVisualizationHook
from .vocabulary_check_hook import VocabularyCheckHook

__all__ = [
    'AtomicCheckpointHook',
    'NoDecayConstructor',
    'PipelineCheckHook',
    'SegVisualizationHook',
    'VocabularyCheckHook',
    'ensure_check_hooks',
]
