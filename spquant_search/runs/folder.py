"""A run's folder: the one place that knows what lies where in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from spquant_search.errors import UserError
from spquant_search.runs.results import Outcome, TrialResult

LAYOUT = 2  # of the files in a run's folder; another number for every change that an earlier program cannot read


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalFolder:
    """The files of one recipe of fine-tuning: one for each member of the front, and one for each of its seeds."""

    path: Path

    def result_file(self, number: int) -> Path:
        """Return the file of a member as its better weights measure it."""
        return self.path / f"{number:04d}.json"

    def result_files(self) -> tuple[Path, ...]:
        """Return the files of all members that are finished."""
        return tuple(sorted(file for file in self.path.glob("*.json") if file.stem.isdigit()))

    def repeat_file(self, number: int, repeat: int) -> Path:
        """Return the file of a member as fine-tuned with its ``repeat``-th seed, from 0."""
        return self.path / f"{number:04d}-{repeat}.json"

    def repeat_files(self) -> tuple[Path, ...]:
        """Return the files of all seeds that were trained."""
        return tuple(sorted(file for file in self.path.glob("*-*.json") if not file.name.startswith(".")))

    def repeat_weights(self, number: int, repeat: int) -> Path:
        """Return the weights that the ``repeat``-th seed made of a member."""
        return self.repeat_file(number, repeat).with_suffix(".safetensors")

    def make(self) -> None:
        """Make the folder in a run that is there."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """``runs/NAME``: the truth about one search."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def space_file(self) -> Path:
        """The frozen space."""
        return self.path / "space.yaml"

    @property
    def study_file(self) -> Path:
        return self.path / "study.journal"

    @property
    def shared_study_file(self) -> Path:
        """The name of the study in a database, of a run that several coordinators work on."""
        return self.path / "study.json"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def facts_file(self) -> Path:
        return self.path / "run.json"

    @property
    def profile_file(self) -> Path:
        return self.path / "profile.json"

    @property
    def tests_file(self) -> Path:
        """Test accuracies by trial."""
        return self.path / "tests.json"

    @property
    def sensitivity_file(self) -> Path:
        return self.path / "sensitivity.json"

    @property
    def sensitivity_progress_file(self) -> Path:
        """Accuracies that an unfinished sensitivity analysis has measured."""
        return self.path / "sensitivity.progress.json"

    @property
    def supernet_file(self) -> Path:
        """The weights of the network that configurations are evaluated as subnets of."""
        return self.path / "supernet.safetensors"

    def result_file(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}.json"

    def result_files(self) -> tuple[Path, ...]:
        """Return the results of all finished trials, in no order."""
        return tuple((self.path / "trials").glob("*.json"))

    def weights_file(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}.safetensors"

    def checkpoint_file(self, number: int) -> Path:
        """Return where a trial in work stands after its latest epoch."""
        return checkpoint_of(self.weights_file(number))

    def error_file(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}.error.txt"

    def weights_of(self, result: TrialResult) -> tuple[Path, ...]:
        """Return the files that hold a trial's network; a later file replaces what an earlier one holds."""
        if result.final is not None and result.final.weights is not None:
            return (self.path / result.final.weights,)
        weights = self.weights_file(result.number)
        return (self.supernet_file, weights) if result.outcome is Outcome.SUBNET else (weights,)

    def final_folder(self, recipe: str) -> FinalFolder:
        """Return the folder of a recipe of fine-tuning: the search's last stage, or so many epochs."""
        return FinalFolder(path=self.path / "final" / recipe)

    def final_recipes(self) -> tuple[str, ...]:
        return tuple(sorted(path.name for path in (self.path / "final").glob("*")))

    def exists(self) -> bool:
        return self.space_file.is_file()


def checkpoint_of(weights_file: Path) -> Path:
    """Return where a task that is to write these weights stands after its latest epoch."""
    return weights_file.with_suffix(".checkpoint")


def given_weights_file(folder: RunFolder) -> Path:
    """Return the file of the weights that a search was given to begin from."""
    return folder.path / "given.safetensors"


def network_file(folder: RunFolder) -> Path:
    """Return the file of the structure of a network that is data, which a search was given."""
    return folder.path / "network.json"


def layers_file(folder: RunFolder) -> Path:
    """Return the file of the shapes of a network's layers."""
    return folder.path / "layers.json"


def weights_draft(folder: RunFolder, number: int, coordinator: str) -> Path:
    """Return where a coordinator's trainer writes a trial's weights while another may have taken the trial over."""
    return folder.path / "trials" / f".{number:04d}.{coordinator}.draft"


def weights_drafts(folder: RunFolder, number: int | None = None) -> tuple[tuple[int, Path], ...]:
    """Return what coordinators have left under names of their own, of one trial or of all: number and weights."""
    wanted = "*" if number is None else f"{number:04d}"
    found = (folder.path / "trials").glob(f".{wanted}.*.draft")
    return tuple((int(path.name.split(".")[1]), path) for path in found)


def find_run(run: str) -> RunFolder:
    """Return the folder that RUN on the command line means: a path where it has a separator or exists, else a name."""
    path = Path(run)
    try:
        named = RunFolder(path=path if os.sep in run or (path / "space.yaml").is_file() else Path("runs") / run)
        named.exists()
    except OSError as error:
        raise UserError(f"{run[:60]}: can be the name of no run: {error.strerror}") from None
    return named
