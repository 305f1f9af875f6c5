"""A search as people watch it: a live view on a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.report.tables import (
    MISSING,
    bits_form,
    duration,
    flops,
    hypervolume_text,
    kib,
    legend,
    levels_form,
    mega,
    one_line,
    percent,
    reduction,
    short_form,
)
from spquant_search.runs import pareto, selection
from spquant_search.runs.events import SearchPlan, Watcher
from spquant_search.runs.results import EpochMetrics, Outcome, TrialResult
from spquant_search.space.configuration import NetworkConfig

FRAMES_A_SECOND = 2
STAGE_LINE_SECONDS = 15.0
Clock = Callable[[], float]


def watcher(console: Console) -> Watcher:
    """The live view on a terminal; otherwise one plain line an event."""
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainLog(console.file)


# ---------------------------------------------------------------- what is known so far


@dataclass(kw_only=True, slots=True)
class RunningTrial:
    task: TrialResult  # as far as known: configuration and memory
    epochs: int
    latest: EpochMetrics | None = None

    @property
    def epochs_left(self) -> int:
        return max(0, self.epochs - (self.latest.epoch if self.latest else 0))


@dataclass(kw_only=True, slots=True)
class Progress:
    """The state of a search, gathered from its events. ``clock`` gives seconds."""

    clock: Clock = time.monotonic
    begun: float = 0.0
    plan: SearchPlan | None = None
    running: dict[int, RunningTrial] = field(default_factory=dict)
    finished: list[TrialResult] = field(default_factory=list)
    front: tuple[TrialResult, ...] = ()
    hypervolume: float | None = None
    reference: pareto.ReferencePoint | None = None
    stage: str = ""
    warnings: list[str] = field(default_factory=list)
    _epochs_done: int = 0
    _training_since: float | None = None
    _only_baseline: bool = True

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def take_plan(self, plan: SearchPlan) -> None:
        self.plan = plan
        self.finished = list(plan.finished)
        self._update_front()

    def take_stage(self, text: str, done: int, total: int) -> None:
        self.stage = one_line(text) + (f" {done:,} of {total:,}" if total else "")

    def take_start(self, trial: RunningTrial) -> None:
        self.stage = ""
        candidate = trial.task.origin != "baseline"
        # Candidates train in parallel and in low precision: their pace replaces the baseline's.
        if self._training_since is None or (candidate and self._only_baseline):
            self._training_since, self._epochs_done = self.clock(), 0
        self._only_baseline = self._only_baseline and not candidate
        self.running[trial.task.number] = trial

    def take_epoch(self, number: int, metrics: EpochMetrics) -> None:
        self._epochs_done += 1
        if number in self.running:
            self.running[number].latest = metrics

    def take_result(self, result: TrialResult) -> None:
        self.running.pop(result.number, None)
        self.finished.append(result)
        self._update_front()

    @property
    def baseline(self) -> TrialResult | None:
        done = (result for result in self.finished if result.origin == "baseline")
        return next((result for result in done if result.outcome is Outcome.COMPLETE), None)

    @property
    def trials_done(self) -> int:
        over = Outcome.OVER_BUDGET  # which the limit on trials does not know
        return sum(result.is_candidate and result.outcome is not over for result in self.finished)

    def seconds_left(self) -> float | None:
        """An upper estimate: the epochs still to train if none is spared, by the epochs a second measured so far."""
        if self.plan is None or self._training_since is None or not self._epochs_done:
            return None
        begun = sum(trial.task.is_candidate for trial in self.running.values())
        untouched = max(0, self.plan.trials - self.trials_done - begun) * self.plan.epochs
        left = untouched + sum(trial.epochs_left for trial in self.running.values())
        return left * (self.clock() - self._training_since) / self._epochs_done

    def _update_front(self) -> None:
        budget = selection.Budget() if self.plan is None else self.plan.budget
        self.front = selection.front(self.finished, budget)
        baseline = self.baseline
        if self.plan is None or baseline is None:
            return
        self.reference = pareto.reference_point(baseline, chance=self.plan.chance)
        fitting = selection.within(self.front, budget)
        self.hypervolume = pareto.hypervolume(pareto.objectives(fitting), self.reference)


# ---------------------------------------------------------------- the live view


class LiveView:
    """The whole terminal while the search runs; what it warned of stays on the screen afterwards."""

    def __init__(self, console: Console, *, clock: Clock = time.monotonic) -> None:
        self.progress = Progress(clock=clock)
        self._console = console
        # Events come from the search, frames from rich's thread.
        self._lock = threading.RLock()
        # The alternate screen, because a resized terminal re-wraps what stands on the normal one and no program can
        # then tell how many lines to overwrite.
        self._live = Live(self, console=console, screen=True, refresh_per_second=FRAMES_A_SECOND, transient=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield frame(self.progress, width=options.max_width, height=options.height or console.height)

    def plan(self, plan: SearchPlan) -> None:
        self._take(lambda: self.progress.take_plan(plan))

    def stage(self, text: str, done: int = 0, total: int = 0) -> None:
        self._take(lambda: self.progress.take_stage(text, done, total))

    def started(self, task: TrialResult, epochs: int) -> None:
        self._take(lambda: self.progress.take_start(RunningTrial(task=task, epochs=epochs)))

    def epoch(self, number: int, metrics: EpochMetrics) -> None:
        self._take(lambda: self.progress.take_epoch(number, metrics))

    def finished(self, result: TrialResult) -> None:
        self._take(lambda: self.progress.take_result(result))

    def warning(self, text: str) -> None:
        self._take(lambda: self.progress.warnings.append(one_line(text)))

    def close(self) -> None:
        """Give the terminal back, and leave the warnings and one line of summary on it."""
        with suppress(OSError):  # the terminal may be gone; the search's files are not
            self._live.stop()
            for text in self.progress.warnings:
                self._console.print(Text(f"warning: {text}", style="yellow"))
            self._console.print(Text(closing_line(self.progress)))

    def _take(self, event: Callable[[], None]) -> None:
        with self._lock:
            event()
        with suppress(OSError):
            self._live.start()  # does nothing from the second time on


def closing_line(progress: Progress) -> str:
    done = f"{progress.trials_done} trials" if progress.plan is None else _trial_count(progress)
    gone = duration(progress.clock() - progress.begun)
    if progress.plan is not None and progress.plan.trials == 0:  # an analysis, which tries no candidates
        return f"done in {gone}"
    return f"{done} in {gone}; {hypervolume_text(progress.hypervolume, progress.reference)}"


def _trial_count(progress: Progress) -> str:
    return f"{progress.trials_done} of {progress.plan.trials if progress.plan else '?'} trials"


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """How wide a frame's columns are; the two tables of a frame share them, so that they line up."""

    form: int  # of the bits and of the levels
    origin: bool
    last: int

    @classmethod
    def fitting(cls, width: int, layers: int) -> Columns:
        """Deep networks' forms share what is left; the origin and long reasons only where there is room for both."""
        whole = layers + (layers - 1) // 4
        origin = width >= 100
        fixed = 5 + 5 + 5 + 7 + 7 + 7 * 2 + (11 if origin else 0)
        form = max(4, min(whole, (width - fixed - 13) // 2))
        return cls(form=form, origin=origin, last=max(1, width - fixed - 2 * form))

    def table(self, first: str, last: str) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(first, width=5, justify="right", no_wrap=True)
        if self.origin:
            table.add_column("origin", width=9, no_wrap=True)
        table.add_column("bits", width=self.form, no_wrap=True)
        table.add_column("levels", width=self.form, no_wrap=True)
        for name, width in (("epoch", 5), ("val %", 5), ("KiB", 7), ("MFLOPs", 7)):
            table.add_column(name, width=width, justify="right", no_wrap=True)
        table.add_column(last, width=self.last, no_wrap=True)
        return table

    def row(self, number: int, origin: str, config: NetworkConfig, *rest: str) -> list[Text]:
        forms = (bits_form(config), levels_form(config))
        return [Text(cell) for cell in (str(number), *((origin,) if self.origin else ()), *forms, *rest)]


def frame(progress: Progress, *, width: int, height: int) -> RenderableType:
    """One picture of the search that fills at most ``height`` lines."""
    columns = Columns.fitting(width, next((len(config.layers) for config in _configs(progress)), 9))
    foot = [Text(_front_words(progress), style="bold"), Text(legend(_configs(progress)), style="dim")]
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


def _front_words(progress: Progress) -> str:
    words = hypervolume_text(progress.hypervolume, progress.reference)
    if not progress.front:
        return words
    return f"{len(progress.front)} on the front, trial {selection.knee(progress.front).number} at its knee; {words}"


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
    line.add_row(ProgressBar(total=trials, completed=min(progress.trials_done, trials)), Text(_times(progress)))
    note = Text(no_wrap=True, overflow="ellipsis")
    if progress.warnings:
        note.append(f"warning: {progress.warnings[-1]}  ", style="yellow")
    note.append(progress.stage, style="cyan")
    return title, line, note


def _times(progress: Progress) -> str:
    done = _trial_count(progress) if progress.plan else "preparing"
    left = progress.seconds_left()
    # Stopping early makes it shorter than any estimate from what is left to do.
    estimate = "" if left is None else f", at most {duration(left)} left"
    return f"{done}, {duration(progress.clock() - progress.begun)} gone{estimate}"


def _trials_table(progress: Progress, columns: Columns, rows: int) -> Table:
    """The running trials, then the latest finished ones."""
    table = columns.table("trial", "outcome")
    for number, trial in sorted(progress.running.items())[:rows]:
        latest = trial.latest
        cells = (
            f"{latest.epoch if latest else 0}/{trial.epochs}",
            percent(latest.accuracy if latest else None),
            kib(trial.task.memory_bytes),
            mega(latest.effective_macs * FLOPS_PER_MAC if latest else math.nan),
            "running",
        )
        table.add_row(*columns.row(number, trial.task.origin, trial.task.config, *cells), style="cyan")
    members = {member.number for member in progress.front}
    for result in list(reversed(progress.finished))[: max(0, rows - len(progress.running))]:
        words = _outcome_words(result, long=columns.last >= 40, on_front=result.number in members)
        style = "" if result.outcome.has_weights else "dim"
        table.add_row(*columns.row(result.number, result.origin, result.config, *_figures(result), words), style=style)
    return table


def _figures(result: TrialResult) -> tuple[str, str, str, str]:
    epochs = "read" if result.outcome is Outcome.SUBNET else str(result.trained_epochs)
    return epochs, percent(result.accuracy), kib(result.memory_bytes), mega(result.effective_flops)


def _outcome_words(result: TrialResult, *, long: bool, on_front: bool) -> str:
    if result.outcome.has_weights:
        return "on the front" if on_front else result.outcome.name.lower().replace("_", " ")
    word = result.outcome.name.lower()
    return f"{word}: {one_line(result.reason)}" if long and result.reason else word


def _front_table(progress: Progress, columns: Columns, rows: int) -> Table:
    """The front's knee, then its most accurate members; factors against the float baseline, which is not repeated."""
    table = columns.table("front", "factors")
    baseline = progress.baseline
    best = sorted(progress.front, key=lambda member: (-member.accuracy, member.memory_bytes))
    if best:
        knee = selection.knee(progress.front)
        best = [knee, *(member for member in best if member not in (knee, baseline))]
    for member in best[:rows]:
        memory = reduction(baseline.memory_bytes if baseline else None, member.memory_bytes)
        operations = reduction(baseline.effective_flops if baseline else None, member.effective_flops)
        factors = f"{memory:<6} {operations}"
        table.add_row(*columns.row(member.number, member.origin, member.config, *_figures(member), factors))
    return table


# ---------------------------------------------------------------- plain lines


class PlainLog:
    """One line an event, without control characters and never wrapped: for pipes, logs and screen readers."""

    def __init__(self, file: IO[str], *, clock: Clock = time.monotonic) -> None:
        self.progress = Progress(clock=clock)
        self._file = file
        self._stage: tuple[str, float] = ("", -math.inf)

    def plan(self, plan: SearchPlan) -> None:
        self.progress.take_plan(plan)
        resumed = f", {self.progress.trials_done} of them done before" if self.progress.trials_done else ""
        self._line(f"run {plan.run}: {plan.source}, {plan.network} on {plan.data}")
        self._line(f"{plan.work}, {plan.workers} at a time{resumed}")

    def stage(self, text: str, done: int = 0, total: int = 0) -> None:
        previous, since = self._stage
        now = self.progress.clock()
        # A stage may report every recording; a log wants its beginning, its end and a sign of life between.
        if text == previous and not (total and done >= total) and now - since < STAGE_LINE_SECONDS:
            return
        self._stage = (text, now)
        self._line(f"{text}  {done:,}/{total:,}" if total else text)

    def started(self, task: TrialResult, epochs: int) -> None:
        self.progress.take_start(RunningTrial(task=task, epochs=epochs))
        memory = f"{kib(task.memory_bytes)} KiB"
        self._line(f"trial {task.number}  started  {task.origin}  {short_form(task.config)}  {memory}")

    def epoch(self, number: int, metrics: EpochMetrics) -> None:
        self.progress.take_epoch(number, metrics)
        trial = self.progress.running.get(number)
        of = f"/{trial.epochs}" if trial else ""
        operations = flops(metrics.effective_macs * FLOPS_PER_MAC)
        accuracy, loss = percent(metrics.accuracy), MISSING if metrics.loss is None else f"{metrics.loss:.3f}"
        self._line(f"trial {number}  epoch {metrics.epoch}{of}  loss {loss}  accuracy {accuracy} %  {operations}")

    def finished(self, result: TrialResult) -> None:
        self.progress.take_result(result)
        cells = [f"trial {result.number}", result.outcome.name.lower().replace("_", " ")]
        if result.epochs:
            cells.append(f"accuracy {percent(result.accuracy)} %")
        cells.append(f"{kib(result.memory_bytes)} KiB")
        if result.epochs:
            cells.append(flops(result.effective_flops))
        if not result.outcome.has_weights and result.reason:
            cells.append(result.reason)
        if self.progress.plan:
            cells.append(_times(self.progress))
        self._line("  ".join(one_line(cell) for cell in cells))

    def warning(self, text: str) -> None:
        self._line(f"warning: {text}")

    def close(self) -> None:
        self._line(closing_line(self.progress))

    def _line(self, text: str) -> None:
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        # Control characters out, double spaces between the fields kept.
        clean = "  ".join(one_line(part) for part in text.split("  "))
        with suppress(OSError, ValueError):  # whoever read it may have gone; the search goes on
            self._file.write(clean.encode(encoding, "replace").decode(encoding) + "\n")
            self._file.flush()
