"""torch.compile for the networks of a model: backbone, pixel decoder, transformer decoder, and CLIP's image encoder."""

import torch
from torch import nn

from mmzeg.models.scorers.base_scorer import BaseScorer
from mmzeg.models.scorers.clip_scorer import CLIPScorer


def compile_networks(model: nn.Module, scorer: BaseScorer | None, options: dict) -> None:
    """Let ``torch.compile`` compile the networks of a model at their first images, and again for images of other sizes.

    The rest of the model, which matches, embeds texts and waits for values, stays as it is. CLIP's image encoder is
    compiled where it encodes crops (``mmzeg.CLIP.encode_image``). Compiled networks need a C++ compiler on a CPU, and
    Triton on a GPU; ``mode='reduce-overhead'`` replays CUDA graphs there.

    Args:
        model (nn.Module): A segmentor with ``backbone`` and ``decode_head``.
        scorer (BaseScorer, optional): Its scorer.
        options (dict): Keyword arguments of ``torch.compile``, such as ``mode`` and ``backend``; may be empty.

    Raises:
        ValueError: ``torch.compile`` does not take the options.
    """
    networks = [model.backbone]
    for name in ('pixel_decoder', 'transformer_decoder'):
        if hasattr(model.decode_head, name):
            networks.append(getattr(model.decode_head, name))
    try:
        for network in networks:
            # Not the module itself: the names of its weights stay.
            network.forward = torch.compile(network.forward, **options)
        if isinstance(scorer, CLIPScorer):
            scorer.clip.compile_image_encoder(options)
    except (TypeError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        raise ValueError(f'model.compile={options}: torch.compile does not take it: {message}') from error
