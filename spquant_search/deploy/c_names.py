"""The names that a picked network has in a program: those of its files, its functions and its macros.

They begin with a prefix, so that several networks fit one program. It is put into text that is already written, in
which the names begin with ``spq_`` and ``SPQ_``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from spquant_search.errors import UserError

DEFAULT_PREFIX = "spq"
# C99 tells apart 31 letters of an external name, and the longest that follows is _synaptic_ops. Two underscores in a
# row are the implementation's in C++. What follows keeps every name from being a keyword.
_PREFIX = re.compile(r"(?=.{1,16}$)[a-z][a-z0-9]*(_[a-z0-9]+)*")
_TOKEN = re.compile(
    r'#include "(?:model|sample)\.h"'
    r'|"(?:[^"\\\n]|\\.)*"'  # stays
    r"|(?:\b|(?<=-D))(?:spq|SPQ)_(?=\w)"
    r"|\bmodel\.[ch]\b|\bsample\.h\b"
)


@dataclass(frozen=True, slots=True)
class CNames:
    """The names of one network in C."""

    prefix: str = DEFAULT_PREFIX

    @property
    def header(self) -> str:
        return self._file("model.h")

    @property
    def source(self) -> str:
        return self._file("model.c")

    @property
    def sample(self) -> str:
        return self._file("sample.h")

    @property
    def library(self) -> str:
        """Return the name of the library in CMake and in Arduino."""
        return f"{self.prefix}_model"

    def macro(self, name: str) -> str:
        """Return the name of a macro: ``COUNT`` is ``SPQ_COUNT``."""
        return f"{self.prefix.upper()}_{name}"

    def renamed(self, text: str) -> str:
        """Return a text that was written for the default prefix with these names; what is in quotes stays."""
        return text if self.prefix == DEFAULT_PREFIX else _TOKEN.sub(lambda found: self._renamed(found[0]), text)

    def manifest(self) -> dict[str, str]:
        """Return the part of the manifest that says them."""
        return {"prefix": self.prefix, "header": self.header, "source": self.source}

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> CNames:
        """Return the names that a manifest tells; folders of versions that had no prefix have the default."""
        return cls(manifest.get("c_library", {}).get("prefix", DEFAULT_PREFIX))

    def _file(self, name: str) -> str:
        return name if self.prefix == DEFAULT_PREFIX else f"{self.prefix}_{name}"

    def _renamed(self, token: str) -> str:
        if token.startswith("#include"):
            return re.sub(r"\w+\.h", lambda file: self._file(file[0]), token)
        if token in ("model.h", "model.c", "sample.h"):
            return self._file(token)
        return {"spq_": f"{self.prefix}_", "SPQ_": f"{self.prefix.upper()}_"}.get(token, token)


def names_with(prefix: str) -> CNames:
    """Return the names with a prefix.

    Raises:
        UserError: it cannot begin a name in C, or what it begins could clash with names of others.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UserError(
            f"--prefix {prefix}: must be at most 16 lower-case letters, digits and single underscores between them, "
            "and begin with a letter, such as wake"
        )
    return CNames(prefix)
