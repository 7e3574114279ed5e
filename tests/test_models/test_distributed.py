"""Two processes train as one process does on the same images."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch.nn.parallel import DistributedDataParallel
from two_processes import run_two

from mmzeg.registry import MODELS

CONFIG = Path(__file__).parents[2] / 'configs' / 'zegformer_r18_camvid.py'


def losses_and_gradients(indices, is_distributed=False):
    """Return the losses and the gradients of a training step on images of these indices, from 0 to 3."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIG).model
    # Batch statistics differ between one process and two; this test compares the losses.
    cfg.backbone.update(norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True)
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 3, 64, 64, generator=generator)[indices]
    # Every image has all 11 classes: then the weighted mean of the classification loss is the same in halves.
    labels = torch.stack([torch.randperm(64, generator=generator) % 11 for _ in range(4)])
    samples = []
    for label_map in labels.reshape(4, 1, 8, 8)[indices]:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=label_map.repeat_interleave(8, 1).repeat_interleave(8, 2))
        samples.append(sample)
    wrapped = DistributedDataParallel(model) if is_distributed else model
    losses = wrapped(inputs, samples, mode='loss')
    sum(losses.values()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: value.detach() for name, value in losses.items()}, gradients


def train_half(rank, folder):
    """Save the losses and the gradients of one process, which trains on half of the images."""
    torch.save(losses_and_gradients([[0, 1], [2, 3]][rank], is_distributed=True), folder / f'{rank}.pt')


def test_gradients_equal_those_of_one_process(tmp_path):
    run_two(train_half, tmp_path)
    losses_0, gradients_0 = torch.load(tmp_path / '0.pt', weights_only=True)
    losses_1, gradients_1 = torch.load(tmp_path / '1.pt', weights_only=True)
    losses, gradients = losses_and_gradients([0, 1, 2, 3])
    for name, loss in losses.items():
        torch.testing.assert_close((losses_0[name] + losses_1[name]) / 2, loss, rtol=1e-5, atol=1e-6)
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert torch.equal(gradients_0[name], gradients_1[name])
        torch.testing.assert_close(gradients_0[name], gradient, rtol=1e-4, atol=1e-5 * scale.item())
