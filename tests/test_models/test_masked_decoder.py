"""MaskedDecoder: queries attend to the memory cells under their previous masks."""

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


def decode(decoder, predict_masks, memory, num_queries=4):
    """Return the decoder's segment embeddings (L, 2, Q, 16), and the inputs of its layers."""
    position = torch.randn(1, memory.shape[1], 16, generator=torch.Generator().manual_seed(1))
    query_pos = torch.randn(2, num_queries, 16, generator=torch.Generator().manual_seed(2))
    layer_inputs = dict(key=memory, value=memory, query_pos=query_pos, key_pos=position.expand(2, -1, -1))
    query = torch.zeros(2, num_queries, 16)
    return decoder(query, predict_masks=predict_masks, **layer_inputs), layer_inputs


@pytest.mark.parametrize('is_full', [True, False])
def test_full_and_empty_masks_restrict_nothing(decoder, is_full):
    memory = torch.randn(2, 9, 16)
    embeddings, layer_inputs = decode(decoder, lambda embeddings: torch.full((2, 4, 9), is_full), memory)
    plain_decoder = DetrTransformerDecoder(**FIELDS).eval()
    plain_decoder.load_state_dict(decoder.state_dict())
    expected = plain_decoder(torch.zeros(2, 4, 16), key_padding_mask=None, **layer_inputs)
    torch.testing.assert_close(embeddings, expected)


def test_masks_restrict_attention_from_the_second_layer_on(decoder):
    masks = torch.zeros(2, 2, 9, dtype=torch.bool)
    masks[:, 0, :3] = True
    masks[1, 1, 5:] = True
    attn_masks = []
    for layer in decoder.layers:
        layer.cross_attn.attn.register_forward_pre_hook(
            lambda module, args, fields: attn_masks.append(fields['attn_mask']), with_kwargs=True
        )
    decode(decoder, lambda embeddings: masks, torch.randn(2, 9, 16), num_queries=2)
    assert attn_masks[0] is None
    expected = ~masks
    # A query with an empty mask attends to all cells.
    expected[0, 1] = False
    for attn_mask in attn_masks[1:]:
        # One mask per head; the heads of an image follow each other.
        assert torch.equal(attn_mask, expected[[0, 0, 1, 1]])


def test_masks_are_predicted_from_the_previous_layer(decoder):
    layer_embeddings = []

    def predict_masks(embeddings):
        layer_embeddings.append(embeddings)
        return embeddings.mean(-1, keepdim=True).expand(-1, -1, 9) > -9

    embeddings, _ = decode(decoder, predict_masks, torch.randn(2, 9, 16))
    torch.testing.assert_close(torch.stack(layer_embeddings), embeddings)
