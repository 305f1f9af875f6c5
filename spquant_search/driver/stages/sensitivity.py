"""The stage that measures what every lower precision costs, and plans the budget ladder with it.

The subnets that are evaluated here are no trials: a trial's number, and with it the proposal of the sampler, does not
depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping

from spquant_search.driver.search import Search
from spquant_search.driver.search_context import SearchContext
from spquant_search.runs.budget_ladder import plan_budget_ladder
from spquant_search.runs.records import (
    read_facts,
    read_sensitivity,
    read_sensitivity_progress,
    write_sensitivity,
    write_sensitivity_progress,
)
from spquant_search.runs.sensitivity import Sensitivity, by_layer, lowered_configurations, sensitivity
from spquant_search.runs.work import Part
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.tasks import AccuraciesTask
from spquant_search.workers.messages import Accuracies, Failed, Message
from spquant_search.workers.trainer import Trainer

STAGE = "evaluating one lower precision after the other"


def plan_ladder(search: Search) -> None:
    """Plan the configurations that follow the references, where the limits leave room for sampled ones."""
    context, points = search.context, search.context.file.search.ladder_points
    if points == 0 or context.limits.trials <= len(context.prepared.space.references):
        return
    found = measure_sensitivity(search)
    if found is not None:
        context.study.budget_ladder = tuple(point.config for point in plan_budget_ladder(found, points))
    elif not context.limits.late():
        context.watcher.warning("the search goes on without its budget ladder, as not every choice could be evaluated")


def measure_sensitivity(search: Search) -> Sensitivity | None:
    """Return the run's sensitivity analysis, after evaluating what it lacks; None where something is still missing."""
    folder = search.context.folder
    with search.decisions.exclusive_stage(STAGE, is_done=folder.sensitivity_file.is_file) as is_to_do:
        return _Measurement(search.context).run() if is_to_do else read_sensitivity(folder)


class _Measurement:
    """The subnets that are still to be evaluated, a layer at a time, and the accuracies so far by name of subnet."""

    def __init__(self, context: SearchContext) -> None:
        self._context, self._pool = context, context.pool
        self._configs: Mapping[str, NetworkConfig] = lowered_configurations(context.prepared.space)
        self._known: dict[str, float] = read_sensitivity_progress(context.folder)
        self._missing = by_layer(name for name in self._configs if name not in self._known)
        self._given: dict[Trainer, tuple[str, ...]] = {}

    def run(self) -> Sensitivity | None:
        while True:
            for trainer in self._pool.idle():
                if self._missing and not self._context.limits.late():
                    self._give(trainer)
            if not self._pool.busy():
                break
            self._context.watcher.stage(f"{STAGE}, done:", len(self._known), len(self._configs), part=Part.LADDER)
            for trainer, message in self._pool.messages():
                self._take(trainer, message, self._given[trainer])
        return self._analysis() if len(self._known) == len(self._configs) else None

    def _give(self, trainer: Trainer) -> None:
        names = self._given[trainer] = self._missing.pop(0)
        configs = tuple(self._configs[name] for name in names)
        trainer.give(AccuraciesTask(configs=configs, supernet_weights=self._context.folder.supernet_file))

    def _take(self, trainer: Trainer, message: Message, names: tuple[str, ...]) -> None:
        if isinstance(message, Accuracies):
            self._pool.mark_done(trainer, message.seconds)
            self._known |= dict(zip(names, message.accuracies, strict=True))
            write_sensitivity_progress(self._context.folder, self._known)
        elif isinstance(message, Failed):
            more = f" and {len(names) - 1} more of its layer" if len(names) > 1 else ""
            self._context.watcher.warning(f"{names[0]}{more} could not be evaluated: {message.reason}")
            self._pool.mark_failed(trainer, message)

    def _analysis(self) -> Sensitivity:
        context, prepared = self._context, self._context.prepared
        available, wanted = read_facts(context.folder).validation_samples, context.file.supernet.validation_samples
        samples = available if wanted is None else min(available, wanted)
        found = sensitivity(prepared.space, prepared.shapes, self._known, samples=samples)
        write_sensitivity(context.folder, found)
        return found
