"""The data sets that a space may name: their classes, sizes and layouts, and where they are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from spquant_search.data.simulation.saccades import POLARITIES, Camera

TRAIN_FOLDER = "train"
IMAGE_FOLDER = "image-folder"
EVENT_FOLDER = "event-folder"
PYTHON = "python"
CLASS_FOLDER_SETS = (IMAGE_FOLDER, EVENT_FOLDER)  # of the user, with a folder for each class

Kind = Literal["package", "events", "images", "python"]


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
    source: str = ""  # empty for a set of the user's own
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
        description="images, a folder for each class",
        channels=3,
        layout="CLASS/IMAGE.png (or .jpg, ...), or train/CLASS/IMAGE.png beside test/CLASS/IMAGE.png (or val/)",
    ),
    EVENT_FOLDER: PublishedSet(
        kind="events",
        description="event-camera recordings, a folder for each class",
        layout=(
            "CLASS/RECORDING.npy (or .npz, .h5, .csv, .raw, .dat, .aedat, .aedat4, .bin), "
            "or train/CLASS/RECORDING.npy beside test/CLASS/RECORDING.npy (or val/)"
        ),
    ),
    PYTHON: PublishedSet(
        kind="python",
        description="samples that a function of the user's returns",
        source="wherever the samples are from",
    ),
}
NAMES: tuple[str, ...] = tuple(SETS)
