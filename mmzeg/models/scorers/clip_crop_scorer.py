"""CLIP's opinion of every segment, from one sub-image a query (reference "Sub-images for CLIP")."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.scorers.sub_images import STYLES, cut_sub_images, mask_probabilities
from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary

# Few enough sub-images that what a layer of CLIP makes of them stays in a CPU's cache; enough to fill a GPU.
CPU_CHUNK, GPU_CHUNK = 4, 32


@MODELS.register_module()
class CLIPCropScorer:
    """Cuts a sub-image per query and asks CLIP's frozen image encoder what it shows. No trained weight is here.

    Args:
        clip (dict): ``mmzeg.CLIP``; equal configs share one model.
        prompts (str | list[str]): Prompt set, or templates, of CLIP's class names.
        style (str | list[str]): ``crop``: the mask's box of the image; ``mask``: the whole image times the mask;
            ``cropmask``: the image times the mask, then the box (published). Of several, the embeddings are averaged.
        grow (int): Pixels by which a mask is grown on every side before it is cut. Defaults to 0.
        chunk (int, optional): Masks brought up, cut and passed through CLIP at once; bounds memory. None: what fits the
            caches of a CPU, or fills a GPU.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        style: str | Sequence[str] = 'cropmask',
        grow: int = 0,
        chunk: int | None = None,
    ) -> None:
        styles = [style] if isinstance(style, str) else list(style)
        strangers = [name for name in styles if name not in STYLES]
        if strangers or not styles:
            wrong = repr(strangers[0]) if strangers else 'list of none'
            raise ValueError(f'sub-image style {wrong} is unknown: use one or more of {", ".join(STYLES)}')
        if chunk is not None and chunk < 1:
            raise ValueError(f'scorer chunk must be 1 or more, got {chunk}')
        if grow < 0:
            raise ValueError(f'scorer grow must be 0 pixels or more, got {grow}')
        self.clip = MODELS.build(clip)
        self.prompts, self.styles, self.grow, self.chunk = prompts, styles, grow, chunk

    def prepare(self, vocabulary: Vocabulary, device: str | torch.device) -> None:
        """Have text embeddings and CLIP's weights at hand before the first image; errors as in ``mmzeg.CLIP``."""
        self.clip.fetch()
        self.clip.text_embeddings(vocabulary.names, self.prompts, device=device)

    @torch.no_grad()
    def __call__(
        self, image: Tensor, mask_logits: Tensor, vocabulary: Vocabulary, valid_size: tuple[int, int]
    ) -> Tensor:
        """Logits of every segment of one image.

        Args:
            image (Tensor): (3, H, W) RGB in 0..255, padded.
            mask_logits (Tensor): (Q, h, w), any resolution.
            vocabulary (Vocabulary): C classes.
            valid_size (tuple[int, int]): Height and width of the image within the padding.

        Returns:
            Tensor: (Q, C) = CLIP's scale x cosine (+ its bias, if it has one).
        """
        embeddings = F.normalize(self.embed(image, mask_logits, valid_size), dim=-1)
        embeddings = F.normalize(embeddings.mean(0), dim=-1)
        device = embeddings.device
        text = self.clip.text_embeddings(vocabulary.names, self.prompts, device=device).to(device)
        return self.clip.logit_scale * embeddings @ text.t() + (self.clip.logit_bias or 0.0)

    def embed(self, image: Tensor, mask_logits: Tensor, valid_size: tuple[int, int]) -> Tensor:
        """(S, Q, d) image embeddings of the sub-images of S styles, not normalised; arguments as in ``__call__``."""
        image = self.normalize(image, valid_size)
        # All empty masks have one and the same sub-image: it goes through CLIP once.
        empty = mask_logits.flatten(1).amax(1) <= 0
        first = empty & (empty.cumsum(0) == 1)
        shown = ~empty | first
        place = shown.cumsum(0) - 1
        place = torch.where(empty, place[first.int().argmax()], place)
        chunk = self.chunk or (CPU_CHUNK if image.device.type == 'cpu' else GPU_CHUNK)
        found = torch.cat([self._embed(image, part) for part in mask_logits[shown].split(chunk)], 1)
        return found[:, place]

    def _embed(self, image: Tensor, mask_logits: Tensor) -> Tensor:
        masks = mask_probabilities(mask_logits, image.shape[-2:])
        if self.grow:
            masks = F.max_pool2d(masks, 2 * self.grow + 1, stride=1, padding=self.grow)
        size = self.clip.image_size
        return torch.stack([self.clip.encode_image(cut_sub_images(image, masks, size, style)) for style in self.styles])

    def normalize(self, image: Tensor, valid_size: tuple[int, int]) -> Tensor:
        """Give a (3, H, W) image in 0..255 CLIP's mean and deviation; the padding becomes zero afterwards."""
        mean = 255 * image.new_tensor(self.clip.image_mean)[:, None, None]
        std = 255 * image.new_tensor(self.clip.image_std)[:, None, None]
        height, width = valid_size
        valid = ((image[:, :height, :width] - mean) / std).float()
        return F.pad(valid, (0, image.shape[2] - width, 0, image.shape[1] - height))
