"""The tools for ONNX: export, compare with PyTorch, add class names."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tool_loading import load_tool

from mmzeg.apis import ZeroShotInferencer

WORLD = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'
EXPORT = 'tools/deployment/export_onnx.py'
COMPARE = 'tools/deployment/compare_onnx.py'
EMBED = 'tools/deployment/embed_names.py'


def test_export_compare_and_add_class_names(tmp_path, monkeypatch, capsys):
    small = ['model.decode_head.num_queries=6', 'model.decode_head.classifier.test_prompts=single']

    def run(tool, *arguments, options=()):
        """Exit code and output of a tool; the last line of its error where it fails."""
        command = [tool, str(WORLD), *map(str, arguments), '--cfg-options', *small, *options]
        monkeypatch.setattr(sys, 'argv', command)
        try:
            load_tool(tool).main()
        except SystemExit as stopped:
            return stopped.code, capsys.readouterr().err.splitlines()[-1]
        return 0, capsys.readouterr().out

    cfg = Config.fromfile(WORLD)
    cfg.merge_from_dict(dict(option.split('=') for option in small[1:]) | {'model.decode_head.num_queries': 6})
    # With other weights a pixel may lie so near the edge of a mask that rounding decides its label.
    torch.manual_seed(0)
    model = ZeroShotInferencer(cfg, device='cpu').model
    weights, folder = tmp_path / 'random.pth', tmp_path / 'deep/exported'
    torch.save(dict(state_dict=model.state_dict()), weights)
    code, out = run(EXPORT, weights, '--out', folder)
    assert code == 0 and out.count('differs from PyTorch by') == 2
    assert [path.name for path in folder.parent.iterdir()] == ['exported']
    code, out = run(EXPORT, weights, '--out', folder)
    assert code == 2 and out.endswith('exists already; name a new folder')

    options = ['test_dataloader.dataset.size=96', 'test_dataloader.dataset.length=2']
    code, out = run(COMPARE, weights, folder, '--repeats', 1, options=options)
    rows = [line.split('|')[1:-1] for line in out.splitlines() if '96 x 96' in line]
    assert code == 0 and len(rows) == 2
    assert all(float(difference) < 1e-3 for row in rows for difference in row[1:5])
    assert all(float(row[5]) >= 99.9 for row in rows)

    code, out = run(EMBED, folder, 'sky', 'zebra', 'zebra', 'sofa, couch')
    assert '2 names added, 44 in total' in out
    with np.load(folder / 'names.npz') as names:
        assert code == 0 and names['names'].tolist() == [*model.vocabulary.names, 'zebra', 'sofa, couch']
        classifier, scorer = model.decode_head.classifier, model.scorer
        expected = classifier.text_encoder.text_embeddings(['sofa, couch'], 'single')[0]
        np.testing.assert_allclose(names['segments'][-1], expected, atol=1e-6)
        expected = scorer.clip.text_embeddings(['sofa, couch'], scorer.prompts)[0]
        np.testing.assert_allclose(names['clip'][-1], expected, atol=1e-6)
    for other in ("model.scorer.prompts=['this is {} there']", 'model.scorer=None'):
        code, out = run(EMBED, folder, 'horse', options=[other, 'model.fusion.mode=seg'])
        assert code == 2 and 'another embedding' in out
    code, out = run(EMBED, tmp_path, 'horse')
    assert code == 2 and 'names.npz: no such file' in out


def test_a_missing_checkpoint_or_package_leaves_nothing(tmp_path, monkeypatch, capsys):
    export_onnx = load_tool(EXPORT)
    monkeypatch.setattr(sys, 'argv', ['export_onnx.py', str(WORLD), 'none.pth', '--out', str(tmp_path / 'out')])
    with pytest.raises(SystemExit):
        export_onnx.main()
    assert 'none.pth: no such checkpoint' in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(export_onnx, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        export_onnx.main()
    assert stopped.value.code == 2 and 'pip install onnx onnxruntime' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
