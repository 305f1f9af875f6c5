"""A run in Python: its front, and the choice of its members."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from spquant_search.commands.python.arguments import Budget, told_in_python, wish_within
from spquant_search.commands.python.picked import Picked
from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFolder

if TYPE_CHECKING:
    from spquant_search.report.run_summary import RunSummary
    from spquant_search.report.text_table import TextTable
    from spquant_search.runs.results import TrialResult


@dataclass(frozen=True, slots=True, repr=False)
class Front(Sequence["TrialResult"]):
    """The Pareto front of a run at one moment, the member of the first cost first. Accuracies are fractions."""

    _summary: RunSummary

    @overload
    def __getitem__(self, index: int) -> TrialResult: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrialResult]: ...
    def __getitem__(self, index: int | slice) -> TrialResult | Sequence[TrialResult]:
        return self._summary.front[index]

    def __len__(self) -> int:
        return len(self._summary.front)

    def __iter__(self) -> Iterator[TrialResult]:
        return iter(self._summary.front)

    def as_dict(self) -> dict[str, Any]:
        """Return what `spquant-search front --json` prints."""
        from spquant_search.report.data_files import front_document

        return front_document(self._summary)

    def _table(self) -> TextTable:
        from spquant_search.report.front_table import front_table

        return front_table(self._summary, intervals=())

    def __repr__(self) -> str:
        return self._table().plain().rstrip()

    def _repr_html_(self) -> str:
        return self._table().html()


class Run:
    """A run, finished or not: what a search has left in its folder until now."""

    def __init__(self, path: Path) -> None:
        self._folder = RunFolder(path=path)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._folder.path

    @property
    def front(self) -> Front:
        """The front as it is now; the same as `spquant-search front RUN` shows.

        Raises:
            UserError: there is none yet.
        """
        from spquant_search.report.run_summary import summarize_run

        return Front(summarize_run(self._folder))

    def pick(self, budget: Budget | None = None, *, trial: int | None = None, knee: bool = False) -> Picked:
        """Choose a member of the front that a device can run, as `spquant-search pick RUN` does; writes nothing yet.

        Args:
            budget: bounds, such as {"memory": "64 KiB", "accuracy": 0.9}; without it, any member.
            trial: this member, whatever its figures.
            knee: the balanced member instead of the most accurate one.

        Raises:
            UserError: no member fits; says which is nearest, and what helps.
        """
        from spquant_search.commands.picking import choose_member

        with told_in_python():
            wish = wish_within(budget or {})
            if trial is not None and (wish.budget or knee):
                raise UserError("trial names the member to take; omit the budget and knee")
            return Picked(choose_member(self._folder, wish, trial=trial, knee=knee, said="trial"))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        try:
            return self.front._repr_html_()
        except UserError as error:
            from html import escape

            return f"<pre>{escape(str(error))}</pre>"
