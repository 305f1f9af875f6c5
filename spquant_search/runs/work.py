"""The work of a search, known before it begins: its parts, and the samples that each sends through the network.

A pass is a sample that goes forward through the float baseline, in the most time steps that the space has; a sample
that is shown in fewer is that part of a pass. Training on a sample is three passes, as going backward takes about twice
as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from statistics import fmean
from typing import Any

from spquant_search.runs.results import Origin, TrialResult
from spquant_search.runs.sensitivity import lowered_configurations
from spquant_search.space.schema import SpaceFile
from spquant_search.space.search_space import SearchSpace

TRAINED = 3  # passes of a sample that is trained on
STATISTICS_BATCH = 128  # samples together, by which the statistics of a subnet's batch norm are measured
FRONT_PART = 5  # one of so many trials is on the front of the default search: a guess of how many are tested


class Part(StrEnum):
    """The parts of a search in their order, as tables name them."""

    BASELINE = "baseline"
    SUPERNET = "supernet"
    LADDER = "budget ladder"
    TRIALS = "trials"
    FINALISTS = "finalists"
    SEEDS = "further seeds"
    JUDGED = "whole validation split"
    TESTS = "test split"


SERIAL = (Part.BASELINE, Part.SUPERNET)  # a single task, which gets the threads of all trainers


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleCounts:
    """The samples of each split that a search uses."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PartWork:
    """One part: tasks of equal work, each of which one trainer does at a time."""

    part: Part
    tasks: int
    epochs: int = 0  # of a task; 0: nothing is trained
    trained: int = 0  # samples that an epoch trains on
    evaluated: int = 0  # samples that an epoch, or a task without epochs, evaluates
    taught: int = 0  # samples of an epoch that the float baseline says something of
    once: int = 0  # samples that it says something of before all tasks
    tested: int = 0  # samples of the test split that all tasks together evaluate
    share: float = 1.0  # of a pass, that a sample of trained, evaluated or tested takes on the mean
    at_most: bool = False  # fewer tasks or epochs are possible

    @property
    def steps(self) -> int:
        """The steps by which its progress is told: epochs, or tasks without epochs."""
        return self.tasks * max(1, self.epochs)

    @property
    def passes_of_step(self) -> float:
        return self.share * (TRAINED * self.trained + self.evaluated) + self.taught

    @property
    def trained_samples(self) -> int:
        """All samples that are trained on, each counted as often as it is."""
        return self.tasks * self.epochs * self.trained

    @property
    def evaluated_samples(self) -> int:
        """All samples that are evaluated, each counted as often as it is."""
        return self.steps * (self.evaluated + self.taught) + self.once + self.tested

    @property
    def passes(self) -> int:
        """All passes, rounded."""
        own = TRAINED * self.trained_samples + self.steps * self.evaluated + self.tested
        return round(self.share * own) + self.steps * self.taught + self.once

    def as_dict(self, *, macs: int) -> dict[str, Any]:
        """Return the part ready for JSON; ``macs`` are those of a pass."""
        given = asdict(self)
        counts = {name: given[name] for name in ("part", "tasks", "epochs", "at_most")}
        samples = {"trained_samples": self.trained_samples, "evaluated_samples": self.evaluated_samples}
        return {**counts, **samples, "passes": self.passes, "macs": self.passes * macs}


def part_of(result: TrialResult) -> Part:
    """Return the part that a trial belongs to."""
    if result.origin is Origin.BASELINE:
        return Part.BASELINE
    return Part.FINALISTS if result.origin is Origin.FINE_TUNED else Part.TRIALS


def samples_of_epoch(available: int, batch_size: int) -> int:
    """Return how many samples an epoch trains on: full batches; a split smaller than one is a batch of its own."""
    return min(available, max(1, available // batch_size) * batch_size)


def statistics_samples(available: int, wanted: int) -> int:
    """Return on how many samples a subnet's statistics are measured.

    Full batches only, as a small last one would weigh as much as the others.
    """
    count = min(wanted, available)
    return count - count % STATISTICS_BATCH if count > STATISTICS_BATCH else count


def mean_share(time_steps: Iterable[float], file: SpaceFile) -> float:
    """Return which part of a pass a sample takes on the mean, that is shown in these numbers of time steps."""
    return fmean(time_steps) / file.most_time_steps


def _share_of_trials(space: SearchSpace, trials: int) -> float:
    """Return the part of a pass in trials, which begin with the references.

    Which numbers of time steps will be proposed is not known before: each counts alike.
    """
    drawn, known = fmean(space.file.time_steps), [config.time_steps for config in space.references[:trials]]
    return mean_share([*known, *[drawn] * (trials - len(known))], space.file)


def search_work(space: SearchSpace, samples: SampleCounts, *, trials: int) -> tuple[PartWork, ...]:
    """Return the parts of a search of so many trials, from its beginning to its end."""
    file = space.file
    trained = samples_of_epoch(samples.train, file.train.batch_size)
    with_teacher = file.search.strategy != "scratch" and file.train.distillation > 0
    # What the float baseline says is computed once, or anew for every sample that augmentation has changed.
    taught = trained if with_teacher and file.train.augment.is_on else 0
    once = samples.train if with_teacher and not taught else 0
    shared = file.search.strategy == "supernet" and trials > 0
    baseline = PartWork(
        part=Part.BASELINE,
        tasks=1,
        epochs=file.train.baseline_epochs,
        trained=trained,
        evaluated=samples.validation,
    )
    middle: tuple[PartWork, ...] = ()
    if shared:
        middle = _supernet_work(space, samples, trials, trained, taught, once)
    elif trials:
        candidates = PartWork(
            part=Part.TRIALS,
            tasks=trials,
            epochs=file.train.epochs,
            trained=trained,
            evaluated=samples.validation,
            taught=taught,
            once=once * min(trials, file.search.workers),  # trainers that begin together each compute it
            share=_share_of_trials(space, trials),
            at_most=file.search.stopping.enabled,
        )
        middle = (candidates,)
    others = trials + (file.final.members if shared else 0)
    steps = [file.most_time_steps, *[fmean(file.time_steps)] * others]
    tested = PartWork(
        part=Part.TESTS,
        tasks=1 + others,
        evaluated=samples.test,
        share=mean_share(steps, file),
        at_most=trials > 0,
    )
    return (baseline, *middle, tested)


def _supernet_work(
    space: SearchSpace, samples: SampleCounts, trials: int, trained: int, taught: int, once: int
) -> tuple[PartWork, ...]:
    file = space.file
    judged = min(samples.validation, file.supernet.validation_samples or samples.validation)
    subnet = statistics_samples(samples.train, file.supernet.statistics_samples) + judged
    supernet = PartWork(
        part=Part.SUPERNET,
        tasks=1,
        epochs=file.supernet_epochs,
        trained=trained,
        taught=taught,
        once=once,
        share=file.mean_drawn_steps / file.most_time_steps,
    )
    has_ladder = file.search.ladder_points > 0 and trials > len(space.references)
    lowered = [config.time_steps for config in lowered_configurations(space).values()]
    ladder = PartWork(part=Part.LADDER, tasks=len(lowered), evaluated=subnet, share=mean_share(lowered, file))
    of_trials = _share_of_trials(space, trials)
    subnets = PartWork(part=Part.TRIALS, tasks=trials, evaluated=subnet, share=of_trials)
    front = PartWork(part=Part.JUDGED, tasks=trials, evaluated=samples.validation, share=of_trials, at_most=True)
    finalists = _finalist_work(file, samples, trained, taught)
    is_part = judged < samples.validation
    return (supernet, *((ladder,) if has_ladder else ()), subnets, *finalists, *((front,) if is_part else ()))


def _finalist_work(file: SpaceFile, samples: SampleCounts, trained: int, taught: int) -> tuple[PartWork, ...]:
    final = file.final
    # At fewer time steps there are more epochs, of as much work: counted are those of the most. What the float baseline
    # says has all steps in each of them; which steps members will have is not known before, so that each counts alike.
    taught = round(taught * file.most_time_steps / file.mean_drawn_steps)
    epoch = {"epochs": final.epochs, "trained": trained, "evaluated": samples.validation, "taught": taught}
    first = PartWork(part=Part.FINALISTS, tasks=final.members, at_most=True, **epoch)
    more = PartWork(
        part=Part.SEEDS,
        tasks=final.members * (final.seeds - 1),
        tested=final.members * final.seeds * samples.test,  # every seed, the first one too
        at_most=True,
        **epoch,
    )
    return (first, more) if final.seeds > 1 else (first,)


def work_left(parts: Sequence[PartWork], done: Mapping[Part, int]) -> tuple[PartWork, ...]:
    """Return what is left of the work after so many tasks of each part; a part that is done has no tasks."""
    return tuple(replace(part, tasks=max(0, part.tasks - done.get(part.part, 0))) for part in parts)
