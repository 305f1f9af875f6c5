"""The plain log of a running search."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import IO

from spquant_search.report.cost_words import and_list, cost_text, cost_texts
from spquant_search.report.forms import short_form
from spquant_search.report.numbers import MISSING, percent
from spquant_search.report.search_progress import Clock, Progress, RunningTrial, closing_text, times_text
from spquant_search.report.text_table import one_line
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.results import EpochMetrics, TrialResult
from spquant_search.runs.work import Part
from spquant_search.space.objectives import ACCURACY, COSTS

STAGE_LINE_SECONDS = 15.0
FIXED_OPERATIONS = "no layer has a channel gate or skips neurons, so the number of operations is the same in all trials"


class PlainLog:
    """One line an event, without control characters and never wrapped: for pipes, logs and screen readers."""

    def __init__(self, file: IO[str], *, clock: Clock = time.monotonic) -> None:
        self.progress = Progress(clock=clock)
        self._file = file
        self._stage: tuple[str, float] = ("", -math.inf)
        self._has_estimate = False  # once is enough: what is left stands behind every trial
        self._closed = False

    def plan(self, plan: SearchPlan) -> None:
        self.progress.take_plan(plan)
        done = self.progress.trials_done
        resumed = f", {done}{' of them' if done <= plan.trials else ''} done before" if done and plan.trials else ""
        self._line(f"run {plan.run}: {plan.source}, {plan.network} on {plan.data}")
        self._line(f"{plan.work}, {plan.workers} at a time{resumed}")
        if plan.fixed and plan.trials:
            others = [COSTS[name].words for name in plan.costs if name not in plan.fixed]
            differ = f"{and_list([ACCURACY, *others])} {'are' if others else 'is'} what they differ in"
            self._line(f"{FIXED_OPERATIONS}: {differ}")
        self._estimate()

    def stage(self, text: str, done: int = 0, total: int = 0, *, part: Part | None = None) -> None:
        if part is not None:
            self.progress.take_stage(text, done, total, part)
        previous, since = self._stage
        now = self.progress.clock()
        # A stage may report every recording; a log wants its beginning, its end and a sign of life between.
        if text == previous and not (total and done >= total) and now - since < STAGE_LINE_SECONDS:
            return
        self._stage = (text, now)
        self._line(f"{text}  {done:,}/{total:,}" if total else text)

    def started(self, task: TrialResult, epochs: int) -> None:
        self.progress.take_start(RunningTrial(task=task, epochs=epochs))
        costs = "  ".join(cost_texts(task, [name for name in self.progress.shown_costs if COSTS[name].is_exact]))
        form = short_form(task.config, with_steps=self.progress.searches_steps)
        self._line(f"trial {task.number}  started  {task.origin}  {form}  {costs}")

    def epoch(self, number: int, metrics: EpochMetrics) -> None:
        self.progress.take_epoch(number, metrics)
        trial = self.progress.running.get(number)
        of = f"/{trial.epochs}" if trial else ""
        measured = [name for name in self.progress.shown_costs if not COSTS[name].is_exact]
        operations = "  ".join(cost_text(name, metrics.measured(name)) for name in measured)
        accuracy, loss = percent(metrics.accuracy), MISSING if metrics.loss is None else f"{metrics.loss:.3f}"
        self._line(f"trial {number}  epoch {metrics.epoch}{of}  loss {loss}  accuracy {accuracy} %  {operations}")
        self._estimate()

    def finished(self, result: TrialResult) -> None:
        self.progress.take_result(result)
        cells = [f"trial {result.number}", result.outcome.name.lower().replace("_", " ")]
        if result.epochs:
            cells.append(f"accuracy {percent(result.accuracy)} %")
        shown = self.progress.shown_costs
        cells += cost_texts(result, [name for name in shown if COSTS[name].is_exact or result.epochs])
        if not result.outcome.has_weights and result.reason:
            cells.append(result.reason)
        if self.progress.plan:
            cells.append(times_text(self.progress))
        self._line("  ".join(one_line(cell) for cell in cells))

    def warning(self, text: str) -> None:
        self._line(f"warning: {text}")

    def close(self) -> None:
        if not self._closed and self.progress.plan:  # without a plan nothing was begun
            self._line(closing_text(self.progress))
        self._closed = True

    def _estimate(self) -> None:
        """Write how long the search takes, once that can be said."""
        text = None if self._has_estimate else self.progress.estimate_text()
        if text is not None:
            self._has_estimate = True
            self._line(text)

    def _line(self, text: str) -> None:
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        # one_line() would shrink the double spaces between fields.
        clean = "  ".join(one_line(part) for part in text.split("  "))
        with suppress(OSError, ValueError):  # the reader may be gone; the search goes on
            self._file.write(clean.encode(encoding, "replace").decode(encoding) + "\n")
            self._file.flush()
