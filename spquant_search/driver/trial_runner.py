"""Trials on the trainers: how they begin, what is answered after every epoch, and what becomes of failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from spquant_search.driver.decisions import Decisions
from spquant_search.driver.early_stopping import stopping_reason
from spquant_search.driver.search_context import SearchContext
from spquant_search.driver.study import PendingTrial
from spquant_search.driver.trial_book import TrialBook
from spquant_search.driver.trial_tasks import TrialTasks
from spquant_search.errors import UserError
from spquant_search.runs.files import write_text
from spquant_search.runs.results import BASELINE, EpochMetrics, Origin, Outcome
from spquant_search.workers.messages import Epoch, Failed, Trained
from spquant_search.workers.trainer import Trainer

MAX_FAILED_IN_A_ROW = 5  # with more failures the configurations are not to blame


class TrialRunner:
    """Gives trials to trainers and listens to them."""

    def __init__(self, context: SearchContext, book: TrialBook, tasks: TrialTasks, decisions: Decisions) -> None:
        self._context, self._book, self._tasks, self._decisions = context, book, tasks, decisions
        self._pool, self._watcher = context.pool, context.watcher
        self._failed_in_a_row = 0

    def run_all(self, next_trial: Callable[[], PendingTrial | None]) -> None:
        """Try one trial after the other on every trainer, until ``next_trial`` has none and all have ended."""
        while True:
            for trainer in self._pool.idle():
                trial = next_trial()
                if trial is None:
                    break
                self._begin(trainer, trial)
            if self._pool.busy():
                self._listen()
            elif (left := self._book.others_left) and not self._context.limits.late():
                self.wait(f"other coordinators are at work on their last {left} trials")
            else:
                return

    def run(self, trial: PendingTrial) -> None:
        """Try one trial, while all other trainers are idle."""
        self._begin(self._pool.idle()[0], trial)
        while self._pool.busy():
            self._listen()

    def wait(self, why: str) -> None:
        """Wait a second for other coordinators, and say why."""
        self._watcher.stage(why)
        time.sleep(1.0)

    def _begin(self, trainer: Trainer, trial: PendingTrial) -> None:
        known = self._tasks.known_result(trial, Outcome.FAILED, "not finished")
        trainer.give(self._tasks.task(trial, known))
        minutes = self._context.file.search.minutes_per_trial
        if minutes is not None and trial.number != BASELINE:
            self._pool.limit_time(trainer, minutes)
        self._book.open(trial, known.epochs)
        for metrics in known.epochs:  # what was measured as a subnet before
            self._context.study.report(trial, epoch=metrics.epoch, accuracy=metrics.accuracy)
        self._watcher.started(known, self._tasks.epochs(trial))

    def _listen(self) -> None:
        for trainer, message in self._pool.messages():
            trial = self._book.opened(trainer.task.result.number)
            if isinstance(message, Epoch):
                trainer.answer(self._on_epoch(trial, message.metrics))
            elif isinstance(message, Trained):
                self._pool.mark_done(trainer, message.seconds)
                self._decisions.finish(trial, message.result)
                self._failed_in_a_row = 0
            elif isinstance(message, Failed):
                self._on_failure(trainer, trial, message)

    def _on_epoch(self, trial: PendingTrial, metrics: EpochMetrics) -> str | None:
        """Record an epoch, and return the reason to stop the trial; None lets it go on."""
        self._book.curves.record(trial.number, metrics)
        self._context.study.report(trial, epoch=metrics.epoch, accuracy=metrics.accuracy)
        self._watcher.epoch(trial.number, metrics)
        stopping = self._context.file.search.stopping
        # Everything else is compared with the references, and the cost of the last epoch is spent already.
        is_exempt = (
            trial.origin in (Origin.BASELINE, Origin.REFERENCE) or metrics.epoch == self._tasks.schedule(trial).epochs
        )
        if is_exempt or not stopping.enabled:
            return None
        known = self._tasks.known_result(trial, Outcome.FAILED, "")
        return stopping_reason(
            self._book.curves.present(known),
            self._book.curves.peers(known),
            margin=stopping.margin,
            min_peers=stopping.min_peers,
            optimism=stopping.optimism,
        )

    def _on_failure(self, trainer: Trainer, trial: PendingTrial, message: Failed) -> None:
        folder, known = self._context.folder, self._tasks.known_result(trial, Outcome.FAILED, message.reason)
        result = replace(known, epochs=self._book.curves.epochs(trial.number))
        if message.detail:
            write_text(folder.error_file(trial.number), message.detail)
        # A failure from outside may not come again, and the run needs its baseline: the study is not told of it.
        if trial.number == BASELINE:
            self._pool.mark_failed(trainer, message)
            raise UserError(
                f"{folder.path}: the float baseline could not be trained: {message.reason}. Without it nothing "
                "can be compared; fix the cause, and start the same command again."
            )
        folder.checkpoint_file(trial.number).unlink(missing_ok=True)
        self._watcher.warning(f"trial {trial.number} failed: {message.reason}")
        self._decisions.finish(trial, result)
        self._pool.mark_failed(trainer, message)
        self._count_failure(trial, message)

    def _count_failure(self, trial: PendingTrial, message: Failed) -> None:
        """End the search after too many failures in a row; trials that took too long do not count."""
        self._failed_in_a_row += not message.late
        if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            raise UserError(
                f"{self._context.folder.path}: {self._failed_in_a_row} trials in a row failed, the latest, "
                f"{trial.number}, because {message.reason}. The search ends, as this seems to be no fault of the "
                "configurations; fix the cause (trials/*.error.txt say where), and start the same command again."
            )
