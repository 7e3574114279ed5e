"""Queries that look where their masks are."""

import pytest
import torch
from mmdet.models.layers import DetrTransformerDecoder

from mmzeg.models.heads.masked_decoder import MaskedDecoder

ATTENTION = dict(embed_dims=16, num_heads=2, attn_drop=0.0, dropout_layer=dict(type='Dropout', drop_prob=0.0))
FIELDS = dict(
    num_layers=3,
    return_intermediate=True,
    layer_cfg=dict(
        self_attn_cfg=dict(ATTENTION, batch_first=True),
        cross_attn_cfg=dict(ATTENTION, batch_first=True),
        ffn_cfg=dict(embed_dims=16, feedforward_channels=32, ffn_drop=0.0),
    ),
)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return MaskedDecoder(**FIELDS).eval()


def look(decoder, inside, memory, queries=4):
    position = torch.randn(1, memory.shape[1], 16, generator=torch.Generator().manual_seed(1))
    query_pos = torch.randn(2, queries, 16, generator=torch.Generator().manual_seed(2))
    fields = dict(key=memory, value=memory, query_pos=query_pos, key_pos=position.expand(2, -1, -1))
    return decoder(torch.zeros(2, queries, 16), inside=inside, **fields), fields


@pytest.mark.parametrize('everywhere', [True, False])
def test_a_mask_of_everything_or_nothing_is_no_mask(decoder, everywhere):
    memory = torch.randn(2, 9, 16)
    found, fields = look(decoder, lambda segments: torch.full((2, 4, 9), everywhere), memory)
    plain = DetrTransformerDecoder(**FIELDS).eval()
    plain.load_state_dict(decoder.state_dict())
    torch.testing.assert_close(found, plain(torch.zeros(2, 4, 16), key_padding_mask=None, **fields))


def test_from_the_second_layer_on_only_covered_cells_are_seen(decoder):
    inside = torch.zeros(2, 2, 9, dtype=torch.bool)
    inside[:, 0, :3], inside[1, 1, 5:] = True, True
    given = []
    for layer in decoder.layers:
        layer.cross_attn.attn.register_forward_pre_hook(
            lambda module, args, fields: given.append(fields['attn_mask']), with_kwargs=True
        )
    look(decoder, lambda segments: inside, torch.randn(2, 9, 16), queries=2)
    assert given[0] is None
    outside = ~inside
    outside[0, 1] = False  # without a mask it looks everywhere
    for mask in given[1:]:
        # One a head of a picture, the heads of a picture side by side.
        assert torch.equal(mask, outside[[0, 0, 1, 1]])


def test_masks_are_those_of_the_segments_before(decoder):
    asked = []

    def inside(segments):
        asked.append(segments)
        return segments.mean(-1, keepdim=True).expand(-1, -1, 9) > -9

    found, _ = look(decoder, inside, torch.randn(2, 9, 16))
    torch.testing.assert_close(torch.stack(asked), found)
