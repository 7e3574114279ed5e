"""The hooks that check a run at its start."""

from mmengine.runner import Runner

from mmzeg.engine.pipeline_check_hook import PipelineCheckHook
from mmzeg.engine.vocabulary_check_hook import VocabularyCheckHook, has_classifier


def ensure_check_hooks(runner: Runner) -> None:
    """Register ``VocabularyCheckHook`` and ``PipelineCheckHook`` with a runner that has none of the kind.

    Runners whose model does not classify by text stay as they are.
    """
    if not has_classifier(runner):
        return
    for hook_class in (VocabularyCheckHook, PipelineCheckHook):
        if not any(isinstance(hook, hook_class) for hook in runner.hooks):
            runner.register_hook(hook_class())
