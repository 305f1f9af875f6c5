"""The structure of a network as data: written and read again, and whatever is damaged or hostile refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spquant_search.errors import SpaceError, UserError
from spquant_search.snn import InputShape, MaxPool2d, NeuronForm, Pool, Readout, Shortcut, Spikes, SpikingConv2d, added
from spquant_search.snn.between import Flatten
from spquant_search.snn.networks.plan import (
    MOST_BYTES,
    ConvolutionLayer,
    CountLayer,
    NetworkPlan,
    Origin,
    PlannedShape,
    PoolLayer,
    PoolOfLayer,
    ReadoutLayer,
    ShortcutLayer,
    Step,
    plan_bytes,
    plan_problems,
    read_plan,
)
from spquant_search.snn.networks.planned import PlannedNetwork, build_planned

FORM = NeuronForm(leak=0.9, reset="delayed-subtract")
PLAN = NetworkPlan(
    shape=PlannedShape(channels=2, height=8, width=8, classes=3, time_steps=4),
    layers={
        "stem": ConvolutionLayer(
            in_channels=2,
            out_channels=4,
            kernel_size=(3, 3),
            padding=(1, 1, 1, 1),
            pool=PoolOfLayer(kind="max-before", kernel_size=(2, 2), stride=(2, 2)),
            can_gate=False,
            neuron=FORM,
        ),
        "short": ShortcutLayer(in_channels=4, out_channels=4, kernel_size=(1, 1)),
        "middle": ConvolutionLayer(in_channels=4, out_channels=4, kernel_size=(1, 1), groups=2),
        "again": ConvolutionLayer(in_channels=4, out_channels=4, kernel_size=(1, 1), norm=True),
        "pool": PoolLayer(kind="MaxPool2d", kernel_size=(2, 2), stride=(2, 2)),
        "hidden": ConvolutionLayer(in_channels=16, out_channels=5, kernel_size=(1, 1)),
        "readout": ReadoutLayer(in_channels=5, positions=1, classes=3, membrane="sum", leak=0.5),
    },
    steps=(
        Step(name="stem", reads=("input",)),
        Step(name="short", reads=("stem",)),
        Step(name="middle", reads=("stem",), residual="short"),
        Step(name="again", reads=("middle",), residual="middle"),
        Step(name="sum", operation="add", reads=("middle", "again")),
        Step(name="pool", reads=("sum",)),
        Step(name="flat", operation="flatten", reads=("pool",)),
        Step(name="hidden", reads=("flat",)),
        Step(name="readout", reads=("hidden",)),
    ),
    origin=Origin(library="snnTorch", weights=100, batch_norms=1, batch_norm_values=8, notes=("a note",)),
)


class ByHand(nn.Module):
    """The same network as its author would write it."""

    def __init__(self) -> None:
        super().__init__()
        pool = Pool("max-before", 2)
        self.stem = SpikingConv2d(2, 4, pool=pool, can_gate=False, norm=False, neuron=FORM)
        self.short = Shortcut(4, 4, norm=False)
        self.middle = SpikingConv2d(4, 4, kernel_size=1, groups=2, norm=False)
        self.again = SpikingConv2d(4, 4, kernel_size=1)
        self.pool = MaxPool2d(2)
        self.hidden = SpikingConv2d(16, 5, kernel_size=1, norm=False)
        self.readout = Readout(5, 1, 3, membrane="sum", leak=0.5)

    def forward(self, spikes: Spikes) -> torch.Tensor:
        stem = self.stem(spikes)
        middle = self.middle(stem, residual=self.short(stem))
        again = self.again(middle, residual=middle.current())
        logits: torch.Tensor = self.readout(self.hidden(Flatten()(self.pool(added(middle, again)))))
        return logits


def read(tmp_path: Path, content: bytes) -> NetworkPlan:
    file = tmp_path / "network.json"
    file.write_bytes(content)
    return read_plan(file)


def test_a_plan_computes_what_its_network_does(plain_neurons: None) -> None:
    torch.manual_seed(0)
    own, planned = ByHand(), PlannedNetwork(PLAN)
    planned.load_state_dict(own.state_dict())
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 3, (12, 2, 8, 8), generator=generator).float()
    spikes = Spikes(values=values, time_steps=4, largest=3)
    for is_training in (False, True):
        own.train(is_training)
        planned.train(is_training)
        assert torch.equal(own(spikes), planned(spikes))
    still = Spikes(values=values, time_steps=4, largest=3, constant=True)
    assert torch.equal(own.eval()(still.repeated()), planned.eval()(still))


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert plan_problems(PLAN) == []
    content = plan_bytes(PLAN)
    assert read(tmp_path, content) == PLAN
    assert plan_bytes(read(tmp_path, content)) == content
    leak = 0.1 + 0.2  # every double comes back
    plan = json.loads(content)
    plan["layers"]["stem"]["neuron"]["leak"] = leak
    found = read(tmp_path, json.dumps(plan).encode()).layers["stem"]
    assert isinstance(found, ConvolutionLayer)
    assert found.neuron is not None
    assert found.neuron.leak == leak


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


CHANGES = [
    (put("version", value=2), "version"),
    (put("more", value=1), "more"),
    (put("layers", "stem", "kind", value="Conv2d"), "layers.stem"),
    (put("layers", "stem", "in_channels", value=True), "layers.stem"),
    (put("layers", "stem", "in_channels", value=-1), "layers.stem"),
    (put("layers", "stem", "kernel_size", value=[3]), "layers.stem"),
    (put("layers", "stem", "neuron", "leak", value=2), "layers.stem"),
    (put("layers", "stem", "neuron", "more", value=2), "layers.stem"),
    (put("layers", "middle", "groups", value=3), "layers.middle"),
    (put("layers", "hidden", "kernel_size", value=[4096, 4096]), "layers.hidden"),
    (put("layers", "readout", "leak", value=7), "layers.readout"),
    (put("layers", "forward", value={"kind": "CountReadout", "classes": 2}), "layers.forward"),
    (put("layers", "all", value={"kind": "CountReadout", "classes": 2}), "layers.all"),
    (put("layers", "a.b", value={"kind": "CountReadout", "classes": 2}), "layers"),
    (put("layers", "idle", value={"kind": "CountReadout", "classes": 2}), "layers.idle"),
    (put("steps", 0, "reads", value=["nothing"]), "steps.0.reads"),
    (put("steps", 0, "reads", value=["middle"]), "steps.0.reads"),
    (put("steps", 0, "reads", value=[]), "steps.0.reads"),
    (put("steps", 3, "reads", value=["short"]), "steps.3.reads"),
    (put("steps", 2, "residual", value="nothing"), "steps.2.residual"),
    (put("steps", 5, "residual", value="stem"), "steps.5.residual"),
    (put("steps", 4, "reads", value=["middle"]), "steps.4.reads"),
    (put("steps", 4, "name", value="stem"), "steps.4.name"),
    (put("steps", 6, "operation", value="layer"), "steps.6.name"),
    (put("steps", 5, "name", value="absent"), "steps.5.name"),
    (put("steps", 6, "reads", value=["middle"]), "steps.5"),
    (put("steps", value=[]), "steps"),
    (put("origin", "notes", value=["\x1b[2J"]), "origin.notes"),
    (put("origin", "weights", value=-1), "origin.weights"),
]


@pytest.mark.parametrize(("change", "place"), CHANGES)
def test_what_contradicts_itself_is_told_with_its_place(
    tmp_path: Path, change: Callable[[Any], None], place: str
) -> None:
    document = json.loads(plan_bytes(PLAN))
    change(document)
    with pytest.raises(UserError) as caught:
        read(tmp_path, json.dumps(document).encode())
    lines = str(caught.value).splitlines()
    assert any(line.startswith(f"{tmp_path / 'network.json'}: {place}") for line in lines), lines
    assert lines[-1] == f"{tmp_path / 'network.json'}: is damaged; restore it from a copy"


def test_damaged_files_are_refused_or_read_whole(tmp_path: Path) -> None:
    content, chance = plan_bytes(PLAN), random.Random(0)
    for length in range(0, len(content) - 1, 97):
        with pytest.raises(UserError, match=r"network\.json: .*is no JSON"):
            read(tmp_path, content[:length])
    read_whole, told = 0, list[str]()
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 5))):
            damaged[chance.randrange(len(damaged))] = chance.choice(b'0123456789{}[]",:ae\x00\xff')
        try:
            plan = read(tmp_path, bytes(damaged))
        except UserError as error:
            told.append(str(error))
            continue
        read_whole += 1
        with torch.device("meta"):
            PlannedNetwork(plan)
    assert all(words.startswith(str(tmp_path / "network.json")) for words in told)
    assert 0 < read_whole < 200


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b" " * (MOST_BYTES + 1))
    (tmp_path / "deep").write_bytes(b"[" * 100_000)
    for name, words in (
        ("absent", "cannot be read: No such file"),
        ("large", "has more than 4 MiB"),
        ("deep", "no JSON"),
    ):
        with pytest.raises(UserError, match=rf"{name}: .*{words}"):
            read_plan(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_plan(tmp_path)


def test_a_network_for_other_inputs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    file.write_bytes(plan_bytes(PLAN))
    shape = InputShape(channels=2, height=8, width=8, classes=3, largest=15)
    assert isinstance(build_planned(str(file), shape, source="x"), PlannedNetwork)
    other = InputShape(channels=1, height=9, width=8, classes=3)
    with pytest.raises(SpaceError) as caught:
        build_planned(str(file), other, source="x")
    words = "the network takes 2 channels of 8x8 and 3 classes; the data have 1 channels of 9x8 and 3 classes"
    assert words in str(caught.value)
    file.write_bytes(b"{")
    with pytest.raises(SpaceError, match=rf"x: model\.layers: {file}: "):
        build_planned(str(file), shape, source="x")


def test_counts_are_read_out_too(tmp_path: Path) -> None:
    plan = NetworkPlan(
        shape=PlannedShape(channels=1, height=1, width=1, classes=2, time_steps=2),
        layers={
            "votes": ConvolutionLayer(in_channels=1, out_channels=6, kernel_size=(1, 1)),
            "counts": CountLayer(classes=2, votes=3),
        },
        steps=(Step(name="votes", reads=("input",)), Step(name="counts", reads=("votes",))),
    )
    assert read(tmp_path, plan_bytes(plan)) == plan
