import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmzeg.clip import EmbeddingFile

VECTORS = {'sky': [3.0, 0.0], 'house': [0.0, 2.0], 'building': [4.0, 0.0]}


@pytest.mark.parametrize('suffix', ['npz', 'safetensors'])
def test_lookup_and_synonyms(tmp_path, suffix):
    path = tmp_path / f'words.{suffix}'
    if suffix == 'npz':
        np.savez(path, **VECTORS)
    else:
        save_file({name: torch.tensor(vector) for name, vector in VECTORS.items()}, path)
    encoder = EmbeddingFile(str(path))
    embeddings = encoder.text_embeddings(['sky', 'building, house'], 'single')
    torch.testing.assert_close(embeddings, torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]))
    with pytest.raises(ValueError, match=f"words.{suffix}: no vector for class 'car'"):
        encoder.text_embeddings(['car'], 'single')


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.npz'):
        EmbeddingFile(str(tmp_path / 'gone.npz'))
    (tmp_path / 'truncated.npz').write_bytes(b'PK\x03\x04')
    with pytest.raises(ValueError, match='truncated.npz: truncated'):
        EmbeddingFile(str(tmp_path / 'truncated.npz'))
    np.savez(tmp_path / 'nan.npz', a=np.ones(2), b=np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match='nan.npz: b is NaN'):
        EmbeddingFile(str(tmp_path / 'nan.npz'))
    np.savez(tmp_path / 'mixed.npz', a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(ValueError, match='mixed.npz: every name needs one vector of the same width'):
        EmbeddingFile(str(tmp_path / 'mixed.npz'))
