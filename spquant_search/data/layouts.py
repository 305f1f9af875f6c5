"""Find the samples of each split in a folder of a published layout; only names, sizes and labels are read.

Train and test splits are the publisher's. Where there is no test split, a share of each class is held out for it.
Validation is taken from train. DVS128 Gesture is divided by people, like its published test split.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.catalog import CLASS_FOLDER_SETS, EVENT_FOLDER, SETS, TRAIN_FOLDER
from spquant_search.data.class_folders import (
    class_names,
    labelled_files,
    shared_prefix_note,
    split_folders,
    unknown_classes,
    unread_files,
    unused_note,
)
from spquant_search.data.description import folder_of
from spquant_search.data.events.event_files import event_suffixes
from spquant_search.data.file_listing import File, LabelledFiles, files_in, folders_in
from spquant_search.data.images.formats import read_cifar_bin, read_cifar_pickle, read_idx
from spquant_search.data.images.stills import IMAGE_SUFFIXES
from spquant_search.data.splits import hold_out, hold_out_groups, proportional_order
from spquant_search.errors import UserError, first_of
from spquant_search.space.schema import DataSpace

Indices = NDArray[np.int64]
_NUMBERS = {"train": 0, "validation": 1, "test": 2}  # of the splits, for their random numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleIndex:
    """All samples of a data set, and which of them are in each split, by its name, in which order."""

    labels: Indices
    splits: Mapping[str, Indices]
    base: Path
    files: tuple[File, ...] = ()  # of sets with one file a sample
    pixels: NDArray[np.uint8] | None = None  # of other sets: [sample, channel, rows, columns]
    notes: tuple[str, ...] = ()  # what a user should know of the splits


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
        return _index_of_class_folders(name, folder, options)
    else:
        inner = {"cifar10-dvs": ("CIFAR10DVS",), "n-caltech101": ("Caltech101", "NCALTECH101/Caltech101")}[name]
        base = _inner_folder(name, folder, inner, SETS[name].classes)
        suffix = ".aedat4" if name == "cifar10-dvs" else ".bin"
        parts = [_classes(name, base, "", (suffix,), options)]
    return _divided(parts, base, options)


def _divided(parts: Sequence[LabelledFiles], base: Path, options: DataSpace) -> SampleIndex:
    """Divide parts into splits: one part holds all samples, two are train and test, three have validation between."""
    files = tuple(file for part in parts for file in part.files)
    labels = np.array([label for part in parts for label in part.labels], np.int64)
    groups = [group for part in parts for group in part.groups]
    bounds = np.cumsum([0, *(len(part.files) for part in parts)])
    ranges = [np.arange(low, high) for low, high in pairwise(bounds)]
    return SampleIndex(labels=labels, splits=split_samples(labels, ranges, groups, options), base=base, files=files)


def split_samples(
    labels: Indices, parts: Sequence[Indices], groups: Sequence[str], options: DataSpace
) -> dict[str, Indices]:
    """Put samples into splits: one part holds all, two are train and test, three have validation between."""
    seed = options.split_seed

    def without(split: str, indices: Indices, share: float, *, keep: int) -> tuple[Indices, Indices]:
        number = _NUMBERS[split]
        if any(groups):
            return hold_out_groups(groups, indices, share, seed, keep=keep, number=number)
        return hold_out(labels, indices, share, seed, keep=keep, number=number)

    train = parts[0]
    if len(parts) == 1:
        train, test = without("test", train, options.test_share, keep=2)
    else:
        test = parts[-1]
    if len(parts) == 3:
        validation = parts[1]
    else:
        train, validation = without("validation", train, options.validation_share, keep=1)
    chosen = {"train": train, "validation": validation, "test": test}
    return {
        split: proportional_order(labels, indices, seed, number=_NUMBERS[split]) for split, indices in chosen.items()
    }


def _inner_folder(name: str, folder: Path, inner: Sequence[str], marks: Sequence[str]) -> Path:
    """Return ``folder``, or the folder in it that archives and other readers put around the data."""
    for base in (folder, *(folder / part for part in inner)):
        if any((base / mark).is_dir() for mark in marks):
            return base
    raise _unlike_published(name, folder, f"it holds none of {marks[0]} .. {marks[-1]}")


def _classes(name: str, base: Path, folder: str, suffixes: Sequence[str], options: DataSpace) -> LabelledFiles:
    """List the samples of a part that has a folder for each class; a class needs a sample for each split."""
    part, problems, least = LabelledFiles(), [], 3 if not folder else 2 if folder == "Train" else 1
    for label, class_name in enumerate(SETS[name].classes):
        below = f"{folder}/{class_name}" if folder else class_name
        files = files_in(base, below, suffixes)
        if len(files) < least:
            problems.append(f"{below} holds {len(files)} {suffixes[0]} files, where {least} or more are needed")
        part.add(files, label)
    return _checked_part(name, base, folder, part, problems, options)


def _gestures(name: str, base: Path, folder: str, options: DataSpace) -> LabelledFiles:
    """List the samples of a part that has folders userNN_LIGHT with files LABEL.npy; a sample's group is its user."""
    part, problems = LabelledFiles(), []
    for session in folders_in(base / folder):
        for file in files_in(base, f"{folder}/{session}", (".npy",)):
            stem = Path(file.name).stem
            if stem.isdecimal() and int(stem) < len(SETS[name].classes):
                part.add([file], int(stem), [session.split("_")[0]])
            else:
                problems.append(f"{file.name} is not called after a gesture, 0.npy .. 10.npy")
    if not part.files:
        problems.append(f"{folder} holds no recordings")
    elif folder == "ibmGestureTrain" and len(set(part.groups)) < 2:
        problems.append(f"{folder} holds one user; two or more are needed, as validation is taken from other users")
    return _checked_part(name, base, folder, part, problems, options)


def _checked_part(
    name: str, base: Path, folder: str, part: LabelledFiles, problems: list[str], options: DataSpace
) -> LabelledFiles:
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


def _index_of_class_folders(name: str, folder: Path, options: DataSpace) -> SampleIndex:
    """List a user's samples: one part, or train and test (or validation), or train, validation and test."""
    found = split_folders(folder)
    classes = class_names(folder)
    if not classes:
        raise UserError(f"{folder}: holds no class folders; expected there: {SETS[name].layout}")
    names = tuple(found.by_split.values()) or ("",)
    suffixes, kind = (event_suffixes(options), "recording") if name == EVENT_FOLDER else (IMAGE_SUFFIXES, "image")
    parts = [labelled_files(folder, below, classes, suffixes, group=options.group) for below in names]
    by_folder = dict(zip(names, parts, strict=True))
    _require_class_samples(folder, by_folder, classes, kind, suffixes, grouped=bool(options.group))
    if options.group is not None:
        _require_groups(folder, by_folder)
    index = _divided(parts, folder, options)
    splits = {
        split: [(index.files[at].name, int(index.labels[at])) for at in order.tolist()]
        for split, order in index.splits.items()
    }
    notes = [*unused_note(folder, found), *_absent_class_notes(index, classes)]
    if unread := unread_files(folder, by_folder, classes):
        notes.append(f"in class folders {unread}")
    if options.group is None:
        notes += shared_prefix_note(splits)
    return replace(index, notes=tuple(notes))


def _require_class_samples(
    folder: Path,
    parts: Mapping[str, LabelledFiles],
    classes: Sequence[str],
    kind: str,
    suffixes: Collection[str],
    *,
    grouped: bool,
) -> None:
    """Refuse parts in which a class has too few samples, one for each split, or that have other classes than train."""
    problems, first = [], next(iter(parts))
    for name, part in parts.items():
        # Splits that are taken from this part; whole groups may leave a class out of one, which a note then says.
        least = {1: 3, 2: 2, 3: 1}[len(parts)] if name == first and not grouped else 1
        counts = np.bincount(part.labels, minlength=len(classes))
        problems += [
            f"{name}{'/' if name else ''}{class_name} holds {_counted(count, kind)}, where {least} or more are needed, "
            "one for each split"
            for class_name, count in zip(classes, counts.tolist(), strict=True)
            if count < least
        ]
        problems += [f"{name}/{other} is no class of {first}" for other in unknown_classes(folder, name, classes)]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        words = f"{'; '.join(problems[:3])}{more}. "
        if unread := unread_files(folder, parts, classes):
            words += f"There {unread}; {kind}s are {', '.join(sorted(suffixes))}"
            words += "; a function of yours reads others (data.reader). " if kind == "recording" else ". "
        raise UserError(f"{folder}: {words}Add {kind}s, or remove the folder of the class")


def _require_groups(folder: Path, parts: Mapping[str, LabelledFiles]) -> None:
    """Refuse groups that are in two folders of splits, and too few groups to divide train by them."""
    first = next(iter(parts))
    least = {1: 3, 2: 2, 3: 1}[len(parts)]
    if (count := len(set(parts[first].groups))) < least:
        raise UserError(
            f"{folder}: data.group finds {count} group{'' if count == 1 else 's'} in {first or 'it'}, where {least} or "
            "more are needed, one for each split; change the pattern"
        )
    for one, other in combinations(parts, 2):
        if both := sorted(set(parts[one].groups) & set(parts[other].groups)):
            raise UserError(
                f"{folder}: {first_of(both, 3)} of data.group are in {one} "
                f"and in {other}; move their files into one of these folders"
            )


def _absent_class_notes(index: SampleIndex, classes: Sequence[str]) -> list[str]:
    notes = []
    for split, order in index.splits.items():
        absent = sorted(set(range(len(classes))) - set(index.labels[order].tolist()))
        if absent:
            names = first_of([classes[label] for label in absent], 3)
            notes.append(
                f"{split} has no sample of {names}: their groups are in other splits; data.split_seed draws again"
            )
    return notes


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
    splits = split_samples(all_labels, parts, (), options)
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
