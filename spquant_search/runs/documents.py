"""Values as JSON files that people can read, and back: checked on the way in, whole or absent on the way out."""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from spquant_search.errors import Problem, UserError
from spquant_search.runs.files import write_text

T = TypeVar("T")


def read_document(path: Path, kind: type[T]) -> T:
    """Return the value of this kind that a file holds.

    Raises:
        UserError: the file is damaged; says where in it and what is wrong.
        OSError: the file cannot be read.
    """
    try:
        value: T = _adapter(cast("Hashable", kind)).validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        problems = [f"{path}: {_problem(found)}" for found in error.errors()]
        raise UserError("\n".join((*problems, f"{path}: is damaged; restore it from a copy"))) from None
    return value


def write_document(path: Path, value: object) -> None:
    """Write a value as JSON with a line for each field."""
    write_text(path, document_text(value))


def document_text(value: object) -> str:
    """Return a value as JSON with a line for each field."""
    # Not by pydantic's own JSON, which writes null for NaN: the loss of a diverged trial would be read as unknown.
    plain = _adapter(cast("Hashable", type(value))).dump_python(value, mode="json")
    return json.dumps(plain, indent=1) + "\n"


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("type", kind))


def _problem(found: ErrorDetails) -> Problem:
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] == "json_invalid":
        return Problem(key, f"is no JSON: {found['ctx']['error']}")
    if found["type"] in ("missing", "missing_argument"):
        return Problem(key, "is missing")
    return Problem(key, f"{found['msg'].replace('Input should', 'must')}; got {found['input']!r}")
