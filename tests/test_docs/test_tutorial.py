"""The notebook runs from its first cell to its last, with a model that has learned nothing."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from mmzeg.apis import ZeroShotInferencer

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings('ignore:FigureCanvasAgg is non-interactive')
def test_tutorial(tmp_path, monkeypatch, capsys):
    matplotlib.use('Agg')
    torch.manual_seed(0)
    model = ZeroShotInferencer('zegformer_r18_world', device='cpu').model
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'work_dirs/quickstart').mkdir(parents=True)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'work_dirs/quickstart/iter_1000.pth')
    # Where Jupyter and VS Code start it.
    (tmp_path / 'docs').mkdir()
    monkeypatch.chdir(tmp_path / 'docs')
    cells = json.loads((ROOT / 'docs/tutorial.ipynb').read_text())['cells']
    names: dict = {}
    for cell in cells:
        if cell['cell_type'] == 'code':
            assert not cell['outputs'], 'outputs are not kept: they are of another model'
            exec(compile(''.join(cell['source']), 'docs/tutorial.ipynb', 'exec'), names)
    matplotlib.pyplot.close('all')
    printed = capsys.readouterr().out
    assert '34 seen classes' in printed and "'something else']" in printed and 'won; next:' in printed
    # More is taken from the seen classes, so that more pixels go to the unseen ones.
    assert np.all(np.diff(names['shares']) >= 0)
    assert np.isin(names['preview'].label_map('full', 0.9, 99.0), names['unseen']).all()
