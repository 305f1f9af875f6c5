"""Find the splits and classes of a user's folder: a folder for each class, perhaps below one for each split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spquant_search.data.events.event_files import TEXT_SUFFIXES
from spquant_search.data.file_listing import ANY_FILE, LabelledFiles, files_in, folders_in, visible_files
from spquant_search.errors import UserError, first_of

# How folders of splits are called, apart from capitals, signs, and a word such as "set" behind.
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
_WORDS_BEHIND = re.compile(r"(set|data|split|images|recordings|samples|events)$")
_FROM_ARCHIVES = frozenset({"__MACOSX"})
_FEW = 3  # names that a sentence lists


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFolders:
    """The folders of splits by the name of their split, and other folders beside them."""

    by_split: Mapping[str, str]  # train, validation, test; empty where the folder holds classes
    others: tuple[str, ...] = ()


def split_folders(folder: Path) -> SplitFolders:
    """Find which folders in ``folder`` are splits. A folder without folders in it is a class, whatever its name.

    Raises:
        UserError: two folders are the same split, or there is no train beside test or validation.
    """
    found: dict[str, list[str]] = {}
    names = _folder_names(folder)
    for name in names:
        split = _split_called(name)
        if split is not None and _folder_names(folder / name):
            found.setdefault(split, []).append(name)
    for split, same in found.items():
        if len(same) > 1:
            raise UserError(f"{folder}: {' and '.join(same)} are both called after {split}; keep one, or join them")
    splits = {split: found[split][0] for split in _SPLIT_NAMES if split in found}
    if splits and "train" not in splits:
        held = " and ".join(splits.values())
        raise UserError(
            f"{folder}: holds {held}, but no folder train beside; it holds {first_of(names, _FEW)}. "
            "Call that of train train"
        )
    if "train" in splits and len(splits) == 1:
        beside = [
            f"{name} holds no class folders" if _split_called(name) else f"{name} is called after no split"
            for name in names
            if name != splits["train"]
        ]
        raise UserError(
            f"{folder}: has a folder {splits['train']} but neither test nor val with classes beside it"
            f"{f' ({first_of(beside, _FEW)})' if beside else ''}; add one of them"
        )
    others = tuple(name for name in names if name not in splits.values()) if splits else ()
    return SplitFolders(by_split=splits, others=others)


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the classes of a folder in the order of their labels: by name, and numbers in names by their value.

    Raises:
        UserError: a name is no text in UTF-8, or as :func:`split_folders`.
    """
    found = tuple(_folder_names(folder / split_folders(folder).by_split.get("train", "")))
    for name in found:
        if re.search("[\ud800-\udfff]", name):  # how os lists bytes that are none
            raise UserError(f"{folder}: the name of the class folder {name!r} is no text in UTF-8; rename it")
    return found


def natural_key(name: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """Return what sorts names with numbers by their value: class 2 before class 10."""
    words = re.split(r"([0-9]+)", name)
    pairs = zip(words[::2], [*map(int, words[1::2]), -1], strict=True)
    return tuple(pairs), name


def labelled_files(
    folder: Path, below: str, classes: Sequence[str], suffixes: Collection[str], *, group: str | None
) -> LabelledFiles:
    """List the files of each class in ``folder``/``below``, each with the group that a pattern finds in its name.

    Text beside recordings in other formats is notes, and not listed.

    Raises:
        UserError: the pattern finds nothing in the name of a file.
    """
    part = LabelledFiles()
    for label, class_name in enumerate(classes):
        files = files_in(folder, f"{below}/{class_name}" if below else class_name, suffixes)
        if suffixes != ANY_FILE:
            files = [file for file in files if Path(file.name).suffix.lower() not in TEXT_SUFFIXES] or files
        groups = None if group is None else [_group_of(folder / file.name, group) for file in files]
        part.add(files, label, groups)
    return part


def unread_files(folder: Path, parts: Mapping[str, LabelledFiles], classes: Sequence[str]) -> str:
    """Say how many files of class folders are not among the listed ones, by their suffixes; "" where all are."""
    listed = {file.name for part in parts.values() for file in part.files}
    left: Counter[str] = Counter()
    for below in (f"{part}/{name}" if part else name for part in parts for name in classes):
        others = (name for name in visible_files(folder / below) if f"{below}/{name}" not in listed)
        left.update(Path(name).suffix.lower() or "without a suffix" for name in others)
    if not left:
        return ""
    suffixes = [f"{suffix} ({count:,})" for suffix, count in sorted(left.items(), key=lambda item: (-item[1], item))]
    count = left.total()
    return f"{count:,} file{' is' if count == 1 else 's are'} not read: {first_of(suffixes, _FEW)}"


def unknown_classes(folder: Path, below: str, classes: Sequence[str]) -> list[str]:
    """List the folders of a split that train has no class for."""
    return [name for name in _folder_names(folder / below) if name not in classes] if below else []


def _group_of(path: Path, pattern: str) -> str:
    found = re.search(pattern, path.stem)
    group = None if found is None else found.group(1) if found.re.groups else found.group()
    if group is None:
        raise UserError(f"{path}: data.group {pattern!r} finds no group in its name {path.stem!r}; change the pattern")
    return group


def unused_note(folder: Path, found: SplitFolders) -> tuple[str, ...]:
    """Say which folders beside those of splits are not used."""
    if not found.others:
        return ()
    used = ", ".join(found.by_split.values())
    return (f"{folder}: the splits are {used}; not used: {first_of(found.others, _FEW)}",)


def shared_prefix_note(parts: Mapping[str, Iterable[tuple[str, int]]]) -> tuple[str, ...]:
    """Say where files whose names begin alike, as those of one person or session may, are in several splits.

    ``parts``: of each split the path and label of its files. Names count where those of one class begin differently,
    so that neither IMG_0001 nor dog_0001 does.
    """
    splits_of: dict[str, set[str]] = {}
    beginnings: dict[int, set[str]] = {}
    for split, files in parts.items():
        for name, label in files:
            first, separator, _ = re.sub(r"[-_. ]", "_", Path(name).stem).partition("_")
            if separator and first:
                splits_of.setdefault(first, set()).add(split)
                beginnings.setdefault(label, set()).add(first)
    differing = {first for found in beginnings.values() if len(found) > 1 for first in found}
    shared = sorted((first for first in differing if len(splits_of[first]) > 1), key=natural_key)
    if not shared:
        return ()
    return (
        f"files whose names begin with {first_of(shared, _FEW)} are in more than one split; if these are people or "
        r"sessions, their samples are too easy to test on: data.group: '^([^-_. ]+)' keeps each of them in one split",
    )


def _split_called(name: str) -> str | None:
    plain = re.sub(r"[^a-z]", "", name.lower())
    plain = _WORDS_BEHIND.sub("", plain)
    return next((split for split, names in _SPLIT_NAMES.items() if plain in names), None)


def _folder_names(folder: Path) -> list[str]:
    return sorted((name for name in folders_in(folder) if name not in _FROM_ARCHIVES), key=natural_key)
