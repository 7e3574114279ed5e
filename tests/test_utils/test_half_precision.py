"""A device without a half precision ends in one line that names the device and what to set; GPUs are faked here."""

import pytest
import torch
from mmengine.config import Config

from mmzeg.clip import CLIP
from mmzeg.utils.half_precision import lacks_precision
from mmzeg.utils.preflight import check_config

CPU = torch.device('cpu')
CUDA = torch.device('cuda')
GOLDEN_CLIP = 'tests/data/golden/r50_single/clip_openai_format.safetensors'


@pytest.fixture
def use_gpu(monkeypatch):
    """Return a function that lets torch describe a GPU of a name and a compute capability."""

    def use(name, capability):
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: name)
        monkeypatch.setattr('mmzeg.utils.preflight.get_device', lambda: 'cuda')

    return use


@pytest.fixture
def clip_of(request):
    """Return a function that makes a CLIP of a precision."""
    path = request.config.rootpath / GOLDEN_CLIP
    return lambda precision: CLIP(str(path), precision=precision)


@pytest.mark.parametrize(
    'capability, float16, bfloat16',
    [((5, 2), False, False), ((5, 3), True, False), ((7, 5), True, False), ((8, 0), True, True)],
)
def test_precisions_of_gpus(use_gpu, capability, float16, bfloat16):
    use_gpu('Tesla', capability)
    assert lacks_precision(torch.float32, CUDA) is None
    assert (lacks_precision(torch.float16, CUDA) is None, lacks_precision(torch.bfloat16, CUDA) is None) == (
        float16,
        bfloat16,
    )


def test_precisions_of_other_devices(monkeypatch):
    assert lacks_precision(torch.float16, CPU) == 'needs a GPU'
    assert lacks_precision(torch.bfloat16, CPU) is None and lacks_precision(torch.float32, CPU) is None
    assert lacks_precision(torch.float16, torch.device('mps')) is None
    # ROCm's GPUs count their architectures otherwise.
    monkeypatch.setattr(torch.version, 'hip', '5.7')
    assert lacks_precision(torch.bfloat16, CUDA) is None


def test_clip_on_a_gpu_without_half_precision(use_gpu, clip_of):
    use_gpu('Tesla M40', (5, 2))
    assert clip_of('auto').dtype_on(CUDA) == torch.float32
    for precision, needed in (('fp16', '5.3'), ('bf16', '8.0')):
        with pytest.raises(ValueError) as error:
            clip_of(precision).text_embeddings(['sky'], 'single', device=CUDA)
        assert str(error.value) == (
            f"CLIP precision '{precision}' needs a GPU of compute capability {needed}, and Tesla M40 has 5.2: "
            "set precision='auto', which fits the device"
        )


def test_clip_on_a_gpu_with_half_precision(use_gpu, clip_of):
    use_gpu('H100', (9, 0))
    types = [clip_of(precision).dtype_on(CUDA) for precision in ('auto', 'fp16', 'bf16', 'fp32')]
    assert types == [torch.float16, torch.float16, torch.bfloat16, torch.float32]


@pytest.mark.parametrize(
    'dtype, message',
    [
        (
            'bfloat16',
            'in bfloat16 needs a GPU of compute capability 8.0, and Tesla V100 has 7.0: set optim_wrapper.dtype',
        ),
        (torch.bfloat16, 'in bfloat16 needs a GPU'),
        (None, None),
        ('float16', None),
    ],
)
def test_mixed_precision_of_a_training(use_gpu, dtype, message):
    use_gpu('Tesla V100', (7, 0))
    cfg = Config(dict(optim_wrapper=dict(type='AmpOptimWrapper', dtype=dtype), train_dataloader=dict(dataset=dict())))
    if message is None:
        check_config(cfg, ['train_dataloader'])
        return
    with pytest.raises(ValueError) as error:
        check_config(cfg, ['train_dataloader'])
    assert message in str(error.value) and '\n' not in str(error.value)
