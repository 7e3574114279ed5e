"""torch.compile for the networks of a model: backbone, pixel decoder, transformer decoder, and CLIP's image encoder."""

from __future__ import annotations

import copy
from types import MethodType

from torch import nn

from mmzeg.models.scorers.base_scorer import BaseScorer
from mmzeg.models.scorers.clip_scorer import CLIPScorer
from mmzeg.utils.compiled_functions import compile_function


class CompiledForward:
    """The compiled ``forward`` of a network; a deep copy of the network, such as an EMA hook makes, gets its own.

    Args:
        network (nn.Module): The network. Its attribute ``forward`` is this object, so the names of its weights stay.
        options (dict): Keyword arguments of ``torch.compile``.
    """

    def __init__(self, network: nn.Module, options: dict) -> None:
        self._network = network
        self._options = options
        self._forward = compile_function(MethodType(type(network).forward, network), options)

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Return what the network's ``forward`` returns."""
        return self._forward(*args, **kwargs)

    def __deepcopy__(self, memo: dict) -> CompiledForward:
        return CompiledForward(copy.deepcopy(self._network, memo), self._options)


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
            network.forward = CompiledForward(network, options)
        if isinstance(scorer, CLIPScorer):
            scorer.clip.compile_image_encoder(options)
    except (TypeError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        raise ValueError(f'model.compile={options}: torch.compile does not take it: {message}') from error
