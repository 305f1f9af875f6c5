"""Why a network cannot be imported: every reason at once, with the module, what it is, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spquant_search.errors import MOST_SHOWN, UserError


class Refused(Exception):
    """A call has no form; says why, and what the user can do where something can be done."""

    def __init__(self, why: str, remedy: str = "") -> None:
        self.why, self.remedy = why, remedy
        super().__init__(why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A part of a network that cannot be imported."""

    module: str  # its qualified name in the network; empty for the network's own forward
    what: str  # a class of module, or a function
    why: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the reason as people read it."""
        sentence = f"{self.module or '(the network itself)'}: {self.what}: {self.why}"
        return f"{sentence}; {self.remedy}" if self.remedy else sentence


class NotImportable(UserError):
    """A network that cannot be imported: every reason that was found, not just the first."""

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self.reasons = tuple(reasons)
        shown = [f"  {reason}" for reason in self.reasons[:MOST_SHOWN]]
        more = len(self.reasons) - MOST_SHOWN
        super().__init__(
            "\n".join(["the network cannot be imported:", *shown, *([f"  and {more} more"] if more > 0 else [])])
        )
