"""Time steps that are searched: divisors of the largest, of the whole network; with one nothing is stored."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from spquant_search.errors import SpaceError
from spquant_search.space.configuration import STORED, TIME_STEPS
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import SpaceFile
from spquant_search.space.search_space import SearchSpace
from spquant_search.training.prepare import prepare
from spquant_search.training.supernet import random_configuration

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"


def a_space(steps: str = "[1, 2, 4]", *overrides: str) -> SearchSpace:
    return prepare(TINY, (f"time_steps={steps}", *overrides)).space


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list:
    generator = random.Random(seed)
    return [random_configuration(space, generator) for _ in range(count)]


@pytest.mark.parametrize(
    ("given_as", "read"), [("4", (4,)), ("[4]", (4,)), ("[4, 1, 2]", (1, 2, 4)), ("[6, 3]", (3, 6))]
)
def test_numbers_are_read_in_their_order(given_as: str, read: tuple[int, ...]) -> None:
    file = a_space(given_as).file
    assert file.time_steps == read
    assert file.most_time_steps == read[-1]
    again = TypeAdapter(SpaceFile).validate_python(TypeAdapter(SpaceFile).dump_python(file, mode="json"))
    assert again.time_steps == read


@given(st.lists(st.integers(1, 24), min_size=1, max_size=4, unique=True))
def test_exactly_divisors_of_the_largest_are_taken(steps: list[int]) -> None:
    text = TINY.read_text(encoding="utf-8")
    if all(max(steps) % one == 0 for one in steps):
        assert parse_space(text, source="s.yaml", overrides=(f"time_steps={steps}",)).time_steps == tuple(sorted(steps))
    else:
        with pytest.raises(SpaceError, match=r"time_steps: every number must divide the largest"):
            parse_space(text, source="s.yaml", overrides=(f"time_steps={steps}",))


@pytest.mark.parametrize("steps", ["[]", "[2, 2]", "[0, 4]", "[true, 2]", "[1.5, 3]", "none", "{from: 1, to: 4}"])
def test_what_is_no_list_of_numbers_is_refused(steps: str) -> None:
    with pytest.raises(SpaceError, match="time_steps"):
        a_space(steps)


def test_the_baseline_and_what_names_no_steps_have_the_most() -> None:
    space = a_space()
    assert space.baseline().time_steps == 4
    assert space.config({}).time_steps == 4
    assert {reference.time_steps for reference in space.references} == {4}


def test_references_name_their_steps() -> None:
    references = (
        "search.references=[{weight_bits: 4, membrane_levels: 3}, {weight_bits: 4, membrane_levels: 3, time_steps: 2}]"
    )
    space = a_space("[1, 2, 4]", references)
    first, second = space.references
    assert (first.time_steps, second.time_steps) == (4, 2)
    assert first.layers == second.layers
    # At one step levels do not matter, so that these are one configuration.
    same = (
        "search.references=[{weight_bits: 4, membrane_levels: 3, time_steps: 1}, "
        "{weight_bits: 4, membrane_levels: 16, time_steps: 1}]"
    )
    (only,) = a_space("[1, 2, 4]", same).references
    assert only.time_steps == 1
    assert only in a_space()


@pytest.mark.parametrize(("steps", "named"), [("[1, 2, 4]", "3"), ("4", "2"), ("[1, 2]", "true"), ("4", "four")])
def test_references_of_other_steps_are_refused(steps: str, named: str) -> None:
    words = "search.references.0.time_steps: must be a choice of time_steps"
    with pytest.raises(SpaceError, match=words):
        a_space(steps, f"search.references=[{{weight_bits: 4, membrane_levels: 3, time_steps: {named}}}]")


def test_values_and_configurations_are_each_others_inverse() -> None:
    space = a_space()
    found = drawn(space, 300)
    assert {config.time_steps for config in found} == {1, 2, 4}
    for config in found:
        assert config in space
        values = space.values(config)
        assert space.config(values) == config
        # What Optuna is told is among its choices.
        assert all(values[address] in options for address, options in space.choices().items())
        layers = [layer for _, layer in config.layers]
        assert (config.time_steps == 1) == all(layer.membrane_levels is None for layer in layers)


def test_with_one_step_values_of_what_is_stored_make_no_other_configuration() -> None:
    space = a_space()
    values = {address: options[0] for address, options in space.choices().items()} | {TIME_STEPS: 1}
    other = {
        address: options[-1] if address.parameter in STORED else values[address]
        for address, options in space.choices().items()
    }
    assert space.config(values) == space.config(other)
    assert space.config(values | {TIME_STEPS: 2}) != space.config(other | {TIME_STEPS: 2})


@pytest.mark.parametrize("steps", ["1", "2", "[1, 2]", "[1, 2, 4]", "[2, 4]"])
def test_the_size_counts_every_configuration_once(steps: str) -> None:
    conv1 = "{weight_bits: [2, 4], membrane_levels: [3, 4, 16], skip_below: [none, 0]}"
    fixed = f"layers={{all: {{weight_bits: 4}}, conv1: {conv1}}}"
    space = a_space(steps, fixed, "search.references=[]")
    addresses, options = zip(*space.choices().items(), strict=True)
    every = {space.config(dict(zip(addresses, values, strict=True))) for values in itertools.product(*options)}
    assert len(every) == space.size()
    assert all(config in space for config in every)
