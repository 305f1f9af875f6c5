"""The live view of a running search, for terminals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from spquant_search.report.cost_words import NARROW_HEADINGS, narrow_cell, present_cost
from spquant_search.report.forms import GROUP, bits_form, legend, levels_form
from spquant_search.report.notebook import NotebookScreen
from spquant_search.report.numbers import MISSING, percent, reduction
from spquant_search.report.plain_log import PlainLog
from spquant_search.report.search_progress import (
    Clock,
    Progress,
    RunningTrial,
    closing_text,
    progress_hypervolume_text,
    times_text,
)
from spquant_search.report.step_words import baseline_words
from spquant_search.report.text_table import one_line
from spquant_search.runs import selection
from spquant_search.runs.events import SearchPlan, Watcher
from spquant_search.runs.pareto import figure
from spquant_search.runs.results import EpochMetrics, Origin, Outcome, TrialResult
from spquant_search.runs.work import Part
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.objectives import DEFAULT_COSTS

FRAMES_A_SECOND = 2
ORIGIN_WIDTH = max(map(len, Origin))


def watcher(console: Console) -> Watcher:
    """Choose the live view on a terminal or in a notebook, and otherwise one plain line an event."""
    if console.is_jupyter:
        return LiveView(console, screen=NotebookScreen)
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainLog(console.file)


class LiveView:
    """The whole terminal while the search runs; what it warned of stays on the screen afterwards.

    ``screen`` makes something else to draw it on.
    """

    def __init__(
        self,
        console: Console,
        *,
        clock: Clock = time.monotonic,
        screen: Callable[[RenderableType], NotebookScreen] | None = None,
    ) -> None:
        self.progress = Progress(clock=clock)
        self._console = console
        # Events come from the search, frames from rich's thread.
        self._lock = threading.RLock()
        self._closed = False
        # The alternate screen, because a resized terminal re-wraps what stands on the normal one and no program can
        # then tell how many lines to overwrite.
        self._live: Live | NotebookScreen = (
            Live(self, console=console, screen=True, refresh_per_second=FRAMES_A_SECOND, transient=True)
            if screen is None
            else screen(self)
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield frame(self.progress, width=options.max_width, height=options.height or console.height)

    def plan(self, plan: SearchPlan) -> None:
        self._take(lambda: self.progress.take_plan(plan))

    def stage(self, text: str, done: int = 0, total: int = 0, *, part: Part | None = None) -> None:
        self._take(lambda: self.progress.take_stage(text, done, total, part))

    def started(self, task: TrialResult, epochs: int) -> None:
        self._take(lambda: self.progress.take_start(RunningTrial(task=task, epochs=epochs)))

    def epoch(self, number: int, metrics: EpochMetrics) -> None:
        self._take(lambda: self.progress.take_epoch(number, metrics))

    def finished(self, result: TrialResult) -> None:
        self._take(lambda: self.progress.take_result(result))

    def warning(self, text: str) -> None:
        self._take(lambda: self.progress.warnings.append(one_line(text)))

    def close(self) -> None:
        """Give the terminal back, and leave the warnings and one line of summary on it; once."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):  # the terminal may be gone; the search's files are not
            self._live.stop()
            for text in self.progress.warnings:
                self._console.print(Text(f"warning: {text}", style="yellow"))
            if self.progress.plan:  # otherwise nothing was begun
                self._console.print(Text(closing_text(self.progress)))

    def _take(self, event: Callable[[], None]) -> None:
        with self._lock:
            event()
        with suppress(OSError):
            self._live.start()  # does nothing from the second time on


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The widths of a frame's columns, which its two tables share, so that they line up."""

    bits: int
    levels: int
    steps: int  # 0: all networks have the same number of time steps
    origin: bool
    last: int
    costs: tuple[str, ...] = DEFAULT_COSTS  # two

    @classmethod
    def fitting(cls, width: int, layers: int, *, steps: int = 0, costs: tuple[str, ...] = DEFAULT_COSTS) -> Columns:
        """Fit columns to a terminal: forms of deep networks share the rest; the origin needs 100 columns."""
        uncut = layers + (layers - 1) // GROUP  # with the spaces between groups
        origin = width >= 100
        fixed = 5 + 6 + 5 + 7 + 7 + 7 * 2 + (ORIGIN_WIDTH + 2 if origin else 0) + (steps + 2 if steps else 0)
        room = width - fixed - 13
        # The last layer, a readout, has no levels: where there is little room their column leaves it out.
        of_levels = uncut if room >= 2 * uncut else layers - 1 + (layers - 2) // GROUP
        levels = max(4, min(max(len("levels"), of_levels), room // 2))
        bits = max(4, min(uncut, max(room // 2, room - of_levels)))
        last = max(1, width - fixed - bits - levels)
        return cls(bits=bits, levels=levels, steps=steps, origin=origin, last=last, costs=costs)

    def table(self, first: str, last: str) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(first, width=5, justify="right", no_wrap=True)
        if self.origin:
            table.add_column("origin", width=ORIGIN_WIDTH, no_wrap=True)
        if self.steps:
            table.add_column("T", width=self.steps, justify="right", no_wrap=True)
        table.add_column("bits", width=self.bits, no_wrap=True)
        table.add_column("levels", width=self.levels, no_wrap=True)
        for name, width in (("epoch", 6), ("val %", 5), *((NARROW_HEADINGS[cost], 7) for cost in self.costs)):
            table.add_column(name, width=width, justify="right", no_wrap=True)
        table.add_column(last, width=self.last, no_wrap=True)
        return table

    def row(self, number: int, origin: Origin, config: NetworkConfig, *rest: str) -> list[Text]:
        first = (str(number), *((origin,) if self.origin else ()), *((str(config.time_steps),) if self.steps else ()))
        levels = levels_form(config, none=MISSING if self.steps else "")
        return [Text(cell) for cell in (*first, bits_form(config), levels, *rest)]


def frame(progress: Progress, *, width: int, height: int) -> RenderableType:
    """Draw one picture of the search that fills at most ``height`` lines."""
    layers = next((len(config.layers) for config in _configs(progress)), 9)
    steps = len(str(progress.time_steps[-1])) if progress.searches_steps else 0
    columns = Columns.fitting(width, layers, steps=steps, costs=progress.shown_costs[:2])
    foot = [Text(_front_words(progress), style="bold"), Text(_legend(progress), style="dim")]
    foot_lines = sum(-(-len(text) // width) + (len(text) > width) for text in foot)
    rows = height - (3 + 1 + 2 + 1 + 2 + 1 + foot_lines)  # the header, both tables' heads, blank lines
    front_rows = max(
        1, min(len(progress.front) or 1, max(rows // 3, rows - len(progress.running) - len(progress.finished)))
    )
    return Group(
        *_header(progress, width),
        Text(),
        _trials_table(progress, columns, max(1, rows - front_rows)),
        Text(),
        _front_table(progress, columns, front_rows),
        Text(),
        *foot,
    )


def _configs(progress: Progress) -> list[NetworkConfig]:
    return [trial.task.config for trial in progress.running.values()] + [result.config for result in progress.finished]


def _legend(progress: Progress) -> str:
    words = legend(_configs(progress))
    if not progress.searches_steps:
        return words
    none = ", without membranes at 1" if 1 in progress.time_steps else ""
    return f"{words}; T: time steps{none}; factors: against {baseline_words(progress.time_steps)}"


def _front_words(progress: Progress) -> str:
    words = progress_hypervolume_text(progress)
    if not progress.front:
        return words
    knee = selection.knee(progress.front, progress.costs)
    return f"{len(progress.front)} on the front, trial {knee.number} at its knee; {words}"


def _header(progress: Progress, width: int) -> Sequence[RenderableType]:
    plan = progress.plan
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(f"run {one_line(plan.run)}" if plan else "spquant-search", style="bold")
    if plan:
        title.append(f": {plan.network} on {one_line(plan.data)}")
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=max(8, min(40, width // 5)))
    line.add_column(no_wrap=True, overflow="ellipsis")
    trials = max(1, plan.trials) if plan else 1
    line.add_row(ProgressBar(total=trials, completed=min(progress.trials_done, trials)), Text(times_text(progress)))
    note = Text(no_wrap=True, overflow="ellipsis")
    if progress.warnings:
        note.append(f"warning: {progress.warnings[-1]}  ", style="yellow")
    note.append(progress.stage, style="cyan")
    return title, line, note


def _trials_table(progress: Progress, columns: Columns, rows: int) -> Table:
    """Make the table of running trials, then the latest finished trials."""
    table = columns.table("trial", "outcome")
    for number, trial in sorted(progress.running.items())[:rows]:
        latest = trial.latest
        cells = (
            f"{latest.epoch if latest else 0}/{trial.epochs}",
            percent(latest.accuracy if latest else None),
            *(narrow_cell(cost, present_cost(cost, trial.task, latest)) for cost in columns.costs),
            "running",
        )
        table.add_row(*columns.row(number, trial.task.origin, trial.task.config, *cells), style="cyan")
    members = {member.number for member in progress.front}
    for result in list(reversed(progress.finished))[: max(0, rows - len(progress.running))]:
        words = _outcome_words(result, long=columns.last >= 40, on_front=result.number in members)
        style = "" if result.outcome.has_weights else "dim"
        table.add_row(
            *columns.row(result.number, result.origin, result.config, *_figures(result, columns), words), style=style
        )
    return table


def _figures(result: TrialResult, columns: Columns) -> tuple[str, ...]:
    epochs = "subnet" if result.outcome is Outcome.SUBNET else str(result.trained_epochs)
    costs = (narrow_cell(cost, figure(result, cost)) for cost in columns.costs)
    return epochs, percent(result.accuracy), *costs


def _outcome_words(result: TrialResult, *, long: bool, on_front: bool) -> str:
    if result.outcome.has_weights:
        return "on the front" if on_front else result.outcome.name.lower().replace("_", " ")
    word = result.outcome.name.lower()
    return f"{word}: {one_line(result.reason)}" if long and result.reason else word


def _front_table(progress: Progress, columns: Columns, rows: int) -> Table:
    """Make the table of the front: its knee, then its most accurate members, without the float baseline."""
    table = columns.table("front", "factors")
    baseline = progress.baseline
    first = columns.costs[0]
    best = sorted(progress.front, key=lambda member: (-member.accuracy, figure(member, first)))
    if best:
        knee = selection.knee(progress.front, progress.costs)
        best = [knee, *(member for member in best if member not in (knee, baseline))]
    for member in best[:rows]:
        one, other = (
            reduction(getattr(baseline, cost) if baseline else None, figure(member, cost)) for cost in columns.costs
        )
        factors = f"{one:<6} {other}"
        table.add_row(*columns.row(member.number, member.origin, member.config, *_figures(member, columns), factors))
    return table
