"""Operations of a test, against the number that the architecture gives, and the images that networks get."""

import pytest
import torch
from tiny_clips import VIT, write_clip
from torch import nn

from mmzeg.benchmarking.operation_count import count_operations
from mmzeg.clip import clip as clip_module
from mmzeg.registry import MODELS


def test_a_vision_transformers_operations(tmp_path, monkeypatch):
    """Patches, projections, attention and feed-forward network; the last layer computes the class token only."""
    monkeypatch.setattr(clip_module, '_LOADED', {})
    clip = MODELS.build(write_clip(tmp_path, VIT))
    images = torch.randn(3, 3, 64, 64)
    clip.encode_image(images)
    count = count_operations(lambda: clip.encode_image(images))
    width, num_tokens, patch, embed_dim = VIT['width'], 17, VIT['patch_size'], 48
    stem = (num_tokens - 1) * width * 3 * patch**2

    def layer(num_queries):
        projections = (2 * num_queries + 2 * num_tokens) * width**2
        attention = 2 * num_queries * num_tokens * width
        return projections + attention + 8 * num_queries * width**2

    products = stem + (VIT['layers'] - 1) * layer(num_tokens) + layer(1) + width * embed_dim
    assert count.flops == 2 * len(images) * products and count.gflop == count.flops / 1e9
    assert count.inputs == {(64, 64): 3} and count.inputs_text == '3 x 64 x 64'


def test_images_of_several_sizes_and_other_maps():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 3, 1))
    count = count_operations(
        lambda: [network(torch.randn(n, 3, 8, 9)) for n in (2, 4)] + [network(torch.randn(1, 3, 9, 8))]
    )
    assert count.inputs_text == '1 x 9 x 8, 6 x 8 x 9'
    assert count.flops == 2 * 7 * 6 * 7 * (5 * 3 * 9 + 3 * 5)


def test_a_failing_test_leaves_nothing_behind():
    network = nn.Conv2d(3, 1, 1)

    def fail():
        raise RuntimeError('no image')

    with pytest.raises(RuntimeError, match='no image'):
        count_operations(fail)
    count = count_operations(lambda: None)
    network(torch.randn(1, 3, 2, 2))
    assert count.flops == 0 and not count.inputs and count.inputs_text == ''
