"""Every neuron that the installed libraries define is read, or refused by the name of its class."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator

import pytest
from importer.libraries import snntorch, spikingjelly
from importer.test_neurons import SNNTORCH, SPIKINGJELLY
from torch import nn

from spquant_search.importer.libraries import library_neuron, neuron_class
from spquant_search.importer.refusals import Refused

READ = {name for name, _ in SPIKINGJELLY} | {"Leaky"}
STATELESS = {"Dropout", "Dropout2d"}  # in evaluation
NEURONS = ("spikingjelly.activation_based.neuron", "spikingjelly.activation_based.rnn", "snntorch._neurons")
WITH_STATES = ("spikingjelly.activation_based.layer", "spikingjelly.activation_based.encoding")


def modules_of(name: str) -> Iterator[object]:
    module = importlib.import_module(name)
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", []), f"{name}."):
        try:
            yield importlib.import_module(found.name)
        except ImportError:  # what another package of theirs is missing for cannot be used either
            continue


def classes_of(*names: str) -> list[type[nn.Module]]:
    """Return the classes of modules that are defined in these places."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            value
            for name in names
            for module in modules_of(name)
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__.startswith(name)
        }
    return sorted(found, key=lambda one: one.__name__)


def unmade(cls: type[nn.Module]) -> nn.Module:
    """Return an instance as far as torch needs one: what it takes to make it is its library's affair."""
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    return module


def refusal(cls: type[nn.Module]) -> str | None:
    """Return why a class is refused, None where it is read; it must be one or the other."""
    neuron = neuron_class(unmade(cls))
    assert neuron is not None, f"{cls.__name__} is taken for a layer without a state"
    assert neuron.name == cls.__name__
    try:
        library_neuron(unmade(cls), neuron)
    except Refused as refused:
        return refused.why
    except AttributeError:  # it is read, and was never made
        return None
    return None


def test_every_neuron_is_read_or_refused_by_its_name() -> None:
    spikingjelly("neuron"), snntorch()
    classes = classes_of(*NEURONS)
    assert len(classes) > 60
    for cls in classes:
        why = refusal(cls)
        assert (why is None) == (cls.__name__ in READ), cls.__name__
        assert why is None or why.startswith(f"{cls.__name__} has no form"), why


def test_every_layer_with_a_state_is_refused_by_its_name() -> None:
    base = spikingjelly("base")
    classes = [cls for cls in classes_of(*WITH_STATES) if issubclass(cls, base.MemoryModule)]
    assert {"LinearRecurrentContainer", "ElementWiseRecurrentContainer", "SynapseFilter"} < {
        c.__name__ for c in classes
    }
    for cls in classes:
        if cls.__name__ in STATELESS:
            assert neuron_class(unmade(cls)) is None
        else:
            assert (refusal(cls) or "").startswith(f"{cls.__name__} has no form"), cls.__name__


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("RLeaky", "its spikes come back to it in the next step, a recurrence"),
        ("Synaptic", "it has more states than a membrane"),
        ("SConv2dLSTM", "it has more states than a membrane"),
        ("ElementWiseRecurrentContainer", "what comes out goes in again in the next step, a recurrence"),
        ("SpikingLSTM", "what comes out goes in again in the next step, a recurrence"),
        ("NonSpikingLIFNode", "it gives membranes and not spikes"),
    ],
)
def test_why_some_are_refused(name: str, why: str) -> None:
    spikingjelly("neuron"), snntorch()
    (cls,) = [one for one in classes_of(*NEURONS, *WITH_STATES) if one.__name__ == name]
    assert why in (refusal(cls) or "")


# What a neuron is made with and its spikes do not depend on: how it is differentiated, called, kept and shown.
WITHOUT_EFFECT = {"surrogate_function", "detach_reset", "step_mode", "store_v_seq"}
WITHOUT_EFFECT |= {"spike_grad", "surrogate_disable", "init_hidden", "output"}
REFUSED = {"inhibition", "state_quant"}


def test_the_million_steps_cover_every_argument_that_changes_spikes() -> None:
    neuron, snn = spikingjelly("neuron"), snntorch()
    for name in READ - {"Leaky"}:
        varied = {key for other, given in SPIKINGJELLY if other == name for key in given}
        arguments = set(inspect.signature(getattr(neuron, name)).parameters)
        assert arguments - WITHOUT_EFFECT <= varied, name
    varied = {key for given in SNNTORCH for key in given}
    assert set(inspect.signature(snn.Leaky).parameters) - WITHOUT_EFFECT - REFUSED <= varied
