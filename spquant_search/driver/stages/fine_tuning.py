"""The stage that fine-tunes the front of a supernet's subnets, each at its own configuration."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from spquant_search.driver.finalists import Finalist, FineTuner, search_recipe
from spquant_search.driver.search import Search
from spquant_search.profile import PROCESS
from spquant_search.runs.pareto import reference_point
from spquant_search.runs.results import BASELINE, Origin, Outcome, TrialResult
from spquant_search.runs.selection import Budget, select_finalists, worthwhile_share
from spquant_search.runs.work import Part


def fine_tune_front(search: Search) -> None:
    """Fine-tune the subnets that are on the front or may reach it: first as trials, then with further seeds."""
    context = search.context
    if not context.uses_supernet or context.limits.late():
        return
    subnets = _selected_subnets(search)
    with PROCESS.on("bookkeeping"):
        context.storage.decide(lambda: context.study.enqueue_finalists(subnets))
    search.runner.run_all(search.decisions.next_queued)
    with search.decisions.exclusive_stage("fine-tuning the front with further seeds") as is_to_do:
        if is_to_do:
            _repeat_with_further_seeds(search)


def _selected_subnets(search: Search) -> tuple[TrialResult, ...]:
    context, baseline = search.context, search.book[BASELINE]
    subnets = [result for result in search.book.results if result.outcome is Outcome.SUBNET and result.is_measured]
    return tuple(
        select_finalists(
            subnets,
            reference_point(
                baseline,
                context.file.search.costs,
                chance=1.0 / context.prepared.input.classes,
                dearest=context.prepared.dearest(),
            ),
            # Fine-tuning may lift a subnet above the least accuracy, but never below its memory.
            replace(Budget.of(context.file.constraints), min_accuracy=None),
            baseline_accuracy=baseline.accuracy,
            limit=context.file.final.members,
            margin=context.file.search.stopping.margin,
            share=worthwhile_share(context.file),
        )
    )


def _repeat_with_further_seeds(search: Search) -> None:
    """Fine-tune the finalists with the other seeds; the trial that fine-tuned a finalist is its first seed."""
    context, book = search.context, search.book
    recipe = search_recipe(context.file)
    tuned = [
        (result, book[result.parent])
        for result in book.results
        if result.origin is Origin.FINE_TUNED and result.outcome is Outcome.COMPLETE and result.parent is not None
    ]
    if recipe.seeds == 1 or not tuned:
        return
    finalists = [
        Finalist(member=member, weights=context.folder.weights_of(parent), before=parent.epochs, is_first=True)
        for member, parent in tuned
    ]
    FineTuner(
        finalists,
        recipe,
        prepared=context.prepared,
        folder=context.folder,
        pool=context.pool,
        stage=partial(context.watcher.stage, part=Part.SEEDS),
        warn=context.watcher.warning,
    ).run(context.limits.late)
