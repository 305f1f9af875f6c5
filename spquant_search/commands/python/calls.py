"""The functions of the Python interface: search, open_run, load_space."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spquant_search.commands.python.arguments import (
    Budget,
    budget_bounds,
    objective_names,
    override,
    told_in_python,
)
from spquant_search.commands.python.networks import builder_path, class_path, is_builder_path, refuse_other_libraries
from spquant_search.commands.python.run import Run
from spquant_search.commands.python.weights import is_network, weights_named, with_weights
from spquant_search.errors import UserError, nearest
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import require_run
from spquant_search.space.reading import frozen_space, parse_space, read_space
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shipped import shipped_spaces
from spquant_search.space.user_functions import imported_now

if TYPE_CHECKING:
    from rich.console import Console

Searched = str | Path | SpaceFile | Callable[..., Any]
Choices = int | Sequence[int]

RUNS = Path("runs")
IMAGE_STEPS = 4  # time steps of still images where nothing says how many
_UNKNOWN = "0" * 16  # stands for the key of samples that are not read yet
# What a network is searched for where nothing is said.
_BITS, _LEVELS = (2, 4, 8), (3, 16, 256)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """What is searched, as the text of a space file."""

    text: str
    said: str  # how it was named
    name: str  # of the run, where no folder is given
    weights: Any = None  # that the search begins from: a file, a network or its state_dict


def load_space(path: str | Path, *, settings: Mapping[str, object] | None = None) -> SpaceFile:
    """Read a space file, or one that comes with the package, by its name; check it as far as that goes without data.

    Args:
        settings: values to put over it by their keys, such as {"train.epochs": 3}.

    Raises:
        UserError: the file cannot be read, or breaks rules; all of them.
    """
    with told_in_python():
        return read_space(_space_path(path), [override(key, value) for key, value in (settings or {}).items()])


def open_run(path: str | Path) -> Run:
    """Open a run by its folder, or by its name below runs/.

    Raises:
        UserError: there is no run.
    """
    with told_in_python():
        found = Path(path)
        if not RunFolder(path=found).exists() and os.sep not in str(path):
            found = RUNS / path
        require_run(RunFolder(path=found))
        return Run(found)


def search(  # noqa: PLR0913 - options by name
    network: Searched,
    *,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    classes: Sequence[str] | None = None,
    bits: Choices | None = None,
    levels: Choices | None = None,
    time_steps: Choices | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    budget: Budget | None = None,
    objectives: Sequence[str] | str | None = None,
    weights: Any = None,
    out: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    device: str = "auto",
    workers: int | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Run:
    """Search how few bits and operations a spiking network needs; the same call again goes on with it.

    Args:
        network: a function that builds it, or its place "package.module:function", or the network, as from_torch gives
            one of another library; or a space: a file, a name that `spquant-search spaces` lists, or what load_space
            gives.
        train, validation, test: (inputs, labels) or data sets of such pairs; without train, the data of the space;
            without the others, a tenth of train each. Inputs are counts [N, T, C, H, W] or images [N, C, H, W].
        classes: their names.
        bits, levels, time_steps: choices of weight bits, membrane levels and numbers of time steps.
        trials, minutes: how many besides the float baseline, and until when they begin.
        budget, objectives: such as {"memory": "64 KiB"}, and ["memory", "flops"] beside the accuracy.
        weights: a file, a network or its state_dict; the float baseline, as they are.
        out: the run's folder; by default a name below runs/.
        settings: other values of a space file by their keys, such as {"train.epochs": 3}.
        device, workers, seed, progress: as of the command line; whether to show how far it is.

    Raises:
        UserError: something must change; says what.
    """
    return _searched(_Asked(**locals()))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """The arguments of :func:`search`."""

    network: Searched
    train: Any
    validation: Any
    test: Any
    classes: Sequence[str] | None
    bits: Choices | None
    levels: Choices | None
    time_steps: Choices | None
    trials: int | None
    minutes: float | None
    budget: Budget | None
    objectives: Sequence[str] | str | None
    weights: Any
    out: str | Path | None
    settings: Mapping[str, object] | None
    device: str
    workers: int | None
    seed: int | None
    progress: bool

    def words(self, what: str) -> str:
        """Write the call as a run keeps it: what is short and was given."""
        names = ("bits", "levels", "time_steps", "trials", "budget", "objectives", "out", "settings", "seed")
        given = [f"{name}={value!r}" for name in names if (value := getattr(self, name)) is not None]
        return f"spquant_search.search({', '.join([repr(what), *given])})"


def _searched(asked: _Asked) -> Run:
    _refuse_while_imported()
    from spquant_search.commands.reports import write_all_reports
    from spquant_search.commands.searching import SearchOrder, begin_command, run_order

    started = begin_command()  # before torch is imported

    from spquant_search.training.importing import with_imported_network
    from spquant_search.training.prepare import bind_network

    with told_in_python(), _console(asked.progress) as console:
        source = _source(asked)
        file = parse_space(source.text, source=source.said, overrides=_overrides(asked, source.weights))
        folder = RunFolder(path=RUNS / source.name if asked.out is None else Path(asked.out))
        file = with_imported_network(file, source=source.said, run=folder)
        if asked.train is not None:
            file = _with_samples(file, asked, console)
        elif asked.validation is not None or asked.test is not None or asked.classes is not None:
            raise UserError("validation, test and classes belong to train; give train, too")

        prepared = bind_network(file, source=source.said)
        if source.weights is not None:
            prepared = with_weights(prepared, source.weights)
        order = SearchOrder(
            prepared=prepared,
            folder=folder,
            command=asked.words(source.said),
            device=asked.device,
            minutes=asked.minutes,
        )
        run_order(order, console=console, started=started)
        write_all_reports(folder)
    return Run(folder.path)


def _refuse_while_imported() -> None:
    if (module := imported_now()) is not None:
        raise UserError(
            f"search() is called while {module} is imported for a function in it, and would begin once more in every "
            f'process; in {module}.py, put the call below `if __name__ == "__main__":`, or the function into a file of '
            "its own"
        )


def _source(asked: _Asked) -> _Source:
    """Return what is to be searched as the text of a space file, with the weights to begin from."""
    network = asked.network
    if is_network(network):
        if asked.weights is not None:
            raise UserError("weights: the network that was given has its own; give one of the two")
        if (planned := _of_plan(network, asked)) is not None:
            return planned
        refuse_other_libraries(network)
        return replace(_of_builder(class_path(network), asked), weights=network)
    return replace(_without_weights(network, asked), weights=asked.weights)


def _without_weights(network: Searched, asked: _Asked) -> _Source:
    if isinstance(network, SpaceFile):
        return _Source(text=frozen_space(network), said="the space given to search()", name=network.model.network)
    if is_builder_path(network):
        return _of_builder(str(network), asked)
    if isinstance(network, str | Path):
        path = _space_path(network)
        return _Source(text=frozen_space(read_space(path)), said=str(path), name=path.stem)
    if callable(network):
        return _of_builder(builder_path(network), asked)
    raise UserError(
        f"network: must be a function that builds a network, written package.module:function or given itself, or a "
        f"space; got an object of type {type(network).__name__}"
    )


def _of_plan(network: Any, asked: _Asked) -> _Source | None:
    """Return a space for a network whose structure is data, as from_torch gives it; None for any other."""
    from spquant_search.snn.networks.planned import PlannedNetwork
    from spquant_search.training.importing import keep_network

    if not isinstance(network, PlannedNetwork):
        return None
    kept, name = keep_network(network), "imported"
    model = {"layers": kept.layers, "weights": kept.weights, "network": name}
    source = _of_network(model, asked, said="the imported network", steps=network.plan.shape.time_steps)
    return replace(source, name=name)


def _of_builder(path: str, asked: _Asked) -> _Source:
    """Return a space for a network that a function builds."""
    name = path.partition(":")[0].rpartition(".")[2]
    return replace(_of_network({"build": path, "network": name}, asked, said=path, steps=IMAGE_STEPS), name=name)


def _of_network(model: dict[str, str], asked: _Asked, *, said: str, steps: int) -> _Source:
    """Return a space with the usual choices of precision for a network; of images there are so many ``steps``."""
    from spquant_search.data.from_python.given import given_time_steps

    if asked.train is None:
        raise UserError(f"train: is missing: what is {said} to be trained on? Give train=(inputs, labels)")
    document = {
        "data": {"name": "python", "samples": _UNKNOWN},
        "time_steps": given_time_steps(asked.train) or steps,
        "model": model,
        "layers": {"all": {"weight_bits": list(_BITS), "membrane_levels": list(_LEVELS)}},
        "search": {"strategy": "supernet"},
    } | ({"train": {"baseline_epochs": 0}} if "weights" in model else {})
    return _Source(text=yaml.safe_dump(document), said=said, name=model["network"])


def _overrides(asked: _Asked, weights: Any) -> list[str]:
    """Write arguments as overrides of a space file, what is general first."""
    values: dict[str, object] = {} if asked.train is None else {"data": {"name": "python", "samples": _UNKNOWN}}
    if weights is not None:
        values |= {"model.weights": weights_named(weights), "train.baseline_epochs": 0}
    values |= asked.settings or {}
    values |= {f"constraints.{name}": bound for name, bound in budget_bounds(asked.budget).items()}
    named = {
        "layers.all.weight_bits": asked.bits,
        "layers.all.membrane_levels": asked.levels,
        "time_steps": asked.time_steps,
        "search.trials": asked.trials,
        "search.workers": asked.workers,
        "search.seed": asked.seed,
        "search.objectives": None if asked.objectives is None else objective_names(asked.objectives),
    }
    values |= {path: value for path, value in named.items() if value is not None}
    return [override(path, value) for path, value in values.items()]


def _with_samples(file: SpaceFile, asked: _Asked, console: Console) -> SpaceFile:
    """Keep the samples that were given, and return the space with their key."""
    from spquant_search.data.from_python.given import keep_samples
    from spquant_search.report.stages import stages
    from spquant_search.runs.files import cache_folder
    from spquant_search.training.data_set import recordings_folder

    given = (asked.train, asked.validation, asked.test)
    with stages(console) as stage:
        key = keep_samples(
            given if asked.classes is None else (*given, list(asked.classes)),
            time_steps=file.most_time_steps,
            seed=file.data.split_seed,
            folder=recordings_folder(cache_folder()),
            progress=lambda done, total: stage("samples read", done, total),
        )
    return replace(file, data=replace(file.data, samples=key))


def _space_path(path: str | Path) -> Path:
    """Return the file of a space: a path, or the name of one that comes with the package."""
    file, shipped = Path(path), shipped_spaces()
    if file.exists():
        return file
    if str(path) in shipped:
        return shipped[str(path)]
    near = nearest(str(path), shipped)
    meant = f"; did you mean {near!r}?" if near else ""
    raise UserError(f"{path}: there is no such file; spaces of the package are {', '.join(shipped)}{meant}")


@contextmanager
def _console(progress: bool) -> Iterator[Console]:
    """Give the console that shows a search, or one that nobody sees."""
    from rich.console import Console

    if progress:
        yield Console()
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        yield Console(file=nowhere, force_jupyter=False)
