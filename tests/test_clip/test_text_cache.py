from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from mmzeg.clip import CLIP, get_templates

FILE = Path(__file__).parents[1] / 'data' / 'golden' / 'r50_single' / 'clip_openai_format.safetensors'


def test_cache_is_written_read_and_repaired(tmp_path, monkeypatch):
    clip = CLIP(str(FILE), cache_dir=str(tmp_path))
    first = clip.text_embeddings(['sky', 'car'], 'single')
    (path,) = tmp_path.iterdir()
    with monkeypatch.context() as context:
        context.setattr(CLIP, '_embed', None)
        assert torch.equal(clip.text_embeddings(['sky', 'car'], 'single'), first)
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(clip.text_embeddings(['sky', 'car'], 'single'), first)
    clip.text_embeddings(['sky', 'car'], ['{}'])
    assert len(list(tmp_path.iterdir())) == 2


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.safetensors'):
        CLIP(str(tmp_path / 'gone.safetensors'))
    truncated = tmp_path / 'short.safetensors'
    truncated.write_bytes(FILE.read_bytes()[:5000])
    with pytest.raises(ValueError, match='short.safetensors: truncated'):
        _ = CLIP(str(truncated)).embed_dim
    with pytest.raises(ValueError, match='not the weights of ViT-B-32'):
        _ = CLIP(str(FILE), model='ViT-B-32').network


def test_a_tag_loads_no_weights_at_construction():
    clip = CLIP('openai', model='ViT-B-16-quickgelu')
    assert clip.embed_dim == 512 and not clip.is_loaded


def test_prompt_sets():
    assert [len(get_templates(name)) for name in ('single', 'imagenet_select', 'imagenet', 'imagenet_select_clip')] == [
        1,
        8,
        80,
        32,
    ]
    with pytest.raises(ValueError, match='unknown'):
        get_templates('most')
    with pytest.raises(ValueError, match='needs one'):
        get_templates(['a photo'])


def _fill(rank, folder, barrier):
    torch.set_num_threads(1)
    clip = CLIP(str(FILE), cache_dir=str(folder))
    barrier.wait()
    for _ in range(20):
        for path in folder.glob('*.safetensors'):
            path.unlink(missing_ok=True)
        embeddings = clip.text_embeddings(['sky', 'car'], 'single')
        assert embeddings.shape == (2, 512) and torch.isfinite(embeddings).all()


def test_two_processes_fill_the_cache_at_once(tmp_path):
    barrier = mp.get_context('spawn').Barrier(2)
    mp.spawn(_fill, (tmp_path, barrier), nprocs=2)
    assert not list(tmp_path.glob('*.part'))
