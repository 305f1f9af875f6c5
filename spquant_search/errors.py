"""Errors that the person at the keyboard can fix; everything else that escapes is a bug."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


class UserError(Exception):
    """Something outside the program must change: a file, an option, the machine.

    The message says where, which rule, which value and what to do instead. The command line prints it without a
    traceback and exits with code 2.
    """


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
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SpaceError(UserError):
    """A space file that breaks its rules: every problem found in it, not just the first."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))
