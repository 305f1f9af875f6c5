"""Graphs of NIR do what an independent simulation of their equations does, in every neuron step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from importer.libraries import nir, snntorch, spikingjelly
from importer.nir_graphs import DT, chain, drawn, ends, lif
from importer.nir_reference import Reference
from torch import nn

from spquant_search.importer import NotImportable, ReadNetwork, from_nir, read_nir
from spquant_search.importer.operations import Convolution, Scale, Spiking
from spquant_search.snn import Spikes

pytestmark = pytest.mark.usefixtures("plain_neurons")
RESETS = ("zero", "subtract", "delayed-subtract")


def check(read: ReadNetwork, wanted: dict[str, Any]) -> None:
    """Every layer of neurons gives the spikes and the potentials of the reference, folded and not."""
    recording = read.recordings["the example"]
    for number, node in enumerate(recording.graph.nodes):
        if isinstance(node.operation, Spiking) and not math.isinf(_largest(node.operation.form.threshold)):
            assert np.array_equal(recording.values(number).numpy(), wanted[node.name]), node.name
    assert np.allclose(recording.logits.numpy(), wanted["output"], atol=1e-9)
    ran = read.description.run(recording.values(0))
    assert np.allclose(ran.logits.numpy(), wanted["output"], atol=1e-6)
    for number in read.description.neurons:
        name = read.description.layers[number].name
        if not math.isinf(_largest(read.description.layers[number].operation.form.threshold)):  # type: ignore[union-attr]
            assert np.array_equal(ran.fired[number].spikes.numpy(), wanted[name]), name


def _largest(value: float | tuple[float, ...]) -> float:
    return max(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("seed", range(24))
def test_a_random_graph(seed: int) -> None:
    graph, reset, strict = drawn(seed), RESETS[seed % 3], seed % 2 == 0
    example = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, size=(5, 2, 2, 6, 6))).float()
    read = read_nir(graph, example, dt=DT, reset=reset, strict=strict)  # type: ignore[arg-type]
    wanted = Reference(graph, DT, reset, strict).run(example.numpy().astype(np.float64))
    check(read, wanted)
    layers = read.description.layers
    scaled = [layers[node.inputs[0]].operation for node in layers.values() if isinstance(node.operation, Scale)]
    assert all(isinstance(operation, Spiking) for operation in scaled)  # a shortcut's spikes; all else is in weights
    assert all(proof.differ == 0 for proof in read.proofs.values())


def convolutional(**changed: Any) -> Any:
    """Return a graph with everything that this package's layers carry: counts of four classes at its end."""
    rng = np.random.default_rng(3)
    nodes: dict[str, Any] = {
        "input": ends([2, 8, 8], [4])[0],
        "conv": nir().Conv2d((8, 8), rng.normal(size=(4, 2, 3, 3)), 1, 1, 1, 1, np.zeros(4)),
        "lif": lif((4, 8, 8)),
        "pool": nir().SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "deep": nir().Conv2d((4, 4), rng.normal(size=(4, 2, 3, 3)) / 4, (2, 2), "valid", 1, 2, np.zeros(4)),
        "if": nir().IF(np.full((4, 1, 1), 1 / DT), np.full((4, 1, 1), 0.7)),
        "flat": nir().Flatten(np.array([4, 1, 1]), 0, -1),
        "fc": nir().Affine(rng.normal(size=(4, 4)), np.full(4, 0.2)),
        "end": lif((4,), r=2.0),
        "output": ends([2, 8, 8], [4])[1],
        **changed,
    }
    return chain(*nodes.items())


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("strict", [True, False])
def test_a_network_of_these_layers_does_what_the_graph_does(reset: Any, strict: bool) -> None:
    example = torch.randint(0, 4, (6, 3, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    made = from_nir(convolutional(), example, dt=DT, reset=reset, strict=strict)
    assert list(made.neurons) == ["conv", "deep", "fc"]
    wanted = Reference(convolutional(), DT, reset, strict).run(example.numpy().astype(np.float64))
    values = example.float().flatten(0, 1)
    with torch.no_grad():
        logits = made(Spikes(values=values, time_steps=6, largest=3, constant=False))
    assert np.allclose(logits.numpy(), wanted["output"], atol=1e-6)
    assert wanted["output"].any()
    assert f"reset={reset!r}" in made.notes[0]
    assert f"strict={strict}" in made.notes[0]


@pytest.mark.parametrize("reads", ["steps", "last"])
def test_membranes_of_an_integrator_become_a_readout(reads: Any) -> None:
    end = nir().LI(tau=np.full(4, 4 * DT), r=np.full(4, 2.0), v_leak=np.zeros(4))
    example = torch.randint(0, 4, (6, 3, 2, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    made = from_nir(convolutional(end=end), example, dt=DT, reads=reads)
    readout: Any = made.get_submodule("fc")
    assert (readout.membrane, readout.leak) == ("sum" if reads == "steps" else "last", 0.75)
    wanted = Reference(convolutional(end=end), DT, "zero", True).run(example.numpy().astype(np.float64))["output"]
    with torch.no_grad():
        logits = made(Spikes(values=example.flatten(0, 1), time_steps=6, largest=3, constant=False))
    own = logits.mean(0) if reads == "steps" else logits[-1]
    wanted = wanted.mean(0) if reads == "steps" else wanted[-1]
    assert np.allclose(own / own.abs().max(), wanted / np.abs(wanted).max(), atol=1e-5)


def test_a_signal_of_one_dimension() -> None:
    rng = np.random.default_rng(1)
    graph = chain(
        ("input", nir().Input(np.array([3, 9]))),
        ("conv", nir().Conv1d(None, rng.normal(size=(4, 3, 3)), 2, 1, 1, 1, np.zeros(4))),
        ("lif", lif((4, 5))),
        ("same", nir().Conv1d(None, rng.normal(size=(2, 4, 2)), 1, "same", 1, 1, np.zeros(2))),
        ("if", nir().IF(np.full((2, 5), 1 / DT), np.full((2, 5), 0.7))),
        ("flat", nir().Flatten(np.array([2, 5]), 0, -1)),
        ("fc", nir().Linear(rng.normal(size=(3, 10)))),
        ("end", lif((3,))),
        ("output", nir().Output(np.array([3]))),
    )
    example = torch.randint(0, 4, (5, 2, 3, 9), generator=torch.Generator().manual_seed(0)).float()
    check(read_nir(graph, example), Reference(graph, DT, "zero", True).run(example.numpy().astype(np.float64)))
    assert list(from_nir(graph, example).neurons) == ["conv", "same", "fc"]


# ---- by hand


def one_neuron(neuron: Any, current: list[float], **given: Any) -> tuple[list[float], list[float]]:
    """Return the spikes and the potentials of one neuron, given currents."""
    named = [("input", nir().Input(np.array([1]))), ("n", neuron), ("output", nir().Output(np.array([1])))]
    recording = read_nir(chain(*named), torch.tensor(current).double().view(-1, 1, 1), **given)
    run = recording.recordings["the example"]
    return run.values(1).flatten().tolist(), run.membranes(1).flatten().tolist()  # type: ignore[union-attr]


def test_a_leaky_neuron_by_hand() -> None:
    neuron = lif((1,), tau=2 * DT, r=3.0, rest=0.5, threshold=2.0)
    # v = v + 1/2 (0.5 - v + 3 I), from 0.5: 2.0 (at the threshold), then 2.75, which spikes, and from 0.5 again
    assert one_neuron(neuron, [1.0, 1.0, 1.0]) == ([0, 1, 0], [2.0, 0.5, 2.0])
    assert one_neuron(neuron, [1.0, 1.0, 1.0], strict=False) == ([1, 1, 1], [0.5, 0.5, 0.5])
    # what is taken is threshold - v_reset = 1.5
    assert one_neuron(neuron, [1.0, 1.0, 1.0], reset="subtract") == ([0, 1, 1], [2.0, 1.25, 2.375 - 1.5])


def test_an_integrator_by_hand() -> None:
    neuron = nir().IF(np.array([0.5 / DT]), np.array([1.0]))
    assert one_neuron(neuron, [1.0, 1.0, 1.0, 2.0]) == ([0, 0, 1, 0], [0.5, 1.0, 0.0, 1.0])
    assert one_neuron(neuron, [1.0, 1.0, 1.0, 2.0], reset="subtract") == ([0, 0, 1, 1], [0.5, 1.0, 0.5, 0.5])
    delayed = one_neuron(neuron, [1.0, 1.0, 1.0, 2.0], reset="delayed-subtract")
    assert delayed == ([0, 0, 1, 1], [0.5, 1.0, 1.5, 1.5])
    assert one_neuron(neuron, [1.0, 1.0], dt=2 * DT) == ([0, 1], [1.0, 0.0])


def test_a_leak_of_numbers_in_single_precision_is_taken_as_what_it_was() -> None:
    neuron = lif((4,), r=2.0)
    neuron.tau = neuron.tau.astype(np.float32)
    assert 1 - DT / float(neuron.tau[0]) != 0.5
    example = torch.randint(0, 4, (6, 3, 2, 8, 8)).float()
    made = from_nir(convolutional(end=neuron), example)
    assert made.get_submodule("fc").neuron.form.leak == 0.5  # type: ignore[union-attr]


def test_parameters_of_one_value_are_one_number_and_those_of_channels_are_folded() -> None:
    rest = np.array([0.0, 0.1, 0.2, 0.3])[:, None, None]
    node = lif((4, 8, 8))
    node.r = np.broadcast_to(1.0 + rest, (4, 8, 8))
    node.v_leak = node.v_reset = np.broadcast_to(rest, (4, 8, 8))
    node.v_threshold = np.broadcast_to(1.0 + 2 * rest, (4, 8, 8))
    node.tau = np.array(2 * DT)
    example = torch.randint(0, 4, (6, 3, 2, 8, 8), generator=torch.Generator().manual_seed(2)).float()
    graph = convolutional(lif=node)
    assert list(from_nir(graph, example).neurons) == ["conv", "deep", "fc"]
    wanted = Reference(graph, DT, "zero", True).run(example.numpy().astype(np.float64))
    read = read_nir(graph, example)
    check(read, wanted)
    neurons = [read.description.layers[number].operation for number in read.description.neurons]
    assert [neuron.form.threshold for neuron in neurons] == [1.0] * 3  # type: ignore[union-attr]


# ---- graphs


def test_a_graph_within_a_graph_is_taken_apart() -> None:
    flat = convolutional()
    names = ["deep", "if"]
    inner = chain(
        ("in", nir().Input(np.array([4, 4, 4]))),
        *((name, flat.nodes[name]) for name in names),
        ("out", nir().Output(np.array([4, 1, 1]))),
    )
    nodes = {name: node for name, node in flat.nodes.items() if name not in names}
    nested = nir().NIRGraph(
        nodes={**nodes, "block": inner},
        edges=[edge for edge in flat.edges if not set(edge) & set(names)] + [("pool", "block"), ("block", "flat")],
        type_check=False,
    )
    example = torch.randint(0, 4, (6, 3, 2, 8, 8)).float()
    assert list(from_nir(nested, example).neurons) == ["conv", "block_deep", "fc"]
    one, other = (read_nir(graph, example).recordings["the example"].logits for graph in (flat, nested))
    assert torch.equal(one, other)


def test_what_the_output_does_not_depend_on_is_not_read_and_told() -> None:
    graph = convolutional()
    graph.nodes["monitor"] = nir().Delay(np.ones(4))
    graph.edges.append(("fc", "monitor"))
    made = from_nir(graph, torch.randint(0, 4, (6, 3, 2, 8, 8)).float())
    assert any(note == "not read, as the output does not depend on it: monitor" for note in made.notes)


def test_a_graph_is_not_changed() -> None:
    graph = convolutional()
    before = {name: str(node) for name, node in graph.nodes.items()}
    edges = list(graph.edges)
    from_nir(graph, torch.randint(0, 4, (6, 3, 2, 8, 8)).float())
    assert ({name: str(node) for name, node in graph.nodes.items()}, graph.edges) == (before, edges)


def test_what_goes_in_may_be_scaled() -> None:
    example = torch.randint(0, 256, (6, 3, 2, 8, 8), generator=torch.Generator().manual_seed(0)) / 255
    made = from_nir(convolutional(), example)
    conv = next(
        node.operation
        for node in read_nir(convolutional(), example).description.layers.values()
        if isinstance(node.operation, Convolution)
    )
    assert torch.allclose(made.get_submodule("conv").weight.double(), conv.weight / 255)
    with pytest.raises(NotImportable, match="neither whole numbers from 0 on nor such by 255"):
        from_nir(convolutional(), torch.rand(6, 3, 2, 8, 8))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_what_spikingjelly_writes(step_mode: str) -> None:
    pytest.importorskip("nirtorch", reason="SpikingJelly writes graphs with nirtorch, which is not installed")
    exchange, layer, neuron = (spikingjelly(name) for name in ("nir_exchange", "layer", "neuron"))
    torch.manual_seed(0)
    network = nn.Sequential(
        *(layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(tau=3.0), layer.AvgPool2d(2)),
        *(layer.Conv2d(4, 4, 4), neuron.ParametricLIFNode(v_threshold=0.5), layer.Flatten()),
        *(layer.Linear(4, 4), neuron.IFNode(v_threshold=0.6)),
    )
    functional = spikingjelly("functional")
    functional.set_step_mode(network, step_mode)
    example = torch.randint(0, 4, (6, 3, 2, 8, 8)).float()
    graph = exchange.export_to_nir(network, example[0] if step_mode == "s" else example)
    with torch.no_grad():
        functional.reset_net(network)
        out = torch.stack([network(frame) for frame in example]) if step_mode == "s" else network(example)
    read = read_nir(graph, example, strict=False)
    assert torch.equal(read.recordings["the example"].logits.float(), out)
    assert len(from_nir(graph, example, strict=False).neurons) == 3


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, -0.3])
def test_neurons_of_spikingjelly_with_the_parameters_that_it_writes(decay_input: bool, v_reset: float) -> None:
    tau, size = 3.0, (7,)
    neuron = spikingjelly("neuron").LIFNode(
        tau=tau, decay_input=decay_input, v_threshold=0.8, v_reset=v_reset, step_mode="m"
    )
    written = nir().LIF(
        tau=np.full(size, tau * DT),
        r=np.full(size, 1.0 if decay_input else tau),
        v_leak=np.full(size, v_reset),
        v_threshold=np.full(size, 0.8),
        v_reset=np.full(size, v_reset),
    )
    same(neuron, written, reset="zero", strict=False)


@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
def test_neurons_of_snntorch_with_the_parameters_that_it_writes(mechanism: str) -> None:
    snn, size = snntorch(), (7,)
    leaky = snn.Leaky(beta=0.75, threshold=0.8, reset_mechanism=mechanism, init_hidden=True)
    written = nir().LIF(
        tau=np.full(size, DT / (1 - 0.75)),
        r=np.full(size, 1 / (1 - 0.75)),
        v_leak=np.zeros(size),
        v_threshold=np.full(size, 0.8),
    )
    one_step = nn.Identity()
    one_step.forward = lambda x: torch.stack([leaky(frame) for frame in x])  # type: ignore[method-assign]
    same(one_step, written, reset="zero" if mechanism == "zero" else "delayed-subtract", strict=True)


def same(neurons: nn.Module, written: Any, **given: Any) -> None:
    """Neurons of a library and of a graph give the same spikes."""
    currents = 3 * torch.randn(20, 50, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        spikes = neurons(currents)
    ends = nir().Input(np.array([7])), nir().Output(np.array([7]))
    read = read_nir(chain(("input", ends[0]), ("n", written), ("output", ends[1])), currents, dt=DT, **given)
    assert torch.equal(read.recordings["the example"].values(1).float(), spikes)
    assert spikes.mean() > 0.05
