"""SegDataPreProcessor equals mmseg's bit by bit, and the host waits nowhere for a GPU."""

import copy
from unittest.mock import Mock

import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor as MMSegSegDataPreProcessor
from mmseg.structures import SegDataSample
from torch import Tensor

from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.models import SegDataPreProcessor
from mmzeg.models.channel_order import converts_to_rgb
from mmzeg.models.device_copies import copy_to_device

STATISTICS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
PUBLISHED = dict(STATISTICS, bgr_to_rgb=True, size_divisor=32, test_cfg=dict(size_divisor=32))
FIELDS = {
    'published': PUBLISHED,
    'other pad values': dict(PUBLISHED, pad_val=3, seg_pad_val=65535),
    'fixed sizes': dict(STATISTICS, size=(48, 64), test_cfg=dict(size=(64, 96))),
    'no test_cfg': dict(STATISTICS, rgb_to_bgr=True, size_divisor=16),
    'no normalization': dict(bgr_to_rgb=True, size_divisor=1, test_cfg=dict(size=(41, 53))),
}
# Heights and widths: multiples of 32, odd ones, one pixel.
SIZES = {'multiples': [(32, 64), (32, 64)], 'odd': [(33, 47)] * 3, 'mixed': [(40, 50), (33, 64), (1, 7)]}


def make_batch(sizes, labels='all', channels=3):
    """Return images of sizes and samples as a data loader gives them; labels of all images, of the last, or of none."""
    generator = torch.Generator().manual_seed(0)
    batch = dict(inputs=[], data_samples=[])
    for number, size in enumerate(sizes):
        batch['inputs'].append(torch.randint(0, 256, (channels, *size), dtype=torch.uint8, generator=generator))
        sample = SegDataSample(metainfo=dict(ori_shape=size, img_path=f'{number}.jpg', flip=False))
        if labels == 'all' or labels == 'last' and number == len(sizes) - 1:
            sample.gt_sem_seg = PixelData(data=torch.randint(0, 9, (1, *size), generator=generator))
        batch['data_samples'].append(sample)
    return batch


def results_of(fields, batch, training):
    """Return what mmzeg's class and mmseg's give for copies of a batch; an error as its type and text."""
    results = []
    for preprocessor_type in (SegDataPreProcessor, MMSegSegDataPreProcessor):
        preprocessor = preprocessor_type(**fields)
        try:
            results.append(preprocessor(copy.deepcopy(batch), training))
        except (AssertionError, TypeError) as error:
            results.append(repr(error))
    return results


def assert_equal(result, expected):
    assert result['inputs'].dtype == torch.float32
    assert torch.equal(result['inputs'], expected['inputs'])
    assert result['inputs'].is_contiguous() == expected['inputs'].is_contiguous()
    for sample, expected_sample in zip(result['data_samples'], expected['data_samples'], strict=True):
        assert type(sample) is SegDataSample
        assert sample.metainfo == expected_sample.metainfo
        assert sample.keys() == expected_sample.keys()
        for name, field in expected_sample.items():
            data = sample.get(name).data
            assert data.dtype == field.data.dtype and torch.equal(data, field.data)


@pytest.mark.parametrize('labels', ['all', 'last', 'none'])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
@pytest.mark.parametrize('fields', FIELDS.values(), ids=FIELDS)
def test_same_inputs_and_samples_as_mmsegs(fields, sizes, training, labels):
    result, expected = results_of(fields, make_batch(sizes, labels), training)
    if isinstance(expected, str):
        # mmseg refuses batches of mixed sizes at test.
        assert 'image size in a batch should be the same' in expected and result == expected
        assert sizes is SIZES['mixed'] and not training
    else:
        assert_equal(result, expected)


def test_same_fields_besides_labels():
    batch = make_batch(SIZES['odd'])
    for sample in batch['data_samples']:
        sample.gt_edge_map = PixelData(data=sample.gt_sem_seg.data % 2)
        sample.gt_depth_map = PixelData(data=sample.gt_sem_seg.data / 3)
    assert_equal(*results_of(PUBLISHED, batch, True))


def test_four_channels_are_not_reversed_and_batches_may_be_tensors():
    fields = dict(bgr_to_rgb=True, size_divisor=32)
    assert_equal(*results_of(fields, make_batch(SIZES['odd'], channels=4), True))
    batch = make_batch(SIZES['odd'])
    batch['inputs'] = default_collate(batch['inputs'])
    assert_equal(*results_of(PUBLISHED, batch, False))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('has_field', [True, False])
def test_images_without_samples(has_field, training):
    batch = dict(inputs=make_batch(SIZES['odd'])['inputs'], **(dict(data_samples=None) if has_field else {}))
    result, expected = results_of(dict(PUBLISHED, test_cfg=None), batch, training)
    if training:
        assert result == expected and 'data_samples' in expected
    else:
        assert torch.equal(result['inputs'], expected['inputs'])
        assert result['data_samples'] is expected['data_samples'] is None


def test_batches_of_the_caller_do_not_change():
    batch = make_batch(SIZES['mixed'])
    before = copy.deepcopy(batch)
    SegDataPreProcessor(**PUBLISHED)(batch, True)
    assert all(torch.equal(*pair) for pair in zip(batch['inputs'], before['inputs'], strict=True))
    for sample, expected in zip(batch['data_samples'], before['data_samples'], strict=True):
        assert torch.equal(sample.gt_sem_seg.data, expected.gt_sem_seg.data)
        assert sample.metainfo == expected.metainfo


@pytest.mark.parametrize('training', [True, False])
def test_no_wait(training):
    waits = []
    for preprocessor_type in (SegDataPreProcessor, MMSegSegDataPreProcessor):
        preprocessor = preprocessor_type(**PUBLISHED)
        batch = make_batch([(32, 32)] * 4)
        with KernelCounter(torch.device('cpu')) as counter:
            for tensor in (*batch['inputs'], *(sample.gt_sem_seg.data for sample in batch['data_samples'])):
                counter.mark_host(tensor)
            preprocessor(batch, training)
        waits.append(counter.num_waits)
    # mmseg: a copy per image and label map, and a list of channels per image
    assert waits == [0, 12]


def test_all_memory_is_pinned_before_it_is_copied(monkeypatch):
    """A copy to a GPU waits unless its memory is pinned, which the count on a CPU does not see."""
    pinned = []
    copied = []

    def pin_memory(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    def to(tensor, device, **kwargs):
        copied.append((tensor, device, kwargs))
        return tensor

    monkeypatch.setattr(Tensor, 'pin_memory', pin_memory)
    monkeypatch.setattr(Tensor, 'to', to)
    preprocessor = SegDataPreProcessor(**PUBLISHED)
    preprocessor._device = torch.device('cuda')
    preprocessor.cast_data(make_batch([(32, 32)] * 2))
    # Two images and two label maps
    assert len(pinned) == len(copied) == 4
    for memory, (tensor, device, kwargs) in zip(pinned, copied, strict=True):
        assert tensor is memory and device.type == 'cuda' and kwargs == dict(non_blocking=True)


def test_copies_of_a_gpus_tensors_wait():
    """Copied to the host without a wait, a tensor could be read before its values are there."""
    for device in (torch.device('cpu'), torch.device('cuda')):
        tensor_on_gpu = Mock(spec=Tensor, device=torch.device('cuda'))
        copy_to_device(tensor_on_gpu, device)
        tensor_on_gpu.to.assert_called_once_with(device, non_blocking=False)
        tensor_on_gpu.pin_memory.assert_not_called()


def test_one_order_of_channels_only():
    with pytest.raises(ValueError, match='bgr_to_rgb and rgb_to_bgr exclude each other: set one of them'):
        SegDataPreProcessor(bgr_to_rgb=True, rgb_to_bgr=True)


@pytest.mark.parametrize('preprocessor_type', [SegDataPreProcessor, MMSegSegDataPreProcessor])
@pytest.mark.parametrize('field', ['bgr_to_rgb', 'rgb_to_bgr', None])
def test_converts_to_rgb(preprocessor_type, field):
    assert converts_to_rgb(preprocessor_type(**({field: True} if field else {}))) is bool(field)
    with pytest.raises(ValueError, match='Identity does not say whether images become RGB'):
        converts_to_rgb(torch.nn.Identity())
