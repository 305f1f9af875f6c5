"""Batch norm of few channels: torch's own, in double precision, is the reference."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from spquant_search.snn.kernels import batch_norm
from spquant_search.snn.kernels.batch_norm import BatchNorm2d, compile_ahead
from spquant_search.snn.kernels.compile import Compiled


@pytest.fixture(autouse=True)
def folded(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    """Pixels are taken together although nothing is compiled: the plain functions do it, slowly."""
    del plain_neurons
    monkeypatch.setattr(batch_norm, "Compiled", SimpleNamespace(works=lambda: True))


def signal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Channels of means far from 0, channels last in memory."""
    torch.manual_seed(0)
    values = 2 * torch.randn(shape) + 5 * torch.randn(1, shape[1], 1, 1)
    return values.to(dtype).to(memory_format=torch.channels_last)


def pair(channels: int, **options: float | None) -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    ours, reference = BatchNorm2d(channels, **options), nn.BatchNorm2d(channels, **options).double()
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    reference.load_state_dict(ours.state_dict())
    return ours, reference


# 3 and 12 channels fill vectors only several pixels at a time; 7 * 20 pixels are not a multiple of 32 parts.
SHAPES = [(8, 8, 12, 12), (16, 4, 12, 12), (16, 3, 16, 16), (16, 12, 8, 8), (7, 32, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-8)], ids=["fp32", "bf16"])
def test_it_is_torchs_batch_norm(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    ours, reference = pair(shape[1])
    values = signal(*shape, dtype=dtype).requires_grad_()
    exact = values.detach().double().requires_grad_()
    assert ours._pixels_together(values) is not None
    gradient = torch.randn(shape).to(dtype)
    normed, expected = ours(values), reference(exact)
    normed.backward(gradient)
    expected.backward(gradient.double())

    def check(found: Tensor | None, wanted: Tensor | None, tolerance: float) -> None:
        assert found is not None
        assert wanted is not None
        torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max()))

    assert normed.dtype is dtype
    assert normed.is_contiguous(memory_format=torch.channels_last)
    check(normed.detach(), expected.detach(), tolerance)
    check(values.grad, exact.grad, tolerance)
    # What is summed is summed in fp32 whatever the type of the values.
    check(ours.weight.grad, reference.weight.grad, 2e-6)
    check(ours.bias.grad, reference.bias.grad, 2e-6)
    check(ours.running_mean, reference.running_mean, 2e-6)
    check(ours.running_var, reference.running_var, 2e-6)
    assert ours.num_batches_tracked == reference.num_batches_tracked == 1


def test_without_a_momentum_statistics_are_means_over_the_batches() -> None:
    ours, reference = pair(8, momentum=None)
    for scale in (1.0, 2.0, 0.5):
        values = scale * signal(8, 8, 8, 8)
        ours(values)
        reference(values.double())
    for name, expected in reference.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name).double(), expected.double(), rtol=1e-6, atol=1e-6)


def test_a_large_mean_costs_no_precision() -> None:
    ours, reference = pair(8)
    values = signal(8, 8, 8, 8) + 1000.0
    torch.testing.assert_close(ours(values).double(), reference(values.double()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [33, 64])
def test_many_channels_are_left_to_torch(channels: int) -> None:
    assert BatchNorm2d(channels)._pixels_together(signal(4, channels, 8, 8)) is None


def test_what_does_not_divide_or_lies_otherwise_in_memory_is_left_to_torch() -> None:
    norm = BatchNorm2d(8)
    assert norm._pixels_together(signal(8, 8, 8, 8)) == 8
    assert norm._pixels_together(signal(8, 8, 8, 8).contiguous()) is None
    assert norm._pixels_together(signal(1, 8, 3, 3)) is None  # pixels are left over
    assert norm._pixels_together(signal(4, 8, 8, 8)) is None  # 32 rows
    assert norm._pixels_together(signal(5, 8, 8, 9)) is None  # 45 rows
    norm.eval()
    assert norm._pixels_together(signal(8, 8, 8, 8)) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_what_is_compiled_ahead_serves_all_sizes_and_both_directions(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def passes(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        ours, _ = pair(shape[1])
        values = signal(*shape, dtype=dtype).requires_grad_()
        assert ours._pixels_together(values) is not None
        normed = ours(values)
        normed.backward(torch.randn(shape).to(dtype))
        assert values.grad is not None
        return normed.detach(), values.grad

    plain = [passes(shape) for shape in SHAPES]
    monkeypatch.setattr(Compiled, "enabled", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own deprecations; a failure of ours is in Compiled.failed
        compile_ahead(dtype)
    before = counters["stats"]["unique_graphs"]
    assert before >= 2
    for shape, expected in zip(SHAPES, plain, strict=True):
        for found, wanted in zip(passes(shape), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=2**-7 if dtype is torch.bfloat16 else 1e-5, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == before
    assert not Compiled.failed
