"""Problems of a space file as people read them: where in the file, which rule, which value, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import Any

from pydantic import ValidationError

from spquant_search.errors import Problem, nearest
from spquant_search.space.schema import (
    Augmentation,
    Constraints,
    DataSpace,
    Final,
    LayerChoices,
    ModelSpace,
    NeuronSpace,
    Search,
    SpaceFile,
    Stopping,
    Supernet,
    Training,
)

LONGEST_KEY, LONGEST_VALUE = 60, 200  # characters of a file that a message repeats
MOST_SUGGESTIONS = 20  # in one list of problems: each takes a look at every known word


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown word: ``"; did you mean 'conv8'?"`` where a known one is near."""
    near = nearest(word[:LONGEST_KEY], known)
    return f"; did you mean {near!r}?" if near else "."


def path_below(path: str, key: object) -> str:
    """Return the path of a key below another path, in signs that can be printed."""
    text = str(key)
    if not text or not text.isprintable():
        text = ascii(text)
    if len(text) > LONGEST_KEY:
        text = f"{text[:LONGEST_KEY]}..."
    return f"{path}.{text}" if path else text


def shown(value: object) -> str:
    """Return a value of a space file as a message shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def validation_problems(error: ValidationError, document: object) -> list[Problem]:
    """Return what pydantic found, each with the value and the remedy, nothing twice."""
    problems: dict[Problem, None] = {}
    for found in error.errors():
        location = _file_path(found["loc"], document)
        path = reduce(path_below, location, "")
        kind, value = found["type"], found["input"]
        if kind == "unexpected_keyword_argument":
            known = _known_keys(location[:-1])
            near = suggestion(str(location[-1]), known) if len(problems) < MOST_SUGGESTIONS else "."
            sentence = f"unknown key{near} Known here: {', '.join(known)}"
        elif kind in ("missing", "missing_argument"):
            sentence = "is missing; add it (`spquant-search spaces vgg9` shows every key)"
        elif kind in ("dataclass_type", "dataclass_exact_type") and value is None:
            sentence = "is empty; give it keys, or remove it: all of its keys then have their defaults"
        elif kind in ("dataclass_type", "dataclass_exact_type"):
            sentence = f"must be a mapping of keys and values; got {shown(value)}"
        else:
            message = found["msg"].removeprefix("Value error, ").replace("Input should", "must")
            message = message.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")
            sentence = f"{message}; got {shown(value)}"
        problems[Problem(path, sentence)] = None
    return list(problems)


def _file_path(location: tuple[int | str, ...], document: object) -> tuple[int | str, ...]:
    """Return pydantic's location without the parts that name types rather than places in the file."""
    path: list[int | str] = []
    node: Any = document
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if isinstance(node, dict) and (part in node or last):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue
        path.append(part)
    return tuple(path)


_SECTIONS: dict[tuple[str, ...], type] = {
    (): SpaceFile,
    ("data",): DataSpace,
    ("model",): ModelSpace,
    ("neuron",): NeuronSpace,
    ("train",): Training,
    ("supernet",): Supernet,
    ("final",): Final,
    ("constraints",): Constraints,
    ("train", "augment"): Augmentation,
    ("search",): Search,
    ("search", "stopping"): Stopping,
}


def _known_keys(parents: tuple[int | str, ...]) -> tuple[str, ...]:
    section = LayerChoices if parents[:1] == ("layers",) else _SECTIONS[tuple(str(part) for part in parents)]
    return tuple(entry.name.rstrip("_") for entry in fields(section))


def sorted_by_line(problems: Sequence[Problem], lines: Mapping[str, int]) -> list[Problem]:
    """Return the problems in the order of the file, each with its line; those without a line come first."""
    placed = [replace(problem, line=lines.get(problem.key)) for problem in problems]
    return sorted(placed, key=lambda problem: problem.line or 0)
