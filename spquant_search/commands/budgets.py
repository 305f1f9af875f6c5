"""Budgets as people write them: what may be bounded, by which names, and in which units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from spquant_search.errors import UserError
from spquant_search.space.objectives import ACCURACY, COSTS
from spquant_search.space.units import byte_count, flop_count, microjoule_count, operation_count

if TYPE_CHECKING:
    from spquant_search.report.pick_reasons import Wish

# Options of `pick` by the figure of a member that they bound.
PICK_OPTIONS = {**{name: cost.option for name, cost in COSTS.items()}, ACCURACY: "--min-accuracy"}
_READERS = {
    "bytes": byte_count,
    "FLOPs": flop_count,
    "operations": operation_count,
    "uJ": microjoule_count,
}


def wish_of(given: Mapping[str, str | None], said: Mapping[str, str]) -> Wish:
    """Return what is wished of a member, by the figures that are bounded; ``said`` names each as its user wrote it.

    Raises:
        UserError: a bound is none.
    """
    from spquant_search.report.pick_reasons import Wish
    from spquant_search.runs.selection import Budget, bound_field

    bounds = {
        bound_field(name): None if text is None else read_bound(name, text, said[name]) for name, text in given.items()
    }
    return Wish(budget=Budget(**bounds), options={name: f"{said[name]} {text}" for name, text in given.items()})


def read_bound(name: str, text: str, said: str) -> float:
    """Read the bound of a figure of a member; ``said`` names it in the error that other words raise."""
    return read_share(text, said) if name == ACCURACY else read_quantity(text, COSTS[name].unit, said)


def read_quantity(text: str, unit: str, said: str) -> float:
    """Read a number of a cost's unit: bytes, such as ``64KiB``, operations or microjoules.

    Raises:
        UserError: ``text`` is none; the message begins with what was ``said``.
    """
    try:
        return _READERS[unit](text)
    except ValueError as error:
        raise UserError(f"{said} {text}: {error}") from None


def read_share(text: str, said: str) -> float:
    """Read a fraction such as ``0.95``, also written as ``95%``.

    Raises:
        UserError: ``text`` is neither, or no share; the message begins with what was ``said``.
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)\s*(%?)", text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else None
    if value is not None and value <= 1:
        return value
    rule = "must be a fraction from 0 to 1 such as 0.95, or a percentage such as 95%"
    is_percent = match is not None and not match[2] and value is not None and value <= 100
    meant = f"; did you mean {text.strip()}%?" if is_percent else ""
    raise UserError(f"{said} {text}: {rule}{meant}")
