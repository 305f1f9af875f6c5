"""What a user's function returns: train, validation and test, each as two arrays or as a data set of pairs."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spquant_search.data.from_python.values import Unfit, as_label
from spquant_search.errors import OptionError, Problem, UserError
from spquant_search.runs.random_streams import repeatable
from spquant_search.space.user_functions import FAILURES, NoSuchFunction, failure_lines, find_function, prints_aside

SPLITS = ("train", "validation", "test")
_RULE = "must return (train, validation, test), each (inputs, labels) or a data set of such pairs"
_PAIR = 2
_WRAPPERS = 8  # data sets around a data set, such as Subset, that are looked into for names of classes


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The samples of one split as the user's function gave them."""

    build: str  # package.module:function
    split: str
    inputs: Any  # a data set of pairs where there are no labels
    labels: Any = None
    length: int

    def sample(self, index: int) -> tuple[Any, int]:
        """Return the input and the label of a sample.

        Raises:
            UserError: the user's code fails, or gives no pair or no label.
        """
        try:
            with prints_aside():
                if self.labels is not None:
                    return self.inputs[index], as_label(self.labels[index])
                found = self.inputs[index]
        except Unfit as error:
            raise self.unfit(index, str(error)) from error
        except FAILURES as error:
            raise UserError(f"{self.place(index)} cannot be read: {failure_lines(error)}") from error
        if not isinstance(found, tuple | list) or len(found) != _PAIR:
            raise self.unfit(index, f"is {_kind_of(found)}; give two things, the input and its label")
        try:
            return found[0], as_label(found[1])
        except Unfit as error:
            raise self.unfit(index, str(error)) from error

    def unfit(self, index: int, sentence: str) -> UserError:
        """Return the error about a sample that cannot be taken."""
        return UserError(f"{self.place(index)} {sentence}")

    def place(self, index: int) -> str:
        return f"{self.build}: sample {index} of {self.split}"

    @property
    def checksum(self) -> int:
        """The CRC-32 of arrays that are in memory; 0 of everything else."""
        crc = 0
        for values in (self.inputs, self.labels):
            is_tensor = hasattr(values, "detach") and hasattr(values, "cpu")
            array = values.detach().cpu().numpy() if is_tensor else values
            if isinstance(array, np.ndarray) and not isinstance(array, np.memmap) and array.dtype.kind in "biuf":
                for start in range(0, len(array), 1024):
                    crc = zlib.crc32(np.ascontiguousarray(array[start : start + 1024]).view(np.uint8).data, crc)
        return crc


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """The parts that a function gave, in the order of splits; validation and test may be taken from train."""

    parts: tuple[Part, ...]
    classes: tuple[str, ...] = ()  # the names of the classes, where it gave some

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(part.split for part in self.parts)


def call_build(build: str, *, time_steps: int, seed: int) -> Returned:
    """Call the user's function, with random numbers that are the same every time.

    Raises:
        OptionError: there is no such function, it fails, or returns something else.
    """
    try:
        function = find_function(build)
        arguments = _arguments(build, function, time_steps)
    except NoSuchFunction as error:
        raise _wrong(str(error)) from error
    try:
        with prints_aside(), repeatable(seed):
            returned = function(**arguments)
    except FAILURES as error:
        raise _wrong(f"{build} failed: {failure_lines(error)}") from error
    return checked(build, returned)


def _arguments(build: str, function: Callable[..., Any], time_steps: int) -> dict[str, int]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some functions in C
        return {}
    takes_any = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        name
        for name, each in parameters.items()
        if each.default is inspect.Parameter.empty and each.kind not in takes_any and name != "time_steps"
    ]
    if needed:
        raise NoSuchFunction(f"{build} needs {', '.join(needed)}; it is called with time_steps alone, if it takes it")
    return {"time_steps": time_steps} if "time_steps" in parameters else {}


def _wrong(sentence: str) -> OptionError:
    return OptionError([Problem("build", sentence)])


def checked(build: str, returned: object) -> Returned:
    """Take apart (train, validation, test) and perhaps names of classes; ``build`` is who gave them, for sentences.

    Raises:
        OptionError: it is something else.
    """
    if not isinstance(returned, tuple | list) or len(returned) not in (3, 4):
        raise _wrong(f"{build} {_RULE}, and perhaps the names of the classes; got {_kind_of(returned)}")
    given = dict(zip(SPLITS, returned, strict=False))
    if given["train"] is None:
        raise _wrong(f"{build}: train is None (validation and test may be, and are taken from train then)")
    if given["test"] is None and given["validation"] is not None:
        raise _wrong(f"{build}: test is None, and may be only where validation is, too")
    parts = tuple(_part(build, split, value) for split, value in given.items() if value is not None)
    for place, part in enumerate(parts):
        for other in parts[:place]:
            if part.inputs is other.inputs:
                raise _wrong(f"{build}: {other.split} and {part.split} are the same samples; divide them")
    names = _names(build, returned[3]) if len(returned) == len(SPLITS) + 1 else None
    return Returned(parts=parts, classes=_names_of(returned[0]) if names is None else names)


def _part(build: str, split: str, value: Any) -> Part:
    problem = _no_data_set(value)
    if problem is not None:
        raise _wrong(f"{build}: {split} is {_kind_of(value)}, {problem}")
    inputs, labels = value if _is_arrays(value) else (value, None)
    try:
        lengths = [len(each) for each in (inputs, labels) if each is not None]
    except FAILURES as error:
        raise _wrong(f"{build}: {split} has no length: {failure_lines(error)}") from error
    if len(set(lengths)) > 1:
        raise _wrong(f"{build}: {split} has {lengths[0]:,} inputs and {lengths[1]:,} labels; give one for each")
    if not lengths[0]:
        raise _wrong(f"{build}: {split} is empty; give None for validation to take it from train")
    return Part(build=build, split=split, inputs=inputs, labels=labels, length=lengths[0])


def _no_data_set(value: Any) -> str | None:
    """Say why a value is no data set of pairs and no two arrays; None where it may be one."""
    if isinstance(value, dict | str):
        return "and must be (inputs, labels) or a data set of such pairs"
    if hasattr(value, "dtype"):
        return "inputs without labels; give both: (inputs, labels)"
    if hasattr(value, "dataset") and hasattr(value, "batch_size"):
        return "which makes batches; give its data set, loader.dataset"
    if isinstance(value, tuple) and len(value) != _PAIR:
        return f"a tuple of {len(value)}; give two things: (inputs, labels)"
    if not hasattr(value, "__getitem__") or not hasattr(value, "__len__"):
        return "which has no length or no samples by number; give a data set with __len__ and __getitem__"
    return None


def _is_arrays(value: Any) -> bool:
    """Tell two arrays, or two lists, from a data set; a list of samples is a data set."""
    if not isinstance(value, tuple | list) or len(value) != _PAIR:
        return False
    return isinstance(value, tuple) or hasattr(value[0], "dtype")


def _names(build: str, names: object) -> tuple[str, ...]:
    """Check the names of classes that a function returned as its fourth value."""
    found = _as_names(names)
    if not found:
        raise _wrong(f"{build}: the fourth value must be a list with the name of each class; got {_kind_of(names)}")
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise _wrong(f"{build}: two classes are called {twice!r}; give each a name of its own")
    return found


def _names_of(data_set: Any) -> tuple[str, ...]:
    """Return the names of classes that a data set, or one that it is a part of, has as its ``classes``."""
    for _ in range(_WRAPPERS):
        found = _as_names(getattr(data_set, "classes", None))
        if found and len(set(found)) == len(found):
            return found
        data_set = getattr(data_set, "dataset", None)
        if data_set is None:
            break
    return ()


def _as_names(names: object) -> tuple[str, ...]:
    if not isinstance(names, Sequence | np.ndarray) or isinstance(names, str | bytes):
        return ()
    if not all(isinstance(name, str | int | np.integer) and not isinstance(name, bool) for name in names):
        return ()
    return tuple(str(name) for name in names)


def _kind_of(value: object) -> str:
    name = type(value).__name__
    if isinstance(value, dict):
        return f"a dict with {', '.join(map(str, list(value)[:3])) or 'nothing'}"
    return f"a {name} of {len(value)}" if isinstance(value, tuple | list) else f"an object of type {name}"
