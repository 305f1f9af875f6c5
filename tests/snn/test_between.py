"""What lies between layers: pools and flattened maps are those of torch, and whole numbers stay whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_networks import inspected
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.snn import (
    AvgPool2d,
    Flatten,
    InputShape,
    MaxPool2d,
    Pool,
    Readout,
    Shortcut,
    Spikes,
    SpikingConv2d,
    SpikingLinear,
    added,
    global_average,
)
from spquant_search.snn.kernels.compile import uncompiled


def counts(channels: int, height: int, width: int, *, largest: int = 3, seed: int = 0) -> Spikes:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, largest + 1, (4, channels, height, width), generator=generator).float()
    return Spikes(values=values, time_steps=2, largest=largest, divisor=2)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    sizes = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides = draw(st.none() | st.integers(1, 3) | st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, size // 2)) for size in sizes)
    return {"kernel_size": sizes, "stride": strides, "padding": padding}


@settings(max_examples=60, deadline=None)
@given(windows(), st.integers(4, 9), st.integers(4, 9), st.integers(0, 99))
def test_pools_are_those_of_torch(window: dict[str, Any], height: int, width: int, seed: int) -> None:
    spikes = counts(3, height, width, seed=seed)
    with uncompiled():
        largest, mean = MaxPool2d(**window)(spikes), AvgPool2d(**window)(spikes)
    assert torch.equal(largest.values, F.max_pool2d(spikes.values, **window))
    assert (largest.largest, largest.divisor) == (3, 2)
    area = window["kernel_size"][0] * window["kernel_size"][1]
    assert (mean.largest, mean.divisor) == (3 * area, 2 * area)
    assert torch.equal(mean.values, mean.values.round())
    torch.testing.assert_close(mean.values / area, F.avg_pool2d(spikes.values, **window), rtol=1e-6, atol=0)


def test_an_average_of_the_whole_map_is_the_global_average() -> None:
    spikes = counts(3, 5, 4)
    assert torch.equal(AvgPool2d((5, 4))(spikes).values, global_average(spikes).values)


def test_sums_that_bf16_does_not_hold_are_kept_in_fp32(plain_neurons: None) -> None:
    values = torch.full((2, 1, 4, 4), 200.0, dtype=torch.bfloat16)
    pooled = AvgPool2d(2, 1)(Spikes(values=values, time_steps=1, largest=200))
    assert (pooled.values == 800).all()
    assert pooled.values.dtype is torch.float32


def test_a_flattened_map_has_the_order_of_torch_and_keeps_what_is_open() -> None:
    spikes = counts(3, 2, 4)
    opened = torch.rand(4, 3, generator=torch.Generator().manual_seed(1)) > 0.5
    flat = Flatten()(Spikes(values=spikes.values, time_steps=2, largest=3, open=opened))
    assert torch.equal(flat.values[:, :, 0, 0], nn.Flatten()(spikes.values))
    assert flat.open is not None
    assert torch.equal(flat.open, opened[:, :, None].expand(4, 3, 8).flatten(1))
    one = counts(3, 1, 1)
    assert Flatten()(one) is one


def test_a_linear_layer_has_the_current_of_torchs(plain_neurons: None) -> None:
    torch.manual_seed(0)
    layer, spikes = SpikingLinear(3 * 2 * 4, 5).eval(), counts(3, 2, 4)
    linear = nn.Linear(24, 5)
    with torch.no_grad():
        layer.weight.copy_(linear.weight[:, :, None, None])
        layer.bias.copy_(linear.bias)  # type: ignore[union-attr]
        found = layer.current(Flatten()(spikes))[:, :, 0, 0]
        expected = linear(nn.Flatten()(spikes.values) / 2)
    torch.testing.assert_close(found.float(), expected)


@pytest.mark.parametrize("kind", ["before", "max-before", "after", "max"])
def test_a_pool_of_a_layer_that_fits_no_map_is_refused(kind: Any) -> None:
    layer = SpikingConv2d(3, 4, kernel_size=(2, 1), padding=0, pool=Pool(kind, (3, 1)))
    with pytest.raises(ValueError, match="a map of 2x4 cannot be pooled by 3x1"):
        layer.shape("conv", counts(3, 3, 4))
    with pytest.raises(ValueError, match="a kernel of 2x1 does not fit on a map of 1x4, 1x4 with its padding"):
        layer.shape("conv", counts(3, 1, 4))
    with pytest.raises(ValueError, match="a map of 2x4 cannot be pooled by 3x3"):
        MaxPool2d(3, 1)(counts(3, 2, 4))


def test_averages_over_as_many_are_added(plain_neurons: None) -> None:
    spikes = counts(3, 4, 4)
    total = added(spikes, spikes)
    assert (total.largest, total.divisor) == (6, 2)
    assert torch.equal(total.values, 2 * spikes.values)
    with pytest.raises(ValueError, match="over 2 and 8 of 2 and 2 time steps"):
        added(spikes, AvgPool2d(2, 1)(spikes))


# ---------------------------------------------------------------- networks

SHAPE = InputShape(channels=2, height=6, width=5, classes=3)


class Reads(nn.Module):
    """A flattened map, and a part that reads it."""

    def __init__(self, part: nn.Module, read: Any = None, channels: int = 8) -> None:
        super().__init__()
        self.first, self.flatten, self.part = SpikingConv2d(2, 4, stride=2, can_gate=False), Flatten(), part
        self.read = read or (lambda part, flat: part(flat))
        self.readout = Readout(channels, 1, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        logits: Tensor = self.readout(self.read(self.part, self.flatten(self.first(spikes))))
        return logits


FLAT = 4 * 3 * 3
NOT_READ = {
    "a gate": (lambda: SpikingConv2d(FLAT, 8, kernel_size=1), None, 8),
    "groups": (lambda: SpikingConv2d(FLAT, 8, kernel_size=1, groups=2, can_gate=False), None, 8),
    "a kernel": (lambda: SpikingConv2d(FLAT, 8, can_gate=False), None, 8),
    "a residual": (
        lambda: SpikingConv2d(FLAT, FLAT, kernel_size=1, can_gate=False),
        lambda part, flat: part(flat, flat.current()),
        FLAT,
    ),
    "a sum": (lambda: SpikingLinear(FLAT, FLAT), lambda part, flat: added(flat, part(flat)), FLAT),
}


@pytest.mark.parametrize("case", NOT_READ)
def test_what_cannot_read_a_flattened_map_in_integers_is_said(case: str) -> None:
    part, read, channels = NOT_READ[case]
    found = inspected(lambda _shape: Reads(part(), read, channels), SHAPE).no_integer_form
    assert found is not None
    assert "reads what Flatten makes; in integers a SpikingLinear does, a Readout" in found


@pytest.mark.parametrize("part", [lambda: SpikingLinear(FLAT, 8), lambda: nn.Identity()])
def test_what_reads_one_costs_what_a_convolution_of_the_map_does(part: Any) -> None:
    makes_spikes = isinstance(part(), SpikingLinear)
    channels = 8 if makes_spikes else FLAT
    facts = inspected(lambda _shape: Reads(part(), channels=channels), SHAPE)
    as_convolution = inspected(
        lambda _shape: nn.Sequential(
            SpikingConv2d(2, 4, stride=2, can_gate=False),
            SpikingConv2d(4, 8, kernel_size=3, padding=0, norm=False, can_gate=False)
            if makes_spikes
            else nn.Identity(),
            Readout(8, 1, 3) if makes_spikes else Readout(4, 9, 3),
        ),
        SHAPE,
    )
    assert facts.no_integer_form is as_convolution.no_integer_form is None
    for one, other in zip(facts.shapes, as_convolution.shapes, strict=True):
        assert (one.weights, one.dense_macs, one.neurons) == (other.weights, other.dense_macs, other.neurons)
    assert facts.architecture is not None
    assert as_convolution.architecture is not None
    assert facts.architecture.map_bytes == as_convolution.architecture.map_bytes
    assert facts.architecture.inputs == as_convolution.architecture.inputs


def test_a_linear_layer_on_a_map_is_told_to_flatten_it() -> None:
    from spquant_search.errors import SpaceError

    with pytest.raises(SpaceError, match=r"a map of 6x5 with 2 channels. Put a Flatten\(\) before it, which makes 60"):
        inspected(lambda _shape: nn.Sequential(SpikingLinear(2, 4), Readout(4, 30, 3)), SHAPE)


def test_a_map_wider_than_a_kernel_may_be_has_no_integer_form() -> None:
    wide = InputShape(channels=1, height=1, width=300, classes=2)
    found = inspected(lambda _: nn.Sequential(Flatten(), SpikingLinear(300, 4), Readout(4, 1, 2)), wide)
    assert found.no_integer_form == "1: a kernel of 300 is more than the C engine's 255"
    narrow = InputShape(channels=1, height=1, width=255, classes=2)
    found = inspected(lambda _: nn.Sequential(Flatten(), SpikingLinear(255, 4), Readout(4, 1, 2)), narrow)
    assert found.no_integer_form is None


def test_a_shortcut_of_any_form_counts_and_costs_its_kernel(plain_neurons: None) -> None:
    shortcut = Shortcut(4, 6, kernel_size=(2, 3), stride=(1, 2), padding=(0, 1, 1, 0), groups=2, norm=False)
    shape = shortcut.shape("shortcut", counts(4, 5, 6))
    assert (shape.positions, shape.kernel_area, shape.groups) == (5 * 3, 6, 2)
    assert shape.weights == shortcut.weight.numel() == 6 * 2 * 6
    spikes = counts(4, 5, 6)
    with torch.no_grad():
        current = shortcut.eval()(spikes)
        padded = F.pad(spikes.values.double() / 2, (0, 1, 1, 0))
        expected = F.conv2d(padded, shortcut.weight.double(), stride=(1, 2), groups=2)
    np.testing.assert_allclose(current.double().numpy(), expected.numpy(), atol=1e-5)
