"""Recordings in the published formats, written here and read back through `load`, event for event."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from spquant_search.data import catalog, loading
from spquant_search.data.events import binning as recordings
from spquant_search.data.events import tonic_readers
from spquant_search.data.events.binning import Binning, Events, frame_counts, supported
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

pytest.importorskip("tonic")

Rows = NDArray[np.int64]  # [event, 4]: x, y, t in us, polarity
Write = Callable[[Path, Rows], None]


def made_up(seed: int, width: int, height: int, count: int = 60, step_us: int = 1) -> Rows:
    generator = np.random.default_rng(seed)
    times = np.sort(generator.integers(0, 300_000 // step_us, count)) * step_us
    places = (generator.integers(0, width, count), generator.integers(0, height, count))
    return np.stack([*places, times, generator.integers(0, 2, count)], axis=1)


def write_bin(path: Path, rows: Iterable[Sequence[int]]) -> None:
    """40 bits an event, as on the page that publishes N-MNIST."""
    path.write_bytes(
        b"".join((int(x) << 32 | int(y) << 24 | int(p) << 23 | int(t)).to_bytes(5, "big") for x, y, t, p in rows)
    )


def write_aedat4(path: Path, rows: Rows) -> None:
    dv = pytest.importorskip("dv_processing")
    pytest.importorskip("aedat")
    config = dv.io.MonoCameraWriter.EventOnlyConfig("DVS", (128, 128))
    writer = dv.io.MonoCameraWriter(str(path), config)
    store = dv.EventStore()
    for x, y, t, p in rows.tolist():
        store.push_back(1_600_000_000_000_000 + t, x, y, bool(p))  # the time of day, as in the published files
    writer.writeEvents(store)


def write_npy(path: Path, rows: Rows) -> None:
    x, y, t, p = rows.T
    np.save(path, np.stack([x, y, p, t // 1000], axis=1).astype(np.uint16))


class Published(NamedTuple):
    """How to write a data set's files, and where: the folders of the parts, each with the folders of its classes."""

    name: str
    write: Write
    height: int
    width: int
    parts: tuple[str, ...]
    place: Callable[[str, int, int], str]  # part, label, number -> file
    step_us: int = 1


def by_class(name: str, pattern: str) -> Callable[[str, int, int], str]:
    classes = catalog.SETS[name].classes
    return lambda part, label, number: f"{part}/{classes[label]}/{pattern.format(number)}"


NMNIST = Published("nmnist", write_bin, 34, 34, ("Train", "Test"), by_class("nmnist", "{:05}.bin"))
CIFAR10_DVS = Published("cifar10-dvs", write_aedat4, 128, 128, (".",), by_class("cifar10-dvs", "cifar10_{}.aedat4"))
N_CALTECH101 = Published("n-caltech101", write_bin, 180, 240, (".",), by_class("n-caltech101", "image_{:04}.bin"))
DVS_GESTURE = Published(
    "dvs-gesture",
    write_npy,
    128,
    128,
    ("ibmGestureTrain", "ibmGestureTest"),
    lambda part, label, number: (
        f"{part}/user{number + (24 if part.endswith('Test') else 1):02}_fluorescent/{label}.npy"
    ),
    step_us=1000,
)
ALL = [NMNIST, CIFAR10_DVS, N_CALTECH101, DVS_GESTURE]


def write_set(root: Path, published: Published, per_class: int, count: int = 40) -> dict[str, tuple[int, str, Rows]]:
    """A miniature of a data set; by file: label, part and events. Every recording is another one."""
    written = {}
    for part in published.parts:
        for label in range(len(catalog.SETS[published.name].classes)):
            for number in range(per_class):
                file = published.place(part, label, number)
                rows = made_up(len(written), published.width, published.height, count, published.step_us)
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                published.write(root / file, rows)
                written[file] = (label, part, rows)
    return written


def counted(rows: Rows, time_steps: int, height: int, width: int, sensor: tuple[int, int]) -> NDArray[np.int64]:
    """The frames of a recording, one event after the other."""
    counts = np.zeros((time_steps, 2, height, width), np.int64)
    first, last = rows[0, 2], rows[-1, 2]
    for x, y, t, p in rows.tolist():
        counts[(t - first) * time_steps // (last - first + 1), p, y * height // sensor[0], x * width // sensor[1]] += 1
    return counts


def options(published: Published, root: Path, **more: Any) -> DataSpace:
    return DataSpace(name=published.name, root=str(root), partial=True, **more)


def load(
    published: Published, root: Path, cache: Path, *, limit: dict[str, int] | None = None, **more: Any
) -> loading.DataSet:
    chosen = options(published, root, **more)
    return loading.load(published.name, time_steps=3, options=chosen, cache_dir=cache, limit=limit)


@pytest.mark.parametrize("published", ALL, ids=lambda published: published.name)
def test_every_event_of_every_file_arrives_in_one_split(tmp_path: Path, published: Published) -> None:
    root = tmp_path / "files"
    written = write_set(root, published, per_class=3)
    expected = {
        counted(rows, 3, published.height, published.width, (published.height, published.width))
        .astype(np.uint8)
        .tobytes(): file
        for file, (_, _, rows) in written.items()
    }
    loaded = load(published, root, tmp_path / "cache")
    info = catalog.describe(published.name, options(published, root))
    assert (info.height, info.width, info.channels) == (loaded.height, loaded.width, loaded.channels)
    assert (info.largest, info.static, loaded.largest, loaded.static) == (15, False, 15, False)
    assert loaded.classes == info.classes
    assert loaded.time_steps == 3
    for split in loading.SPLITS:
        part: loading.Split = getattr(loaded, split)
        for frames, label in zip(part.frames, part.labels.tolist(), strict=True):
            file = expected.pop(frames.tobytes())
            assert written[file][0] == label
            if len(published.parts) == 2:
                assert written[file][1] == published.parts[split == "test"]
        if published.name != "dvs-gesture":  # each class has three recordings, or three and three
            counts = (
                {"train": 1, "validation": 1, "test": 1}
                if len(published.parts) == 1
                else {"train": 2, "validation": 1, "test": 3}
            )
            assert np.bincount(part.labels).tolist() == [counts[split]] * len(info.classes)
    assert not expected


def test_gestures_are_divided_by_people(tmp_path: Path) -> None:
    written = write_set(tmp_path / "files", DVS_GESTURE, per_class=4)
    loaded = load(DVS_GESTURE, tmp_path / "files", tmp_path / "cache", validation_share=0.25)
    frames = {frames.tobytes() for frames in loaded.validation.frames}
    users = {
        file.split("/")[1]
        for file, (_, _, rows) in written.items()
        if counted(rows, 3, 128, 128, (128, 128)).astype(np.uint8).tobytes() in frames
    }
    assert len(users) == 1
    assert sorted(loaded.validation.labels.tolist()) == list(range(11))
    assert len(loaded.train.labels) == 33


def test_the_usual_shares_of_each_class(tmp_path: Path) -> None:
    write_set(tmp_path / "files", N_CALTECH101, per_class=3)
    for number in range(3, 20):
        write_bin(tmp_path / "files" / "ant" / f"image_{number:04}.bin", made_up(number, 240, 180))
    loaded = load(N_CALTECH101, tmp_path / "files", tmp_path / "cache")
    ant = loaded.classes.index("ant")
    assert [int((split.labels == ant).sum()) for split in (loaded.train, loaded.validation, loaded.test)] == [16, 2, 2]
    assert len(loaded.classes) == len(set(loaded.classes)) == 101

    more = load(N_CALTECH101, tmp_path / "files", tmp_path / "cache", test_share=0.95)
    assert [int((split.labels == ant).sum()) for split in (more.train, more.validation, more.test)] == [1, 1, 18]


def test_splits_do_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "files", NMNIST, per_class=3)
    first = load(NMNIST, tmp_path / "files", tmp_path / "a")
    scandir = os.scandir

    class Backwards:
        def __init__(self, path: Any) -> None:
            self.path = path

        def __enter__(self) -> Any:
            with scandir(self.path) as entries:
                return reversed(list(entries))

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    second = load(NMNIST, tmp_path / "files", tmp_path / "b")
    monkeypatch.undo()
    other = load(NMNIST, tmp_path / "files", tmp_path / "c", split_seed=1)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, split).frames, getattr(second, split).frames)
    assert first.train.frames.tobytes() != other.train.frames.tobytes()
    assert first.test.labels.tolist() != other.test.labels.tolist()


def test_merged_pixels_and_channels(tmp_path: Path) -> None:
    rows = write_set(tmp_path / "files", N_CALTECH101, per_class=3)
    whole = load(N_CALTECH101, tmp_path / "files", tmp_path / "cache", limit={"train": 4, "validation": 1, "test": 1})
    small = load(
        N_CALTECH101,
        tmp_path / "files",
        tmp_path / "cache",
        limit={"train": 4, "validation": 1, "test": 1},
        size=(48, 64),
        polarity="both-and-sum",
    )
    assert small.train.frames.shape == (4, 3, 3, 48, 64)
    by_frames = {counted(r, 3, 180, 240, (180, 240)).astype(np.uint8).tobytes(): r for _, _, r in rows.values()}
    for big, merged in zip(whole.train.frames, small.train.frames, strict=True):
        expected = counted(by_frames[big.tobytes()], 3, 48, 64, (180, 240))
        np.testing.assert_array_equal(merged[:, :2], expected)
        np.testing.assert_array_equal(merged[:, 2], expected.sum(1))
    described = catalog.describe("n-caltech101", DataSpace(name="n-caltech101", size=(48, 64), polarity="sum"))
    assert (described.channels, described.height, described.width) == (1, 48, 64)


def test_a_second_start_reads_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_set(tmp_path / "files", NMNIST, per_class=2)
    first = load(NMNIST, tmp_path / "files", tmp_path / "cache")
    monkeypatch.setitem(loading._READERS, "nmnist", same_name(lambda path: pytest.fail("must come from the cache")))
    again = load(NMNIST, tmp_path / "files", tmp_path / "cache")
    np.testing.assert_array_equal(first.train.frames, again.train.frames)
    monkeypatch.undo()
    # A file that changes, without a change of its size, is read again.
    file = next(name for name, (_, part, _) in written.items() if part == "Test")
    write_bin(tmp_path / "files" / file, made_up(999, 34, 34, 40))
    os.utime(tmp_path / "files" / file, ns=(1, 1))
    changed = load(NMNIST, tmp_path / "files", tmp_path / "cache")
    assert changed.test.frames.tobytes() != first.test.frames.tobytes()
    assert len(list((tmp_path / "cache").iterdir())) == 4
    # And so is one that changes its size, without a change of its time.
    write_bin(tmp_path / "files" / file, made_up(999, 34, 34, 41))
    os.utime(tmp_path / "files" / file, ns=(1, 1))
    load(NMNIST, tmp_path / "files", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 5
    monkeypatch.setattr(recordings, "BINNING_VERSION", -1)
    load(NMNIST, tmp_path / "files", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 8


def same_name(read: Callable[[Path], Events]) -> Callable[[Path], Events]:
    read.__name__ = "read_bin"
    return read


def test_every_option_has_its_own_cache(tmp_path: Path) -> None:
    write_set(tmp_path / "files", NMNIST, per_class=2, count=400)
    variants: list[dict[str, Any]] = [
        {},
        {"size": (17, 17)},
        {"crop": (20, 20)},
        {"crop": (20, 20), "size": (17, 17)},
        {"polarity": "sum"},
        {"denoise_us": 300_000},
        {"sort_events": True},
    ]
    for more in variants:
        load(NMNIST, tmp_path / "files", tmp_path / "cache", **more)
    loading.load("nmnist", time_steps=4, options=options(NMNIST, tmp_path / "files"), cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3 * (len(variants) + 1)


# From events to frames


def binning(**changes: Any) -> Binning:
    values: dict[str, Any] = {
        "sensor": (6, 8),
        "crop": (6, 8),
        "size": (6, 8),
        "polarity": "both",
        "denoise_us": None,
        "sort_events": False,
        "time_steps": 2,
    }
    return Binning(**(values | changes))


def events(*rows: tuple[int, int, int, int]) -> Events:
    return Events(*np.array(rows, np.int64).reshape(-1, 4).T)


SOURCE = Path("a.bin")


def test_the_last_event_is_in_the_last_frame_and_the_middle_opens_the_second() -> None:
    frames = frame_counts(
        events((0, 0, 100, 0), (1, 0, 149, 1), (2, 0, 150, 0), (7, 5, 199, 1)), binning(), source=SOURCE
    )
    assert frames.dtype == np.uint8
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 2], [1, 1, 5, 7]]


def test_counts_end_at_255() -> None:
    frames = frame_counts(events(*[(3, 2, 7, 1)] * 300), binning(polarity="both-and-sum", time_steps=1), source=SOURCE)
    assert frames[0, :, 2, 3].tolist() == [0, 255, 255]


def test_the_crop_is_the_middle_and_leaves_time_alone() -> None:
    of = events((0, 0, 0, 0), (2, 1, 10, 1), (5, 4, 90, 0), (6, 4, 91, 0), (5, 5, 92, 0), (3, 3, 95, 1), (1, 1, 99, 0))
    frames = frame_counts(of, binning(crop=(4, 4), size=(2, 2)), source=SOURCE)
    assert np.argwhere(frames).tolist() == [[0, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 0]]
    assert frames.sum() == 3


def test_denoising_keeps_what_a_neighbour_backs() -> None:
    of = events(
        (3, 3, 0, 0),  # alone
        (3, 3, 1, 0),  # its own pixel is no neighbour
        (4, 3, 10, 1),  # backed by the one to its left, 9 us before
        (4, 4, 19, 0),  # backed from above
        (5, 5, 19, 0),  # a diagonal backs nothing
        (3, 4, 29, 0),  # 10 us after its neighbour: too late
        (7, 0, 50, 0),
        (0, 1, 51, 0),  # the end of a row is no neighbour of the next one's start
        (0, 2, 51, 1),  # at the same time, each backs the other
    )
    assert supported(of, 8, 10).tolist() == [False, False, True, True, False, False, False, True, True]
    frames = frame_counts(of, binning(denoise_us=10, time_steps=1), source=SOURCE)
    assert np.argwhere(frames).tolist() == [[0, 0, 1, 0], [0, 0, 4, 4], [0, 1, 2, 0], [0, 1, 3, 4]]


def test_denoising_agrees_with_a_loop() -> None:
    rows = made_up(5, 8, 6, 400, 100)
    kept = [
        any(abs(x - a) + abs(y - b) == 1 and 0 <= t - s < 1500 for a, b, s, _ in rows.tolist())
        for x, y, t, _ in rows.tolist()
    ]
    assert supported(Events(*rows.T), 8, 1500).tolist() == kept
    assert 0.1 < np.mean(kept) < 0.9


def test_what_filters_leave_nothing_of_is_named() -> None:
    with pytest.raises(UserError, match=r"^a\.bin: no event is left by crop and denoise_us; choose"):
        frame_counts(events((3, 3, 0, 0)), binning(denoise_us=5), source=SOURCE)


def test_events_in_disorder_are_refused_or_sorted() -> None:
    of = events((0, 0, 5, 0), (1, 0, 9, 0), (2, 0, 3, 1), (3, 0, 10, 1))
    with pytest.raises(UserError) as caught:
        frame_counts(of, binning(), source=SOURCE)
    assert str(caught.value) == (
        "a.bin: time runs backwards from 9 us (event 1) to 3 us; sort_events: true puts events in order. "
        "Get the file again if it is damaged, or remove it"
    )
    frames = frame_counts(of, binning(sort_events=True), source=SOURCE)
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 0], [0, 1, 0, 2], [1, 0, 0, 1], [1, 1, 0, 3]]


def test_all_that_is_wrong_with_a_recording_is_said_at_once() -> None:
    with pytest.raises(UserError) as caught:
        frame_counts(events((0, 0, 5, 0), (8, 0, 5, 2), (-1, 6, 4, -1)), binning(), source=SOURCE)
    assert str(caught.value).startswith(
        "a.bin: event 1 has x 8, where 0 to 7 are possible; event 2 has y 6, where 0 to 5 are possible; "
        "event 1 has polarity 2, where 0 to 1 are possible; time runs backwards from 5 us (event 1) to 4 us"
    )


@pytest.mark.parametrize(
    ("row", "words"), [((-1, 0, 0, 0), "x -1"), ((0, -1, 0, 0), "y -1"), ((0, 0, 0, -1), "polarity -1")]
)
def test_negative_places_are_outside(row: tuple[int, int, int, int], words: str) -> None:
    with pytest.raises(UserError, match=rf"^a\.bin: event 0 has {words}, where 0 to "):
        frame_counts(events(row), binning(), source=SOURCE)


def test_the_largest_coordinates_are_inside() -> None:
    assert frame_counts(events((7, 5, 0, 1)), binning(), source=SOURCE)[0, 1, 5, 7] == 1


# Recordings that cannot be read


@pytest.mark.parametrize("published", [NMNIST, CIFAR10_DVS, DVS_GESTURE], ids=lambda published: published.name)
@pytest.mark.parametrize("damage", ["truncated", "empty", "scrambled"])
def test_a_damaged_recording_is_named(tmp_path: Path, published: Published, damage: str) -> None:
    written = write_set(tmp_path / "files", published, per_class=3)
    path = tmp_path / "files" / list(written)[-1]
    whole = path.read_bytes()
    content = {"truncated": whole[: len(whole) * 2 // 3], "empty": b"", "scrambled": b"\xff" * len(whole)}[damage]
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(published, tmp_path / "files", tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "again" in message
    assert "remove it" in message
    assert "\n" not in message


def test_why_a_recording_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234567")
    with pytest.raises(
        UserError, match=r"a: cannot be read: its 7 bytes are no whole number of 5-byte events\. It is tr"
    ):
        tonic_readers.read_bin(path)
    with pytest.raises(UserError, match=r"b: cannot be read: No such file or directory\. It is"):
        tonic_readers.read_bin(tmp_path / "b")
    for table in (np.zeros((2, 3)), np.zeros(4), np.zeros((2, 4), bool)):
        np.save(tmp_path / "c.npy", table)
        with pytest.raises(UserError, match="it is no table of numbers with four columns"):
            tonic_readers.read_gesture(tmp_path / "c.npy")
    np.save(tmp_path / "c.npy", np.array([[1.0, 1.0, 0.0, np.nan]]))
    with pytest.raises(UserError, match="it holds values that are no finite numbers"):
        tonic_readers.read_gesture(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"d\.npy: cannot be read: Object arrays cannot be loaded"):
        tonic_readers.read_gesture(tmp_path / "d.npy")


def test_times_of_gestures_do_not_overflow(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1, 2, 0, 60_000], [3, 4, 1, 65_000]], np.uint16))
    read = tonic_readers.read_gesture(tmp_path / "a.npy")
    assert [values.tolist() for values in read] == [[1, 3], [2, 4], [60_000_000, 65_000_000], [0, 1]]
    np.save(tmp_path / "a.npy", np.array([[1, 2, 0, 0.029]]))
    assert tonic_readers.read_gesture(tmp_path / "a.npy").t.tolist() == [29]  # 28.999... in binary


def test_overflow_events_of_a_bin_file_are_times_not_places(tmp_path: Path) -> None:
    write_bin(tmp_path / "a.bin", [(1, 2, 100, 0), (0, 240, 0, 0), (3, 4, 50, 1)])
    read = tonic_readers.read_bin(tmp_path / "a.bin")
    assert [values.tolist() for values in read] == [[1, 3], [2, 4], [100, 50 + 2**13], [0, 1]]


def test_an_aedat4_file_without_events_holds_none(tmp_path: Path) -> None:
    write_set(tmp_path / "files", CIFAR10_DVS, per_class=3)
    path = tmp_path / "files" / "cat" / "cifar10_1.aedat4"
    write_aedat4(path, np.empty((0, 4), np.int64))
    with pytest.raises(UserError, match=rf"^{path}: holds no events; get the file again, or remove it$"):
        load(CIFAR10_DVS, tmp_path / "files", tmp_path / "cache")


class PanicException(BaseException):
    """As the decoder's, which is written in Rust."""


@pytest.mark.parametrize("error", [PanicException("out of range"), RuntimeError("out of range"), KeyboardInterrupt()])
def test_a_decoder_that_panics_is_the_files_fault(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    class Broken:
        @staticmethod
        def read_aedat4(path: str) -> None:
            raise error

    monkeypatch.setattr(tonic_readers, "_tonic_io", lambda *packages: Broken)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
    with pytest.raises(expected) as caught:
        tonic_readers.read_aedat4(SOURCE)
    assert expected is KeyboardInterrupt or str(caught.value).startswith("a.bin: cannot be read: out of range. It is")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(UserError) as caught:
        tonic_readers.read_aedat4(SOURCE)
    assert str(caught.value).startswith("reading these recordings needs tonic and aedat, which cannot be imported (")
    assert str(caught.value).endswith("; pip install tonic aedat (tonic's licence is GPL-3.0)")


def test_describing_and_finding_recordings_needs_no_tonic(tmp_path: Path) -> None:
    program = (
        "import sys; from spquant_search.data import catalog; from spquant_search.space.schema import DataSpace\n"
        "own = {'image-folder': {}, 'event-folder': {'sensor': (8, 8)}}\n"
        "for name in catalog.NAMES: catalog.describe(name, DataSpace(name=name, size=(8, 8), classes=2, **own[name]) "
        "if name in own else None)\n"
        "sys.exit('tonic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Folders that are not as published


def failure(name: str, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        loading.load(name, time_steps=3, options=DataSpace(name=name, **more))
    return str(caught.value)


@pytest.mark.parametrize(
    "name", [name for name in catalog.NAMES if name not in ("fashion-events", *catalog.CLASS_FOLDER_SETS)]
)
def test_a_missing_folder_gets_layout_and_source(tmp_path: Path, name: str) -> None:
    known = catalog.SETS[name]
    assert failure(name).startswith(f"root: {name} does not come with the package; name the folder that holds ")
    absent = failure(name, root=str(tmp_path / "absent"))
    assert absent.startswith(f"root: {tmp_path}/absent is no folder; {name} needs one that holds ")
    empty = failure(name, root=str(tmp_path))
    assert empty.startswith(f"{tmp_path}: is not a whole {name}: ")
    for message in (failure(name), absent, empty):
        assert known.layout in message
        assert message.endswith(f"Published at {known.source}")


def test_an_incomplete_set_is_refused_unless_told(tmp_path: Path) -> None:
    write_set(tmp_path, NMNIST, per_class=2)
    assert failure("nmnist", root=str(tmp_path)).startswith(
        f"{tmp_path}: is not a whole nmnist: 20 of the published 60000 samples are there in Train; "
        "partial: true takes what is there. Expected there: Train/0 .. Train/9 and Test/0"
    )
    for label in range(4):
        for file in (tmp_path / "Test" / str(label)).iterdir():
            file.unlink()
    (tmp_path / "Train" / "7" / "00001.bin").unlink()
    assert "Train/7 holds 1 .bin files, where 2 or more are needed. Exp" in failure(
        "nmnist", root=str(tmp_path), partial=True
    )
    write_bin(tmp_path / "Train" / "7" / "00001.bin", made_up(0, 34, 34))
    assert (
        "Test/0 holds 0 .bin files, where 1 or more are needed; Test/1 holds 0 .bin files, where 1 or more are needed; "
        "Test/2 holds 0 .bin files, where 1 or more are needed (and 1 more). Expected there"
    ) in failure("nmnist", root=str(tmp_path), partial=True)


def test_folders_around_the_data_are_looked_into(tmp_path: Path) -> None:
    write_set(tmp_path / "a" / "NMNIST", NMNIST, per_class=2)
    write_set(tmp_path / "b" / "DVSGesture", DVS_GESTURE, per_class=2)
    assert len(load(NMNIST, tmp_path / "a", tmp_path / "cache").train.labels) == 10
    assert len(load(DVS_GESTURE, tmp_path / "b", tmp_path / "cache").train.labels) == 11


def test_gestures_need_two_people_and_known_labels(tmp_path: Path) -> None:
    write_set(tmp_path, DVS_GESTURE, per_class=1)
    message = failure("dvs-gesture", root=str(tmp_path), partial=True)
    assert "ibmGestureTrain holds one user; two or more are needed, as validation is taken from other users" in message
    write_npy(tmp_path / "ibmGestureTrain" / "user01_fluorescent" / "11.npy", made_up(0, 128, 128))
    message = failure("dvs-gesture", root=str(tmp_path), partial=True)
    assert "ibmGestureTrain/user01_fluorescent/11.npy is not called after a gesture, 0.npy .. 10.npy" in message


# Options


@pytest.mark.parametrize(
    ("name", "more", "problems"),
    [
        ("fashion-events", {"root": "x", "size": (8, 8), "partial": True}, ["root", "size", "partial"]),
        ("nmnist", {"as_events": True, "classes": 10}, ["as_events", "classes"]),
        (
            "mnist",
            {"crop": (8, 8), "polarity": "sum", "denoise_us": 1, "sort_events": True},
            ["crop", "polarity", "denoise_us", "sort_events"],
        ),
    ],
)
def test_options_that_a_set_does_not_have(name: str, more: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        catalog.describe(name, DataSpace(name=name, **more))
    expected = [f"{option}: {name} has no such option; remove the key" for option in problems]
    assert str(caught.value).splitlines() == expected


def test_frames_are_no_larger_than_what_was_recorded() -> None:
    with pytest.raises(UserError, match=r"^size: must be at most \[34, 34\] pixels \[height, width\], not \[34, 35\]$"):
        catalog.describe("nmnist", DataSpace(name="nmnist", size=(34, 35)))
    with pytest.raises(UserError, match=r"^size: must be at most \[20, 30\] pixels \[height, width\], not \[21, 1\]$"):
        catalog.describe("nmnist", DataSpace(name="nmnist", crop=(20, 30), size=(21, 1)))
    with pytest.raises(UserError, match=r"^crop: must be at most \[180, 240\] pixels"):
        catalog.describe("n-caltech101", DataSpace(name="n-caltech101", crop=(181, 240)))
    info = catalog.describe("nmnist", DataSpace(name="nmnist", crop=(20, 30)))
    assert (info.height, info.width) == (20, 30)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("nmnist", (2, 34, 34, 10)),
        ("cifar10-dvs", (2, 128, 128, 10)),
        ("n-caltech101", (2, 180, 240, 101)),
        ("dvs-gesture", (2, 128, 128, 11)),
        ("mnist", (1, 28, 28, 10)),
        ("fashion-mnist", (1, 28, 28, 10)),
        ("cifar10", (3, 32, 32, 10)),
    ],
)
def test_what_is_known_without_files(name: str, shape: tuple[int, ...]) -> None:
    info = catalog.describe(name)
    assert (info.channels, info.height, info.width, len(info.classes)) == shape
    assert (info.largest, info.static) == (
        (255, True) if name in ("mnist", "fashion-mnist", "cifar10") else (15, False)
    )


def test_recordings_are_binned_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "files", NMNIST, per_class=4)
    whole = load(NMNIST, tmp_path / "files", tmp_path / "a")
    monkeypatch.setattr(recordings, "_RUN_BYTES", 3 * 2 * 34 * 34 * 7)
    calls: list[int] = []
    parts = loading.load(
        "nmnist",
        time_steps=3,
        options=options(NMNIST, tmp_path / "files"),
        cache_dir=tmp_path / "b",
        progress=lambda done, total: calls.append(done),
    )
    np.testing.assert_array_equal(whole.train.frames, parts.train.frames)
    assert calls == [7, 14, 21, 28, 30, 37, 40, 47, 54, 61, 68, 75, 80]


def test_time_steps_of_recordings_have_no_upper_bound(tmp_path: Path) -> None:
    write_set(tmp_path / "files", NMNIST, per_class=2)
    with pytest.raises(UserError, match=r"^time_steps: must be at least 1, not 0$"):
        loading.load("nmnist", time_steps=0, options=options(NMNIST, tmp_path / "files"))
    limit = {"train": 1, "validation": 1, "test": 1}
    loaded = loading.load(
        "nmnist", time_steps=300, options=options(NMNIST, tmp_path / "files"), limit=limit, cache_dir=tmp_path / "c"
    )
    assert loaded.time_steps == len(loaded.train.frames[0]) == 300
