"""The data sets that a space may name: their classes, sizes and layouts, and where they are published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spquant_search.data.simulation.saccades import POLARITIES, Camera
from spquant_search.errors import OptionError, Problem
from spquant_search.space.messages import suggestion
from spquant_search.space.schema import DataSpace

LARGEST_COUNT = 15  # event counts are clamped to four bits before a network sees them
LARGEST_PIXEL = 255
POLARITY_CHANNELS = {"both": 2, "sum": 1, "both-and-sum": 3}
# Pixels around an image, for saccades of 7 pixels: N-MNIST has as many around a 28 x 28 digit on its 34 x 34 sensor.
SACCADE_MARGIN = 6
TRAIN_FOLDER = "train"
IMAGE_FOLDER = "image-folder"
EVENT_FOLDER = "event-folder"
CLASS_FOLDER_SETS = (IMAGE_FOLDER, EVENT_FOLDER)  # of the user, with a folder for each class

Kind = Literal["package", "events", "images"]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A published file at a stable address; ``leaves`` are the files or folders that it adds to the data's folder."""

    url: str
    file: str
    md5: str
    leaves: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedSet:
    """A data set in the form in which its authors publish it."""

    kind: Kind
    description: str
    classes: tuple[str, ...] = ()
    channels: int = POLARITIES
    height: int = 0  # of the sensor or the images, in pixels; 0: differs from image to image
    width: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)  # samples by the folder or file that holds them
    layout: str = ""
    source: str = ""
    archives: tuple[Archive, ...] = ()


_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
# Folder names; the label of a class is its place here. Caltech-101 without Faces, which shows what Faces_easy shows.
_CALTECH101 = tuple(
    """
    BACKGROUND_Google Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai
    brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body
    cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar
    elephant emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone
    hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly
    menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver rhino rooster
    saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign strawberry
    sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair wrench yin_yang
    """.split()  # noqa: SIM905 - a hundred names in eight lines
)
_IDX_LAYOUT = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
    "each plain or .gz"
)


def _idx_archives(address: str, **md5: str) -> tuple[Archive, ...]:
    """Return the four packed IDX files below one address; ``md5`` has a checksum for the beginning of each name."""
    files = {name: f"{name.replace('_', '-')}-idx{3 if 'images' in name else 1}-ubyte.gz" for name in md5}
    return tuple(
        Archive(url=address + files[name], file=files[name], md5=md5[name], leaves=(files[name],)) for name in md5
    )


_MENDELEY = "https://data.mendeley.com/public-files/datasets/{}/file_downloaded"

SETS: Mapping[str, PublishedSet] = {
    "fashion-events": PublishedSet(
        kind="package",
        description="simulated event-camera recordings of Fashion-MNIST images moved in three micro-saccades",
        classes=_CLOTHES,
        height=Camera().height,
        width=Camera().width,
    ),
    "nmnist": PublishedSet(
        kind="events",
        description="N-MNIST: MNIST digits on a screen before a moving event camera",
        classes=_DIGITS,
        height=34,
        width=34,
        counts={"Train": 60_000, "Test": 10_000},
        layout="Train/0 .. Train/9 and Test/0 .. Test/9 with files NNNNN.bin",
        source="https://www.garrickorchard.com/datasets/n-mnist",
        archives=(
            Archive(
                url=_MENDELEY.format("468j46mzdv/files/39c25547-014b-4137-a934-9d29fa53c7a0"),
                file="train.zip",
                md5="20959b8e626244a1b502305a9e6e2031",
                leaves=("Train",),
            ),
            Archive(
                url=_MENDELEY.format("468j46mzdv/files/05a4d654-7e03-4c15-bdfa-9bb2bcbea494"),
                file="test.zip",
                md5="69ca8762b2fe404d9b9bad1103e97832",
                leaves=("Test",),
            ),
        ),
    ),
    "cifar10-dvs": PublishedSet(
        kind="events",
        description="CIFAR10-DVS: CIFAR-10 images moved on a screen before an event camera",
        classes=_CIFAR10,
        height=128,
        width=128,
        counts={"": 10_000},
        layout="airplane .. truck, a folder for each of the ten classes, with files *.aedat4",
        source="https://figshare.com/ndownloader/files/38023437 (recordings as AEDAT4)",
        archives=(
            Archive(
                url="https://figshare.com/ndownloader/files/38023437",
                file="CIFAR10DVS.zip",
                md5="ce3a4a0682dc0943703bd8f749a7701c",
                leaves=_CIFAR10,
            ),
        ),
    ),
    "n-caltech101": PublishedSet(
        kind="events",
        description="N-Caltech101: Caltech-101 images on a screen before a moving event camera",
        classes=_CALTECH101,
        height=180,
        width=240,
        counts={"": 8709},
        layout="BACKGROUND_Google .. yin_yang, a folder for each of the 101 classes, with files image_NNNN.bin",
        source="https://www.garrickorchard.com/datasets/n-caltech101",
        archives=(
            Archive(
                url=_MENDELEY.format("cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49"),
                file="N-Caltech101-archive.zip",
                md5="66201824eabb0239c7ab992480b50ba3",
                leaves=("Caltech101",),
            ),
        ),
    ),
    "dvs-gesture": PublishedSet(
        kind="events",
        description="DVS128 Gesture: people's gestures before an event camera",
        classes=_GESTURES,
        height=128,
        width=128,
        counts={"ibmGestureTrain": 1077, "ibmGestureTest": 264},
        layout="ibmGestureTrain and ibmGestureTest with folders userNN_LIGHT and files 0.npy .. 10.npy",
        source=(
            "https://figshare.com/ndownloader/files/38022171 and https://figshare.com/ndownloader/files/38020584 "
            "(recordings cut into gestures)"
        ),
        archives=(
            Archive(
                url="https://figshare.com/ndownloader/files/38022171",
                file="ibmGestureTrain.tar.gz",
                md5="3a8f0d4120a166bac7591f77409cb105",
                leaves=("ibmGestureTrain",),
            ),
            Archive(
                url="https://figshare.com/ndownloader/files/38020584",
                file="ibmGestureTest.tar.gz",
                md5="56070e45dadaa85fff82e0fbfbc06de5",
                leaves=("ibmGestureTest",),
            ),
        ),
    ),
    "mnist": PublishedSet(
        kind="images",
        description="MNIST: images of handwritten digits",
        classes=_DIGITS,
        channels=1,
        height=28,
        width=28,
        counts={TRAIN_FOLDER: 60_000, "t10k": 10_000},
        layout=_IDX_LAYOUT,
        source="http://yann.lecun.com/exdb/mnist/",
        archives=_idx_archives(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",  # PyTorch's mirror
            train_images="f68b3c2dcbeaaa9fbdd348bbdeb94873",
            train_labels="d53e105ee54ea40749a09fcbcd1e9432",
            t10k_images="9fb629c4189551a2d022fa330f9573f3",
            t10k_labels="ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion-mnist": PublishedSet(
        kind="images",
        description="Fashion-MNIST: images of clothes",
        classes=_CLOTHES,
        channels=1,
        height=28,
        width=28,
        counts={TRAIN_FOLDER: 60_000, "t10k": 10_000},
        layout=_IDX_LAYOUT,
        source="https://github.com/zalandoresearch/fashion-mnist, or Debian's package dataset-fashion-mnist",
        archives=_idx_archives(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            train_images="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            train_labels="25c81989df183df01b3e8a0aad5dffbe",
            t10k_images="bef4ecab320f06d8554ea6380940ec79",
            t10k_labels="bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "cifar10": PublishedSet(
        kind="images",
        description="CIFAR-10: colour images of animals and vehicles",
        classes=_CIFAR10,
        channels=3,
        height=32,
        width=32,
        counts={TRAIN_FOLDER: 50_000, "test": 10_000},
        layout=(
            "cifar-10-batches-bin with data_batch_1.bin .. data_batch_5.bin and test_batch.bin, "
            "or cifar-10-batches-py with data_batch_1 .. data_batch_5 and test_batch"
        ),
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        archives=(
            Archive(
                url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                file="cifar-10-binary.tar.gz",
                md5="c32a1d4ab5d03f1284b67883e8d87530",
                leaves=("cifar-10-batches-bin",),
            ),
        ),
    ),
    IMAGE_FOLDER: PublishedSet(
        kind="images",
        description="colour images of the user's, a folder for each class",
        channels=3,
        layout="CLASS/IMAGE.png (or .jpg, ...), or train/CLASS/IMAGE.png beside test/CLASS/IMAGE.png (or val/)",
        source="wherever the images are from",
    ),
    EVENT_FOLDER: PublishedSet(
        kind="events",
        description="event-camera recordings of the user's, a folder for each class",
        layout=(
            "CLASS/RECORDING.npy (or .h5, .hdf5, .bin, .aedat4), "
            "or train/CLASS/RECORDING.npy beside test/CLASS/RECORDING.npy (or val/)"
        ),
        source="wherever the recordings are from",
    ),
}
NAMES: tuple[str, ...] = tuple(SETS)


def describe(name: str, options: DataSpace | None = None) -> DataInfo:
    """Return the classes and the frame size of a data set, without its files.

    Only ``image-folder`` and ``event-folder`` may need the files: their classes are their folders, unless
    ``options.classes`` says how many there are.

    Raises:
        OptionError: options are wrong; it holds a problem for each of them.
    """
    options = options or DataSpace(name=name)
    if name not in SETS:
        known = f"Known: {', '.join(NAMES)}"
        raise OptionError([Problem("name", f"unknown data set {name!r}{suggestion(name, NAMES)} {known}")])
    published = SETS[name]
    if problems := _wrong_options(name, published, options):
        raise OptionError(problems)
    classes = _folder_classes(name, options) if name in CLASS_FOLDER_SETS else published.classes
    height, width = options.size or options.crop or recorded_size(name, options)
    channels, static = published.channels, published.kind == "images" and not options.as_events
    description = published.description
    if published.kind == "events":
        channels = POLARITY_CHANNELS[options.polarity]
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
    )


def recorded_size(name: str, options: DataSpace) -> tuple[int, int]:
    """Return the (height, width) in pixels of the sensor or the images; (0, 0) where images differ in size."""
    return options.sensor or (SETS[name].height, SETS[name].width)


def folder_of(name: str, options: DataSpace) -> Path:
    """Return the folder with the files of a set that does not come with the package."""
    published = SETS[name]
    source = f"Published at {published.source}"
    if options.root is None:
        sentence = f"{name} does not come with the package; name the folder that holds {published.layout}. {source}"
        raise OptionError([Problem("root", sentence)])
    folder = Path(options.root).expanduser()
    if not folder.is_dir():
        sentence = f"{folder} is no folder; {name} needs one that holds {published.layout}. {source}"
        raise OptionError([Problem("root", sentence)])
    return folder


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the classes of a folder of images or recordings, in the order of their labels."""
    base = folder / TRAIN_FOLDER if (folder / TRAIN_FOLDER).is_dir() else folder
    return tuple(sorted(entry.name for entry in os.scandir(base) if entry.is_dir() and not entry.name.startswith(".")))


def _wrong_options(name: str, published: PublishedSet, options: DataSpace) -> list[Problem]:
    """Find the options that this data set does not have, needs, or cannot fulfil."""
    recorded, fixed = published.kind == "events", published.kind == "package"
    meaningless = {
        "root": fixed and options.root is not None,
        "size": fixed and options.size is not None,
        "crop": not recorded and options.crop is not None,
        "polarity": not recorded and options.polarity != "both",
        "denoise_us": not recorded and options.denoise_us is not None,
        "sort_events": not recorded and options.sort_events,
        "as_events": published.kind != "images" and options.as_events,
        "partial": (fixed or name in CLASS_FOLDER_SETS) and options.partial,
        "classes": name not in CLASS_FOLDER_SETS and options.classes is not None,
        "sensor": name != EVENT_FOLDER and options.sensor is not None,
        "time_unit": name != EVENT_FOLDER and options.time_unit != "us",
        "columns": name != EVENT_FOLDER and options.columns is not None,
    }
    problems = [
        Problem(option, f"{name} has no such option; remove the key")
        for option, is_given in meaningless.items()
        if is_given
    ]
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
    if options.root is not None and Path(options.root).expanduser().is_dir():
        found = class_folders(Path(options.root).expanduser())
        if options.classes not in (None, len(found)):
            sentence = f"{options.root} holds {len(found)} class folders, not {options.classes}"
            raise OptionError([Problem("classes", sentence)])
        if found:
            return found
    if options.classes is None:
        sentence = f"say how many {name} has, or name by root a folder that holds class folders"
        raise OptionError([Problem("classes", sentence)])
    return tuple(f"class {number}" for number in range(options.classes))
