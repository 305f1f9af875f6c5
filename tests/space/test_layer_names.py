"""Layers of any name in space files and overrides: numbers, dots, words that YAML reads as something else."""

from __future__ import annotations

import pytest
import yaml

from spquant_search.errors import SpaceError, UserError
from spquant_search.space.reading import frozen_space, parse_space

BASE = "data: {name: fashion-events}\ntime_steps: 3\nmodel: {network: own}\n"
NAMES = [
    "0",
    "1.0",
    "1.10",
    "01",
    "1e3",
    "0x1f",
    "off",
    "no",
    "null",
    "~",
    "2026-11-30",
    "3x3",
    "a.b.c",
    "\u00fc b",
    "==",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_layers_name_is_what_is_written(name: str) -> None:
    file = parse_space(f"{BASE}layers:\n  {name}: {{weight_bits: 4}}\n", source="s.yaml")
    assert list(file.layers) == [name]
    assert parse_space(frozen_space(file), source="frozen") == file


def test_keys_elsewhere_stay_numbers_and_merges_stay_merges() -> None:
    text = f"{BASE}neuron: {{lowest_level: {{24: -2}}}}\n"
    text += "layers:\n  0: &a {weight_bits: 4}\n  1: {<<: *a, skip_below: 0}\n"
    file = parse_space(text, source="s.yaml")
    assert file.neuron.lowest_level == {24: -2}
    assert file.layers["1"].weight_bits == (4,)


def test_a_name_that_is_there_twice_is_told_however_it_is_written() -> None:
    with pytest.raises(SpaceError, match=r"layers\.0 \(line 6\): is in line 5 already"):
        parse_space(f"{BASE}layers:\n  0: {{weight_bits: 4}}\n  '0': {{weight_bits: 2}}\n", source="s.yaml")


def layers(text: str, *overrides: str) -> dict[str, tuple[int, ...] | None]:
    file = parse_space(BASE + text, source="s.yaml", overrides=overrides)
    return {name: choices.weight_bits for name, choices in file.layers.items()}


@pytest.mark.parametrize(
    ("text", "override", "expected"),
    [
        ("layers: {}", "layers.features.0.weight_bits=8", {"features.0": (8,)}),
        ("layers: {features.0: {weight_bits: 2}}", "layers.features.0.weight_bits=8", {"features.0": (8,)}),
        ("layers: {}", "layers.a.b.c.d.weight_bits=[1, 2]", {"a.b.c.d": (1, 2)}),
        ("layers: {0: {weight_bits: 2}}", "layers.0.weight_bits=8", {"0": (8,)}),
        ("layers: {}", "layers.features.0={weight_bits: 8}", {"features.0": (8,)}),
        ("layers: {a: {weight_bits: 2}, a.b: {weight_bits: 2}}", "layers.a.b.weight_bits=8", {"a": (2,), "a.b": (8,)}),
        ("layers: {}", "layers.weight_bits.weight_bits=8", {"weight_bits": (8,)}),
        ("layers: {}", "layers.x.skip_below.weight_bits=8", {"x.skip_below": (8,)}),
        ("layers: {x.skip_below.y: {weight_bits: 1}}", "layers.x.skip_below.y.weight_bits=8", {"x.skip_below.y": (8,)}),
        ("layers: {}", "layers.all.weight_bits=8", {"all": (8,)}),
        ("layers: {a: {}}", "layers={b: {weight_bits: 8}}", {"b": (8,)}),
    ],
)
def test_a_path_below_layers_takes_the_whole_name(text: str, override: str, expected: object) -> None:
    assert layers(text, override) == expected


def test_a_range_is_reached_below_a_layers_parameter() -> None:
    text = "layers: {a.b: {channel_mass: {from: 0.6, to: 1, step: 0.2}}}"
    file = parse_space(BASE + text, source="s.yaml", overrides=["layers.a.b.channel_mass.from=0.8"])
    assert file.layers["a.b"].channel_mass == (0.8, 1.0)


@pytest.mark.parametrize(
    ("text", "override", "words"),
    [
        (
            "layers: {a.b: {}}",
            "layers.a.b.weightbits=8",
            "layers.a.b.weightbits: unknown key; did you mean 'weight_bits'?",
        ),
        ("layers: {}", "layers.a.b.weightbits=8", "layers.a.b.weightbits: unknown key; did you mean 'weight_bits'?"),
        ("layers: {}", "layers.a=8", "layers.a: must be a mapping of keys and values; got 8"),
    ],
)
def test_a_parameter_that_is_misspelt_is_told_with_its_layer(text: str, override: str, words: str) -> None:
    with pytest.raises(SpaceError) as error:
        layers(text, override)
    assert words in str(error.value)


def test_paths_reach_keys_that_are_numbers_and_places_in_lists() -> None:
    text = f"{BASE}layers: {{all: {{weight_bits: [2, 4]}}}}\nneuron: {{lowest_level: {{24: -2}}}}\n"
    text += "search: {references: [{weight_bits: 2}, {weight_bits: 4}]}\n"
    overrides = ["neuron.lowest_level.24=-1", "search.references.1.weight_bits=2", "layers.all.weight_bits.0=1"]
    file = parse_space(text, source="s.yaml", overrides=overrides)
    assert file.neuron.lowest_level == {24: -1}
    assert file.search.references == ({"weight_bits": 2}, {"weight_bits": 2})
    assert file.layers["all"].weight_bits == (1, 4)
    for wrong in ("2", "x", "-1"):
        with pytest.raises(UserError, match=f"'{wrong}' must be one of the places 0 to 1 of a list"):
            parse_space(text, source="s.yaml", overrides=[f"search.references.{wrong}.weight_bits=2"])
    assert yaml.safe_load(text)["neuron"]["lowest_level"] == {24: -2}


@pytest.mark.parametrize("sign", ["\ud800"])
@pytest.mark.parametrize("place", ["layers", "layers.all", "data", "neuron.lowest_level", ""])
def test_a_key_that_no_file_can_hold_is_named(sign: str, place: str) -> None:
    code = f"\\u{ord(sign):04x}"
    inner = f'"a{code}": {{weight_bits: 4}}'
    for name in reversed([part for part in place.split(".") if part]):
        inner = f"{name}: {{{inner}}}"
    text = f"{{{inner}}}"
    expected = f"{place}.".lstrip(".") + ascii(f"a{sign}") + " (line 1): holds the sign " + f"U+{ord(sign):04X}"
    with pytest.raises(SpaceError) as caught:
        parse_space(text, source="s.yaml")
    assert expected in str(caught.value)
    str(caught.value).encode()
    with pytest.raises(UserError, match=rf"the path holds the sign U\+{ord(sign):04X}") as refused:
        parse_space(BASE, source="s.yaml", overrides=[f"layers.a{sign}.weight_bits=4"])
    str(refused.value).encode()
