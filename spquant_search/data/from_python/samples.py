"""Read the samples of a user's Python code once, as bytes in a file of the cache, with their labels beside it.

The function is called by every command that needs samples, and nothing is read again while its code, the number of its
samples and those that are looked at are the same. Other processes find the file by what was found last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from spquant_search.data.cache import Block, Frames, Shape, cache_path, read_or_build
from spquant_search.data.from_python.remarks import Remarks
from spquant_search.data.from_python.returned import Part, Returned, call_build
from spquant_search.data.from_python.values import SampleForm, Unfit, as_array, as_frames, as_label, form_of
from spquant_search.errors import OptionError, Problem, UserError, first_of
from spquant_search.runs.documents import read_document, write_document
from spquant_search.runs.random_streams import repeatable
from spquant_search.space.schema import DataSpace
from spquant_search.space.user_functions import code_digest

# Raise this with every change that alters a frame: cached frames of the old code are then no longer used.
PYTHON_VERSION = 1
_BLOCK_BYTES = 8 << 20  # of the frames that are read before they are written
_MOST_DARK = 32  # samples that are looked at for one that is not black
_SHOWN = 5  # labels or classes that a sentence lists

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleNotes:
    """What is known of samples beside their frames: the content of the document beside their file."""

    lengths: Mapping[str, int]  # samples of each part that the function gave, in this order
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    shape: tuple[int, ...]  # as given
    time_steps: int
    digest: str  # of all samples and labels
    notes: tuple[str, ...]

    @property
    def form(self) -> SampleForm:
        return SampleForm(shape=self.shape, time_steps=self.time_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonSamples:
    """All samples of a set in the order of the user's data sets, one part after the other."""

    known: SampleNotes
    frames: Frames
    file: str  # the name of the file of frames, which another content would have changed

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array(self.known.labels, np.int64)

    @property
    def parts(self) -> list[NDArray[np.int64]]:
        """The numbers of each part's samples."""
        bounds = np.cumsum([0, *self.known.lengths.values()])
        return [np.arange(low, high) for low, high in pairwise(bounds)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """Samples of one split, taken from all."""

    samples: PythonSamples
    order: Int64[np.ndarray, " chosen"]

    @property
    def shape(self) -> Shape:
        """The shape of all frames: [sample, time, channel, height, width]."""
        return (len(self.order), *self.samples.known.form.frames)

    def recipe(self) -> dict[str, object]:
        return {"samples": self.samples.file, "order": hashlib.sha256(self.order.tobytes()).hexdigest()}

    @property
    def block_length(self) -> int:
        return _block_length(self.samples.known.form)

    @property
    def is_slow(self) -> bool:
        return False

    @property
    def numbers(self) -> int:
        form = self.samples.known.form
        return 0 if form.static else form.time_steps + 1

    def block(self, chosen: slice) -> Block:
        """Take the frames chosen, and add up the counts of each time step; none is left out."""
        frames: Frames = self.samples.frames[self.order[chosen]]
        counts = np.zeros((len(frames), self.numbers), np.int64)
        if self.numbers:
            counts[:, :-1] = frames.sum(axis=(2, 3, 4), dtype=np.int64)
        return Block(frames, counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A set after a look at its first and last samples."""

    returned: Returned
    form: SampleForm
    changing: tuple[str, ...]  # parts whose first sample was another when it was read again
    recipe: Mapping[str, object]
    seed: int
    options: DataSpace = field(repr=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, as far as they are known before all samples are read; otherwise nothing.

        Raises:
            OptionError: ``data.classes`` says another number than the function.
        """
        names, count = self.returned.classes, self.options.classes
        if names and count not in (None, len(names)):
            sentence = (
                f"{self.options.build} has {len(names)} classes ({first_of(names, 3)}), not {count}; remove the key"
            )
            raise OptionError([Problem("classes", sentence)])
        if not names and count is None and all(part.labels is not None for part in self.returned.parts):
            labels = [_labels_of(part) for part in self.returned.parts]
            return _numbered(_class_count(self.options.build or "", np.concatenate(labels)))
        return names or _numbered(count or 0)


_latest: dict[tuple[object, ...], Look] = {}  # the last look of this process, as a command describes and then loads


def look_at(options: DataSpace, time_steps: int) -> Look:
    """Call the user's function, and look at some of its samples.

    Raises:
        UserError: the function fails, or gives samples that cannot be taken.
    """
    build, seed = options.build or "", options.split_seed
    code = code_digest(build)
    key = (options, time_steps, code, os.getcwd())
    if key not in _latest:
        _latest.clear()
        returned = call_build(build, time_steps=time_steps, seed=seed)
        _latest[key] = looked(returned, options, time_steps, {"code": code, "folder": os.getcwd()})
    return _latest[key]


def looked(returned: Returned, options: DataSpace, time_steps: int, recipe: Mapping[str, object]) -> Look:
    """Look at the first and last sample of every part; ``recipe``: what else tells these samples from others."""
    form = _form(returned.parts[0], time_steps)
    probes: dict[str, list[int | str]] = {}
    changing = []
    with repeatable(options.split_seed):
        for part in returned.parts:
            first, again, last = (_probe(part, form, index) for index in (0, 0, part.length - 1))
            if first != again:
                changing.append(part.split)
            probes[part.split] = [part.length, part.checksum, *([] if first != again else [first, last])]
    whole = {
        **recipe,
        "parts": probes,
        "time_steps": time_steps,
        "seed": options.split_seed,
        "classes": [*returned.classes] or options.classes,
        "version": PYTHON_VERSION,
    }
    seed = options.split_seed
    return Look(returned=returned, form=form, changing=tuple(changing), recipe=whole, seed=seed, options=options)


def forget_looks() -> None:
    """Let the user's function be called again, and its arrays go."""
    _latest.clear()


def class_names(options: DataSpace, time_steps: int, folder: Path) -> tuple[SampleForm, tuple[str, ...]]:
    """Return the form of a set's samples and its classes; all samples are read where only they tell how many."""
    look = look_at(options, time_steps)
    return look.form, look.class_names or read_samples(look, folder, None).known.classes


def python_samples(
    options: DataSpace, time_steps: int, folder: Path, *, progress: Progress | None = None, is_made: bool = False
) -> PythonSamples:
    """Read all samples, or open the file that holds them already.

    ``is_made``: another process has just done so; what it found is opened, and no code of the user's is run.

    Raises:
        UserError: a sample or label cannot be taken; names it.
    """
    pointer = _pointer(options, time_steps, folder)
    if is_made and (found := _found_last(pointer, folder)) is not None:
        return found
    samples = read_samples(look_at(options, time_steps), folder, progress)
    forget_looks()
    if _read_pointer(pointer) != samples.file:
        write_document(pointer, samples.file)
    return samples


def require_enough(samples: PythonSamples, build: str) -> None:
    """Refuse a class with too few samples in train to take the splits from that the function left out."""
    least = {1: 3, 2: 2, 3: 0}[len(samples.parts)]
    counts = np.bincount(samples.labels[samples.parts[0]], minlength=len(samples.known.classes))
    few = [
        f"{name} ({count})"
        for name, count in zip(samples.known.classes, counts.tolist(), strict=True)
        if 0 < count < least
    ]
    if few:
        raise UserError(
            f"{build}: train holds too few samples of {first_of(few, _SHOWN)}: {least} or more are needed of a class, "
            "one for each split that is taken from train; give validation and test, too"
        )


def read_samples(look: Look, folder: Path, progress: Progress | None) -> PythonSamples:
    """Open the file of all samples, after they are read where it is not there."""
    path = cache_path(folder, "python-samples", look.recipe)
    beside = path.with_suffix(".json")
    if notes_in(beside) is None:
        path.unlink(missing_ok=True)  # without what belongs to it
    shape = (sum(part.length for part in look.returned.parts), *look.form.frames)
    frames = read_or_build(path, shape, lambda: _blocks(look, beside, progress))
    known = notes_in(beside)
    if known is None:
        raise UserError(f"{beside}: is damaged or was deleted a moment ago; start again")
    return PythonSamples(known=known, frames=frames, file=path.name)


def _blocks(look: Look, beside: Path, progress: Progress | None) -> Iterator[Block]:
    """Read all samples block by block; write what is known of them before the last block counts as written."""
    parts, length = look.returned.parts, _block_length(look.form)
    total = sum(part.length for part in parts)
    remarks, labels = Remarks(form=look.form), []
    count = len(look.class_names) or None
    block: list[NDArray[np.uint8]] = []
    with repeatable(look.seed):
        for part in parts:
            for index in range(part.length):
                frames, label = _sample(part, look.form, index, count)
                remarks.add(part.split, frames, label)
                labels.append(label)
                block.append(frames)
                if len(block) == length or len(labels) == total:
                    yield Block(np.stack(block), np.empty((len(block), 0), np.int64))
                    block.clear()
                    if progress is not None:
                        progress(len(labels), total)
    build = look.options.build or ""
    classes = look.class_names or _numbered(_class_count(build, np.array(labels)))
    lengths = {part.split: part.length for part in parts}
    known = SampleNotes(
        lengths=lengths,
        labels=tuple(labels),
        classes=classes,
        shape=look.form.shape,
        time_steps=look.form.time_steps,
        digest=remarks.digest,
        notes=(*_changing_note(look), *remarks.sentences(build, lengths, labels, classes)),
    )
    write_document(beside, known)


def _sample(part: Part, form: SampleForm, index: int, classes: int | None = None) -> tuple[NDArray[np.uint8], int]:
    given, label = part.sample(index)
    try:
        frames = as_frames(given, form)
    except Unfit as error:
        raise part.unfit(index, str(error)) from error
    if classes is not None and label >= classes:
        raise part.unfit(index, f"has the label {label}, and there are {classes} classes, 0 to {classes - 1}")
    return frames, label


def _form(part: Part, time_steps: int) -> SampleForm:
    """Return the form of the first sample that is not black: only such a one tells the scale of its values."""
    first: SampleForm | None = None
    for index in range(min(part.length, _MOST_DARK)):
        given, _ = part.sample(index)
        try:
            form = form_of(given, time_steps)
            first = form if first is None else first
            if not form.static or as_array(given).any() or form.shape != first.shape:
                return form if form.shape == first.shape else first
        except Unfit as error:
            raise part.unfit(index, str(error)) from error
    assert first is not None  # a part has samples
    return first


def _probe(part: Part, form: SampleForm, index: int) -> str:
    frames, label = _sample(part, form, index)
    return hashlib.sha256(frames.tobytes() + str(label).encode()).hexdigest()


def _labels_of(part: Part) -> NDArray[np.int64]:
    """Return the labels of arrays; a wrong one is told when its sample is read."""
    found = []
    for index in range(part.length):
        try:
            found.append(as_label(part.labels[index]))
        except Unfit as error:
            raise part.unfit(index, str(error)) from error
    return np.array(found, np.int64)


def _class_count(build: str, labels: NDArray[np.int64]) -> int:
    """Return how many classes there are where nobody says it.

    Raises:
        OptionError: a class has no sample in any split, or there is but one.
    """
    found = np.unique(labels)
    count = int(found[-1]) + 1
    if len(found) < count:
        missing = next(number for number, label in enumerate(found.tolist()) if number != label)
        sentence = (
            f"{build} gives the labels {first_of([str(label) for label in found.tolist()], _SHOWN)}, none of them "
            f"{missing}; number the classes from 0 without gaps, or say by data.classes how many there are"
        )
        raise OptionError([Problem("build", sentence)])
    if count == 1:
        raise OptionError([Problem("build", f"{build} gives the label 0 alone; two classes or more are needed")])
    return count


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(count))


def _changing_note(look: Look) -> Sequence[str]:
    if not look.changing:
        return ()
    return (
        f"{look.options.build}: a sample of {' and '.join(look.changing)} is another one each time it is read; each is "
        "read once, so that its random changes stay the same in every epoch: leave them out, and change training "
        "samples by train.augment",
    )


def _block_length(form: SampleForm) -> int:
    return max(1, _BLOCK_BYTES // int(np.prod(form.frames)))


def _pointer(options: DataSpace, time_steps: int, folder: Path) -> Path:
    """Return the document that names the file of samples that was found last for these options."""
    words = f"{options.build} {options.split_seed} {options.classes} {time_steps} {os.getcwd()}"
    return folder / f"python-latest-{hashlib.sha256(words.encode()).hexdigest()[:16]}.json"


def _read_pointer(pointer: Path) -> str | None:
    with suppress(OSError, UserError):
        return read_document(pointer, str)
    return None


def notes_in(beside: Path) -> SampleNotes | None:
    """Read what is known of samples beside their frames; None where the document is not there, or damaged."""
    with suppress(OSError, UserError):
        return read_document(beside, SampleNotes)
    return None


def _found_last(pointer: Path, folder: Path) -> PythonSamples | None:
    """Open the samples that were found last; None where they are not there any more."""
    name = _read_pointer(pointer)
    known = None if name is None else notes_in((folder / name).with_suffix(".json"))
    if name is None or known is None:
        return None
    with suppress(OSError, ValueError):
        frames = np.lib.format.open_memmap(folder / name, mode="r")
        return PythonSamples(known=known, frames=frames, file=name)
    return None
