"""A training step on a GPU, checked on a CPU: kernels, host waits, devices of new tensors, half precision."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.models.heads import ZegFormerHead
from mmzeg.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'
CPU = torch.device('cpu')
SIDE = 64
# A step with the default settings; those that leave unlabelled pixels out of the masks take about 80 kernels more.
MAX_KERNELS = 1300
MAX_KERNELS_IGNORING_UNLABELLED = 1400


@pytest.fixture
def coco_config():
    """Return the published config of COCO-Stuff without pretrained weights."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIGS / 'zegformer_r50_coco.py').model
    cfg.backbone.init_cfg = None
    return cfg


def build_model(cfg, monkeypatch):
    """Build a model whose text embeddings are random: CLIP's weights are not needed."""
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    classifier = model.decode_head.classifier
    text = torch.nn.functional.normalize(torch.randn(len(classifier.train_vocabulary), 512), dim=-1)
    monkeypatch.setattr(classifier, 'text_embeddings', lambda training: text)
    return model


def four_images():
    """Return a batch as a data loader gives it: images of 64 x 64, three classes in each, and unlabelled pixels."""
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    samples = []
    for image in range(4):
        labels = torch.full((1, SIDE, SIDE), 255)
        for stripe in range(3):
            labels[:, 16 * stripe : 16 * stripe + 16] = 7 * image + stripe
        sample = SegDataSample(metainfo=dict(img_path=f'{image}.jpg', seg_map_path=f'{image}.png'))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return dict(inputs=list(images), data_samples=samples)


def losses_of(model, batch):
    """Return the losses of a batch, and what is optimized, as MMEngine's ``train_step`` computes them."""
    data = model.data_preprocessor(batch, True)
    losses = model.loss(data['inputs'], data['data_samples'])
    return losses, model.parse_losses(losses)[0]


def count_step(model):
    """Return the counter of a training step of four images: data preprocessor, forward pass and losses."""
    batch = four_images()
    with KernelCounter(CPU) as counter:
        counter.mark_batch(batch)
        losses_of(model, batch)
    return counter


# The host reads the present classes, the matching costs, the losses, and the values that the runner logs; without
# unlabelled pixels in the masks also how many pixels are labelled.
@pytest.mark.parametrize(
    ('ignore_unlabelled', 'num_waits', 'max_kernels'),
    [(False, 4, MAX_KERNELS), (True, 5, MAX_KERNELS_IGNORING_UNLABELLED)],
)
def test_kernels_and_host_waits_of_four_images(coco_config, monkeypatch, ignore_unlabelled, num_waits, max_kernels):
    coco_config.decode_head.ignore_unlabelled_in_masks = ignore_unlabelled
    counter = count_step(build_model(coco_config, monkeypatch))
    assert counter.num_waits == num_waits, counter.wait_sites
    assert counter.num_kernels <= max_kernels


def test_host_waits_of_a_step_with_backward_and_optimizer(coco_config, monkeypatch):
    model = build_model(coco_config, monkeypatch)
    optim_wrapper = Config.fromfile(CONFIGS / 'zegformer_r50_coco.py').optim_wrapper
    # The scaling of losses for half precision needs a GPU.
    optim_wrapper.update(type='OptimWrapper')
    optim_wrapper = build_optim_wrapper(model, optim_wrapper)
    batch = four_images()
    with KernelCounter(CPU) as counter:
        counter.mark_batch(batch)
        model.train_step(batch, optim_wrapper)
    # One more than forward pass and losses: the norm of the gradients, which MMEngine logs
    assert counter.num_waits == 5, counter.wait_sites


def test_a_wait_per_image_is_counted(coco_config, monkeypatch):
    """The count above goes up if targets are read per image again."""
    present_labels = ZegFormerHead.present_labels

    def read_per_image(head, label_maps, samples):
        labels = [present_labels(head, label_map[None], samples) for label_map in label_maps]
        return [image_labels for (image_labels,) in labels]

    monkeypatch.setattr(ZegFormerHead, 'present_labels', read_per_image)
    assert count_step(build_model(coco_config, monkeypatch)).num_waits == 7


@pytest.mark.parametrize('fields', [{}, dict(ignore_unlabelled_in_masks=True, masked_attention=True)])
def test_every_new_tensor_takes_its_device_from_an_input(coco_config, monkeypatch, fields):
    coco_config.decode_head.update(fields)
    model = build_model(coco_config, monkeypatch)
    batch = four_images()
    # A tensor that is made without a device is one of the default device, which here has no values.
    torch.set_default_device('meta')
    try:
        losses, loss = losses_of(model, batch)
        loss.backward()
    finally:
        torch.set_default_device(None)
    assert all(loss.device == CPU for loss in losses.values())
    assert all(parameter.grad.device == CPU for parameter in model.decode_head.parameters())
