"""Find the samples of each split in a folder of a published layout; only names, sizes and labels are read.

Train and test splits are the publisher's. Where there is no test split, a share of each class is held out for it.
Validation is taken from train. DVS128 Gesture is divided by people, like its published test split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.catalog import CLASS_FOLDER_SETS, EVENT_FOLDER, SETS, TRAIN_FOLDER
from spquant_search.data.description import class_folders, folder_of
from spquant_search.data.events.event_files import EVENT_SUFFIXES
from spquant_search.data.file_listing import File, files_in, folders_in
from spquant_search.data.images.formats import read_cifar_bin, read_cifar_pickle, read_idx
from spquant_search.data.images.stills import IMAGE_SUFFIXES
from spquant_search.data.splits import hold_out, hold_out_groups, proportional_order
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleIndex:
    """All samples of a data set, and which of them are in each split, by its name, in which order."""

    labels: Indices
    splits: Mapping[str, Indices]
    base: Path
    files: tuple[File, ...] = ()  # of sets with one file a sample
    pixels: NDArray[np.uint8] | None = None  # of other sets: [sample, channel, rows, columns]


@dataclass(frozen=True, slots=True)
class _Part:
    """The samples of one part of a data set, such as its published test split."""

    files: list[File] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def add(self, files: Sequence[File], label: int, group: str = "") -> None:
        self.files.extend(files)
        self.labels.extend([label] * len(files))
        self.groups.extend([group] * len(files))


def find_samples(name: str, options: DataSpace) -> SampleIndex:
    """Find the samples of a data set and divide them into splits.

    Raises:
        UserError: the folder is not as published.
    """
    folder = folder_of(name, options)
    if name in ("mnist", "fashion-mnist"):
        return _index_of_arrays(name, options, _idx_base(name, folder), _read_idx_part)
    if name == "cifar10":
        return _index_of_arrays(name, options, folder, _read_cifar_part)
    if name == "nmnist":
        base = _inner_folder(name, folder, ("NMNIST",), ("Train", "Test"))
        parts = [_classes(name, base, part, (".bin",), options) for part in ("Train", "Test")]
    elif name == "dvs-gesture":
        base = _inner_folder(name, folder, ("DVSGesture",), ("ibmGestureTrain", "ibmGestureTest"))
        parts = [_gestures(name, base, part, options) for part in ("ibmGestureTrain", "ibmGestureTest")]
    elif name in CLASS_FOLDER_SETS:
        base, parts = folder, _class_folder_parts(name, folder)
    else:
        inner = {"cifar10-dvs": ("CIFAR10DVS",), "n-caltech101": ("Caltech101", "NCALTECH101/Caltech101")}[name]
        base = _inner_folder(name, folder, inner, SETS[name].classes)
        suffix = ".aedat4" if name == "cifar10-dvs" else ".bin"
        parts = [_classes(name, base, "", (suffix,), options)]
    return _divided(parts, base, options)


def _divided(parts: Sequence[_Part], base: Path, options: DataSpace) -> SampleIndex:
    """Divide parts into splits: one part holds all samples, two are train and test, three have validation between."""
    files = tuple(file for part in parts for file in part.files)
    labels = np.array([label for part in parts for label in part.labels], np.int64)
    groups = [group for part in parts for group in part.groups]
    bounds = np.cumsum([0, *(len(part.files) for part in parts)])
    ranges = [np.arange(low, high) for low, high in pairwise(bounds)]
    return SampleIndex(labels=labels, splits=_splits(labels, ranges, groups, options), base=base, files=files)


def _splits(labels: Indices, parts: Sequence[Indices], groups: Sequence[str], options: DataSpace) -> dict[str, Indices]:
    seed = options.split_seed
    train = parts[0]
    if len(parts) == 1:
        train, test = hold_out(labels, train, options.test_share, seed, keep=2)
    else:
        test = parts[-1]
    if len(parts) == 3:
        validation = parts[1]
    elif any(groups):
        train, validation = hold_out_groups(groups, train, options.validation_share, seed)
    else:
        train, validation = hold_out(labels, train, options.validation_share, seed)
    chosen = {"train": train, "validation": validation, "test": test}
    return {split: proportional_order(labels, indices, seed) for split, indices in chosen.items()}


def _inner_folder(name: str, folder: Path, inner: Sequence[str], marks: Sequence[str]) -> Path:
    """Return ``folder``, or the folder in it that archives and other readers put around the data."""
    for base in (folder, *(folder / part for part in inner)):
        if any((base / mark).is_dir() for mark in marks):
            return base
    raise _unlike_published(name, folder, f"it holds none of {marks[0]} .. {marks[-1]}")


def _classes(name: str, base: Path, folder: str, suffixes: Sequence[str], options: DataSpace) -> _Part:
    """List the samples of a part that has a folder for each class; a class needs a sample for each split."""
    part, problems, least = _Part(), [], 3 if not folder else 2 if folder == "Train" else 1
    for label, class_name in enumerate(SETS[name].classes):
        below = f"{folder}/{class_name}" if folder else class_name
        files = files_in(base, below, suffixes)
        if len(files) < least:
            problems.append(f"{below} holds {len(files)} {suffixes[0]} files, where {least} or more are needed")
        part.add(files, label)
    return _checked_part(name, base, folder, part, problems, options)


def _gestures(name: str, base: Path, folder: str, options: DataSpace) -> _Part:
    """List the samples of a part that has folders userNN_LIGHT with files LABEL.npy; a sample's group is its user."""
    part, problems = _Part(), []
    for session in folders_in(base / folder):
        for file in files_in(base, f"{folder}/{session}", (".npy",)):
            stem = Path(file.name).stem
            if stem.isdecimal() and int(stem) < len(SETS[name].classes):
                part.add([file], int(stem), session.split("_")[0])
            else:
                problems.append(f"{file.name} is not called after a gesture, 0.npy .. 10.npy")
    if not part.files:
        problems.append(f"{folder} holds no recordings")
    elif folder == "ibmGestureTrain" and len(set(part.groups)) < 2:
        problems.append(f"{folder} holds one user; two or more are needed, as validation is taken from other users")
    return _checked_part(name, base, folder, part, problems, options)


def _checked_part(name: str, base: Path, folder: str, part: _Part, problems: list[str], options: DataSpace) -> _Part:
    published = SETS[name].counts[folder]
    if not problems and not options.partial and len(part.files) < published:
        problems = [_too_few(len(part.files), published, folder)]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise _unlike_published(name, base, "; ".join(problems[:3]) + more)
    return part


def _too_few(found: int, published: int, folder: str) -> str:
    place = f" in {folder}" if folder else ""
    return f"{found} of the published {published} samples are there{place}; partial: true takes what is there"


def _unlike_published(name: str, folder: Path, problem: str) -> UserError:
    published = SETS[name]
    return UserError(
        f"{folder}: is not a whole {name}: {problem}. Expected there: {published.layout}. "
        f"Published at {published.source}"
    )


def _class_folder_parts(name: str, folder: Path) -> list[_Part]:
    """List the samples of a user's folder: one part, or train and test (or val), or train, validation and test."""
    names = [""]
    if (folder / TRAIN_FOLDER).is_dir():
        held = [part for part in ("validation", "val", "test") if (folder / part).is_dir()]
        if not held:
            raise UserError(f"{folder}: has a folder train but neither test nor val beside it; add one of them")
        names = [TRAIN_FOLDER, held[0], "test"] if "test" in held and len(held) > 1 else [TRAIN_FOLDER, held[0]]
    classes = class_folders(folder)
    if not classes:
        raise UserError(f"{folder}: holds no class folders; expected there: {SETS[name].layout}")
    return [_class_folder_part(name, folder, part, classes, names) for part in names]


def _class_folder_part(data: str, folder: Path, name: str, classes: Sequence[str], parts: Sequence[str]) -> _Part:
    part, problems = _Part(), []
    suffixes, kind = (EVENT_SUFFIXES, "recording") if data == EVENT_FOLDER else (IMAGE_SUFFIXES, "image")
    splits = {1: 3, 2: 2, 3: 1}[len(parts)] if name == parts[0] else 1  # taken from this part
    for label, class_name in enumerate(classes):
        below = f"{name}/{class_name}" if name else class_name
        files = files_in(folder, below, suffixes)
        if len(files) < splits:
            problems.append(
                f"{below} holds {_counted(len(files), kind)}, where {splits} or more are needed, one for each split"
            )
        part.add(files, label)
    unknown = sorted(set(folders_in(folder / name)) - set(classes)) if name else []
    problems += [f"{name}/{class_name} is no class of {parts[0]}" for class_name in unknown]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"{folder}: {'; '.join(problems[:3])}{more}. Add {kind}s, or remove the folder of the class")
    return part


def _counted(count: int, kind: str) -> str:
    return f"{count or 'no'} {kind}{'' if count == 1 else 's'}"


_Pixels = NDArray[np.uint8]
_ReadPart = Callable[[str, Path, str], tuple[_Pixels, _Pixels]]


def _index_of_arrays(name: str, options: DataSpace, base: Path, read: _ReadPart) -> SampleIndex:
    published = SETS[name]
    pixels, labels = [], []
    for part, count in published.counts.items():
        part_pixels, part_labels = read(name, base, part)
        if len(part_labels) < count and not options.partial:
            raise _unlike_published(name, base, _too_few(len(part_labels), count, f"the {part} files"))
        numbers = np.bincount(part_labels, minlength=len(published.classes))
        if len(numbers) > len(published.classes):
            raise UserError(f"{base}: {name} has the labels 0 to 9, a {part} file has {len(numbers) - 1}; get it again")
        if numbers.min() < (least := 2 if part == TRAIN_FOLDER else 1):
            few = _counted(int(numbers.min()), "image")
            raise UserError(
                f"{base}: class {int(numbers.argmin())} of {name} has {few} in the {part} files, "
                f"where {least} or more are needed; get them again"
            )
        pixels.append(part_pixels)
        labels.append(part_labels.astype(np.int64))
    all_labels, bound = np.concatenate(labels), len(labels[0])
    parts = [np.arange(bound), np.arange(bound, len(all_labels))]
    splits = _splits(all_labels, parts, (), options)
    return SampleIndex(labels=all_labels, splits=splits, base=base, pixels=np.concatenate(pixels))


def _idx_base(name: str, folder: Path) -> Path:
    around = {"mnist": ("raw", "MNIST/raw"), "fashion-mnist": ("raw", "FashionMNIST/raw")}[name]
    for base in (folder, *(folder / part for part in around)):
        if any(base.glob("t*-idx?-ubyte*")) or any(base.glob("t*.idx?-ubyte*")):
            return base
    raise _unlike_published(name, folder, "it holds none of these files")


def _read_idx_part(name: str, base: Path, part: str) -> tuple[_Pixels, _Pixels]:
    arrays = []
    for content, dimensions in (("images", 3), ("labels", 1)):
        # Some programs that unpack these files put a dot before idx.
        stems = [f"{part}-{content}{dash}idx{dimensions}-ubyte" for dash in "-."]
        paths = [base / f"{stem}{suffix}" for stem in stems for suffix in ("", ".gz")]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise _unlike_published(name, base, f"{stems[0]} is missing")
        array = read_idx(path)
        if array.ndim != dimensions or (dimensions == 3 and array.shape[1:] != (28, 28)):
            raise UserError(f"{path}: holds an array {list(array.shape)}, where {content} of {name} were expected")
        arrays.append(array)
    images, labels = arrays
    if len(images) != len(labels):
        raise UserError(f"{base}: {len(images)} {part} images have {len(labels)} labels; get both files again")
    return images[:, None], labels


def _read_cifar_part(name: str, base: Path, part: str) -> tuple[_Pixels, _Pixels]:
    stems = [f"data_batch_{number}" for number in range(1, 6)] if part == TRAIN_FOLDER else ["test_batch"]
    for folder, suffix, read in (
        ("cifar-10-batches-bin", ".bin", read_cifar_bin),
        ("cifar-10-batches-py", "", read_cifar_pickle),
    ):
        for place in (base / folder, base):
            paths = [place / f"{stem}{suffix}" for stem in stems]
            missing = [path.name for path in paths if not path.is_file()]
            if not missing:
                batches = [read(path) for path in paths]
                return np.concatenate([batch[0] for batch in batches]), np.concatenate([batch[1] for batch in batches])
            if len(missing) < len(paths):
                raise _unlike_published(name, place, f"{', '.join(missing)} missing")
    raise _unlike_published(name, base, f"{stems[0]} is missing")
