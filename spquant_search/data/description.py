"""Describe a data set without loading it: its classes and frame size, and whether its options fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spquant_search.data.catalog import (
    CLASS_FOLDER_SETS,
    EVENT_FOLDER,
    IMAGE_FOLDER,
    NAMES,
    PYTHON,
    SETS,
    PublishedSet,
)
from spquant_search.data.class_folders import class_names, labelled_files, split_folders
from spquant_search.data.events.binning import POLARITY_CHANNELS, Binning
from spquant_search.data.events.event_files import EVENT_SUFFIXES
from spquant_search.data.events.given_frames import holds_frames
from spquant_search.data.file_listing import File
from spquant_search.data.from_python.given import given_samples
from spquant_search.data.from_python.samples import class_names as python_classes
from spquant_search.data.from_python.values import SampleForm
from spquant_search.data.images.channels import folder_channels, published_channels, unseen_channels
from spquant_search.data.images.colours import count_colours
from spquant_search.data.images.stills import IMAGE_SUFFIXES
from spquant_search.data.simulation.saccades import POLARITIES, SACCADE_MARGIN
from spquant_search.errors import OptionError, Problem
from spquant_search.runs.files import cache_folder
from spquant_search.space.messages import LONGEST_VALUE, shown, suggestion
from spquant_search.space.schema import DataSpace

LARGEST_COUNT = 15  # event counts are clamped to four bits before a network sees them
LARGEST_PIXEL = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class DataInfo:
    """A data set before it is loaded: sizes in pixels, the same for every number of time steps."""

    name: str
    description: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    largest: int = LARGEST_COUNT  # value that a network is shown; larger values are to be clamped to it
    static: bool = False  # one frame a sample, the same in every time step
    frames_given: bool = False  # recordings are frames that another program has made, without times of events
    notes: tuple[str, ...] = ()  # what a user should know of its channels


def describe(name: str, options: DataSpace | None = None, *, time_steps: int = 1) -> DataInfo:
    """Return the classes and the frame size of a data set, without its files.

    Samples that a user's function returns are looked at; it may return others for other ``time_steps``.

    Only ``image-folder`` and ``event-folder`` may need the files: their classes are their folders, unless
    ``options.classes`` says how many there are. Of images that are there the headers are read: where all are grey,
    frames have one channel.

    Raises:
        OptionError: options are wrong; it holds a problem for each of them.
    """
    options = options or DataSpace(name=name)
    if name not in SETS:
        known = f"Known: {', '.join(NAMES)}"
        raise OptionError([Problem("name", f"unknown data set {shown(name)}{suggestion(name, NAMES)} {known}")])
    published = SETS[name]
    if problems := _wrong_options(name, published, options):
        raise OptionError(problems)
    if name == PYTHON:
        return python_info(options, *_form_and_classes(options, time_steps, cache_folder() / "recordings"))
    classes = _folder_classes(name, options) if name in CLASS_FOLDER_SETS else published.classes
    height, width = options.size or options.crop or recorded_size(name, options)
    static = published.kind == "images" and not options.as_events
    frames_given = name == EVENT_FOLDER and options.reader is None and _first_holds_frames(options, classes)
    if published.kind == "events" and (problems := _wrong_windows(name, options, frames_given=frames_given)):
        raise OptionError(problems)
    channels, description, notes = published.channels, published.description, tuple[str, ...]()
    if published.kind == "events":
        channels = len(POLARITY_CHANNELS[options.polarity])
    if static:
        channels, notes = _image_channels(name, options, classes)
        description = _with_colours(name, channels)
    if options.as_events:
        height, width, channels = height + SACCADE_MARGIN, width + SACCADE_MARGIN, POLARITIES
        description = f"simulated event-camera recordings of {description}, moved in three micro-saccades"
    return DataInfo(
        name=name,
        description=description,
        classes=classes,
        channels=channels,
        height=height,
        width=width,
        largest=LARGEST_PIXEL if static else LARGEST_COUNT,
        static=static,
        frames_given=frames_given,
        notes=notes,
    )


def _form_and_classes(options: DataSpace, time_steps: int, folder: Path) -> tuple[SampleForm, tuple[str, ...]]:
    if options.samples is None:
        return python_classes(options, time_steps, folder)
    given = given_samples(options.samples, folder).known
    return given.form, given.classes


def python_info(options: DataSpace, form: SampleForm, classes: tuple[str, ...]) -> DataInfo:
    """Describe samples of this form that a user's function returns, or that were given in Python."""
    _, channels, height, width = form.frames
    return DataInfo(
        name=PYTHON,
        description=f"{form.words} {'given in Python' if options.build is None else f'that {options.build} returns'}",
        classes=classes,
        channels=channels,
        height=height,
        width=width,
        largest=LARGEST_PIXEL if form.static else LARGEST_COUNT,
        static=form.static,
    )


def recorded_size(name: str, options: DataSpace) -> tuple[int, int]:
    """Return the (height, width) in pixels of the sensor or the images; (0, 0) where images differ in size."""
    return options.sensor or (SETS[name].height, SETS[name].width)


def binning_of(name: str, options: DataSpace, time_steps: int) -> Binning:
    """Return the way from the events of a set's recordings to frames."""
    sensor = recorded_size(name, options)
    crop = options.crop or sensor
    return Binning(
        sensor=sensor,
        crop=crop,
        size=options.size or crop,
        polarity=options.polarity,
        window_us=options.window_us,
        first_windows=options.first_windows,
        denoise_us=options.denoise_us,
        sort_events=options.sort_events,
        time_steps=time_steps,
    )


def folder_of(name: str, options: DataSpace) -> Path:
    """Return the folder with the files of a set that does not come with the package."""
    published = SETS[name]
    source = f". Published at {published.source}" if published.source else ""
    if options.root is None:
        sentence = f"{name} does not come with the package; name the folder that holds {published.layout}{source}"
        raise OptionError([Problem("root", sentence)])
    folder = folder_at(options.root)
    if folder is None:
        place = options.root[:LONGEST_VALUE]
        sentence = f"{place} is no folder; {name} needs one that holds {published.layout}{source}"
        raise OptionError([Problem("root", sentence)])
    return folder


def folder_at(root: str) -> Path | None:
    """Return the folder that ``data.root`` names; None where there is none that can be read."""
    try:
        folder = Path(root).expanduser()
        return folder if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK) else None
    except (OSError, RuntimeError, ValueError):  # a name that is too long, or ~ of an unknown user
        return None


def _image_channels(name: str, options: DataSpace, classes: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Choose the channels of images that are shown as they are, and say what a user should know of them."""
    if name != IMAGE_FOLDER:
        return published_channels(SETS[name].channels, options.channels)
    folder = None if options.root is None else folder_at(options.root)
    if folder is None or options.channels == 3:
        return unseen_channels(options.channels)
    return folder_channels(count_colours(folder, _image_files(folder, classes), cache=cache_folder()), options.channels)


def _first_holds_frames(options: DataSpace, classes: Sequence[str]) -> bool:
    """Tell whether the first recording of a user's folder is frames; False where it is not there."""
    folder = None if options.root is None else folder_at(options.root)
    if folder is None:
        return False
    below = split_folders(folder).by_split.get("train", "")
    listed = (labelled_files(folder, below, [name], EVENT_SUFFIXES, group=None).files for name in classes)
    first = next((files[0] for files in listed if files), None)
    return first is not None and holds_frames(folder / first.name)


def _wrong_windows(name: str, options: DataSpace, *, frames_given: bool) -> list[Problem]:
    """Find the options of events that frames do not have, and windows of which nothing says how long they are."""
    if not frames_given:
        is_there = name != EVENT_FOLDER or (options.root is not None and folder_at(options.root) is not None)
        if options.first_windows is None or options.window_us is not None or not is_there:
            return []
        sentence = "counts windows of time, and nothing says how long one is; set data.window_us, or remove the key"
        return [Problem("first_windows", sentence)]
    events_only = {
        "window_us": options.window_us is not None,
        "denoise_us": options.denoise_us is not None,
        "sort_events": options.sort_events,
    }
    sentence = "is of events and their times; the files in data.root hold frames. Remove the key"
    return [Problem(key, sentence) for key, is_given in events_only.items() if is_given]


def _with_colours(name: str, channels: int) -> str:
    """Describe images that are shown as they are, with the colours that they are shown in."""
    published = SETS[name]
    if name == IMAGE_FOLDER:
        return f"{'grey' if channels == 1 else 'colour'} {published.description}"
    return f"{published.description}{', turned grey' if channels < published.channels else ''}"


def _image_files(folder: Path, classes: Sequence[str]) -> list[File]:
    parts = tuple(split_folders(folder).by_split.values()) or ("",)
    found = [labelled_files(folder, below, classes, IMAGE_SUFFIXES, group=None).files for below in parts]
    return [file for files in found for file in files]


def _wrong_options(name: str, published: PublishedSet, options: DataSpace) -> list[Problem]:
    """Find the options that this data set does not have, needs, or cannot fulfil."""
    recorded, fixed = published.kind == "events", published.kind in ("package", "python")
    meaningless = {
        "build": name != PYTHON and options.build is not None,
        "samples": name != PYTHON and options.samples is not None,
        "root": fixed and options.root is not None,
        "size": fixed and options.size is not None,
        "crop": not recorded and options.crop is not None,
        "polarity": not recorded and options.polarity != "both",
        "window_us": not recorded and options.window_us is not None,
        "first_windows": not recorded and options.first_windows is not None,
        "denoise_us": not recorded and options.denoise_us is not None,
        "sort_events": not recorded and options.sort_events,
        "as_events": published.kind != "images" and options.as_events,
        "channels": published.kind != "images" and options.channels is not None,
        "white": name != IMAGE_FOLDER and options.white is not None,
        "background": name != IMAGE_FOLDER and options.background is not None,
        "partial": (fixed or name in CLASS_FOLDER_SETS) and options.partial,
        "classes": name not in (*CLASS_FOLDER_SETS, PYTHON) and options.classes is not None,
        "group": name not in CLASS_FOLDER_SETS and options.group is not None,
        "sensor": name != EVENT_FOLDER and options.sensor is not None,
        "time_unit": name != EVENT_FOLDER and options.time_unit != "us",
        "reader": name != EVENT_FOLDER and options.reader is not None,
        "stream": name != EVENT_FOLDER and options.stream is not None,
        "columns": name != EVENT_FOLDER and options.columns is not None,
    }
    problems = [
        Problem(option, f"{name} has no such option; remove the key")
        for option, is_given in meaningless.items()
        if is_given
    ]
    if options.as_events and options.channels is not None and published.kind == "images":
        problems.append(
            Problem("channels", "as_events turns images grey before it records them; remove one of the two")
        )
    if name == PYTHON and options.build is None and options.samples is None:
        sentence = f"{name} needs the function that returns its samples, written package.module:function"
        problems.append(Problem("build", sentence))
    if options.build is not None and options.samples is not None:
        problems.append(Problem("samples", f"names samples that were given, beside {options.build}; remove one key"))
    if name == EVENT_FOLDER and options.sensor is None:
        sentence = f"{name} needs the [height, width] in pixels of the camera that recorded it"
        problems.append(Problem("sensor", sentence))
    elif recorded:
        problems += _too_large(recorded_size(name, options), options)
    if name == IMAGE_FOLDER and options.size is None:
        sentence = f"{name} needs the [height, width] in pixels to which its images are scaled"
        problems.append(Problem("size", sentence))
    return problems


def _too_large(sensor: tuple[int, int], options: DataSpace) -> list[Problem]:
    """Find the sizes that are too large: events can be merged into fewer pixels, not spread over more."""
    problems = []
    for option, value, most in (
        ("crop", options.crop, sensor),
        ("size", options.size, options.crop or sensor),
    ):
        if value is not None and (value[0] > most[0] or value[1] > most[1]):
            sentence = f"must be at most {list(most)} pixels [height, width], not {list(value)}"
            problems.append(Problem(option, sentence))
    return problems


def _folder_classes(name: str, options: DataSpace) -> tuple[str, ...]:
    folder = None if options.root is None else folder_at(options.root)
    if folder is not None:
        return _classes_in(name, folder, options)
    if options.classes is None:
        if options.root is not None:
            folder_of(name, options)  # says what is there instead
        sentence = (
            f"name the folder with {SETS[name].layout}, as by --set data.root=FOLDER; for costs alone, data.classes "
            "may say how many classes there are"
        )
        raise OptionError([Problem("root", sentence)])
    return tuple(f"class {number}" for number in range(options.classes))


def _classes_in(name: str, folder: Path, options: DataSpace) -> tuple[str, ...]:
    found = class_names(folder)
    if not found:
        raise OptionError([Problem("root", _without_classes(name, folder))])
    if options.classes not in (None, len(found)):
        sentence = (
            f"{folder} holds {len(found)} class folders ({_some(found)}), not {options.classes}; "
            f"write {len(found)}, or remove the key"
        )
        if len(found) == 1 and (inner := class_names(folder / found[0])):
            sentence += f". In {folder / found[0]} lie {len(inner)} folders: is that the root?"
        raise OptionError([Problem("classes", sentence)])
    return found


def _without_classes(name: str, folder: Path) -> str:
    """Say what a folder holds instead of class folders, and where they may be."""
    names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    only = f", only {len(names)} files ({_some(names)})" if names else "; it is empty"
    return f"{folder} holds no class folders{only}. Expected in {folder}: {SETS[name].layout}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
