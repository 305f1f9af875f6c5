"""What is wrong with an argument in a user's network: the class, what it takes, and the line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from own_networks import SHAPE, known_as_build
from torch import nn

from spquant_search import snn
from spquant_search.errors import SpaceError
from spquant_search.snn import (
    AvgPool2d,
    MaxPool2d,
    NeuronForm,
    Pool,
    Readout,
    Shortcut,
    SpikingConv2d,
    SpikingLinear,
    SpikingSelfAttention,
    added,
)
from spquant_search.snn.networks.catalog import build
from spquant_search.space.schema import NeuronSpace

DOCUMENT = Path(__file__).parents[3] / "docs" / "own_network.md"
CONVOLUTION = (
    "SpikingConv2d takes in_channels, out_channels, *, kernel_size=3, stride=1, padding=None, groups=1, pool=None, "
    "can_gate=True, norm=True, neuron=None"
)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SpikingConv2d(2, 4, kernel=1), f"; did you mean 'kernel_size'? {CONVOLUTION}"),
        (lambda: SpikingConv2d(2, 4, dilation=2), "'dilation' ("),
        (lambda: SpikingConv2d(2), CONVOLUTION),
        (lambda: SpikingConv2d(2, 4, 3), CONVOLUTION),
        (lambda: Readout(4, 9), "Readout takes in_channels, positions, classes"),
        (
            lambda: Shortcut(4, 9, pool="max"),
            "Shortcut takes in_channels, out_channels, *, kernel_size=1, stride=1, padd",
        ),
        (
            lambda: SpikingLinear(4, 9, bias=False),
            "SpikingLinear takes in_features, out_features, *, norm=False, neuron=None",
        ),
        (lambda: MaxPool2d(), "MaxPool2d takes kernel_size, stride=None, padding=0"),
        (lambda: Pool("max", ceil_mode=True), "Pool takes kind, kernel_size=2, stride=None, padding=0"),
        (lambda: Pool("avg"), 'a pool is one of "before", "max-before", "after", "max"; got \'avg\''),
        (lambda: MaxPool2d(3, padding=2), "the padding of a pool is at most half of its window; got 2 with 3x3"),
        (
            lambda: AvgPool2d(3, 1, (0, 1, 0, 0)),
            "a pool is padded alike before and after: by an int or (rows, columns)",
        ),
        (lambda: SpikingSelfAttention(8, head=2), "did you mean 'heads'? SpikingSelfAttention takes channels, heads"),
        (lambda: added(1), "added takes a, b"),
        (lambda: SpikingConv2d(2, 4, kernel_size=2), "say how kernel_size=2 is padded, such as padding=0"),
        (lambda: SpikingConv2d(2, 4, kernel_size=(3, 3, 3)), "two of them, (rows, columns); got (3, 3, 3)"),
        (lambda: SpikingConv2d(2, 4, stride=0), "stride must be an int of at least 1, or two of them"),
        (
            lambda: SpikingConv2d(2, 4, padding=-1),
            "padding must be an int of at least 0, or two of them, (rows, columns)",
        ),
        (lambda: SpikingConv2d(2.0, 4), "in_channels must be an int of at least 1; got 2.0"),
        (lambda: SpikingConv2d(2, 0), "out_channels must be an int of at least 1; got 0"),
        (lambda: SpikingConv2d(2, 4, groups=3), "groups must divide the channels of both sides; got 3"),
        (
            lambda: SpikingConv2d(2, 4, pool="avg"),
            'pool must be "before", "max-before", "after", "max", a Pool or None; got \'avg\'',
        ),
        (
            lambda: SpikingConv2d(2, 4, pool=2),
            'pool must be "before", "max-before", "after", "max", a Pool or None; got 2',
        ),
        (lambda: Readout(4, 1, 0), "classes must be an int of at least 1; got 0"),
        (lambda: SpikingSelfAttention(8, 3), "the heads must divide the channels; got 8 channels and 3 heads"),
        (lambda: nn.Conv2d(2, kernel=3), "TypeError: Conv2d.__init__() got an unexpected keyword argument 'kernel'"),
    ],
)
def test_a_wrong_argument_is_told_with_its_place_and_with_those_there_are(
    make: Callable[[], object], words: str
) -> None:
    model = known_as_build(lambda _shape: make())
    with pytest.raises(SpaceError) as error:
        build(model, SHAPE, source="s.yaml")
    message = str(error.value)
    assert words in message
    assert re.search(r"\(test_argument_errors\.py, line \d+\)", message)
    assert message.count(" takes ") <= 1 + message.count("() takes")


def table_of_arguments() -> dict[str, dict[str, str]]:
    """Return each layer's arguments with their defaults, from the document's table."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.partition("## The layers and their arguments")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    found: dict[str, dict[str, str]] = {}
    layers: list[str] = []
    for name, arguments, default, _ in rows[2:]:
        layers = re.findall(r"`(\w+)`", name) or layers
        for layer in layers:
            found.setdefault(layer, {}).update(dict.fromkeys(re.findall(r"`(\w+)`", arguments), default.strip("`")))
    return found


def test_the_documents_table_is_that_of_the_signatures() -> None:
    table = table_of_arguments()
    others = {"InputShape", "Spikes", "added", "global_average", "Flatten", "NeuronForm"}  # of forms: the next test
    assert set(table) == set(snn.__all__) - others
    for name, arguments in table.items():
        parameters = inspect.signature(getattr(snn, name)).parameters.values()
        defaults = {
            each.name: "" if each.default is inspect.Parameter.empty else repr(each.default) for each in parameters
        }
        assert arguments == defaults


def test_the_documents_table_of_forms_is_that_of_the_space_and_of_a_layers_form() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## The form of neurons")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", section, re.MULTILINE)
    of_space = {each.name: each.default for each in fields(NeuronSpace)}
    assert {name: yaml.safe_load(default) for name, default in rows} == {
        each.name: each.default for each in fields(NeuronForm)
    }
    assert {name: of_space[name] for name, _ in rows} == {each.name: each.default for each in fields(NeuronForm)}
