"""An estimate of how long a search takes: its work, at the speed that it has been done with so far.

A part that is under way goes on as fast as it went. A part that has not begun is estimated from the float baseline: its
passes, at the seconds that a pass of the baseline takes, times what low precision makes of it. The factors were found
on two cores with VGG-9; on other machines and networks they may be half or twice as large. Each part replaces them by
its own speed after its first steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from spquant_search.runs.results import BASELINE, TrialResult
from spquant_search.runs.work import FRONT_PART, SERIAL, Part, PartWork

LOW_PRECISION = 1.3  # a pass in low precision, in passes of the float baseline
ACCURACY_ALONE = 0.65  # a pass of an evaluation in which no operations are counted
PREFIX_REUSED = 0.5  # of the passes of neighbouring subnets, what is left where they share their first layers
TASK_SECONDS = 0.2  # to build a network, load its weights, and write its result
# A trainer alone on one thread, against all threads together on one network: threads**this.
THREADS_EXPONENT = 0.25
_UNITS = (("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0))
LONG_EPOCH_SECONDS = 300.0  # an epoch in which compiling, which the first one does, no longer counts


@dataclass(kw_only=True, slots=True)
class _Pace:
    """How far a part is, by the clock."""

    work: PartWork
    left: float  # steps
    before: float = 0  # steps that were done before it was told of
    done: float = 0  # steps since then
    since: float | None = None
    first: float = 0.0  # when its first step was done
    last: float = 0.0
    ended: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PartSeconds:
    """What a part takes in all; a part of which nothing is to be done is missing."""

    work: PartWork
    seconds: float


@dataclass(kw_only=True, slots=True)
class TimeEstimate:
    """The parts of a search, and how fast they get on. All times are in seconds of one clock."""

    workers: int
    cores: int
    begun: float  # when the command began
    parts: dict[Part, _Pace] = field(default_factory=dict)
    known: float | None = None  # seconds of a pass of the baseline, from an earlier start

    @classmethod
    def of(
        cls, parts: Sequence[PartWork], finished: Sequence[TrialResult], *, workers: int, cores: int, begun: float
    ) -> TimeEstimate:
        estimate = cls(workers=workers, cores=max(1, min(cores, workers)), begun=begun)
        for work in parts:
            estimate.parts[work.part] = _Pace(work=work, left=_likely_tasks(work) * max(1, work.epochs))
        baseline = estimate.parts.get(Part.BASELINE)
        estimate.known = _seconds_of_known_pass(None if baseline is None else baseline.work, finished)
        return estimate

    def begin(self, part: Part, now: float) -> None:
        """Note that a part is under way; those before it have ended."""
        pace = self.parts.get(part)
        if pace is None or pace.since is not None:
            return
        pace.since = pace.last = now
        for other in self.parts.values():
            if other is pace:
                break
            other.left = 0
            other.ended = now if other.ended is None and other.since is not None else other.ended

    def step(self, part: Part, now: float, count: float = 1) -> None:
        """Note that steps of a part are done."""
        pace = self.parts.get(part)
        if pace is None or count <= 0:
            return
        pace.first = now if pace.done == 0 else pace.first
        pace.done, pace.last, pace.left = pace.done + count, now, max(0, pace.left - count)

    def skip(self, part: Part, count: float) -> None:
        """Note that steps of a part are not to be done any more."""
        if part in self.parts:
            self.parts[part].left = max(0, self.parts[part].left - count)

    def reach(self, part: Part, done: int, total: int, now: float) -> None:
        """Note how many steps of a part are done of how many."""
        pace = self.parts.get(part)
        if pace is None:
            return
        if pace.since is None:
            pace.before = done
        self.begin(part, now)
        self.step(part, now, done - pace.before - pace.done)
        pace.left = max(0, total - done)

    def in_all(self, now: float) -> tuple[PartSeconds, ...] | None:
        """Return what each part takes, done and to come; None as long as nothing tells how fast this machine is."""
        found = [(pace, self._left(pace, now)) for pace in self.parts.values()]
        if not any(pace.done for pace, _ in found) and self._seconds_of_pass() is None:
            return None
        if any(left is None for _, left in found):
            return None
        spent = [0.0 if pace.since is None else (pace.ended or now) - pace.since for pace, _ in found]
        return tuple(
            PartSeconds(work=pace.work, seconds=passed + (left or 0.0))
            for (pace, left), passed in zip(found, spent, strict=True)
            if passed or left
        )

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until the search ends; None where that cannot be said yet."""
        found = [self._left(pace, now) for pace in self.parts.values()]
        known = [left for left in found if left is not None]
        return sum(known) if known and len(known) == len(found) else None

    def seconds_before(self) -> float:
        """Return the seconds until the first part began: starting, and making frames."""
        return (
            min((pace.since for pace in self.parts.values() if pace.since is not None), default=self.begun) - self.begun
        )

    def _left(self, pace: _Pace, now: float) -> float | None:
        if pace.left == 0:
            return 0.0
        step = self._measured_step(pace)
        if step is not None:
            return max(0.0, pace.left * step - (now - pace.last))
        guess = self._guess(pace)
        if guess is None:
            return None
        return guess if pace.since is None else max(0.0, guess - (now - pace.since))

    def _measured_step(self, pace: _Pace) -> float | None:
        """Return the seconds after which one more step of a part is done, as far as it has got."""
        if pace.since is None or not pace.done:
            return None
        if pace.work.part not in SERIAL:
            # When the first of several trainers is done, the others are nearly so.
            return (pace.last - pace.since) / max(pace.done, min(self.workers, pace.done + pace.left))
        if pace.done > 1:
            return (pace.last - pace.first) / (pace.done - 1)  # without the first, which compiles
        took = pace.last - pace.since
        return took if took >= LONG_EPOCH_SECONDS or pace.work.steps == 1 else None

    def _seconds_of_pass(self) -> float | None:
        pace = self.parts.get(Part.BASELINE)
        step = None if pace is None else self._measured_step(pace)
        return self.known if step is None or pace is None else step / pace.work.passes_of_step

    def _guess(self, pace: _Pace) -> float | None:
        """Estimate a part that has not done any step, from the baseline."""
        a_pass, work = self._seconds_of_pass(), pace.work
        if a_pass is None:
            return None
        a_pass *= 1.0 if work.part is Part.BASELINE else LOW_PRECISION
        if work.part in (Part.LADDER, Part.TESTS):
            a_pass *= ACCURACY_ALONE
        if work.part is Part.LADDER:
            a_pass *= PREFIX_REUSED
        once = work.once * a_pass
        if work.part in SERIAL:
            return once + pace.left * work.passes_of_step * a_pass
        alone: float = self.cores**THREADS_EXPONENT * self.workers / self.cores  # trainers beyond the cores share them
        tasks = -(-pace.left // max(1, work.epochs))
        rounds = -(-tasks // self.workers)
        epochs = max(1, work.epochs)
        return once / self.workers + rounds * (TASK_SECONDS + epochs * work.passes_of_step * a_pass * alone)


def _likely_tasks(work: PartWork) -> int:
    """Return how many tasks a part is likely to have, of those that it has at most."""
    return -(-work.tasks // FRONT_PART) if work.part in (Part.JUDGED, Part.TESTS) else work.tasks


def _seconds_of_known_pass(baseline: PartWork | None, finished: Sequence[TrialResult]) -> float | None:
    """Return the seconds of a pass of the float baseline that an earlier start has trained."""
    epochs = next((result.epochs for result in finished if result.number == BASELINE), ())
    if baseline is None or not epochs or not baseline.passes_of_step:
        return None
    return statistics.median(metrics.seconds for metrics in epochs[1:] or epochs) / baseline.passes_of_step


def estimate_text(parts: Sequence[PartSeconds], *, before: float, minutes: float | None = None) -> str:
    """Write what a search takes in all, and each part of it; ``before`` are the seconds until its first part."""
    total = before + sum(part.seconds for part in parts)
    unit, seconds = next(((unit, length) for unit, length in _UNITS if total < 120 * length), _UNITS[-1])
    words = [f"start {_amount(before / seconds)}"] if before >= 0.005 * total else []
    words += [f"{_part_words(part.work)} {_amount(part.seconds / seconds)}" for part in parts]
    text = f"about {_amount(total / seconds)} {unit} in all: {', '.join(words)}"
    if any(part.work.part is Part.TRIALS and part.work.at_most for part in parts):
        text += "; less where trials are stopped early"
    if minutes is not None and 60 * minutes < total:
        text += f"; --minutes {minutes:g} ends it earlier"
    return text


def _part_words(work: PartWork) -> str:
    if work.part is Part.TRIALS:
        return f"{work.tasks} {'trials' if work.epochs else 'subnets'}"
    return f"up to {work.tasks} finalists" if work.part is Part.FINALISTS else str(work.part)


def _amount(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"
