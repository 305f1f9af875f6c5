"""The documents in a run's folder, read and written: facts, space, trials, tests, sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from spquant_search.errors import UserError
from spquant_search.runs.absent import absent_run
from spquant_search.runs.documents import read_document, write_document
from spquant_search.runs.folder import LAYOUT, RunFolder, layers_file
from spquant_search.runs.locks import locked_for_a_while
from spquant_search.runs.results import TrialResult
from spquant_search.runs.sensitivity import Sensitivity
from spquant_search.runs.trainers import Trainers
from spquant_search.space.reading import read_space
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import LayerShape

SECONDS_TO_COUNT = 60.0  # at most, until another process has added its seconds to a run's


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """Facts of a run beside its trials, so that no command needs the data set again."""

    source: str  # the space file as it was named
    command: str  # the command line
    data: str  # what the data set says of itself
    classes: tuple[str, ...]  # their names, by label
    validation_samples: int
    test_samples: int
    # Why no trial can be written in integers, whatever its precision; None where nothing in the network prevents it.
    no_integer_form: str | None = None
    # What the dearest configuration of the space costs, by the costs that the float baseline does not have.
    dearest: dict[str, float] = field(default_factory=dict)
    trainers: tuple[Trainers, ...] = ()  # of its starts, each kind once
    seconds: float = 0.0  # wall clock over all starts
    layout: int = LAYOUT  # of the folder


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """The part of a run's facts that every version of the program can read."""

    layout: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _SharedStudy:
    study: str


def require_run(folder: RunFolder) -> None:
    """Check that this is a run's folder, of the layout that this program reads.

    Raises:
        UserError: it is not.
    """
    if not folder.exists():
        raise UserError(absent_run(folder))
    facts = folder.facts_file
    found = read_document(facts, _Layout).layout if facts.is_file() else None
    if found != LAYOUT:
        version = "no layout version" if found is None else f"the layout version {found}"
        raise UserError(
            f"{folder.path}: this run has {version}, where this program reads version {LAYOUT}; "
            "search again with --run NAME, or use the version of the program that made the run"
        )


def read_facts(folder: RunFolder) -> RunFacts:
    require_run(folder)
    return read_document(folder.facts_file, RunFacts)


def write_facts(folder: RunFolder, facts: RunFacts) -> None:
    write_document(folder.facts_file, facts)


def add_seconds(folder: RunFolder, seconds: float) -> None:
    """Add to a run's wall-clock time, as other coordinators may be doing at the same moment.

    Raises:
        LockHeld: another process has been doing so for a minute.
    """
    with locked_for_a_while(folder.path / ".run.json.lock", seconds=SECONDS_TO_COUNT):
        facts = read_facts(folder)
        write_facts(folder, replace(facts, seconds=facts.seconds + seconds))


def add_trainers(folder: RunFolder, trainers: Trainers) -> None:
    """Note the trainers of a start, as other coordinators may be doing at the same moment, unless such were there.

    Raises:
        LockHeld: another process has been doing so for a minute.
    """
    with locked_for_a_while(folder.path / ".run.json.lock", seconds=SECONDS_TO_COUNT):
        facts = read_facts(folder)
        if trainers not in facts.trainers:
            write_facts(folder, replace(facts, trainers=(*facts.trainers, trainers)))


def read_frozen_space(folder: RunFolder) -> SpaceFile:
    """Return the frozen space."""
    require_run(folder)
    return read_space(folder.space_file)


def read_environment(folder: RunFolder) -> dict[str, str]:
    return read_document(folder.environment_file, dict[str, str])


def read_layers(folder: RunFolder) -> tuple[LayerShape, ...]:
    """Return the shapes of the network's layers; empty in a run that was begun before they were kept."""
    file = layers_file(folder)
    return read_document(file, tuple[LayerShape, ...]) if file.is_file() else ()


def write_layers(folder: RunFolder, shapes: Sequence[LayerShape]) -> None:
    """Keep the shapes of the network's layers, so that no report needs the network itself."""
    write_document(layers_file(folder), tuple(shapes))


def read_profile(folder: RunFolder) -> dict[str, dict[str, float]]:
    """Return the seconds of the latest start, by process and by what they were spent on."""
    return read_document(folder.profile_file, dict[str, dict[str, float]])


def write_profile(folder: RunFolder, profile: Mapping[str, Mapping[str, float]]) -> None:
    rounded = {
        process: {work: round(value, 2) for work, value in seconds.items()} for process, seconds in profile.items()
    }
    write_document(folder.profile_file, rounded)


def read_shared_study(folder: RunFolder) -> str | None:
    """Return the name of the run's study in a database; None where the study lies in the folder."""
    require_run(folder)
    file = folder.shared_study_file
    return read_document(file, _SharedStudy).study if file.is_file() else None


def write_shared_study(folder: RunFolder, name: str) -> None:
    write_document(folder.shared_study_file, _SharedStudy(study=name))


def read_results(folder: RunFolder) -> tuple[TrialResult, ...]:
    """Return every finished trial, by number."""
    require_run(folder)
    found = [read_document(file, TrialResult) for file in folder.result_files()]
    return tuple(sorted(found, key=lambda result: result.number))


def read_result(folder: RunFolder, number: int) -> TrialResult | None:
    """Return a trial's result; None where it is not finished."""
    file = folder.result_file(number)
    return read_document(file, TrialResult) if file.is_file() else None


def write_result(folder: RunFolder, result: TrialResult) -> None:
    write_document(folder.result_file(result.number), result)


def read_test_accuracies(folder: RunFolder) -> dict[int, float]:
    """Return the test accuracy by trial number, of those members that were tested."""
    return read_document(folder.tests_file, dict[int, float]) if folder.tests_file.is_file() else {}


def write_test_accuracies(folder: RunFolder, accuracies: Mapping[int, float]) -> None:
    write_document(folder.tests_file, dict(sorted(accuracies.items())))


def read_sensitivity_progress(folder: RunFolder) -> dict[str, float]:
    """Return the accuracies that an analysis in work has measured so far, by the name of the configuration.

    Names are those of :func:`spquant_search.runs.sensitivity.lowered_configurations`.
    """
    file = folder.sensitivity_progress_file
    return read_document(file, dict[str, float]) if file.is_file() else {}


def write_sensitivity_progress(folder: RunFolder, accuracies: Mapping[str, float]) -> None:
    write_document(folder.sensitivity_progress_file, dict(sorted(accuracies.items())))


def read_sensitivity(folder: RunFolder) -> Sensitivity | None:
    """Return the sensitivity analysis; None where it is not complete."""
    require_run(folder)
    return read_document(folder.sensitivity_file, Sensitivity) if folder.sensitivity_file.is_file() else None


def write_sensitivity(folder: RunFolder, found: Sensitivity) -> None:
    """Keep the complete analysis in place of its progress."""
    write_document(folder.sensitivity_file, found.as_dict())
    folder.sensitivity_progress_file.unlink(missing_ok=True)
