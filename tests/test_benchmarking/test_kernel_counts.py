"""KernelCounter counts kernels and host waits of plain operations, on a CPU as on a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmzeg.benchmarking.kernel_counts import KernelCounter

CPU = torch.device('cpu')


def count(function, *host_tensors):
    """Return the kernels and the host waits of a call."""
    with KernelCounter(CPU) as counter:
        for tensor in host_tensors:
            counter.mark_host(tensor)
        function()
    return counter.num_kernels, counter.num_waits


X = torch.arange(12.0).view(3, 4)
MASK = X > 5
INDICES = torch.tensor([0, 2])


@pytest.mark.parametrize(
    'function, expected',
    [
        (lambda: X + 1, (1, 0)),
        # Views and allocations are free.
        (lambda: X.view(4, 3).t()[1:, None].expand(2, 3, 4), (0, 0)),
        (lambda: torch.empty(3, device=X.device), (0, 0)),
        (lambda: torch.zeros(3, device=X.device).squeeze_().add_(1), (2, 0)),
        # Operations that consist of others
        (lambda: F.linear(X, X, X[:, 0]), (1, 0)),
        (lambda: F.scaled_dot_product_attention(X[None], X[None], X[None], attn_mask=torch.eye(3).bool()), (3, 0)),
        # The host reads values or shapes.
        (lambda: X.sum().item(), (1, 1)),
        (lambda: bool((X > 50).any()), (2, 1)),
        (lambda: X.cpu(), (1, 1)),
        (lambda: X.to('cpu'), (1, 1)),
        (lambda: X.tolist(), (1, 1)),
        (lambda: X.numpy(), (1, 1)),
        (lambda: MASK.nonzero(), (1, 1)),
        (lambda: X[MASK], (1, 1)),
        (lambda: X.unique(), (1, 1)),
        # An index on the device needs no wait, nor does a fill under a mask.
        (lambda: X[INDICES], (1, 0)),
        (lambda: X.clone().__setitem__(MASK, 0.0), (2, 0)),
        (lambda: X.clone().__setitem__(MASK, X[0, :1].expand(6)), (2, 1)),
        # Copies to the device
        (lambda: X[[0, 2]], (2, 1)),
        (lambda: torch.tensor([1, 2], device=X.device), (1, 1)),
        (lambda: X.new_tensor([1, 2]), (1, 1)),
        (lambda: torch.tensor([1.0]).to(X.device), (1, 1)),
        (lambda: torch.tensor([1.0]).to(X.device, non_blocking=True), (1, 0)),
        (lambda: X.clone().copy_(torch.tensor([1.0])), (2, 1)),
        # What stays in host memory
        (lambda: torch.tensor([1.0]).add(1).tolist(), (0, 0)),
        (lambda: X.cpu().add(1).max().item(), (1, 1)),
        (lambda: X * torch.tensor(2.0), (1, 0)),
    ],
)
@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_counts(function, expected, mode):
    with mode():
        assert count(function) == expected


def test_a_tensor_without_device_meets_one_of_the_device():
    with pytest.raises(RuntimeError, match='aten.add.*make it on the device'):
        count(lambda: X + torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_stages_and_sites():
    stage = 'first'
    with KernelCounter(CPU, lambda: stage) as counter:
        X + 1
        stage = 'second'
        nn.Linear(4, 2)(X).sum().backward()
        X.tolist()
    assert counter.kernels['first'] == 1 and counter.kernels['second'] > 4
    assert counter.waits == {'second': 1} and counter.wait_sites == {'? tolist': 1}
    # Nothing is counted after the block, and torch's functions are the original ones.
    X.tolist()
    assert counter.num_waits == 1 and torch.tensor.__module__ != 'mmzeg.benchmarking.kernel_counts'


def test_an_input_in_host_memory_is_copied_once():
    image = torch.zeros(3, 4)
    assert count(lambda: image.to(CPU) + 1, image) == (2, 1)
    assert count(lambda: image.to(CPU, non_blocking=True) + 1, image) == (2, 0)


def test_nothing_of_torch_changes():
    with KernelCounter(torch.device('cpu')):
        pass
    assert torch.tensor([torch.tensor(1)]).tolist() == [1]
