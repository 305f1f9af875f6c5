"""The whole numbers of a network's layers, as they are written into ``weights.bin``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spquant_search.deploy.weights_file import code_offset, pack_rows


class NoIntegerForm(Exception):
    """The network cannot be written in integers; the message says why, beginning with the layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """The whole numbers that a layer keeps in one role: packed codes, or a numpy integer type."""

    layer: str
    role: str
    rows: int
    columns: int
    type: str  # "packed", or numpy's name as "<i2"
    bits: int
    data: bytes


class Segments:
    """The segments of a network, in the order in which its layers add them."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def add_weights(self, name: str, integers: Tensor, bits: int) -> None:
        """Add weights as codes."""
        codes = (integers > 0) if bits == 1 else integers + code_offset(bits)
        self.add_codes(name, "weights", codes, bits=bits)

    def add_codes(self, name: str, role: str, codes: Tensor, *, bits: int) -> None:
        """Add rows of codes, packed."""
        values = codes.detach().cpu().numpy().astype(np.int64)
        rows, columns = values.shape
        data = pack_rows(values, bits)
        segment = Segment(layer=name, role=role, rows=rows, columns=columns, type="packed", bits=bits, data=data)
        self.segments.append(segment)

    def add(self, name: str, role: str, values: NDArray[Any], kind: str) -> None:
        """Add rows of numbers in a numpy type.

        Raises:
            NoIntegerForm: a number does not fit the type.
        """
        stored = values.astype(kind)
        if not np.array_equal(stored, values):
            raise NoIntegerForm(f"{name}: a number of its {role} does not fit {stored.dtype.name}")
        rows, columns = stored.shape
        bits = stored.dtype.itemsize * 8
        data = stored.tobytes()
        self.segments.append(
            Segment(layer=name, role=role, rows=rows, columns=columns, type=kind, bits=bits, data=data)
        )
