"""Convolutions by bytes, against double precision, and that evaluation does not change by them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.kernels import byte_convolution
from spquant_search.snn.kernels.byte_convolution import convolution, convolves
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import NeuronSpace

VALUES = torch.zeros(1, 1, 1, 1)
needs_bytes = pytest.mark.skipif(
    not convolves(VALUES, largest_value=1, largest_weight=1), reason="this processor does not multiply bytes"
)


def drawn(*shape: int, lowest: int, highest: int, seed: int) -> Tensor:
    return torch.randint(lowest, highest + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


@needs_bytes
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((1, 1), (1, 1)), ((1, 1), (2, 2)), ((3, 3), (1, 1)), ((3, 3), (2, 2)), ((4, 2), (1, 3)), ((5, 6), (1, 1))],
)
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(
    ("largest_value", "largest_weight"), [(1, 1), (1, 508), (127, 127), (128, 127), (255, 128), (4, 8128)]
)
def test_sums_are_those_of_double_precision(
    kernel: tuple[int, int], stride: tuple[int, int], groups: int, largest_value: int, largest_weight: int
) -> None:
    values = drawn(3, 6, 7, 8, lowest=0, highest=largest_value, seed=kernel[0])
    weight = drawn(12, 6 // groups, *kernel, lowest=-largest_weight, highest=largest_weight, seed=groups)
    values[0], weight[0], weight[1] = largest_value, largest_weight, -largest_weight
    options = {"stride": stride, "padding": (kernel[0] // 2, kernel[1] // 3), "groups": groups}
    bounds = {"largest_value": largest_value, "largest_weight": largest_weight}
    found = convolution(values, weight, **bounds, **options)
    assert found.dtype is torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.double(), F.conv2d(values.double(), weight.double(), **options))


@needs_bytes
def test_pairs_of_large_products_do_not_overflow() -> None:
    values, weight = torch.full((1, 32, 4, 4), 255.0), torch.full((1, 32, 3, 3), -127.0)
    assert convolution(values, weight, largest_value=255, largest_weight=127).eq(-255 * 127 * 32 * 9).all()


@pytest.mark.parametrize(("largest_value", "largest_weight"), [(256, 1), (1, 2**13)])
def test_what_is_no_byte_is_left_to_fp32(largest_value: int, largest_weight: int) -> None:
    assert not convolves(VALUES, largest_value=largest_value, largest_weight=largest_weight)


def test_other_devices_are_left_to_fp32() -> None:
    assert not convolves(VALUES.to("meta"), largest_value=1, largest_weight=1)


@pytest.mark.parametrize("capabilities", [{}, {"avx512_vnni": False, "avx2": True}])
def test_other_processors_are_left_to_fp32(capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert not byte_convolution._is_fast.__wrapped__()


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_a_torch_without_that_convolution_is_left_to_fp32(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_arguments: object, **_options: object) -> Tensor:
        raise error

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
    monkeypatch.setattr(byte_convolution, "convolution", missing)
    assert not byte_convolution._is_fast.__wrapped__()


def test_a_convolution_that_is_not_exact_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
    monkeypatch.setattr(
        byte_convolution, "convolution", lambda values, weight, **_: F.conv2d(values, weight, padding=1) + 1
    )
    assert not byte_convolution._is_fast.__wrapped__()


@needs_bytes
@pytest.mark.parametrize("pool", [None, "before", "after"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_layer_evaluates_the_same_by_bytes_and_in_fp32(
    pool: str | None, bits: int, monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    torch.manual_seed(bits)
    layer = SpikingConv2d(5, 7, pool=pool, can_gate=False).eval()  # type: ignore[arg-type]
    layer.set_precision(LayerPrecision(weight_bits=bits, membrane_levels=16), NeuronSpace())
    spikes = Spikes(values=drawn(8, 5, 9, 9, lowest=0, highest=15, seed=1), time_steps=4, largest=15)
    by_bytes = layer.evaluation_current(spikes)
    monkeypatch.setattr(byte_convolution, "convolves", lambda *_values, **_bounds: False)
    assert torch.equal(by_bytes, layer.evaluation_current(spikes))
