"""What is given to the Python interface, in the words of a space file; and the words of errors the other way round."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from spquant_search.errors import Problem, SpaceError, UserError, nearest
from spquant_search.space.objectives import ACCURACY, COSTS

if TYPE_CHECKING:
    from spquant_search.report.pick_reasons import Wish

Number = int | float
Budget = Mapping[str, Number | str]

# Names of figures as `pick` has them in its options; those of `constraints` are understood, too.
SHORT_NAMES = {cost.option.removeprefix("--max-").replace("-", "_"): name for name, cost in COSTS.items()}
SHORT_NAMES[ACCURACY] = ACCURACY
# The keys of a space file that an argument stands for: a problem with one is told of the argument.
ARGUMENT_OF = {
    "layers.all.weight_bits": "bits",
    "layers.all.membrane_levels": "levels",
    "time_steps": "time_steps",
    "search.trials": "trials",
    "search.workers": "workers",
    "search.seed": "seed",
    "search.objectives": "objectives",
    "constraints": "budget",
    "model.weights": "weights",
    "model.build": "network",
    "model.layers": "network",
    "model.import": "network",
}
# Options of the command line that messages name, and what they are in Python.
_IN_PYTHON = {
    "--run": "out=FOLDER of search()",
    "--out": "the folder that export() takes",
    "--prefix": "prefix=",
    "--trials": "trials=",
    "--workers": "workers=",
    "--device": "device=",
    "--set": "settings={KEY: VALUE}",
}


def figure_named(name: object, said: str) -> str:
    """Return the figure of a member that people call ``name``: memory or memory_bytes, and so on.

    Raises:
        UserError: there is no such figure; ``said`` is where the name stands.
    """
    known = {**SHORT_NAMES, **{figure: figure for figure in (*COSTS, ACCURACY)}}
    word = str(name).replace("-", "_")
    if word in known:
        return known[word]
    near = nearest(word, known)
    meant = f"; did you mean {near!r}?" if near else ""
    raise UserError(f"{said}: {name!r} is none of {', '.join(SHORT_NAMES)}{meant}")


def budget_bounds(budget: Budget | None) -> dict[str, float]:
    """Return the bounds of a budget such as {"memory": "64 KiB", "accuracy": 0.9}, by figure.

    Raises:
        UserError: a name or a value is none.
    """
    return {} if budget is None else dict(wish_within(budget).budget.as_dict())


def wish_within(budget: Budget) -> Wish:
    """Return what is wished of a member, as the options of `pick` say it.

    Raises:
        UserError: a name or a value is none, or two names mean one figure.
    """
    from spquant_search.commands.budgets import wish_of

    if not isinstance(budget, Mapping):
        raise UserError(f'budget: must be a dictionary, such as {{"memory": "64 KiB"}}, not {budget!r}')
    texts, said = dict[str, str | None](), dict[str, str]()
    for name, value in budget.items():
        figure = figure_named(name, "budget")
        if figure in texts:
            raise UserError(f"budget: {name!r} bounds {figure} a second time; give one of the two")
        said[figure] = f"budget[{name!r}]"
        texts[figure] = _bound_text(value, said[figure])
    return wish_of(texts, said)


def _bound_text(given: object, said: str) -> str:
    if isinstance(given, str):
        return given
    value = _plain(given)
    if isinstance(value, bool) or not isinstance(value, Number) or not math.isfinite(value):
        raise UserError(f'{said}: must be a number or a text with a unit, such as "64 KiB", not {given!r}')
    return str(value) if isinstance(value, int) else f"{value:.12f}".rstrip("0").rstrip(".")


def objective_names(objectives: Sequence[str] | str) -> list[str]:
    """Return the objectives as a space file lists them: the accuracy, which may be left out, and one or two costs."""
    given = [objectives] if isinstance(objectives, str) else list(objectives)
    found = [figure_named(name, "objectives") for name in given]
    return found if ACCURACY in found else [ACCURACY, *found]


def override(path: str, value: object) -> str:
    """Write a value as an override of a space file: PATH=VALUE.

    Raises:
        UserError: the value is nothing that a space file can hold.
    """
    try:
        return f"{path}={json.dumps(_plain(value), allow_nan=False)}"
    except (TypeError, ValueError):
        raise UserError(
            f"{path}: must be a number, a text, True, False, None, or a list or dictionary of such; got {value!r}"
        ) from None


def _plain(value: object) -> object:
    """Return lists for tuples and ranges, and numbers of Python's own for those of numpy."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | range | set | frozenset):
        return [_plain(each) for each in (sorted(value) if isinstance(value, set | frozenset) else value)]
    is_array = hasattr(value, "tolist") and hasattr(value, "dtype")
    return value.tolist() if is_array else value  # type: ignore[attr-defined]


@contextmanager
def told_in_python() -> Iterator[None]:
    """Tell errors of a space by the arguments that they are about, and say what options that they name are here."""
    try:
        yield
    except SpaceError as error:
        raise _noted(SpaceError(error.source, list(map(_in_python, error.problems)))) from None
    except UserError as error:
        _noted(error)
        raise


def _in_python(problem: Problem) -> Problem:
    key = problem.key
    argument = next((word for path, word in ARGUMENT_OF.items() if f"{key}.".startswith(f"{path}.")), key)
    return problem if argument == key else replace(problem, key=f"{argument} ({key})", line=None)


def _noted(error: UserError) -> UserError:
    named = [option for option in _IN_PYTHON if re.search(rf"{option}\b(?!-)", str(error))]
    if named and not getattr(error, "__notes__", ()):
        error.add_note("In Python: " + "; ".join(f"{option} is {_IN_PYTHON[option]}" for option in named))
    return error
