"""Zero-shot segmentation without training: any masks, classified by a scorer."""

from torch import Tensor

from mmzeg.models.proposals import ProposalBatch
from mmzeg.models.segmentors.zegformer import ZegFormer
from mmzeg.registry import MODELS


@MODELS.register_module()
class ProposalSegmentor(ZegFormer):
    """Classify the masks of any model of mmseg or mmdet, or of files, by a scorer.

    It is ZegFormer with other masks and without the head's classes. With the default fusion the score of a class is
    CLIP's probability, times the probability that the mask is an object.

    A checkpoint of the mask model loads as it is. Files need no checkpoint.

    Args:
        proposals (dict): ``mmzeg.ModelProposals`` or ``mmzeg.FileProposals``; it decides how images are normalized.
        decode_head (dict): ``mmzeg.ProposalHead``.
        scorer (dict): A ``BaseScorer``.
        fusion (dict, optional): Arguments of ``mmzeg.models.ScoreFusion``. Defaults to mode ``geometric`` with CLIP's
            classes only (alpha and beta 1) and no calibration.
        kwargs: ``train_cfg``, ``test_cfg`` and ``init_cfg``, as of mmseg's ``EncoderDecoder``.

    Raises:
        ValueError: The fusion mode uses no scorer, or ``test_cfg.mode`` is not ``whole``; or as ``ZegFormer``.
    """

    def __init__(
        self, proposals: dict, decode_head: dict, scorer: dict, fusion: dict | None = None, **kwargs: object
    ) -> None:
        fusion = dict(mode='geometric', alpha=1.0, beta=1.0, gamma=0.0) | dict(fusion or {})
        super().__init__(backbone=proposals, decode_head=decode_head, scorer=scorer, fusion=fusion, **kwargs)
        self.data_preprocessor = MODELS.build(self.backbone.preprocessor)
        self._check_fusion()
        if self.test_cfg.mode != 'whole':
            raise ValueError("masks are those of whole images: set model.test_cfg.mode='whole'")

    def predict_logits(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Predict the segments of a batch and their logits, see ``ZegFormer.predict_logits``.

        Raises:
            ValueError: The fusion mode uses no scorer.
            ProposalError: The masks of an image cannot be read.
        """
        self._check_fusion()
        return super().predict_logits(inputs, batch_img_metas)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Raise ValueError: there is nothing to train."""
        raise ValueError('ProposalSegmentor has nothing to train: train its mask model with a config of that model')

    def _backbone_channels(self) -> None:
        """Masks have no channels."""
        return None

    def extract_features(self, inputs: Tensor, batch_img_metas: list[dict]) -> ProposalBatch:
        """Return the masks, which the head takes in place of maps."""
        return self.backbone(inputs, batch_img_metas)

    def _check_fusion(self) -> None:
        if not self.fusion.needs_scorer:
            raise ValueError(
                f'fusion mode {self.fusion.mode!r} uses the classes of the head, and masks of ProposalSegmentor have '
                "none: use mode 'geometric'"
            )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        """Load a checkpoint of this model, or one of the mask model itself."""
        mask_model_prefix = f'{prefix}backbone.model.'
        if not any(name.startswith(mask_model_prefix) for name in state_dict):
            for name in [name for name in state_dict if name.startswith(prefix)]:
                state_dict[mask_model_prefix + name.removeprefix(prefix)] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args)
