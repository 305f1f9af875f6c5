"""The objectives of a search and its constraints, as a space file names them."""

from __future__ import annotations

from dataclasses import fields

import pytest
from small_run import a_space

from spquant_search.commands.budgets import PICK_OPTIONS
from spquant_search.errors import SpaceError
from spquant_search.report.cost_words import HEADINGS, NARROW_HEADINGS, cost_text
from spquant_search.report.front_figure import SCALES
from spquant_search.runs.results import TrialResult
from spquant_search.runs.selection import Budget, bound_field
from spquant_search.space.objectives import COSTS, DEFAULT_COSTS
from spquant_search.space.reading import frozen_space, parse_space
from spquant_search.space.schema import Constraints


def test_without_the_key_memory_and_operations_are_what_is_to_be_small():
    assert a_space().search.objectives == ("accuracy", "memory_bytes", "effective_flops")
    assert a_space().search.costs == DEFAULT_COSTS


@pytest.mark.parametrize(
    ("given", "costs"),
    [
        ("[accuracy, flash_bytes, ram_bytes]", ("flash_bytes", "ram_bytes")),
        ("[ram_bytes, accuracy, flash_bytes]", ("flash_bytes", "ram_bytes")),  # the order says nothing
        ("[accuracy, synaptic_ops]", ("synaptic_ops",)),
        ("[accuracy, energy_uj, memory_bytes]", ("memory_bytes", "energy_uj")),
    ],
)
def test_objectives_are_accuracy_and_one_or_two_costs(given, costs):
    space = a_space(f"search.objectives={given}")
    assert space.search.costs == costs
    assert parse_space(frozen_space(space), source="frozen").search.costs == costs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[accuracy, memory]", "'memory' is none of them; did you mean 'memory_bytes'?"),
        ("[accuracy, effective_macs]", "did you mean 'effective_flops'?"),
        ("[accuracy, xyz]", "'xyz' is none of them; got"),
        ("[accuracy, device_instructions]", "'device_instructions' is none of them"),
        ("[memory_bytes, effective_flops]", "accuracy is missing"),
        ("[accuracy]", "not 0; what is no objective may be bounded under constraints"),
        ("[accuracy, memory_bytes, flash_bytes, ram_bytes]", "not 3; what is no objective"),
        ("[accuracy, memory_bytes, memory_bytes]", "memory_bytes is named twice"),
        ("[accuracy, accuracy, memory_bytes]", "accuracy is named twice"),
        ("accuracy", "must be a list, such as [accuracy, flash_bytes, ram_bytes]"),
        ("[]", "accuracy is missing"),
        ("{accuracy: 1}", "must be a list"),
        ("[accuracy, 3]", "must be a valid string"),
        ("[accuracy, null]", "must be a valid string"),
        (f"[{', '.join(['accuracy'] * 1000)}]", "must be a list of at most 3"),
    ],
)
def test_other_objectives_are_refused_with_what_may_be_meant(given, words):
    with pytest.raises(SpaceError) as caught:
        a_space(f"search.objectives={given}")
    assert "search.objectives" in str(caught.value)
    assert words in str(caught.value)


def test_every_cost_has_one_name_everywhere():
    """A cost of the table is a constraint, a budget of `pick` and a figure of a result, and can be shown and drawn."""
    assert [field.name for field in fields(Constraints)] == [*COSTS, "accuracy"]
    assert {field.name for field in fields(Budget)} == {bound_field(name) for name in (*COSTS, "accuracy")}
    assert list(PICK_OPTIONS) == [*COSTS, "accuracy"]
    for name in COSTS:
        assert isinstance(getattr(TrialResult, name), property)
        assert {name} <= HEADINGS.keys() & NARROW_HEADINGS.keys() & SCALES.keys()
        assert cost_text(name, 12_345.0)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("flash_bytes=64KiB", 65536),
        ("ram_bytes=1.5KB", 1500),
        ("synaptic_ops=20M", 20e6),
        ("synaptic_ops=3000", 3000.0),
        ("energy_uj=1.5", 1.5),
        ("energy_uj=1.5uJ", 1.5),
        ("energy_uj=none", None),
    ],
)
def test_constraints_are_read_in_their_units(given, read):
    name = given.partition("=")[0]
    assert getattr(a_space(f"constraints.{given}").constraints, name) == read


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("flash_bytes=60M ops", "must be bytes"),
        ("synaptic_ops=64KiB", "must be operations, such as 20M"),
        ("energy_uj=1.5mJ", "must be microjoules, such as 1.5 or 1.5uJ"),
        ("energy_uj=0", "greater than 0"),
        ("ram_bytes=true", "must be a number, not yes/no"),
        ("flash=64KiB", "did you mean 'flash_bytes'?"),
        ("energy=3", "did you mean 'energy_uj'?"),
    ],
)
def test_constraints_in_other_words_are_refused(given, words):
    with pytest.raises(SpaceError) as caught:
        a_space(f"constraints.{given}")
    assert words in str(caught.value)
