"""The arguments of the Python interface: one budget for search and pick, and errors in their words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spquant_search
from spquant_search.commands.budgets import PICK_OPTIONS, wish_of
from spquant_search.commands.python.arguments import (
    SHORT_NAMES,
    budget_bounds,
    objective_names,
    override,
    told_in_python,
    wish_within,
)
from spquant_search.errors import Problem, SpaceError, UserError
from spquant_search.space.objectives import ACCURACY, COSTS
from spquant_search.space.reading import parse_space


def test_a_budget_is_what_the_options_of_pick_say() -> None:
    texts = {"memory": "64 KiB", "flash": "1MB", "ram": "16KiB", "flops": "60M", "synaptic_ops": "20M", "energy": "1.5"}
    texts["accuracy"] = "95%"
    assert list(texts) == list(SHORT_NAMES)
    by_option = wish_of({SHORT_NAMES[name]: text for name, text in texts.items()}, PICK_OPTIONS)
    assert wish_within(texts).budget == by_option.budget
    assert wish_within({SHORT_NAMES[name]: text for name, text in texts.items()}).budget == by_option.budget


@pytest.mark.parametrize("value", [65536, 65536.0, np.int64(65536), np.float32(65536), "65536", "64KiB"])
def test_a_bound_may_be_a_number(value: object) -> None:
    assert budget_bounds({"memory": value}) == {"memory_bytes": 65536}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"memroy": 1}, "budget: 'memroy' is none of memory, flash, ram, flops, synaptic_ops, energy, accuracy; did y"),
        ({"memory": "64 apples"}, "budget['memory'] 64 apples: must be bytes, such as 64KiB"),
        ({"memory": -1}, "budget['memory'] -1: must be bytes"),
        ({"memory": True}, "budget['memory']: must be a number or a text with a unit"),
        ({"memory": None}, "budget['memory']: must be a number or a text with a unit"),
        ({"memory": float("nan")}, "budget['memory']: must be a number or a text with a unit"),
        ({"accuracy": 95}, "budget['accuracy'] 95: must be a fraction from 0 to 1 such as 0.95"),
        ({"memory": 1, "memory_bytes": 2}, "budget: 'memory_bytes' bounds memory_bytes a second time"),
        (["memory"], "budget: must be a dictionary"),
    ],
)
def test_a_budget_that_is_none(budget: object, words: str) -> None:
    with pytest.raises(UserError) as caught:
        wish_within(budget)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


def test_objectives_have_the_names_of_budgets() -> None:
    assert objective_names(["memory", "flops"]) == [ACCURACY, "memory_bytes", "effective_flops"]
    assert objective_names("energy_uj") == [ACCURACY, "energy_uj"]
    assert set(SHORT_NAMES.values()) == {*COSTS, ACCURACY}
    with pytest.raises(UserError, match=r"^objectives: 'speed' is none of memory, "):
        objective_names(["speed"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((2, 4), "[2, 4]"),
        (range(1, 3), "[1, 2]"),
        (np.array([2, 4]), "[2, 4]"),
        ({"flip": True}, '{"flip": true}'),
        (None, "null"),
        (np.float32(0.5), "0.5"),
        ({8, 2}, "[2, 8]"),
    ],
)
def test_values_are_written_as_a_space_file_has_them(value: object, text: str) -> None:
    assert override("a.b", value) == f"a.b={text}"


@pytest.mark.parametrize("value", [object(), float("nan"), print, [object()]])
def test_what_no_space_file_can_hold(value: object) -> None:
    with pytest.raises(UserError, match=r"^train\.epochs: must be a number, a text"):
        override("train.epochs", value)


def test_problems_with_a_space_are_told_of_the_arguments() -> None:
    text = "data: {name: fashion-events}\ntime_steps: 4\nmodel: {network: vgg9}\nlayers: {all: {}}"
    wrong = ["layers.all.weight_bits=[2, 5]", "layers.all.membrane_levels=1", "search.trials=0", "train.epochs=0"]
    with pytest.raises(SpaceError) as caught, told_in_python():
        parse_space(text, source="search()", overrides=wrong)
    keys = [problem.key for problem in caught.value.problems]
    assert set(keys) == {
        "bits (layers.all.weight_bits.1)",
        "levels (layers.all.membrane_levels)",
        "trials (search.trials)",
        "train.epochs",
    }


def test_options_of_the_command_line_are_translated_once() -> None:
    with pytest.raises(UserError) as caught, told_in_python(), told_in_python():
        raise UserError("start a run of its own with --run NAME")
    assert caught.value.__notes__ == ["In Python: --run is out=FOLDER of search()"]
    with pytest.raises(SpaceError) as other, told_in_python():
        raise SpaceError("x", [Problem("search.trials", "fewer")])
    assert not hasattr(other.value, "__notes__")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, spquant_search\n"
        "spquant_search.search, spquant_search.Run, spquant_search.Picked, spquant_search.load_space('tiny')\n"
        "print(sorted({'torch', 'optuna', 'matplotlib', 'IPython', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_name_is_typed_and_listed() -> None:
    stub = Path(spquant_search.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    for name in spquant_search.__all__:
        assert callable(getattr(spquant_search, name))
        assert f"import {name} as {name}\n" in stub
        assert name in dir(spquant_search)
    assert len(spquant_search.__all__) == stub.count(" as ")
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        _ = spquant_search.serach
