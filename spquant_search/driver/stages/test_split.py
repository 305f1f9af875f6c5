"""The stage that measures the baseline and the front on the test split."""

from __future__ import annotations

from spquant_search.driver.search import Search
from spquant_search.runs.finals import read_latest_results, read_latest_test_accuracies
from spquant_search.runs.records import read_test_accuracies, write_test_accuracies
from spquant_search.runs.results import BASELINE, TrialResult
from spquant_search.runs.selection import Budget, front
from spquant_search.runs.work import Part
from spquant_search.training.tasks import TestTask
from spquant_search.workers.messages import Failed, Tested

STAGE = "testing the front on the test split"


def evaluate_on_test_split(search: Search) -> None:
    """Measure the test accuracy of the baseline and of the front's members, each once."""
    with search.decisions.exclusive_stage(STAGE) as is_to_do:
        if is_to_do:
            _evaluate(search)


def _evaluate(search: Search) -> None:
    context = search.context
    known = read_test_accuracies(context.folder)
    tasks = [
        TestTask(number=member.number, config=member.config, weights=context.folder.weights_of(member))
        for member in _untested(search, known)
    ]
    for done, (_task, message) in enumerate(context.pool.work_off(tasks), 1):
        if isinstance(message, Tested):
            known[message.number] = message.accuracy
            write_test_accuracies(context.folder, known)
        elif isinstance(message, Failed):
            context.watcher.warning(f"a member of the front could not be tested: {message.reason}")
        context.watcher.stage(STAGE, done, len(tasks), part=Part.TESTS)


def _untested(search: Search, known: dict[int, float]) -> list[TrialResult]:
    folder = search.context.folder
    file = search.context.file
    members = front(read_latest_results(folder), file.search.costs, Budget.of(file.constraints))
    # Finalists were tested with every seed.
    tested = known.keys() | read_latest_test_accuracies(folder).keys()
    wanted = {member.number: member for member in [search.book[BASELINE], *members] if member.number not in tested}
    return list(wanted.values())
