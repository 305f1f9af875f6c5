"""Neurons of every form over many steps: PyTorch's evaluation, numpy and C against a slow neuron, ties included."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deploy.agreement import STRICT, exported
from deploy.networks import loaded, needs_compiler, written
from long_forms import LONG
from neurons import slow_neuron
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.snn import CountReadout, InputShape, NeuronForm, Spikes, SpikingConv2d, added
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.grid import membrane_grid
from spquant_search.space.schema import NeuronSpace

TIME, SIDE, CHANNELS = 8, 8, 16
SAMPLES = 44 if LONG else 8  # 44: a million steps of a form, in three layers
LEVELS = (3, 16, 256)
LEAKS = (0.5, 0.9, 1.0, 1 / 4096, 3 / 4096, 4095 / 4096)
SHAPE = InputShape(channels=1, height=SIDE, width=SIDE, classes=2, largest=255)
UNIT = 64  # a count of the input is a current of 1 / UNIT
GRAINS = np.repeat([64, 64, 128, 256], CHANNELS // 4)  # offsets are whole numbers of 1 / GRAINS: half a step of a grid


def amount_of(form: NeuronForm) -> float | None:
    """What a spike subtracts, as it is defined: 1 / leak in fp32, rounded to whole 2^-20."""
    if form.reset == "delayed-subtract":
        return round(float(np.float32(1) / np.float32(form.rounded_leak)) * 2**20) / 2**20
    return 1.0 if form.reset == "subtract" else None


class OfOneRule(nn.Module):
    """Layers that all read the input, a channel each of one pixel: neurons of each leak and number of levels."""

    def __init__(self, forms: list[NeuronForm]) -> None:
        super().__init__()
        for number, (form, _) in enumerate(itertools.product(forms, LEVELS)):
            layer = SpikingConv2d(1, CHANNELS, kernel_size=1, norm=False, can_gate=False, neuron=form)
            self.add_module(f"layer{number}", layer)
        self.readout = CountReadout(2, votes=CHANNELS // 2)

    def forward(self, spikes: Spikes) -> Tensor:
        layers = [layer for name, layer in self.named_children() if name != "readout"]
        logits: Tensor = self.readout(reduce(added, (layer(spikes) for layer in layers)))
        return logits


def of_one_rule(forms: list[NeuronForm], space: NeuronSpace, generator: np.random.Generator) -> OfOneRule:
    """Currents are -x/64 + d or x/64 + d, of inputs up to 255: from -4 to 4, many of them at the threshold or at ties.

    Of neurons that subtract something uneven, half of the channels are off by just that, so that ties are left.
    """
    network = OfOneRule(forms)
    levels = list(LEVELS) * len(forms)
    layers = [
        (name, LayerPrecision(weight_bits=1, membrane_levels=one))
        for name, one in zip(searchable_layers(network), levels, strict=True)
    ]
    configure(network, NetworkConfig(time_steps=TIME, layers=tuple(layers)), space)
    for layer in network.children():
        if not isinstance(layer, SpikingConv2d):
            continue
        sign = generator.choice([-1, 1], CHANNELS)
        offset = -sign * generator.integers(-GRAINS, 3 * GRAINS) / GRAINS
        uneven = (amount_of(layer.neuron.form) or 0.0) % 1
        offset[::2] += uneven
        assert layer.bias is not None
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(sign / UNIT).view_as(layer.weight))
            layer.bias.copy_(torch.from_numpy(offset))
            if layer.neuron.log_threshold is not None:
                # 1/2 or 2, with which currents come to the threshold, or some number.
                layer.neuron.log_threshold.fill_(math.log(2) * generator.choice([-1.0, 1.0, 0.3]))
    return network.eval()


def expected_of(
    step: dict[str, Any], arrays: dict[str, NDArray[np.int64]], frames: NDArray[np.uint8], form: NeuronForm, levels: int
) -> tuple[NDArray[np.bool_], Counter[str]]:
    """The spikes of a layer by a slow neuron [sample, time, row, column, channel], and how often it had to decide."""
    sums = (2 * arrays["weights"].astype(np.int64).reshape(-1) - 1) * frames.transpose(0, 1, 3, 4, 2).astype(np.int64)
    gain = 1 if step["neuron"]["gain"] is None else step["neuron"]["gain"] / 16
    current = (arrays["slope"][0] * sums + arrays["offset"][0]) / 2.0 ** step["shift"] * gain
    grid, amount = membrane_grid(levels, subtracts=form.subtracts), amount_of(form)
    spikes, potentials = slow_neuron(
        current.swapaxes(0, 1), leak=form.rounded_leak, amount=amount, at_threshold=form.spike_at_threshold, grid=grid
    )
    left = np.where(spikes, 0.0 if amount is None else potentials - amount, potentials)
    ties = (np.abs(left / grid.step) % 1 == 0.5) & (left > grid.lowest) & (left < grid.highest)
    decided = {"threshold": potentials == 1.0, "tie": ties, "tie left by a spike": ties & spikes}
    return spikes.swapaxes(0, 1), Counter({name: int(found.sum()) for name, found in decided.items()})


@needs_compiler
@pytest.mark.parametrize(
    ("reset", "at_threshold", "samples"),
    [
        ("delayed-subtract", True, 1),
        *(
            pytest.param(*rule, SAMPLES, marks=pytest.mark.slow)
            for rule in itertools.product(("zero", "subtract", "delayed-subtract"), (False, True))
        ),
    ],
)
def test_all_three_are_a_slow_neuron(
    reset: Any, at_threshold: bool, samples: int, tmp_path: Path, plain_neurons: None
) -> None:
    forms = [NeuronForm(leak=leak, reset=reset, spike_at_threshold=at_threshold) for leak in LEAKS]
    check(forms, NeuronSpace(), samples, tmp_path)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("learns", ["leak", "threshold"])
@pytest.mark.parametrize("reset", ["zero", "delayed-subtract"])
def test_what_is_learned_is_rounded_once(reset: Any, learns: str, tmp_path: Path, plain_neurons: None) -> None:
    forms = [NeuronForm(leak=leak, reset=reset, learn_leak=learns == "leak") for leak in (0.3, 0.9)]
    check(forms, NeuronSpace(learn_threshold=learns == "threshold"), SAMPLES, tmp_path)


def check(forms: list[NeuronForm], space: NeuronSpace, samples: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(samples)
    torch.manual_seed(samples)
    network = of_one_rule(forms, space, generator)
    frames = generator.integers(0, 256, (samples, TIME, 1, SIDE, SIDE)).astype(np.uint8)
    made = exported(network, SHAPE, frames)
    model, form = loaded(made), made.manifest["network"]
    library = CLibrary(written(made, tmp_path / "deployed"), form, cc=str(compiler()), work=tmp_path, flags=STRICT)
    found = {"numpy": model.run(frames), "C": library.run(frames), "PyTorch": run_in_pytorch(network, frames, form)}
    steps = [step for step in model.steps if "neuron" in step]
    decided: Counter[str] = Counter()
    for step, (one, levels) in zip(steps, itertools.product(forms, LEVELS), strict=True):
        expected, counted = expected_of(step, model.arrays[step["name"]], frames, one, levels)
        assert 0.05 < expected.mean() < 0.95
        decided += counted
        for name, outcome in found.items():
            assert (outcome.spikes[step["name"]] != expected).sum() == 0, f"{name}, {one}, {levels} levels"
    assert decided["threshold"] > 10
    assert decided["tie"] > 100
    assert decided["tie left by a spike"] > 10 or not forms[0].subtracts or space.learn_threshold
    np.testing.assert_array_equal(found["numpy"].logits, found["C"].logits)
    np.testing.assert_array_equal(found["numpy"].logits, found["PyTorch"].logits)


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("reset", ["zero", "subtract", "delayed-subtract"])
def test_a_slow_neuron_rounds_nothing_in_double_precision(reset: Any, leak: float) -> None:
    """It is the same in fractions: doubles hold all numbers of it, whatever the leak and what a spike subtracts."""
    form = NeuronForm(leak=leak, reset=reset)
    grid, amount = membrane_grid(16, subtracts=form.subtracts), amount_of(form)
    generator = np.random.default_rng(0)
    current = generator.integers(-3 * 2**24, 4 * 2**24, (6, 40)) / 2**24
    current[:, ::2] = np.round(current[:, ::2] * UNIT) / UNIT + (amount or 0.0) % 1
    spikes, potentials = slow_neuron(current, leak=form.rounded_leak, amount=amount, grid=grid)
    step = Fraction(grid.step)
    for neuron in range(current.shape[1]):
        stored = Fraction(0)
        for t in range(len(current)):
            u = Fraction(form.rounded_leak) * stored + Fraction(current[t, neuron])
            assert (u, u > 1) == (Fraction(potentials[t, neuron]), spikes[t, neuron])
            left = u if u <= 1 else Fraction(0) if amount is None else u - Fraction(amount)
            whole, rest = divmod(abs(left), step)
            nearest = (whole + (rest > step / 2)) * step * (1 if left >= 0 else -1)  # a tie goes toward zero
            stored = min(max(nearest, Fraction(grid.lowest)), Fraction(grid.highest))


@pytest.mark.parametrize("numerator", [1, 2, 3, 5, 255, 256, 257, 1365, 3686, 4095, 4096])
def test_what_a_delayed_reset_subtracts_is_defined(numerator: int) -> None:
    """1 / leak as fp32 has it, in whole 2^-20: to the nearest where the leak is 1/16 or more, to 24 bits below."""
    form = NeuronForm(leak=numerator / 4096, reset="delayed-subtract")
    layer = SpikingConv2d(1, 1, kernel_size=1, neuron=form)
    layer.set_precision(LayerPrecision(membrane_levels=16), NeuronSpace())
    amount = float(layer.neuron.parameters_now.amount)
    assert amount == amount_of(form)
    assert (amount * 2**20).is_integer()
    assert abs(amount - 4096 / numerator) <= max(2.0**-20, amount * 2.0**-24)
