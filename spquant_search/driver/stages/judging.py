"""The stage that measures the front's subnets on the whole validation split.

Subnets are judged by a part of it, as there are many; those on the front are compared with fine-tuned networks, which
all of it has measured, and of many subnets the luckiest are on the front.
"""

from __future__ import annotations

from spquant_search.driver.search import Search
from spquant_search.runs.finals import read_searched_results, write_judged
from spquant_search.runs.results import BASELINE, TrialResult
from spquant_search.runs.selection import Budget, front
from spquant_search.runs.work import Part
from spquant_search.training.tasks import JudgeTask
from spquant_search.workers.messages import Failed, Trained

STAGE = "measuring the front on the whole validation split"


def judge_front(search: Search) -> None:
    """Measure members of the front on the whole validation split, until all are.

    What is less accurate than it seemed leaves the front, and others take its place.
    """
    if not search.context.uses_supernet:
        return
    with search.decisions.exclusive_stage(STAGE) as is_to_do:
        failed: set[int] = set()
        while is_to_do and (members := _judged_by_a_part(search, failed)):
            failed |= _judge(search, members)


def _judged_by_a_part(search: Search, failed: set[int]) -> list[TrialResult]:
    file = search.context.file
    members = front(read_searched_results(search.context.folder), file.search.costs, Budget.of(file.constraints))
    return [
        member
        for member in members
        if member.number != BASELINE and member.epochs[-1].samples is not None and member.number not in failed
    ]


def _judge(search: Search, members: list[TrialResult]) -> set[int]:
    """Measure members, and return the numbers of those that could not be."""
    context = search.context
    tasks = [JudgeTask(result=member, weights=context.folder.weights_of(member)) for member in members]
    failed = set[int]()
    for done, (task, message) in enumerate(context.pool.work_off(tasks), 1):
        if isinstance(message, Trained):
            write_judged(context.folder, message.result)
        elif isinstance(message, Failed):
            failed.add(task.result.number)
            context.watcher.warning(f"a member of the front could not be measured: {message.reason}")
        context.watcher.stage(STAGE, done, len(tasks), part=Part.JUDGED)
    return failed
