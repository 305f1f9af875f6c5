"""The stage that trains the supernet, of which every configuration is a subnet."""

from __future__ import annotations

from spquant_search.driver.search import Search
from spquant_search.driver.search_context import SearchContext
from spquant_search.driver.seeds import supernet_seed
from spquant_search.errors import UserError
from spquant_search.runs.results import BASELINE
from spquant_search.runs.work import Part
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import SupernetTask
from spquant_search.workers.messages import Failed, SupernetProgress, SupernetTrained


def train_supernet(search: Search) -> None:
    """Train the supernet, unless the run has it already or another coordinator trains it.

    Raises:
        UserError: the supernet cannot be trained.
    """
    is_done = search.context.folder.supernet_file.is_file
    with search.decisions.exclusive_stage("training the supernet", is_done=is_done) as is_to_do:
        if is_to_do:
            _train(search.context)


def _train(context: SearchContext) -> None:
    pool, epochs = context.pool, context.file.supernet_epochs
    pool.idle()[0].give(_task(context))
    done = 0
    while pool.busy():
        context.watcher.stage("training the supernet, epochs done:", done, epochs, part=Part.SUPERNET)
        for trainer, message in pool.messages():
            if isinstance(message, SupernetProgress):
                done = message.epoch
            elif isinstance(message, SupernetTrained):
                pool.mark_done(trainer, message.seconds)
            elif isinstance(message, Failed):
                raise UserError(
                    f"{context.folder.path}: the supernet could not be trained: {message.reason}. Fix the "
                    "cause (a smaller supernet.learning_rate where the loss diverged, or search.strategy "
                    "warm-start, which does without it), and start a run of its own with --run NAME."
                )


def _task(context: SearchContext) -> SupernetTask:
    recipe = context.file.supernet
    return SupernetTask(
        schedule=Schedule(epochs=context.file.supernet_epochs, learning_rate=recipe.learning_rate),
        seed=supernet_seed(context.file.search.seed),
        initial_weights=context.folder.weights_file(BASELINE),
        weights_file=context.folder.supernet_file,
        threads=context.all_threads,
    )
