import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmzeg.engine import AtomicCheckpointHook


@pytest.mark.parametrize(
    'pointer, files, expected',
    [
        (None, ['iter_5.pth'], 'iter_5.pth'),
        ('', ['iter_5.pth', 'iter_10.pth'], 'iter_10.pth'),
        ('iter_5.pth', ['iter_5.pth', 'iter_10.pth'], 'iter_10.pth'),
        ('other/iter_7.pth', ['iter_5.pth', 'other/iter_7.pth'], 'other/iter_7.pth'),
        ('iter_5.pth', ['iter_5.pth', 'iter_10.pth.tmp', 'best_hIoU_iter_10.pth'], 'iter_5.pth'),
        (None, [], None),
    ],
)
def test_the_newest_complete_checkpoint_is_named(tmp_path, pointer, files, expected):
    for age, name in enumerate(files):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (1000 + age, 1000 + age))
    last_checkpoint = tmp_path / 'last_checkpoint'
    if pointer is not None:
        last_checkpoint.write_text(str(tmp_path / pointer) if pointer else '')
    before = last_checkpoint.exists() and last_checkpoint.read_text()
    # A test during a training must not change it.
    AtomicCheckpointHook(by_epoch=False).before_run(SimpleNamespace(work_dir=str(tmp_path), _resume=False))
    assert before == (last_checkpoint.exists() and last_checkpoint.read_text())
    AtomicCheckpointHook(by_epoch=False).before_run(SimpleNamespace(work_dir=str(tmp_path), _resume=True))
    named = last_checkpoint.read_text() if last_checkpoint.exists() else None
    assert named == (expected and str(tmp_path / expected))


class Tiny(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, value, mode):
        return dict(loss=(self.weight * value).sum())


def test_the_old_file_is_removed_last(tmp_path, monkeypatch):
    """While a checkpoint is being written, the previous one is complete and named."""
    states = []
    original = Runner.save_checkpoint

    def save(self, out_dir, filename, *args, **kwargs):
        original(self, out_dir, filename, *args, **kwargs)
        names = sorted(path.name for path in tmp_path.glob('*.pth*'))
        pointer = tmp_path / 'last_checkpoint'
        states.append((names, pointer.read_text().rsplit('/')[-1] if pointer.exists() else None))

    monkeypatch.setattr(Runner, 'save_checkpoint', save)
    model = Tiny()
    Runner(
        model,
        str(tmp_path),
        train_dataloader=DataLoader([dict(value=torch.ones(1))] * 3),
        train_cfg=dict(by_epoch=False, max_iters=3, val_interval=10),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)),
        default_hooks=dict(
            checkpoint=dict(type='mmzeg.AtomicCheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=1)
        ),
        experiment_name='tiny',
    ).train()
    assert states == [
        (['iter_1.pth.tmp'], None),
        (['iter_1.pth', 'iter_2.pth.tmp'], 'iter_1.pth'),
        (['iter_2.pth', 'iter_3.pth.tmp'], 'iter_2.pth'),
    ]
    assert [path.name for path in tmp_path.glob('*.pth*')] == ['iter_3.pth']
