"""A picked member of a front in Python: its network, the folder for a device, and the proof that they agree."""

from __future__ import annotations

import sys
import tempfile
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from spquant_search.commands.python.arguments import told_in_python

if TYPE_CHECKING:
    from torch import nn

    from spquant_search.commands.picking import Choice
    from spquant_search.deploy.verify import Verification
    from spquant_search.runs.results import TrialResult


class NotVerified(Exception):
    """PyTorch, numpy and C do not agree, or the C does not compile; ``verification`` says where."""

    def __init__(self, words: str, verification: Verification) -> None:
        super().__init__(words)
        self.verification = verification


class Picked:
    """A member of a run's front that a device can run."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._exported: Path | None = None

    @property
    def member(self) -> TrialResult:
        """The member: its figures and its configuration."""
        return self._choice.member

    @cached_property
    def module(self) -> nn.Module:
        """The trained network at its precision, for evaluation; it takes Spikes, as the layers of this package do."""
        from spquant_search.deploy.artifact import member_network

        with told_in_python():
            return member_network(self._choice.folder, self._choice.file, self.member, self._choice.prepared.input)

    def export(self, folder: str | Path, *, prefix: str = "spq") -> Path:
        """Write the network as integers in C into a new folder, as `spquant-search pick --out` does.

        Before anything is written, PyTorch, numpy and C must agree on the test vectors. ``prefix``: with which its
        names in C begin, so that several networks fit one program.

        Raises:
            UserError: the folder holds something, the network cannot be written, or the prefix begins no name in C.
        """
        from spquant_search.commands.picking import write_choice
        from spquant_search.deploy.c_names import names_with

        with told_in_python():
            write_choice(self._choice, Path(folder), note=_note, names=names_with(prefix))
        self._exported = Path(folder)
        return self._exported

    def verify(self, *, samples: int | None = None) -> Verification:
        """Compare PyTorch, numpy and C on the test split, or on its first ``samples``: every spike, every logit.

        It is the folder that was exported last that is compared; where there is none, one that is written for it.

        Raises:
            NotVerified: something differs.
            UserError: the folder's files are not those that were written.
        """
        from spquant_search.commands.verifying import compare_all

        if samples is not None and samples < 1:
            raise ValueError(f"samples must be 1 or more, not {samples}")
        with tempfile.TemporaryDirectory() as temporary, told_in_python():
            folder = self._exported or self._written_to(Path(temporary) / "picked")
            artifact, found = compare_all(folder, samples=samples)
        if not found.holds:
            from spquant_search.deploy.verification_report import verification_dict

            words = f"trial {artifact.trial} of {artifact.run} is not verified: {verification_dict(found, artifact)}"
            raise NotVerified(words, found)
        return found

    def _written_to(self, folder: Path) -> Path:
        from spquant_search.commands.picking import write_choice

        write_choice(self._choice, folder, note=_note)
        return folder

    def _lines(self) -> list[str]:
        from spquant_search.report.picked import picked_lines

        choice = self._choice
        frame_bytes = choice.prepared.input.frame_bytes
        return picked_lines(choice.summary, self.member, origin=choice.origin_words, frame_bytes=frame_bytes)

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        first, *others = self._lines()
        return f"<p><b>{escape(first)}</b></p><pre>{escape(chr(10).join(others))}</pre>"


def _note(words: str) -> None:
    print(f"note: {words}", file=sys.stderr)
