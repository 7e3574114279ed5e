"""The stages of a test: which methods they are, and a model that computes as a case says."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from torch import Tensor, nn

from mmzeg.benchmarking.inference_cases import InferenceCase
from mmzeg.benchmarking.segment_replacement import TrainedSegments, replace_segments
from mmzeg.clip import CLIP
from mmzeg.models import ScoreFusion, ZegFormer
from mmzeg.models.scorers import CLIPDensePoolScorer, CLIPMaskPromptScorer, OnePassScorer, clip_mask_prompt_scorer

STAGES = ('data', 'backbone', 'head', 'crops', 'CLIP', 'pruning', 'fusion', 'map')


def stage_methods(case: InferenceCase) -> dict[tuple[object, str], str]:
    """Return the methods and functions whose calls are stages: (class or module, name) -> stage."""
    if case.scorer is None:
        return {}
    methods = {
        (type(case.model.data_preprocessor), 'forward'): 'data',
        (ZegFormer, 'extract_feat'): 'backbone',
        (type(case.model.decode_head), 'forward'): 'head',
        (ScoreFusion, '__call__'): 'fusion',
        (type(case.scorer), 'score_segments'): 'crops',
        (CLIP, 'encode_image'): 'CLIP',
    }
    if isinstance(case.scorer, CLIPMaskPromptScorer):
        methods[clip_mask_prompt_scorer, 'encode_with_prompts'] = 'CLIP'
    if isinstance(case.scorer, OnePassScorer):
        methods[type(case.scorer), '_encode_masks'] = 'CLIP'
    # What remains of CLIP if the backbone's map is reused.
    if isinstance(case.scorer, CLIPDensePoolScorer):
        methods[type(case.scorer), 'pool'] = 'CLIP'
    if case.scorer.pruning is not None:
        methods[type(case.scorer.pruning), '__call__'] = 'pruning'
    return methods


@contextmanager
def configured(case: InferenceCase, segments: TrainedSegments | None) -> Iterator[None]:
    """Within the ``with`` block, the model has the case's scorer, and its head the case's segments."""
    if case.scorer is None:
        yield
        return
    model = case.model
    head = type(model.decode_head)
    head_forward = head.forward
    return_logits = model.test_cfg.get('return_logits', True)

    def forward(self: nn.Module, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        # The released code computes the masks of all layers.
        kwargs = {} if case.is_reference else kwargs
        class_logits, mask_logits = head_forward(self, *args, **kwargs)
        return replace_segments(class_logits, mask_logits, segments, case.num_empty)

    model.scorer = case.scorer
    model.execution = case.execution
    with ExitStack() as stack:
        stack.callback(model.test_cfg.__setitem__, 'return_logits', return_logits)
        stack.enter_context(patch.object(head, 'forward', forward))
        if case.is_reference:
            # The released code makes the map of all classes, and its inputs are not channels-last.
            model.test_cfg.return_logits = True
            stack.enter_context(patch.object(ZegFormer, 'extract_features', _extract_plain_features))
        yield


def _extract_plain_features(model: ZegFormer, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, ...]:
    """Return backbone maps of inputs in the memory layout that they have."""
    return model.extract_feat(inputs)
