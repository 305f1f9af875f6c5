"""Problems of a space file as people read them: where in the file, which rule, which value, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import yaml
from pydantic import ValidationError

from spquant_search.errors import Problem
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


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown word: ``"; did you mean 'conv8'?"`` where a known one is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def validation_problems(error: ValidationError, document: object) -> list[Problem]:
    """Return what pydantic found, each with the value and the remedy, nothing twice."""
    problems: dict[Problem, None] = {}
    for found in error.errors():
        location = _file_path(found["loc"], document)
        path = ".".join(str(part) for part in location)
        kind, value = found["type"], found["input"]
        if kind == "unexpected_keyword_argument":
            known = _known_keys(location[:-1])
            word = str(location[-1])
            sentence = f"unknown key{suggestion(word, known)} Known here: {', '.join(known)}"
        elif kind in ("missing", "missing_argument"):
            sentence = "is missing; add it (spaces/vgg9.yaml shows every key)"
        elif kind in ("dataclass_type", "dataclass_exact_type"):
            sentence = f"must be a mapping of keys and values; got {value!r}"
        else:
            message = found["msg"].removeprefix("Value error, ").replace("Input should", "must")
            message = message.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")
            sentence = f"{message}; got {value!r}"
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
    return tuple(entry.name for entry in fields(section))


def places_in_text(text: str) -> tuple[dict[str, int], list[Problem]]:
    """Return the line of every path in the file, and the repeated keys, of which YAML would drop all but the last."""
    lines: dict[str, int] = {}
    repeated: list[Problem] = []

    def visit(node: yaml.Node, path: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = f"{path}.{key.value}" if path else str(key.value)
                if below in lines:
                    repeated.append(Problem(below, f"is in line {lines[below]} already; keep one of the two"))
                lines[below] = key.start_mark.line + 1
                visit(value, below)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                lines[f"{path}.{index}"] = value.start_mark.line + 1
                visit(value, f"{path}.{index}")

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        visit(root, "")
    return lines, repeated


def sorted_by_line(problems: Sequence[Problem], lines: Mapping[str, int]) -> list[Problem]:
    """Return the problems in the order of the file, each with its line; those without a line come first."""
    placed = [replace(problem, line=lines.get(problem.key)) for problem in problems]
    return sorted(placed, key=lambda problem: problem.line or 0)
