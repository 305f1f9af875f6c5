"""A run's folder: the one place that knows what lies where in it, and writes every file whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from spquant_search.errors import UserError
from spquant_search.runs.environment import describe_environment
from spquant_search.runs.files import write_text
from spquant_search.runs.results import Outcome, TrialResult
from spquant_search.runs.sensitivity import Sensitivity
from spquant_search.space.reading import frozen_space, parse_space
from spquant_search.space.schema import SpaceFile

# What may differ between two starts of one run: how much is done and by how many, never what is searched.
MAY_CHANGE = (("search", "trials"), ("search", "workers"), ("search", "minutes_per_trial"))
SEARCHED = "search"  # what a search's own last stage fine-tuned with several seeds
SECONDS_TO_WRITE = 24 * 60 * 60  # at most, of a file that another machine may be writing, clocks that differ included


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What a report says of a run beside its trials, so that no command needs the data set again."""

    source: str  # the space file as it was named
    command: str  # the command line
    data: str  # what the data set says of itself
    classes: int
    validation_samples: int
    test_samples: int
    seconds: float = 0.0  # wall clock over all starts


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """A member of the front as fine-tuned with one seed; ``test_accuracy`` None: not tested yet, or no network left."""

    result: TrialResult
    test_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """``runs/NAME``: the truth about one search."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def space_file(self) -> Path:
        return self.path / "space.yaml"

    @property
    def study_file(self) -> Path:
        return self.path / "study.journal"

    @property
    def shared_study_file(self) -> Path:
        """What a study in a database is called; of runs that several coordinators work on."""
        return self.path / "study.json"

    def shared_study(self) -> str | None:
        """The name of the run's study in a database; None where the study lies in the folder."""
        if not self.shared_study_file.is_file():
            return None
        name: str = json.loads(self.shared_study_file.read_text(encoding="utf-8"))["study"]
        return name

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    def result_file(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}.json"

    def weights_file(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}.safetensors"

    def checkpoint_file(self, number: int) -> Path:
        """Where a trial in work stands after its latest epoch."""
        return checkpoint_of(self.weights_file(number))

    @property
    def supernet_file(self) -> Path:
        """The weights of the network that configurations are evaluated as subnets of."""
        return self.path / "supernet.safetensors"

    def weights_of(self, result: TrialResult) -> tuple[Path, ...]:
        """The files that hold a trial's network; what is in the last of them replaces what is in those before it."""
        if result.final is not None and result.final.weights is not None:
            return (self.path / result.final.weights,)
        own = self.weights_file(result.number)
        return (self.supernet_file, own) if result.outcome is Outcome.SUBNET else (own,)

    def error_file(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}.error.txt"

    @property
    def tests_file(self) -> Path:
        return self.path / "tests.json"

    @property
    def facts_file(self) -> Path:
        return self.path / "run.json"

    def facts(self) -> RunFacts:
        return RunFacts(**json.loads(self.facts_file.read_text(encoding="utf-8")))

    def write_facts(self, facts: RunFacts) -> None:
        write_text(self.facts_file, json.dumps(asdict(facts), indent=1) + "\n")

    @property
    def profile_file(self) -> Path:
        return self.path / "profile.json"

    def profile(self) -> dict[str, dict[str, float]]:
        """By process, where the seconds of the latest start went."""
        stored: dict[str, dict[str, float]] = json.loads(self.profile_file.read_text(encoding="utf-8"))
        return stored

    def write_profile(self, profile: Mapping[str, Mapping[str, float]]) -> None:
        rounded = {
            process: {what: round(value, 2) for what, value in seconds.items()} for process, seconds in profile.items()
        }
        write_text(self.profile_file, json.dumps(rounded, indent=1) + "\n")

    def exists(self) -> bool:
        return self.space_file.is_file()

    def space(self) -> SpaceFile:
        """The frozen space."""
        self.require()
        return parse_space(self.space_file.read_text(encoding="utf-8"), source=str(self.space_file))

    def environment(self) -> dict[str, str]:
        values: dict[str, str] = json.loads(self.environment_file.read_text(encoding="utf-8"))
        return values

    def results(self) -> tuple[TrialResult, ...]:
        """Every finished trial, by number."""
        self.require()
        files = (self.path / "trials").glob("*.json")
        found = [TrialResult.from_dict(json.loads(file.read_text(encoding="utf-8"))) for file in files]
        return tuple(sorted(found, key=lambda result: result.number))

    def result(self, number: int) -> TrialResult | None:
        file = self.result_file(number)
        return TrialResult.from_dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def write_result(self, result: TrialResult) -> None:
        write_text(self.result_file(result.number), json.dumps(result.as_dict(), indent=1) + "\n")

    # What was fine-tuned with several seeds lies below final/RECIPE, a recipe being the search's own or so many epochs:
    # a file for every seed of every member, and one for what came out for the member.

    def repeat_file(self, recipe: str, number: int, repeat: int) -> Path:
        return self.path / "final" / recipe / f"{number:04d}-{repeat}.json"

    def repeat_weights(self, recipe: str, number: int, repeat: int) -> Path:
        return self.repeat_file(recipe, number, repeat).with_suffix(".safetensors")

    def repeat(self, recipe: str, number: int, repeat: int) -> Repeat | None:
        file = self.repeat_file(recipe, number, repeat)
        if not file.is_file():
            return None
        values = json.loads(file.read_text(encoding="utf-8"))
        return Repeat(result=TrialResult.from_dict(values["result"]), test_accuracy=values["test_accuracy"])

    def repeats(self, recipe: str, number: int) -> dict[int, Repeat]:
        """All seeds of a member that were trained, from 0."""
        found: dict[int, Repeat] = {}
        while (repeat := self.repeat(recipe, number, len(found))) is not None:
            found[len(found)] = repeat
        return found

    def write_repeat(self, recipe: str, number: int, repeat: Repeat) -> None:
        """Keep what the ``number``-th seed made of its member."""
        values = {"result": repeat.result.as_dict(), "test_accuracy": repeat.test_accuracy}
        write_text(self.repeat_file(recipe, repeat.result.number, number), json.dumps(values, indent=1) + "\n")

    def finals(self, recipe: str) -> dict[int, TrialResult]:
        """The members that are finished by a recipe, by number, each as its better weights measure it."""
        files = sorted((self.path / "final" / recipe).glob("*.json"))
        own = [file for file in files if file.stem.isdigit()]  # the others are of their seeds
        found = [TrialResult.from_dict(json.loads(file.read_text(encoding="utf-8"))) for file in own]
        return {result.number: result for result in found}

    def write_final(self, recipe: str, result: TrialResult) -> None:
        file = self.path / "final" / recipe / f"{result.number:04d}.json"
        write_text(file, json.dumps(result.as_dict(), indent=1) + "\n")

    def searched_results(self) -> tuple[TrialResult, ...]:
        """Every finished trial, by number, as the search itself left it."""
        own = self.finals(SEARCHED)
        return tuple(own.get(result.number, result) for result in self.results())

    def latest_results(self) -> tuple[TrialResult, ...]:
        """Every finished trial, by number, with the most accurate weights that there are of it."""
        best = {result.number: result for result in self.searched_results()}
        recipes = sorted(path.name for path in (self.path / "final").glob("*") if path.name != SEARCHED)
        for recipe in recipes:
            for number, final in self.finals(recipe).items():
                if _rank(final) > _rank(best[number]):
                    best[number] = final
        return tuple(best[number] for number in sorted(best))

    def latest_test_accuracies(self) -> dict[int, float]:
        """As :meth:`test_accuracies`, of the weights of :meth:`latest_results`."""
        tested = self.test_accuracies()
        for result in self.latest_results():
            if result.final is not None and result.final.test_accuracy is not None:
                tested[result.number] = result.final.test_accuracy
        return tested

    def test_accuracies(self) -> dict[int, float]:
        """Test accuracy by trial number, of those members that were tested."""
        if not self.tests_file.is_file():
            return {}
        stored = json.loads(self.tests_file.read_text(encoding="utf-8"))
        return {int(number): float(accuracy) for number, accuracy in stored.items()}

    def write_test_accuracies(self, accuracies: Mapping[int, float]) -> None:
        ordered = {str(number): accuracies[number] for number in sorted(accuracies)}
        write_text(self.tests_file, json.dumps(ordered, indent=1) + "\n")

    @property
    def readings_file(self) -> Path:
        """What a sensitivity analysis in work has measured so far."""
        return self.path / "sensitivity.readings.json"

    def readings(self) -> dict[str, float]:
        """Accuracy by what was evaluated as a subnet
        (:func:`spquant_search.runs.sensitivity.lower_choices_configurations`), as far as it was."""
        if not self.readings_file.is_file():
            return {}
        stored: dict[str, float] = json.loads(self.readings_file.read_text(encoding="utf-8"))
        return stored

    def write_readings(self, readings: Mapping[str, float]) -> None:
        write_text(self.readings_file, json.dumps(dict(sorted(readings.items())), indent=1) + "\n")

    @property
    def sensitivity_file(self) -> Path:
        return self.path / "sensitivity.json"

    def sensitivity(self) -> Sensitivity | None:
        """The sensitivity analysis; None where it is not complete."""
        if not self.sensitivity_file.is_file():
            return None
        return Sensitivity.from_dict(json.loads(self.sensitivity_file.read_text(encoding="utf-8")))

    def write_sensitivity(self, found: Sensitivity) -> None:
        """Keep the whole analysis in place of its readings."""
        write_text(self.sensitivity_file, json.dumps(found.as_dict(), indent=1) + "\n")
        self.readings_file.unlink(missing_ok=True)

    def require(self) -> None:
        """Raise UserError where this is no run's folder."""
        if not self.exists():
            raise UserError(
                f"{self.path}: is no run (it holds no space.yaml). "
                "Give the name of a folder below runs/, or the path of one."
            )


def checkpoint_of(weights_file: Path) -> Path:
    """Where a task that is to write these weights stands after its latest epoch."""
    return weights_file.with_suffix(".checkpoint")


def _rank(result: TrialResult) -> tuple[float, int]:
    """What is more accurate; of equals what was fine-tuned for longer."""
    return result.accuracy, 0 if result.final is None else result.final.epochs


def find_run(run: str) -> RunFolder:
    """The folder that RUN on the command line means: a path where it has a separator or exists, a name otherwise."""
    path = Path(run)
    if os.sep in run or (path / "space.yaml").is_file():
        return RunFolder(path=path)
    return RunFolder(path=Path("runs") / run)


def open_run(folder: RunFolder, file: SpaceFile, facts: RunFacts, *, shared: bool = False) -> None:
    """Make the folder, or take note of what may change in the run that it holds; ``supernet``: as :func:`check_run`.

    Raises:
        UserError: as :func:`check_run`, or another search is working on this run.
    """
    check_run(folder, file, shared=shared)
    if not folder.exists():
        try:
            _make(folder, file, facts, shared=shared)
            return
        except OSError as error:
            if not (shared and folder.exists()):  # another coordinator was quicker
                raise UserError(_cannot_make(folder, error.strerror)) from error
            check_run(folder, file, shared=shared)
    with exclusive(folder, shared=shared):
        # What is half-written was left by a process that was killed; where others may be writing, what is old.
        for left in folder.path.rglob(".*.tmp"):
            with suppress(FileNotFoundError):  # another coordinator was quicker
                if not shared or time.time() - left.stat().st_mtime > SECONDS_TO_WRITE:
                    left.unlink()
        write_text(folder.space_file, frozen_space(file))  # more trials or workers than before, perhaps


def check_run(folder: RunFolder, file: SpaceFile, *, shared: bool = False) -> None:
    """Whether this run can be made or gone on with; writes nothing, so that it can be asked before long work.

    ``supernet``: its study is to lie in a database, where several coordinators find it.

    Raises:
        UserError: the folder cannot be written, holds something else, or holds a run of another space or with its study
            in another place.
    """
    if folder.exists():
        require_same_space(folder, file)
        if shared and folder.shared_study() is None:
            raise UserError(
                f"{folder.path}: the study of this run lies in its folder, where one search at a time works on it; "
                "omit --storage, or start a run of its own with --run NAME"
            )
        if not shared and folder.shared_study() is not None:
            raise UserError(
                f"{folder.path}: the study of this run lies in a database; give its --storage again, or start a run of "
                "its own with --run NAME"
            )
        if not os.access(folder.path, os.W_OK):
            raise UserError(f"{folder.path}: this run's folder cannot be written; change its permissions or use --run")
        return
    if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise UserError(f"{folder.path}: exists and is no run (it holds no space.yaml); choose another name with --run")
    parents = folder.path.absolute().parents
    nearest = next(parent for parent in parents if os.path.lexists(parent))
    if not nearest.is_dir():
        raise UserError(_cannot_make(folder, f"{nearest} is no folder"))
    if not os.access(nearest, os.W_OK):
        raise UserError(_cannot_make(folder, f"{nearest} cannot be written"))


def _cannot_make(folder: RunFolder, reason: str | None) -> str:
    return f"{folder.path}: cannot make this run's folder: {reason}; choose another with --run"


def _make(folder: RunFolder, file: SpaceFile, facts: RunFacts, *, shared: bool) -> None:
    """Everything a run starts with appears at once, by renaming a folder that is already complete."""
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.path.parent) as temporary:
        complete = RunFolder(path=Path(temporary) / folder.name)
        (complete.path / "trials").mkdir(parents=True)
        write_text(complete.environment_file, json.dumps(describe_environment(), indent=1) + "\n")
        complete.write_facts(facts)
        if shared:
            # The name alone may be that of another run in the same database.
            study = {"study": f"{folder.name}-{uuid4().hex[:12]}"}
            write_text(complete.shared_study_file, json.dumps(study) + "\n")
        write_text(complete.space_file, frozen_space(file))
        os.rename(complete.path, folder.path)


def require_same_space(folder: RunFolder, file: SpaceFile) -> None:
    """Whether a run is of this space, trials and workers aside.

    Raises:
        UserError: it is not; says what differs.
    """
    differences = _differences(yaml.safe_load(frozen_space(folder.space())), yaml.safe_load(frozen_space(file)))
    if differences:
        listed = "\n".join(f"  {path}: {old!r} in the run, {new!r} now" for path, old, new in differences)
        raise UserError(
            f"{folder.path}: this run searches another space than the one given:\n{listed}\n"
            f"Undo the change, or start a run of its own with --run NAME."
        )


def _differences(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    if path in MAY_CHANGE or old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(old) + [key for key in new if key not in old]
        return [found for key in keys for found in _differences(old.get(key), new.get(key), (*path, str(key)))]
    return [(".".join(path), old, new)]


@contextmanager
def exclusive(folder: RunFolder, *, shared: bool = False) -> Iterator[None]:
    """Only one search works on a run at a time; the lock goes with its process, however that ends.

    ``supernet``: others that say so may work on it, too.

    Raises:
        UserError: another search holds it.
    """
    with (folder.path / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"{folder.path}: another search is working on this run (process {holder}); "
                "wait for it, stop it, or start another run with --run NAME"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
