"""Read a space file: YAML with overrides becomes frozen, checked values, or all of its problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from spquant_search.errors import Problem, SpaceError, UserError
from spquant_search.space.messages import places_in_text, sorted_by_line, validation_problems
from spquant_search.space.rules import rules_between_fields, rules_of_the_ladder, rules_of_the_optimizer
from spquant_search.space.schema import SpaceFile


def read_space(path: Path, overrides: Sequence[str] = ()) -> SpaceFile:
    """Read the space file at ``path``, with ``overrides`` such as ``train.epochs=3`` put over it.

    Raises:
        SpaceError: the file breaks a rule; all problems at once.
        UserError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot read this space file: {reason}. Give the path of a YAML file.") from error
    return parse_space(text, source=str(path), overrides=overrides)


def parse_space(text: str, *, source: str, overrides: Sequence[str] = ()) -> SpaceFile:
    """Read a space from text, like :func:`read_space`; ``source`` names the text in messages."""
    document = _load_yaml(text, source)
    lines, repeated = places_in_text(text)
    if repeated:
        raise SpaceError(source, sorted_by_line(repeated, lines))
    for override in overrides:
        place = _apply_override(document, override)
        lines = {path: line for path, line in lines.items() if not f"{path}.".startswith(f"{place}.")}
    try:
        parsed = TypeAdapter(SpaceFile).validate_python(document)
    except ValidationError as error:
        raise SpaceError(source, sorted_by_line(validation_problems(error, document), lines)) from None
    problems = [
        *rules_between_fields(parsed),
        *rules_of_the_optimizer(parsed.train),
        *rules_of_the_ladder(parsed.search),
    ]
    if problems:
        raise SpaceError(source, sorted_by_line(problems, lines))
    return parsed


def _load_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpaceError(source, [Problem("", f"is not valid YAML: {' '.join(str(error).split())}")]) from None
    if not isinstance(document, dict):
        raise SpaceError(source, [Problem("", "must hold a mapping with the keys data, time_steps, model and layers")])
    return document


def _apply_override(document: dict[str, Any], override: str) -> str:
    """Put the value of ``PATH=VALUE`` into the document, and return its path."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {override}: must be PATH=VALUE, for example --set train.epochs=3")
    *parents, last = path.split(".")
    node = document
    for key in parents:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: {key!r} holds {child!r}, which has nothing below it")
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value {text!r} is not valid YAML") from None
    return path


def frozen_space(file: SpaceFile) -> str:
    """Return the whole space as YAML, defaults written out: a run keeps it, and is compared with it when resumed."""
    return yaml.safe_dump(TypeAdapter(SpaceFile).dump_python(file, mode="json"), sort_keys=False)
