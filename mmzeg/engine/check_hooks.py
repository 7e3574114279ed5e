"""The hooks that check a run at its start."""

from mmengine.runner import Runner

from mmzeg.engine.pipeline_check_hook import PipelineCheckHook
from mmzeg.engine.vocabulary_check_hook import VocabularyCheckHook
from mmzeg.utils.unwrap import unwrap


def ensure_check_hooks(runner: Runner) -> None:
    """Register ``VocabularyCheckHook`` and ``PipelineCheckHook`` with a runner that has none of the kind.

    Runners whose model does not classify by text stay as they are.
    """
    head = getattr(unwrap(runner.model), 'decode_head', None)
    if not hasattr(head, 'classifier'):
        return
    for hook_class in (VocabularyCheckHook, PipelineCheckHook):
        if not any(isinstance(hook, hook_class) for hook in runner.hooks):
            runner.register_hook(hook_class())
