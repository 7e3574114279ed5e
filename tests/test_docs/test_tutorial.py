"""The notebook runs from its first to its last cell, with an untrained model."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from mmzeg.apis import ZeroShotInferencer
from mmzeg.models import ScoreFusion

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings('ignore:FigureCanvasAgg is non-interactive')
def test_tutorial(tmp_path, monkeypatch, capsys):
    matplotlib.use('Agg')
    torch.manual_seed(0)
    model = ZeroShotInferencer('zegformer_r18_world', device='cpu').model
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'work_dirs/quickstart').mkdir(parents=True)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'work_dirs/quickstart/iter_1000.pth')
    # Jupyter and VS Code start it in docs.
    (tmp_path / 'docs').mkdir()
    monkeypatch.chdir(tmp_path / 'docs')
    cells = json.loads((ROOT / 'docs/tutorial.ipynb').read_text())['cells']
    namespace: dict = {}
    for cell in cells:
        if cell['cell_type'] == 'code':
            assert not cell['outputs'], 'clear the outputs: they are of another model'
            exec(compile(''.join(cell['source']), 'docs/tutorial.ipynb', 'exec'), namespace)
    matplotlib.pyplot.close('all')
    printed = capsys.readouterr().out
    assert '34 seen classes' in printed and "'something else']" in printed and 'runners-up:' in printed
    # With a larger gamma, no fewer pixels get an unseen class.
    assert np.all(np.diff(namespace['fractions']) >= 0)
    assert np.isin(namespace['preview'].label_map(ScoreFusion('full', 0.9, 99.0)), namespace['unseen']).all()
