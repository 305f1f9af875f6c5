"""Ten time steps with the largest weights: nothing that grows from step to step leaves the type that was chosen."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deploy.agreement import assert_all_agree, assert_runs_clean, exported
from deploy.networks import Choices, drawn_config, loaded, needs_compiler
from deploy.test_bounds import Watched, saturate
from long_forms import LONG
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.deploy import reference
from spquant_search.deploy.segments import NoIntegerForm
from spquant_search.snn import (
    CountReadout,
    Flatten,
    InputShape,
    NeuronForm,
    Pool,
    Readout,
    Shortcut,
    Spikes,
    SpikingConv2d,
    SpikingLinear,
)
from spquant_search.snn.layers import configure
from spquant_search.space.schema import NeuronSpace

TIME = 10
READOUTS: dict[str, Any] = {
    "summed integrators": lambda: Readout(10, 1, 5, membrane="sum"),
    "the last integrators": lambda: Readout(10, 1, 5, membrane="last", leak=1.0),
    "leaking membranes": lambda: Readout(10, 1, 5, membrane="sum", leak=4095 / 4096),
    "sums": lambda: Readout(10, 1, 5),
    "counts": lambda: CountReadout(5, votes=2),
}
FORMS = [
    NeuronForm(leak=leak, reset=reset, spike_at_threshold=at_threshold)  # type: ignore[arg-type]
    for leak, at_threshold, reset in itertools.product(
        (1.0, 4095 / 4096, 1 / 4096), (False, True), ("subtract", "zero", "delayed-subtract")
    )
]


class Long(nn.Module):
    """The largest of currents, sums of currents, a residual, a hidden layer, and a readout."""

    def __init__(self, readout: nn.Module) -> None:
        super().__init__()
        self.first = SpikingConv2d(2, 4, kernel_size=(2, 3), padding=(2, 1, 1, 1), pool=Pool("max-before", 2, 1))
        self.shortcut = Shortcut(2, 4, stride=2)
        self.second = SpikingConv2d(4, 4, groups=2, stride=2, padding=1)
        self.third = SpikingConv2d(4, 4, pool=Pool("before", 2, 1, (1, 1)))
        self.flatten = Flatten()
        self.hidden = SpikingLinear(4 * 3 * 3, 10, norm=True)
        self.readout = readout

    def forward(self, spikes: Spikes) -> Tensor:
        second = self.second(self.first(spikes), self.shortcut(spikes))
        logits: Tensor = self.readout(self.hidden(self.flatten(self.third(second))))
        return logits


def a_long_run(form: NeuronForm, readout: str, seed: int) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    """All weights of a channel the largest, of one sign or of both; inputs at their most, at random, and by turns."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    shape = InputShape(channels=2, height=4, width=4, classes=5, largest=int(generator.choice([1, 15, 255])))
    network = Long(READOUTS[readout]())
    space = NeuronSpace(
        leak=form.leak,
        reset=form.reset,
        spike_at_threshold=form.spike_at_threshold,
        learn_leak=seed % 3 == 0,
        learn_threshold=seed % 2 == 0,
    )
    configure(network, drawn_config(network, generator, Choices(skip=(None,), bits=(1, 8))), space)
    saturate(network, generator)
    frames = np.zeros((3, TIME, 2, 4, 4), np.uint8)
    frames[0] = 255
    frames[1] = generator.integers(0, 2, frames[1].shape) * 255
    frames[2, ::2] = 255
    return network.eval(), shape, frames


class WatchedReadout:
    """Note the largest number that a readout forms."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        run = reference._Run
        readout, count = run._readout, run._count_spikes

        def watched(self_: Any, step: dict[str, Any], inputs: Any, of: Any) -> Any:
            out = of(self_, step, inputs)
            formed = [value for value in (self_.logits, self_.membranes) if value is not None]
            self.most = max(self.most, *(int(np.abs(value).max()) for value in formed))
            return out

        monkeypatch.setattr(run, "_readout", lambda *given: watched(*given, readout))
        monkeypatch.setattr(run, "_count_spikes", lambda *given: watched(*given, count))


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_all_that_is_formed_stays_within_its_bits(
    every: int, plain_neurons: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, of_readout = Watched(monkeypatch), WatchedReadout(monkeypatch)
    refused, near = 0, dict.fromkeys(READOUTS, -64)
    for seed, (form, readout) in list(enumerate(itertools.product(FORMS, READOUTS)))[::every]:
        watched.most.clear()
        of_readout.most = 0
        network, shape, frames = a_long_run(form, readout, seed)
        try:
            model = loaded(exported(network, shape, frames))
        except NoIntegerForm as error:
            assert "53 are exact" in str(error)  # noqa: PT017
            refused += 1
            continue
        for step in model.steps:
            if "neuron" in step:
                assert watched.most[step["name"]].bit_length() < step["potential_bits"], f"{step['name']} of {seed}"
        bits = model.steps[-1]["accumulator_bits"]
        assert of_readout.most.bit_length() < bits, f"the readout of {seed}"
        near[readout] = max(near[readout], of_readout.most.bit_length() + 1 - bits)
    assert refused * every < 20
    # Some run comes to within a few bits of the worst case, which is told without running the network.
    assert all(-3 <= one <= 0 for one in near.values()), near


@needs_compiler
@pytest.mark.parametrize(
    "seed",
    [
        0,
        *(
            pytest.param(seed, marks=pytest.mark.slow)
            for seed in range(1, len(FORMS) * len(READOUTS), 2 if LONG else 11)
        ),
    ],
)
def test_c_does_nothing_undefined_in_them(seed: int, tmp_path: Path, plain_neurons: None) -> None:
    form, readout = list(itertools.product(FORMS, READOUTS))[seed]
    network, shape, frames = a_long_run(form, readout, seed)
    (tmp_path / "clean").mkdir()
    try:
        assert_all_agree(network, shape, frames, tmp_path)
        assert_runs_clean(exported(network, shape, frames), frames, tmp_path / "clean")
    except NoIntegerForm as error:
        assert "53 are exact" in str(error)  # noqa: PT017
