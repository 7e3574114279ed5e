"""Two processes train as one does on the same images."""

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


def losses_and_gradients(images, distributed=False):
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIG).model
    # Batch statistics differ between one process and two; what is compared is ours.
    cfg.backbone.update(norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True)
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 3, 64, 64, generator=generator)[images]
    # All 11 classes in every image: then the weighted mean of the classification is the same in parts and in all.
    labels = torch.stack([torch.randperm(64, generator=generator) % 11 for _ in range(4)]).reshape(4, 1, 8, 8)[images]
    samples = []
    for label in labels:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=label.repeat_interleave(8, 1).repeat_interleave(8, 2))
        samples.append(sample)
    wrapped = DistributedDataParallel(model) if distributed else model
    losses = wrapped(inputs, samples, mode='loss')
    sum(losses.values()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: value.detach() for name, value in losses.items()}, gradients


def one_process(rank, folder):
    torch.save(losses_and_gradients([[0, 1], [2, 3]][rank], distributed=True), folder / f'{rank}.pt')


def test_gradients_equal_one_process(tmp_path):
    run_two(one_process, tmp_path)
    (first, gradients), (second, others) = (torch.load(tmp_path / f'{rank}.pt', weights_only=True) for rank in range(2))
    losses, wanted = losses_and_gradients([0, 1, 2, 3])
    for name, loss in losses.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, loss, rtol=1e-5, atol=1e-6)
    scale = max(gradient.abs().max() for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert torch.equal(gradients[name], others[name])
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-5 * scale.item())
