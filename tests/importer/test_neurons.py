"""A million neuron steps of every form are those of the library, in float32, and membranes agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from importer.libraries import snntorch, spikingjelly
from torch import Tensor, nn

from spquant_search.importer.libraries import library_neuron, neuron_class, reset_states
from spquant_search.importer.library_neuron import Fired
from spquant_search.importer.refusals import Refused

STEPS, NEURONS = 20, 50_000


def currents(kind: str) -> Tensor:
    """Return [time, batch, neurons]: normal ones, or multiples of 1/8, which are full of exact ties."""
    generator = torch.Generator().manual_seed(7)
    values = 0.3 + 1.2 * torch.randn(STEPS, 2, NEURONS // 2, generator=generator)
    return values if kind == "normal" else (values * 8).round() / 8


def by_library(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return spikes and membranes of all steps, one step a call."""
    spikes, membranes = [], []
    reset_states(module)
    factor = getattr(module, "graded_spikes_factor", 1.0)
    with torch.no_grad():
        for current in x:
            out = module(current)
            spikes.append((out[0] if isinstance(out, tuple) else out) / factor)
            membranes.append((module.mem if hasattr(module, "mem") else module.v).clone())
    reset_states(module)
    return torch.stack(spikes), torch.stack(membranes)


def compare(module: nn.Module, kind: str) -> None:
    """Compare in the library's units and in thresholds; rounding may decide at a threshold alone."""
    neuron = neuron_class(module)
    assert neuron is not None
    x, form = currents(kind), library_neuron(module, neuron)
    spikes, membranes = by_library(module, x)
    ours: Fired = form.run(x.double(), spikes.double())
    assert 0.02 < float(spikes.mean()) < 0.9
    assert float(((ours.membranes - membranes).abs() / membranes.abs().clamp(min=1)).max()) < 2e-6
    scaled = x.double() * form.gain / torch.tensor(form.unit).double()
    for fired in (ours, form.in_thresholds().run(scaled, spikes.double())):
        apart = fired.spikes.float() != spikes
        assert kind == "eighths" or not apart.any()
        assert float(torch.where(apart, fired.margins.abs(), 0.0).max()) < 1e-6
    if kind == "eighths" and is_dyadic(form.leak) and is_dyadic(form.gain):
        assert torch.equal(ours.spikes.float(), spikes)  # every tie


def is_dyadic(value: Any) -> bool:
    return isinstance(value, float) and (16 * value).is_integer()


SPIKINGJELLY = [
    ("IFNode", {}),
    ("IFNode", {"v_threshold": 0.5, "v_reset": None}),
    ("IFNode", {"v_threshold": 1.25, "v_reset": -0.25}),
    ("SimpleIFNode", {"v_threshold": 1.25, "v_reset": -0.25}),
    ("SimpleIFNode", {"v_threshold": 0.75, "v_reset": None}),
    ("LIFNode", {"tau": 2.0}),
    ("LIFNode", {"tau": 2.0, "decay_input": False, "v_reset": None}),
    ("LIFNode", {"tau": 4.0, "decay_input": False, "v_threshold": 1.5}),
    ("LIFNode", {"tau": 8.0, "decay_input": False, "v_reset": 0.25}),
    ("LIFNode", {"tau": 1.25, "v_threshold": 0.5, "detach_reset": True}),
    ("LIFNode", {"tau": 4.0, "v_reset": None, "v_threshold": 0.25}),
    ("SimpleLIFNode", {"tau": 2.0, "decay_input": True}),
    ("SimpleLIFNode", {"tau": 4.0, "decay_input": False, "v_threshold": 1.5, "v_reset": 0.25}),
    ("ParametricLIFNode", {"init_tau": 2.0}),
    ("ParametricLIFNode", {"init_tau": 4.0, "decay_input": False, "v_reset": None}),
    ("ParametricLIFNode", {"init_tau": 3.0, "v_threshold": 0.75, "v_reset": -0.25}),
    ("HalfThresholdIFNode", {"v_threshold": 1.0}),
    ("HalfThresholdIFNode", {"v_threshold": 1.5}),
]
SNNTORCH: list[dict[str, Any]] = [
    {"beta": 0.5},
    {"beta": 0.9},
    {"beta": 1.5},
    {"beta": 0.0},
    {"beta": 0.75, "threshold": 1.5},
    {"beta": 0.9, "reset_mechanism": "zero"},
    {"beta": 0.5, "reset_mechanism": "zero", "reset_delay": False},
    {"beta": 0.75, "reset_delay": False},
    {"beta": 0.75, "threshold": 1.5, "reset_delay": False},
    {"beta": 0.75, "threshold": 1.5, "reset_mechanism": "zero"},
    {"beta": 0.5, "reset_mechanism": "none"},
    {"beta": 0.5, "reset_mechanism": "none", "reset_delay": False},
    {"beta": 0.75, "graded_spikes_factor": 2.0, "learn_graded_spikes_factor": True},
    {"beta": 0.75, "graded_spikes_factor": 2.0, "reset_mechanism": "zero", "reset_delay": False},
    {"beta": 0.75, "surrogate_disable": True, "output": True},
    {"beta": 0.875, "learn_beta": True, "learn_threshold": True, "threshold": 0.5},
]


@pytest.mark.parametrize("kind", ["normal", "eighths"])
@pytest.mark.parametrize(("name", "arguments"), SPIKINGJELLY)
def test_a_neuron_of_spikingjelly(name: str, arguments: dict[str, Any], kind: str) -> None:
    neuron = spikingjelly("neuron")
    compare(getattr(neuron, name)(**arguments), kind)


@pytest.mark.parametrize(("name", "arguments"), SPIKINGJELLY)
def test_all_steps_in_one_call_are_those_of_one_step_a_call(name: str, arguments: dict[str, Any]) -> None:
    module, x = getattr(spikingjelly("neuron"), name)(**arguments), currents("normal")[..., :1000]
    spikes, _ = by_library(module, x)
    module.step_mode = "m"
    with torch.no_grad():
        assert torch.equal(module(x), spikes)


@pytest.mark.parametrize("kind", ["normal", "eighths"])
@pytest.mark.parametrize("arguments", SNNTORCH)
def test_a_neuron_of_snntorch(arguments: dict[str, Any], kind: str) -> None:
    compare(snntorch().Leaky(init_hidden=True, **arguments), kind)


def test_a_beta_and_a_threshold_of_every_channel() -> None:
    size = NEURONS // 2
    beta, threshold = torch.linspace(-0.2, 1.2, size), torch.linspace(0.5, 2.0, size)
    compare(snntorch().Leaky(init_hidden=True, beta=beta, threshold=threshold), "normal")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("RLeaky", "RLeaky has no form: its spikes come back to it in the next step, a recurrence"),
        ("Synaptic", "Synaptic has no form: it has more states than a membrane"),
        ("Lapicque", "Lapicque has no form"),
    ],
)
def test_another_neuron_of_snntorch_is_refused(name: str, why: str) -> None:
    given = {"RLeaky": {"beta": 0.5, "all_to_all": False}, "Synaptic": {"alpha": 0.5, "beta": 0.5}}
    module = getattr(snntorch(), name)(**given.get(name, {"beta": 0.5}))
    neuron = neuron_class(module)
    assert neuron is not None
    with pytest.raises(Refused) as caught:
        library_neuron(module, neuron)
    assert caught.value.why == why


def test_another_neuron_of_spikingjelly_is_refused() -> None:
    module = spikingjelly("neuron").QIFNode()
    neuron = neuron_class(module)
    assert neuron is not None
    with pytest.raises(Refused, match="QIFNode has no form") as caught:
        library_neuron(module, neuron)
    assert "IFNode, SimpleIFNode" in caught.value.remedy


def test_dropout_of_spikingjelly_is_no_neuron_and_a_subclass_is_one() -> None:
    neuron, layer = spikingjelly("neuron"), spikingjelly("layer")

    class Mine(neuron.LIFNode):  # type: ignore[misc, name-defined]
        pass

    assert neuron_class(layer.Dropout(0.5)) is neuron_class(layer.Dropout2d(0.5)) is None
    assert neuron_class(nn.Conv2d(1, 1, 1)) is None
    assert neuron_class(Mine()) == ("SpikingJelly", "LIFNode")
