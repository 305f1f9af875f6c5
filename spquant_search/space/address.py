"""The one name of a searched value: ``conv3.weight_bits`` in space files, Optuna, tables and error messages."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """A layer and one of its parameters. A layer's name may contain dots, a parameter's does not."""

    layer: str
    parameter: str

    def __str__(self) -> str:
        """Return the address as text; a parameter without a layer stands alone."""
        return f"{self.layer}.{self.parameter}" if self.layer else self.parameter

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that ``text`` from Optuna or YAML names; the inverse of ``str``."""
        layer, _, parameter = text.rpartition(".")
        return cls(layer=layer, parameter=parameter)
