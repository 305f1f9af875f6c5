"""Errors that the person at the keyboard can fix; everything else that escapes is a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MOST_SHOWN = 20  # problems of one file


class UserError(Exception):
    """Something outside the program must change: a file, an option, the machine.

    The message says where, which rule, which value and what to do instead. The command line prints it without a
    traceback and exits with code 2.
    """


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word that is most like ``word``; None where none is near."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def first_of(names: Sequence[str], most: int) -> str:
    """List names in a sentence, the first ``most`` of many: ``a, b, c and 4 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that breaks a rule: the key that holds it, and a sentence with the rule, the value and the remedy."""

    key: str  # such as train.epochs; empty for the file as a whole
    sentence: str
    line: int | None = None  # of the key in its file, from 1

    def __str__(self) -> str:
        """Return the problem as people read it."""
        place = f"{self.key} (line {self.line})" if self.line else self.key
        return f"{place}: {self.sentence}" if self.key else self.sentence

    def below(self, section: str) -> Problem:
        """Return the same problem of a key that lies in ``section``."""
        return replace(self, key=f"{section}.{self.key}")


class OptionError(UserError):
    """Options that do not fit: every problem found in them, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(_listed(self.problems)))


class SpaceError(UserError):
    """A space file that breaks its rules: every problem found in it, not just the first."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {words}" for words in _listed(self.problems)))


def _listed(problems: Sequence[Problem]) -> list[str]:
    """Return the problems as people read them: the first of many, as they often have one cause."""
    more = len(problems) - MOST_SHOWN
    words = [str(problem) for problem in problems[:MOST_SHOWN]]
    return [*words, f"and {more} more problems"] if more > 0 else words
