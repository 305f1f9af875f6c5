"""Errors that the person at the keyboard can fix; everything else that escapes is a bug."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something outside the program must change: a file, an option, the machine.

    The message says where, which rule, which value and what to do instead. The command line prints it without a
    traceback and exits with code 2.
    """


class SpaceError(UserError):
    """A space file that breaks its rules: every problem found in it, not just the first."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))
