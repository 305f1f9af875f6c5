"""Read a space file: YAML with overrides becomes frozen, checked values, or all of its problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from spquant_search.errors import Problem, SpaceError, UserError
from spquant_search.space.configuration import PARAMETERS
from spquant_search.space.messages import sorted_by_line, validation_problems
from spquant_search.space.rules import (
    rules_between_fields,
    rules_of_given_weights,
    rules_of_own_networks,
    rules_of_size,
    rules_of_the_ladder,
    rules_of_the_optimizer,
)
from spquant_search.space.schema import ModelSpace, SpaceFile
from spquant_search.space.yaml_text import MOST_BYTES, half_character_in, read_yaml, too_large


def read_space(path: Path, overrides: Sequence[str] = ()) -> SpaceFile:
    """Read the space file at ``path``, with ``overrides`` such as ``train.epochs=3`` put over it.

    Raises:
        SpaceError: the file breaks a rule; all problems at once.
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)  # no more, whatever is there
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot read this space file: {reason}. Give the path of a YAML file.") from error
    parsed = parse_space(_decoded(content, path), source=str(path), overrides=overrides)
    return replace(parsed, model=_beside(parsed.model, path.parent))


def _beside(model: ModelSpace, folder: Path) -> ModelSpace:
    """Return a model whose structure, and the weights that belong to it, are looked for from a folder on."""
    if model.layers is None:
        return model
    weights = None if model.weights is None else str(folder / model.weights)
    return replace(model, layers=str(folder / model.layers), weights=weights)


def _decoded(content: bytes, path: Path) -> str:
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: {too_large()}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        kind = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else f"no UTF-8 from line {line} on"
        raise UserError(f"{path}: is {kind}; save it as a text file in UTF-8, or give another YAML file") from None


def parse_space(text: str, *, source: str, overrides: Sequence[str] = ()) -> SpaceFile:
    """Read a space from text, like :func:`read_space`; ``source`` names the text in messages."""
    read = read_yaml(text, source=source)
    document, lines = read.value, read.lines
    if not isinstance(document, dict):
        raise SpaceError(source, [Problem("", "must hold a mapping with the keys data, time_steps, model and layers")])
    for override in overrides:
        place = _apply_override(document, override)
        lines = {path: line for path, line in lines.items() if not f"{path}.".startswith(f"{place}.")}
    _keep_imported_weights(document)
    try:
        parsed = _adapter().validate_python(document)
    except ValidationError as error:
        raise SpaceError(source, sorted_by_line(validation_problems(error, document), lines)) from None
    problems = [
        *rules_between_fields(parsed),
        *rules_of_the_optimizer(parsed.train),
        *rules_of_own_networks(parsed.model),
        *rules_of_given_weights(parsed.model, parsed.train),
        *rules_of_the_ladder(parsed.search),
        *rules_of_size(parsed.layers),
    ]
    if problems:
        raise SpaceError(source, sorted_by_line(problems, lines))
    return parsed


def _keep_imported_weights(document: dict[str, Any]) -> None:
    """Let the weights of a network that is imported be the float baseline, where nothing is said of its training."""
    model = document.get("model")
    if isinstance(model, dict) and model.get("import") is not None:
        train = document.setdefault("train", {})
        if isinstance(train, dict):
            train.setdefault("baseline_epochs", 0)


def _apply_override(document: dict[str, Any], override: str) -> str:
    """Put the value of ``PATH=VALUE`` into the document, and return its path."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {override}: must be PATH=VALUE, for example --set train.epochs=3")
    if (sentence := half_character_in(path)) is not None:
        raise UserError(f"--set {override}: the path {sentence}".encode(errors="backslashreplace").decode())
    value = read_yaml(text, source=f"--set {override}").value
    *parents, last = _keys(path, document, value)
    node: Any = document
    for key in parents:
        child = node[_place(node, key, override)] if isinstance(node, list) else node.setdefault(key, {})
        if not isinstance(child, (dict, list)):
            raise UserError(f"--set {override}: {key!r} holds {child!r}, which has nothing below it")
        node = child
    node[_place(node, last, override)] = value
    return path


def _keys(path: str, document: dict[str, Any], value: Any) -> list[str]:
    """Return the keys that a path goes through; below ``layers`` the first is a layer's name, whatever dots it has.

    It is the longest name that the document has, or what stands before a parameter.
    """
    first, *rest = path.split(".")
    if first != "layers" or not rest:
        return [first, *rest]
    named = document.get("layers")
    ends = range(len(rest), 0, -1)
    fitting = [end for end in ends if end == len(rest) or rest[end] in PARAMETERS]
    is_named = [end for end in ends if isinstance(named, dict) and ".".join(rest[:end]) in named]
    before_parameter = [end for end in fitting if end < len(rest)]
    # A parameter that is written wrongly is to be told as one of a layer that there is.
    otherwise = len(rest) if isinstance(value, dict) else max(1, len(rest) - 1)
    end = [*(end for end in fitting if end in is_named), *before_parameter, *is_named, otherwise][0]
    return [first, ".".join(rest[:end]), *rest[end:]]


def _place(node: dict[str, Any] | list[Any], key: str, override: str) -> Any:
    """Return the key or the index that a part of a path stands for."""
    if isinstance(node, dict):
        return key
    if not key.isdecimal() or int(key) >= len(node):
        raise UserError(f"--set {override}: {key!r} must be one of the places 0 to {len(node) - 1} of a list")
    return int(key)


def frozen_space(file: SpaceFile) -> str:
    """Return the whole space as YAML, defaults written out: a run keeps it, and is compared with it when resumed."""
    return yaml.safe_dump(_adapter().dump_python(file, mode="json", by_alias=True), sort_keys=False)


@cache
def _adapter() -> TypeAdapter[SpaceFile]:
    return TypeAdapter(SpaceFile)
