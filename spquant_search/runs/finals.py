"""Fine-tuned trials of a run: the results of every seed, and the better weights of each trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spquant_search.runs.documents import read_document, write_document
from spquant_search.runs.folder import FinalFolder, RunFolder
from spquant_search.runs.records import read_results, read_test_accuracies
from spquant_search.runs.results import BASELINE, TrialResult

SEARCHED = "search"  # the recipe of a search's own last stage, which fine-tunes with several seeds


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """A member of the front as fine-tuned with one seed; ``test_accuracy`` None: not tested yet, or no network left."""

    result: TrialResult
    test_accuracy: float | None = None


def read_repeat(folder: RunFolder, recipe: str, number: int, repeat: int) -> Repeat | None:
    """Return a member as its ``repeat``-th seed made it, from 0; None where that is not trained yet."""
    file = folder.final_folder(recipe).repeat_file(number, repeat)
    return read_document(file, Repeat) if file.is_file() else None


def read_repeats(folder: RunFolder, recipe: str, number: int) -> dict[int, Repeat]:
    """Return all seeds of a member that were trained, from 0."""
    found: dict[int, Repeat] = {}
    while (repeat := read_repeat(folder, recipe, number, len(found))) is not None:
        found[len(found)] = repeat
    return found


def write_repeat(folder: RunFolder, recipe: str, number: int, repeat: Repeat) -> None:
    """Keep what the ``number``-th seed made of its member."""
    folder.final_folder(recipe).make()
    write_document(folder.final_folder(recipe).repeat_file(repeat.result.number, number), repeat)


def read_finals(folder: RunFolder, recipe: str) -> dict[int, TrialResult]:
    """Return the members that are finished by a recipe, by number, each as its better weights measure it."""
    found = [read_document(file, TrialResult) for file in folder.final_folder(recipe).result_files()]
    return {result.number: result for result in found}


def write_final(folder: RunFolder, recipe: str, result: TrialResult) -> None:
    folder.final_folder(recipe).make()
    write_document(folder.final_folder(recipe).result_file(result.number), result)


def read_searched_results(folder: RunFolder) -> tuple[TrialResult, ...]:
    """Return every finished trial, by number, as the search itself left it."""
    latest = read_judged(folder) | read_finals(folder, SEARCHED)
    return tuple(latest.get(result.number, result) for result in read_results(folder))


def read_judged(folder: RunFolder) -> dict[int, TrialResult]:
    """Return the subnets that were on the front, by number, as the whole validation split measures them."""
    found = [read_document(file, TrialResult) for file in _judged(folder).result_files()]
    return {result.number: result for result in found}


def write_judged(folder: RunFolder, result: TrialResult) -> None:
    _judged(folder).make()
    write_document(_judged(folder).result_file(result.number), result)


def _judged(folder: RunFolder) -> FinalFolder:
    return FinalFolder(path=folder.path / "judged")


def read_latest_results(folder: RunFolder) -> tuple[TrialResult, ...]:
    """Return every finished trial, by number, with the most accurate weights that there are of it."""
    best = {result.number: result for result in read_searched_results(folder)}
    for recipe in folder.final_recipes():
        for number, final in read_finals(folder, recipe).items():
            # A trial may have ended, and been fine-tuned, since the results were read.
            if number in best and _rank(final) > _rank(best[number]):
                best[number] = final
    return tuple(best[number] for number in sorted(best))


def read_latest_test_accuracies(folder: RunFolder, results: Sequence[TrialResult] | None = None) -> dict[int, float]:
    """Return the test accuracies of :func:`read_latest_results`, by trial, of those that were tested.

    ``results``: these, where they were read before; a command that works on the run may have made others since.
    """
    tested = read_test_accuracies(folder)
    for result in read_latest_results(folder) if results is None else results:
        if result.final is not None and result.final.test_accuracy is not None:
            tested[result.number] = result.final.test_accuracy
    return tested


def _rank(result: TrialResult) -> tuple[float, int]:
    """Return what orders results: the accuracy, then how long it was fine-tuned."""
    return result.accuracy, 0 if result.final is None else result.final.epochs


@dataclass(frozen=True, kw_only=True, slots=True)
class TestUse:
    """How often the test split was used, and for what: every time one trained network was measured on it."""

    __test__ = False  # not a test case, whatever pytest makes of the name
    baseline: int = 0
    members: int = 0  # that were on the front when they were tested
    seeds: int = 0  # of the fine-tuning with several seeds

    @property
    def total(self) -> int:
        return self.baseline + self.members + self.seeds


def count_tests(folder: RunFolder) -> TestUse:
    """Count the networks of a run that were measured on the test split."""
    numbers = read_test_accuracies(folder)
    finals = [folder.final_folder(recipe) for recipe in folder.final_recipes()]
    repeats = [read_document(file, Repeat) for final in finals for file in final.repeat_files()]
    baseline = int(BASELINE in numbers)
    return TestUse(
        baseline=baseline,
        members=len(numbers) - baseline,
        seeds=sum(repeat.test_accuracy is not None for repeat in repeats),
    )
