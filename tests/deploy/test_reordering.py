"""Channels in another order: the same logits, spikes and operations in numpy, C and PyTorch, of any network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from deploy import named_networks
from deploy.agreement import SANITIZED, STRICT
from deploy.networks import ABOUT, TIME, Choices, a_network, drawn_config, lively, loaded, mixed, needs_compiler
from deploy.odd_networks import an_odd_network
from deploy.test_combinations import FORMS, READERS, network_of
from deploy.test_export import NETWORKS
from deploy.test_layer_forms import Everything, drawn_network, prepared
from deploy.test_readouts import READOUTS, ending
from deploy.test_readouts import SHAPE as ENDING_SHAPE
from examples import config, trial
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.commands import picking
from spquant_search.deploy import export as export_module
from spquant_search.deploy import reordering as module
from spquant_search.deploy import verify as verify_module
from spquant_search.deploy.artifact import read_artifact, write_artifact
from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.c_source import c_source
from spquant_search.deploy.channel_order import Order, open_blocks
from spquant_search.deploy.device_facts import DeviceFacts, device_facts
from spquant_search.deploy.export import export, manifest_and_weights
from spquant_search.deploy.integer_form import IntegerNetwork, integer_network
from spquant_search.deploy.pytorch_run import open_channels, run_in_pytorch
from spquant_search.deploy.reference import Model, check_vectors
from spquant_search.deploy.reordering import SharedOrder, reordered, shared_orders, with_closed_blocks
from spquant_search.deploy.vectors import Vectors
from spquant_search.deploy.verify import verify
from spquant_search.deploy.weights_file import read_manifest
from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFolder
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape
from spquant_search.training.network import write_weights

Made = tuple[nn.Module, InputShape, NDArray[np.uint8]]


def everything(seed: int) -> Made:
    torch.manual_seed(seed)
    shape = InputShape(channels=2, height=13, width=20, classes=3)
    network, frames = prepared(Everything(shape), shape, seed, Choices(levels=(16, 24), skip=(None,)))
    return network, shape, frames


def named(builder: str, seed: int = 1) -> Made:
    named_networks.NAMES[:] = list("abcdefgh")
    shape = InputShape(channels=2, height=8, width=9, classes=3, largest=15)
    network, frames, _ = named_networks.a_named_network(getattr(named_networks, builder)(shape), shape, seed)
    return network, shape, frames[:8]


class Shortcuts(nn.Module):
    """Shortcuts in groups: of several channels, and of one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SpikingConv2d(2, 8, can_gate=False, pool="max")
        self.halves, self.each = Shortcut(8, 12, groups=2), Shortcut(12, 12, groups=12, kernel_size=3, padding=1)
        self.second, self.third = SpikingConv2d(8, 12), SpikingConv2d(12, 12)
        self.readout = Readout(12, 1, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        first = self.first(spikes)
        second = self.second(first, self.halves(first))
        logits: Tensor = self.readout(global_average(self.third(second, self.each(second))))
        return logits


def shortcuts() -> Made:
    torch.manual_seed(1)
    shape = InputShape(channels=2, height=8, width=9, classes=3, largest=15)
    network, frames = prepared(Shortcuts(), shape, 1, Choices(skip=(None,)))
    return network, shape, frames


def ended(readout: str) -> Made:
    network, frames = ending(READOUTS[readout](), 2)
    return network, ENDING_SHAPE, frames


MADE: dict[str, Callable[[], Made]] = {
    **{f"{name} {options}": partial(a_network, name, seed=len(options), **options) for name, options in NETWORKS},
    **{f"mixed {seed}": partial(mixed, seed) for seed in range(3)},
    **{
        f"odd {pool}": partial(an_odd_network, pool, size=(15, 18), time_steps=3, choices=Choices())
        for pool in ("max", "after")
    },
    **{f"named {builder}": partial(named, builder) for builder in named_networks.BUILDERS},
    **{f"reading {form}": partial(network_of, form, list(READERS), 1) for form in FORMS},
    **{f"drawn {seed}": partial(drawn_network, seed) for seed in range(12)},
    **{f"ending in {readout}": partial(ended, readout) for readout in READOUTS},
    **{f"everything {seed}": partial(everything, seed) for seed in (1, 2)},
    "attending": partial(named, "attending", 2),
    "shortcuts": shortcuts,
}
IN_C = (
    "mobilenet",
    "spikformer4-256 {'size': 8}",
    "resnet19 {'width': 0.03125}",
    "mixed 1",
    "everything",
    "votes",
    "shortcuts",
)


def drawn_order(shared: SharedOrder, generator: np.random.Generator) -> Order:
    cell = np.searchsorted(np.array(shared.cells), np.arange(shared.channels), side="right")
    return np.lexsort((generator.random(shared.channels), cell))


def assert_equal_in_any_order(made: Made, seed: int) -> tuple[Model, bytes]:
    """Give every map a drawn order, and compare it in numpy and PyTorch with what it was."""
    network, shape, frames = made
    form = integer_network(network, shape, time_steps=frames.shape[1])
    generator = np.random.default_rng(seed)
    orders = {shared: drawn_order(shared, generator) for shared in shared_orders(form)}
    expected = Model.of(*manifest_and_weights(form)).run(frames)
    description, weights = manifest_and_weights(reordered(form, orders))
    found = (model := Model.of(description, weights)).run(frames)
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.operations == expected.operations
    in_pytorch = run_in_pytorch(network, frames, description["network"])
    of_steps = {name: order for shared, order in orders.items() for name in shared.steps}
    for name, fired in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], fired[..., of_steps[name]], err_msg=name)
        np.testing.assert_array_equal(found.spikes[name], in_pytorch.spikes[name], err_msg=name)
    assert any((found.spikes[name] != fired).any() for name, fired in expected.spikes.items()), "nothing moved"
    return model, weights


FURTHER = [f"drawn {seed}" for seed in range(6, 12)]
FURTHER += [
    f"reading {form}" for form in FORMS if "2x2" not in form and form not in ("the average", "bits of attention")
]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in FURTHER else name for name in MADE]
)
def test_any_order_gives_the_same_in_numpy_and_pytorch(name: str, plain_neurons: None) -> None:
    assert_equal_in_any_order(MADE[name](), 1)


@needs_compiler
@pytest.mark.parametrize(
    "name",
    [name if any(part in name for part in IN_C) else pytest.param(name, marks=pytest.mark.slow) for name in MADE],
)
def test_any_order_gives_the_same_in_c(name: str, tmp_path: Path, plain_neurons: None) -> None:
    made = MADE[name]()
    frames, (model, weights) = made[2], assert_equal_in_any_order(made, 2)
    c = c_source(model, weights, DeviceFacts())
    for file, text in (("model.h", c.header), ("model.c", c.source)):
        (tmp_path / file).write_text(text)
    form, flags = model.manifest["network"], (*STRICT, *SANITIZED)
    in_c = CLibrary(tmp_path, form, cc=str(compiler()), work=tmp_path, flags=flags).run(frames)
    expected = model.run(frames)
    np.testing.assert_array_equal(in_c.logits, expected.logits)
    assert in_c.operations == sum(expected.operations.values())
    for layer, fired in expected.spikes.items():
        np.testing.assert_array_equal(in_c.spikes[layer], fired, err_msg=layer)


# Networks that together have every rule, each with layers that spike enough to show that one is missing.
SHOWING = {
    "everything": ("everything 1", "everything 2"),
    "residuals, groups, an average": ("mixed 0",),
    "shortcuts": ("shortcuts",),
    "as many groups as channels": ("named grouped",),
    "attention": ("attending",),
    "votes": ("ending in votes",),
}


class Forgetting(module._Maps):
    """Forgets one of the things that it is asked for, counted from 0."""

    forgets: int | None = None
    asked = 0

    def share(self, one: str, other: str) -> None:
        if self._keeps():
            super().share(one, other)

    def divide(self, name: str, size: int) -> None:
        if self._keeps():
            super().divide(name, size)

    def _keeps(self) -> bool:
        Forgetting.asked += 1
        return Forgetting.asked - 1 != Forgetting.forgets


def is_noticed(made: Made, forgets: int) -> bool:
    """Tell whether a network without a rule fails in one of some orders, or has the same ones with it."""
    form = integer_network(made[0], made[1], time_steps=made[2].shape[1])
    whole = set(shared_orders(form))
    for seed in range(4):
        Forgetting.asked, Forgetting.forgets = 0, forgets
        try:
            if set(shared_orders(form)) == whole:
                return True
            Forgetting.asked = 0
            assert_equal_in_any_order(made, seed)
        except (AssertionError, ValueError, IndexError):
            return True
        finally:
            Forgetting.asked, Forgetting.forgets = 0, None
    return False


@pytest.mark.parametrize("what", SHOWING)
def test_every_rule_is_needed(what: str, monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    every = [MADE[name]() for name in SHOWING[what]]
    monkeypatch.setattr(module, "_Maps", Forgetting)
    Forgetting.asked = 0
    for made in every:
        assert_equal_in_any_order(made, 0)
    rules = Forgetting.asked // len(every)
    assert rules >= 2
    for forgets in range(rules):
        assert any(is_noticed(made, forgets) for made in every), forgets


def test_what_shares_an_order_by_hand(plain_neurons: None) -> None:
    network, shape, _ = mixed(0)
    found = {shared.steps: shared.cells for shared in shared_orders(integer_network(network, shape, time_steps=TIME))}
    eight, pairs = tuple(range(8)), (0, 2, 4, 6)
    assert found == {
        ("input.",): (0, 1),  # the frame's channels
        # Spikes are added to the layer that reads them; of its two groups, the next layer has four.
        ("input", "identity1", "grouped"): pairs,
        ("pooled",): pairs,
        ("maps", "average1"): (0,),
    }
    assert not SharedOrder(steps=("a",), channels=8, cells=eight).is_free


def a_form(name: str = "mixed 0") -> IntegerNetwork:
    network, shape, frames = MADE[name]()
    return integer_network(network, shape, time_steps=frames.shape[1])


@pytest.mark.parametrize("order", [[1, 0, 3, 2, 5, 4, 7], [2, 1, 0, 3, 4, 5, 6, 7], [0, 0, 2, 3, 4, 5, 6, 7]])
def test_an_order_that_is_none_is_refused(order: list[int], plain_neurons: None) -> None:
    form = a_form()
    shared = next(shared for shared in shared_orders(form) if "grouped" in shared.steps)
    with pytest.raises(ValueError, match=r"input, identity1, grouped: cannot have the order \[.*\]"):
        reordered(form, {shared: np.array(order)})


def test_what_is_not_known_stays_as_it_is(plain_neurons: None) -> None:
    """A kind of step, and numbers of a layer."""
    form = a_form("vgg5 {'pool': 'before', 'size': 8}")
    (first, second, third) = [step["name"] for step in form.steps if step["kind"] == "convolution"][:3]

    def free(form: IntegerNetwork) -> set[str]:
        return {name for shared in shared_orders(form) if shared.is_free for name in shared.steps}

    assert {first, second, third} <= free(form)
    other = tuple(step | {"kind": "twisted"} if step["name"] == second else step for step in form.steps)
    assert free(replace(form, steps=other)) == free(form) - {first, second}
    tables = replace(form.segments[-1], layer=second, role="table")
    assert free(replace(form, segments=(*form.segments, tables))) == free(form) - {first, second}


class Gated(nn.Module):
    """Two gated layers of three blocks and a bit, and one of a block and a half."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SpikingConv2d(2, 16, can_gate=False, pool="before")
        self.second = SpikingConv2d(16, 28)
        self.third = SpikingConv2d(28, 24, pool="after")
        self.small = SpikingConv2d(24, 12)
        self.readout = Readout(12, 4, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        logits: Tensor = self.readout(self.small(self.third(self.second(self.first(spikes)))))
        return logits


def gated(mass: float = 0.7) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    torch.manual_seed(0)
    generator, network = np.random.default_rng(0), Gated()
    configure(network, drawn_config(network, generator, Choices(mass=(mass,))), NeuronSpace())
    rates = generator.gamma(0.3, 2.0, (40, TIME, 2, 1, 1))
    frames = generator.poisson(rates, (40, TIME, 2, 8, 8)).clip(max=15).astype(np.uint8)
    lively(network, frames[:16], 15)
    for layer in (network.second, network.third, network.small):
        assert layer.gate is not None
        with torch.no_grad():  # a few channels in turn, of so many that some blocks can be closed
            layer.gate.weight.normal_(0, 1.0)
            layer.gate.bias.fill_(-0.1)
    return network, InputShape(channels=2, height=8, width=8, classes=3, largest=15), frames


def test_the_opened_channels_are_those_that_numpy_opens(plain_neurons: None, monkeypatch: pytest.MonkeyPatch) -> None:
    network, shape, frames = gated()
    model = Model.of(*manifest_and_weights(integer_network(network, shape, time_steps=TIME)))
    expected: dict[str, list[NDArray[np.bool_]]] = {}
    from spquant_search.deploy import reference

    as_it_is = reference._Run._open

    def noted(self: Any, step: dict[str, Any], inputs: Any) -> NDArray[np.bool_]:
        opened = as_it_is(self, step, inputs)
        expected.setdefault(step["name"], []).append(opened)
        return opened

    monkeypatch.setattr(reference._Run, "_open", noted)
    monkeypatch.setattr("spquant_search.deploy.pytorch_run.BATCH", 40)  # in the order of numpy: time first
    model.run(frames)
    found = open_channels(network, frames, largest=shape.largest, time_steps=TIME)
    assert found.keys() == {"second", "third", "small"}
    for name, opened in found.items():
        np.testing.assert_array_equal(opened, np.concatenate(expected[name]))


def test_an_order_closes_more_blocks_and_says_how_many(plain_neurons: None) -> None:
    network, shape, frames = gated()
    form = integer_network(network, shape, time_steps=TIME)
    opened = open_channels(network, frames, largest=shape.largest, time_steps=TIME)
    found, gained = with_closed_blocks(form, opened, samples=len(frames))
    assert gained is not None
    orders = {step["name"]: step["order"] for step in found.steps if "order" in step}
    assert orders.keys() == {"second", "third"}, "12 channels have no second block"
    assert (gained["samples"], gained["block"]) == (40, 8)
    blocks = {"second": 4, "third": 3, "small": 2}
    before, after = (dict.fromkeys(blocks, 0) for _ in range(2))
    for name, rows in opened.items():
        before[name], after[name] = open_blocks(rows), open_blocks(rows[:, orders.get(name, range(rows.shape[1]))])
        shares = [count / (len(rows) * blocks[name]) for count in (before[name], after[name])]
        assert gained["layers"][name] == [round(share, 4) for share in shares]
        assert after[name] < before[name] or name == "small"
    possible = 40 * TIME * sum(blocks.values())
    shares = [sum(counts.values()) / possible for counts in (before, after)]
    assert gained["open"] == [round(share, 4) for share in shares]
    assert gained["words"] == f"open blocks of 8 channels {shares[0]:.2f} -> {shares[1]:.2f}, of training samples"


def test_without_a_gate_nothing_moves(plain_neurons: None) -> None:
    network, shape, frames = gated(mass=1.0)
    plain, again = (
        export(network, shape, frames[:2], time_steps=TIME, about=ABOUT, training=training)
        for training in (None, frames)
    )
    assert again.files == plain.files
    assert again.manifest == plain.manifest
    assert plain.manifest["channel_order"] is None


def test_export_by_training_samples_is_the_same_network(plain_neurons: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, operations and logits are those of the network as trained; the same samples give the same bytes."""
    network, shape, frames = gated()
    ordered = export(network, shape, frames[:2], time_steps=TIME, about=ABOUT, training=frames)
    monkeypatch.setattr(export_module, "compiler", lambda: None)
    plain = export(network, shape, frames[:2], time_steps=TIME, about=ABOUT)
    again = export(network, shape, frames[:2], time_steps=TIME, about=ABOUT, training=frames)
    assert (again.manifest, again.files) == (ordered.manifest, ordered.files)
    assert ordered.c.sizes == plain.c.sizes
    assert ordered.files["weights.bin"] != plain.files["weights.bin"]
    expected, found = loaded(plain).run(frames), loaded(ordered).run(frames)
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.operations == expected.operations

    def without_order(step: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in step.items() if key != "order"}

    steps = ordered.manifest["network"]["steps"]
    assert [without_order(step) for step in steps] == plain.manifest["network"]["steps"]


def test_pytorch_is_held_against_the_order_of_the_manifest(plain_neurons: None) -> None:
    network, shape, frames = gated()
    made = export(network, shape, frames[:2], time_steps=TIME, about=ABOUT, training=frames)
    form, expected = made.manifest["network"], loaded(made).run(frames)
    assert all(
        (run_in_pytorch(network, frames, form).spikes[name] == fired).all() for name, fired in expected.spikes.items()
    )
    step = next(step for step in form["steps"] if "order" in step)
    step["order"] = step["order"][::-1]
    assert (run_in_pytorch(network, frames, form).spikes[step["name"]] != expected.spikes[step["name"]]).any()


SPACE = """\
data: {name: event-folder, sensor: [8, 8], classes: 3}
time_steps: 3
model: {build: "deploy.test_reordering:build_gated", network: gated}
layers: {all: {weight_bits: [2, 4]}}
"""


def build_gated(_shape: InputShape) -> nn.Module:
    return Gated()


@pytest.fixture
def picked(tmp_path: Path, plain_neurons: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is written of a gated network, by training samples."""
    monkeypatch.setattr(export_module, "compiler", lambda: None)
    network, shape, frames = gated()
    space, folder = parse_space(SPACE, source="s.yaml"), RunFolder(path=tmp_path / "run")
    folder.weights_file(7).parent.mkdir(parents=True)
    write_weights(network, folder.weights_file(7))
    layers = tuple((name, layer.precision) for name, layer in searchable_layers(network).items())
    member = trial(7, of=NetworkConfig(time_steps=TIME, layers=layers))
    vectors = Vectors(frames=frames[:2], training=frames)
    facts = device_facts(space, "abc", time_steps=TIME)
    out = tmp_path / "picked"
    write_artifact(folder, space, member, out, test_accuracy=None, shape=shape, vectors=vectors, facts=facts)
    return out


def test_a_picked_network_is_verified_in_its_order(picked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "_sizes", lambda *_: [])
    manifest, shape, frames = read_manifest(picked), *gated()[1:]
    assert sum("order" in step for step in manifest["network"]["steps"]) == 2
    found = verify(picked, read_artifact(picked), frames, None, shape=shape, flags=("-O1",))
    assert found.holds
    assert found.spikes > 10_000
    assert check_vectors(picked)[1] == 0


def test_a_picked_network_says_its_order_and_keeps_its_weights(picked: Path) -> None:
    words = read_manifest(picked)["channel_order"]["words"]
    page = (picked / "README.md").read_text().replace("\\", "")
    order = "its channels were in another order: channel k of a step that has an order in manifest.json was channel"
    assert f"- {order} order[k]; {words}" in page
    weights = (picked.parent / "run" / "trials" / "0007.safetensors").read_bytes()
    assert (picked / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize(("mass", "words"), [(0.7, ", and channels stay in the order of training"), (1.0, "")])
def test_without_data_it_is_said_that_channels_stay(mass: float, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise UserError("data.root: no such folder")

    monkeypatch.setattr(picking, "recordings_of", gone)
    space, notes = parse_space(SPACE, source="s.yaml"), list[str]()
    prepared: Any = SimpleNamespace(
        space=SimpleNamespace(file=space), input=InputShape(channels=2, height=8, width=8, classes=3)
    )
    choice: Any = SimpleNamespace(prepared=prepared, member=trial(7, of=config(mass=mass)))
    assert picking._vectors(choice, DeviceFacts(), note=notes.append).training is None
    start = "the test vectors are made-up frames, not those of the data"
    assert notes == [f"{start}{words}: data.root: no such folder"]
