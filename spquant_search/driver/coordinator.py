"""The search: one coordinator asks, decides and tells; trainers train.

The coordinator owns the study and every decision; a trainer only ever sees one task. Everything that a decision is
based on lies in the run's folder before the next decision is made. A search can therefore be killed at any moment, and
the same command continues it: trials that were being tried begin again under their own number, and trials that have
ended are never repeated.
"""

from __future__ import annotations

from functools import partial

from spquant_search.driver.limits import Limits
from spquant_search.driver.search import opened_search
from spquant_search.driver.stages.baseline import train_baseline
from spquant_search.driver.stages.candidates import try_candidates
from spquant_search.driver.stages.fine_tuning import fine_tune_front
from spquant_search.driver.stages.judging import judge_front
from spquant_search.driver.stages.sensitivity import measure_sensitivity, plan_ladder
from spquant_search.driver.stages.supernet import train_supernet
from spquant_search.driver.stages.test_split import evaluate_on_test_split
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.storage.protocol import Storage
from spquant_search.errors import UserError
from spquant_search.runs.events import Watcher
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.results import TrialResult
from spquant_search.runs.sensitivity import Sensitivity
from spquant_search.training.prepared import Prepared
from spquant_search.workers.messages import TrainerConfig
from spquant_search.workers.pool import TrainerPool
from spquant_search.workers.trainer import TrainerSource


def run_search(
    prepared: Prepared,
    folder: RunFolder,
    *,
    trainer_config: TrainerConfig,
    limits: Limits,
    watcher: Watcher,
    storage: Storage | None = None,
    trainer_source: TrainerSource | None = None,
) -> tuple[TrialResult, ...]:
    """Search until the limits are reached, test the front's members, and return all results by number.

    Args:
        storage: where the study lies; by default in the run's folder.
        trainer_source: where the trainers come from; by default they are processes.
    """
    storage = storage or Journal(folder.study_file, alone=True)
    hired = partial(TrainerPool, trainer_config, warn=watcher.warning, source=trainer_source)
    with opened_search(prepared, folder, storage=storage, hired=hired, limits=limits, watcher=watcher) as search:
        train_baseline(search)
        if search.context.uses_supernet:
            train_supernet(search)
            plan_ladder(search)
        try_candidates(search)
        fine_tune_front(search)
        judge_front(search)
        evaluate_on_test_split(search)
    return search.book.results


def run_sensitivity(
    prepared: Prepared,
    folder: RunFolder,
    *,
    trainer_config: TrainerConfig,
    watcher: Watcher,
    trainer_source: TrainerSource | None = None,
) -> Sensitivity:
    """Measure what every lower choice costs; train the baseline and the supernet first where the run lacks them.

    Raises:
        UserError: something could not be trained or evaluated.
    """
    storage, limits = Journal(folder.study_file, alone=True), Limits(trials=0)
    hired = partial(TrainerPool, trainer_config, warn=watcher.warning, source=trainer_source)
    with opened_search(prepared, folder, storage=storage, hired=hired, limits=limits, watcher=watcher) as search:
        train_baseline(search)
        train_supernet(search)
        found = measure_sensitivity(search)
    if found is None:
        raise UserError(
            f"{folder.path}: not every choice could be evaluated, for the reasons above; fix them and start the same "
            "command again, which goes on with what is missing"
        )
    return found
