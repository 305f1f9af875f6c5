"""Open a run: make its folder, check that it can be continued, and keep other searches away from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from spquant_search.errors import UserError, first_of
from spquant_search.runs.documents import write_document
from spquant_search.runs.drafts import draft_folder, remove_leftovers
from spquant_search.runs.environment import describe_environment
from spquant_search.runs.files import as_user_error, write_bytes, write_text
from spquant_search.runs.folder import RunFolder, given_weights_file, network_file, weights_drafts
from spquant_search.runs.locks import LockHeld, locked
from spquant_search.runs.records import (
    RunFacts,
    add_trainers,
    read_facts,
    read_frozen_space,
    read_shared_study,
    write_facts,
    write_shared_study,
)
from spquant_search.space.reading import frozen_space
from spquant_search.space.schema import SpaceFile

# What may differ between two starts of one run: how much is done and by how many, and which of its trials are of use;
# never what is searched.
# The files of weights and of a network that is data may lie elsewhere: that they hold the same is checked by content.
MAY_CHANGE = (
    ("search", "trials"),
    ("search", "workers"),
    ("search", "minutes_per_trial"),
    ("constraints",),
    ("model", "weights"),
    ("model", "layers"),
)
_FEW = 3  # classes or layers that a sentence names
_HERE = RunFolder(path=Path())


def open_run(
    folder: RunFolder,
    file: SpaceFile,
    facts: RunFacts,
    *,
    shared: bool = False,
    weights: bytes | None = None,
    network: bytes | None = None,
) -> None:
    """Make the folder, or take note of what may change in the run that it holds; ``shared``: as :func:`check_run`.

    ``weights``: a safetensors file of those that the search is given to begin from, and ``network``: the file of one
    that is data, which a new run keeps. What starts left that were killed is removed.

    Raises:
        UserError: as :func:`check_run` and :func:`require_same_classes`, or another command is working on this run.
    """
    check_run(folder, file, shared=shared)
    _require_same_samples(folder, file, facts)
    require_same_network(folder, network)
    require_same_weights(folder, weights)
    remove_leftovers(folder.path.parent)
    if not folder.exists():
        try:
            _make(folder, file, facts, shared=shared, weights=weights, network=network)
            return
        except OSError as error:
            if not folder.exists():
                raise UserError(_cannot_make(folder, error.strerror)) from error
        check_run(folder, file, shared=shared)  # another search was quicker
    require_same_classes(folder, facts.classes)
    with exclusive(folder, shared=shared):
        remove_leftovers(folder.path, deep=True)
        for number, draft in weights_drafts(folder):
            if folder.result_file(number).is_file():  # nobody wants other weights of such a trial
                draft.unlink(missing_ok=True)
        write_text(folder.space_file, _kept_space(file))  # more trials or workers than before, perhaps
        for trainers in facts.trainers:
            add_trainers(folder, trainers)


def check_run(folder: RunFolder, file: SpaceFile, *, shared: bool = False) -> None:
    """Check that this run can be made or continued; writes nothing, so that it can be asked before long work.

    ``shared``: its study is to lie in a database, where several coordinators find it.

    Raises:
        UserError: the folder cannot be written, holds something else, or holds a run of another space or with its study
            in another place.
    """
    if folder.exists():
        _require_same_given_samples(folder, file)
        require_same_space(folder, file)
        if shared and read_shared_study(folder) is None:
            raise UserError(
                f"{folder.path}: the study of this run lies in its folder, where one search at a time works on it; "
                "omit --storage, or start a run of its own with --run NAME"
            )
        if not shared and read_shared_study(folder) is not None:
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


def _require_same_samples(folder: RunFolder, file: SpaceFile, facts: RunFacts) -> None:
    """Check that a function of the user's still returns what the run began with: nothing else tells its samples."""
    if file.data.build is None or not folder.exists():
        return
    then = read_facts(folder).data
    if then != facts.data:
        raise UserError(
            f"{folder.path}: this run began with other samples ({then}) than {file.data.build} returns now "
            f"({facts.data}); undo the change, or start a run of its own with --run NAME"
        )


def _require_same_given_samples(folder: RunFolder, file: SpaceFile) -> None:
    then, now = read_frozen_space(folder).data.samples, file.data.samples
    if None not in (then, now) and then != now:
        raise UserError(
            f"{folder.path}: this run began with other samples ({then}) than are given now ({now}); give the same, or "
            "start a run of its own with --run NAME"
        )


def require_same_weights(folder: RunFolder, weights: bytes | None) -> None:
    """Check that a run that is there began from these weights, or from none.

    Raises:
        UserError: it did not.
    """
    if not folder.exists():
        return
    kept = given_weights_file(folder)
    if (then := kept.read_bytes() if kept.is_file() else None) != weights:
        was, now = ("none" if each is None else f"those of {_short(each)}" for each in (then, weights))
        raise UserError(
            f"{folder.path}: this run began from other weights (model.weights: {was} in the run, {now} now); undo the "
            "change, or start a run of its own with --run NAME"
        )


def require_same_network(folder: RunFolder, network: bytes | None) -> None:
    """Check that the network of a run that is there, if it is data, is this one, wherever it came from.

    Raises:
        UserError: it is not; says what differs.
    """
    kept = network_file(folder)
    if not folder.exists() or not kept.is_file() or network is None:
        return  # whether there is one is part of the space
    then, now = (json.loads(content) for content in (kept.read_bytes(), network))
    if differing := [key for key in now if key != "origin" and then.get(key) != now[key]]:
        old, new = then.get("layers", {}), now["layers"]
        changes = {
            "layers that are new": [name for name in new if name not in old],
            "layers that are gone": [name for name in old if name not in new],
            "layers that differ": [name for name in new if name in old and old[name] != new[name]],
        }
        words = [f"{said}: {first_of(names, _FEW)}" for said, names in changes.items() if names]
        raise UserError(
            f"{folder.path}: this run began with another network ({'; '.join(words) or ', '.join(differing)}); undo "
            "the change, or start a run of its own with --run NAME"
        )


def _short(content: bytes) -> str:
    return f"the checksum {hashlib.sha256(content).hexdigest()[:8]}"


def _cannot_make(folder: RunFolder, reason: str | None) -> str:
    return f"{folder.path}: cannot make this run's folder: {reason}; choose another with --run"


def _make(
    folder: RunFolder,
    file: SpaceFile,
    facts: RunFacts,
    *,
    shared: bool,
    weights: bytes | None,
    network: bytes | None,
) -> None:
    """Make all that a run starts with appear at once, by renaming a folder that is already complete."""
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(folder.path) as draft:
        complete = RunFolder(path=draft / folder.name)
        (complete.path / "trials").mkdir(parents=True)
        write_document(complete.environment_file, describe_environment())
        write_facts(complete, facts)
        if shared:
            # The name alone may be that of another run in the same database.
            write_shared_study(complete, f"{folder.name}-{uuid4().hex[:12]}")
        if weights is not None:
            write_bytes(given_weights_file(complete), weights)
        if network is not None:
            write_bytes(network_file(complete), network)
        write_text(complete.space_file, _kept_space(file))
        os.rename(complete.path, folder.path)


def _kept_space(file: SpaceFile) -> str:
    """Return a space as its run keeps it: a network that is data, and its weights, lie beside it."""
    if file.model.layers is None:
        return frozen_space(file)
    weights = None if file.model.weights is None else given_weights_file(_HERE).name
    model = replace(file.model, layers=network_file(_HERE).name, weights=weights)
    return frozen_space(replace(file, model=model))


def require_same_space(folder: RunFolder, file: SpaceFile) -> None:
    """Check that a run is of this space, trials, workers and constraints aside.

    Raises:
        UserError: it is not; says what differs.
    """
    frozen, given = (yaml.safe_load(frozen_space(space)) for space in (read_frozen_space(folder), file))
    if differences := _differences(frozen, given):
        listed = "\n".join(f"  {path}: {old!r} in the run, {new!r} now" for path, old, new in differences)
        raise UserError(
            f"{folder.path}: this run searches another space than the one given:\n{listed}\n"
            "Undo the change, or start a run of its own with --run NAME."
        )


def changed_constraints(folder: RunFolder, file: SpaceFile) -> str:
    """Say which constraints differ from those of the run's latest start; empty where none does or there is no run."""
    if not folder.exists():
        return ""
    old, new = (yaml.safe_load(frozen_space(space))["constraints"] for space in (read_frozen_space(folder), file))
    return ", ".join(
        f"{name} {_bound_words(new[name])} (was {_bound_words(bound)})"
        for name, bound in old.items()
        if bound != new[name]
    )


def _bound_words(bound: float | None) -> str:
    return "none" if bound is None else f"{bound:,.10g}"


def require_same_classes(folder: RunFolder, classes: Sequence[str]) -> None:
    """Check that the classes of the data, by label, are those that a run's networks were trained for.

    Raises:
        UserError: they have changed since; says how.
    """
    if change := changed_classes(read_facts(folder).classes, classes):
        raise UserError(
            f"{folder.path}: the classes of this run's data have changed since it began: {change}. Undo the change in "
            "the data, or start a run of its own with --run NAME"
        )


def changed_classes(before: Sequence[str], now: Sequence[str]) -> str:
    """Say how the classes of a data set, by label, differ from those it had; empty where they do not."""
    if len(before) != len(now):
        lost, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
        words = f"there were {len(before)}, and are {len(now)} now"
        words += f"; gone: {first_of(list(map(repr, lost)), _FEW)}" if lost else ""
        return words + (f"; new: {first_of(list(map(repr, new)), _FEW)}" if new else "")
    pairs = enumerate(zip(before, now, strict=True))
    return next((f"label {label} was {old!r}, and is {new!r} now" for label, (old, new) in pairs if old != new), "")


def _differences(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    if path in MAY_CHANGE or old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(old) + [key for key in new if key not in old]
        return [found for key in keys for found in _differences(old.get(key), new.get(key), (*path, str(key)))]
    return [(".".join(path), old, new)]


@contextmanager
def exclusive(
    folder: RunFolder, *, shared: bool = False, note: Callable[[str], None] = lambda _words: None
) -> Iterator[None]:
    """Let only one command work on a run at a time; ``shared``: others that say so may work on it, too.

    ``note`` is told where nothing keeps others away, as the file system has no locks.

    Raises:
        UserError: another command holds the lock, or something in the folder cannot be read or written.
    """
    with as_user_error(folder.path), ExitStack() as held:
        try:
            is_held = held.enter_context(locked(folder.path / "lock", shared=shared))
        except LockHeld as error:
            raise UserError(
                f"{folder.path}: another command is working on this run ({error.holder}); "
                "wait for it, stop it, or start another run with --run NAME"
            ) from None
        if not is_held:
            note(
                f"{folder.path}: this file system has no locks, so that nothing keeps a second command away from this "
                "run; see to it that no other works on it"
            )
        yield
