"""The cache of frames: one whole file for each recipe, whatever is killed, full, damaged or started twice."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from data.tiny_events import cached_files, content, load_tiny
from numpy.typing import NDArray

from spquant_search.data import cache as frames
from spquant_search.data.simulation import simulated
from spquant_search.data.simulation.saccades import Camera
from spquant_search.data.simulation.simulated import SimulatedFrames
from spquant_search.errors import UserError
from spquant_search.runs import files

SHAPE = (5, 2, 2, 3, 4)


def test_key_is_of_everything_that_shapes_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((2, 28, 28), np.uint8)
    base = SimulatedFrames(images=pixels, first_number=0, time_steps=6)
    variants = [
        replace(base, images=pixels + np.uint8(1)),
        replace(base, images=pixels[:1]),
        replace(base, images=pixels.reshape(2, 14, 56)),
        replace(base, first_number=1),
        replace(base, time_steps=7),
        *(
            replace(base, camera=replace(Camera(), **{field.name: getattr(Camera(), field.name) + 1}))
            for field in fields(Camera)
            if field.name != "step_us"
        ),
        replace(base, camera=Camera(step_us=750)),
    ]
    recipes = [recording.recipe() for recording in (base, *variants)]
    monkeypatch.setattr(simulated, "SIMULATION_VERSION", -1)
    recipes.append(base.recipe())
    paths = {frames.cache_path(Path("cache"), "name", recipe) for recipe in recipes}
    assert len(paths) == len(recipes) == 6 + len(asdict(Camera())) + 1
    monkeypatch.undo()
    assert frames.cache_path(Path("cache"), "name", base.recipe()) in paths


def test_equal_recipes_have_one_file_and_are_built_once(tmp_path: Path) -> None:
    first = content(load_tiny(tmp_path))
    files = {path: path.stat().st_mtime_ns for path in cached_files(tmp_path)}
    assert [path.name.rsplit("-", 1)[0] for path in files] == [
        "fashion-events-test",
        "fashion-events-train",
        "fashion-events-validation",
    ]
    assert content(load_tiny(tmp_path)) == first
    assert {path: path.stat().st_mtime_ns for path in cached_files(tmp_path)} == files
    load_tiny(tmp_path, time_steps=4)
    assert len(cached_files(tmp_path)) == 6


def test_a_cached_file_is_an_ordinary_npy_file(tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path)
    (path,) = tmp_path.glob("*-train-*.npy")
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), loaded.train.frames)


def damage_first_frame(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[300] ^= 1
    path.write_bytes(whole)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_the_trailer(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4)


def replace_by_text(path: Path) -> None:
    path.write_text("not frames")


def replace_by_nothing(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_another_shape(path: Path) -> None:
    other = np.zeros((20, 3, 2, 17, 68), np.uint8)
    np.save(path, other)
    with path.open("ab") as file:
        file.write(struct.pack("<Iq", zlib.crc32(other.data), 1_700_000_000))


@pytest.mark.parametrize(
    "harm",
    [damage_first_frame, cut_short, cut_the_trailer, replace_by_text, replace_by_nothing, replace_by_another_shape],
)
def test_a_damaged_file_is_made_again(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    whole = content(load_tiny(tmp_path))
    (path,) = tmp_path.glob("*-train-*.npy")
    before = path.read_bytes()
    harm(path)
    assert path.read_bytes() != before
    assert content(load_tiny(tmp_path)) == whole
    assert path.read_bytes()[:-8] == before[:-8]  # all but the time


def sample_frames() -> NDArray[np.uint8]:
    return np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)


def block(part: NDArray[np.uint8]) -> frames.Block:
    return frames.Block(part, np.empty((len(part), 0), np.int64))


def test_what_was_counted_of_samples_lies_beside_their_frames(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.npy", sample_frames()
    counts = np.array([[0, -1], [2**40, 5], [7, 8], [9, 10], [11, 12]])
    parts = [frames.Block(whole[:2], counts[:2]), frames.Block(whole[2:], counts[2:])]
    made = frames.read_or_build(path, SHAPE, lambda: parts, numbers=2)
    read = frames.read_or_build(path, SHAPE, lambda: pytest.fail("must be cached"), numbers=2)
    np.testing.assert_array_equal(read, whole)
    np.testing.assert_array_equal(frames.counts_of(made), counts)
    np.testing.assert_array_equal(frames.counts_of(read), counts)
    frames.check_every_byte(read)
    content = bytearray(path.read_bytes())
    content[-13] ^= 1  # the last of the counts
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npy: is damaged"):
        frames.check_every_byte(read)
    again = frames.read_or_build(path, SHAPE, lambda: [frames.Block(whole, counts + 1)], numbers=2)
    np.testing.assert_array_equal(frames.counts_of(again), counts + 1)
    bare = frames.read_or_build(path, SHAPE, lambda: [block(whole)])
    assert frames.counts_of(bare).shape == (5, 0), "another number of counts is another file"


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_crc", lambda file, size: pytest.fail("must be opened without being read"))


def test_a_file_that_nothing_has_written_to_is_opened_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "a.npy", sample_frames()
    frames.read_or_build(path, SHAPE, lambda: [block(whole)])
    assert path.stat().st_mtime_ns % (2 * 10**9) == 0  # what every file system keeps
    assert 0 <= time.time() - path.stat().st_mtime < 60
    unread(monkeypatch)
    np.testing.assert_array_equal(frames.read_or_build(path, SHAPE, lambda: pytest.fail("must be cached")), whole)


def test_a_copy_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy, whole = tmp_path / "a.npy", tmp_path / "b.npy", sample_frames()
    frames.read_or_build(path, SHAPE, lambda: [block(whole)])
    shutil.copyfile(path, copy)
    assert copy.stat().st_mtime_ns != path.stat().st_mtime_ns
    np.testing.assert_array_equal(frames.read_or_build(copy, SHAPE, lambda: pytest.fail("must be whole")), whole)
    assert copy.stat().st_mtime_ns == path.stat().st_mtime_ns
    unread(monkeypatch)
    frames.read_or_build(copy, SHAPE, lambda: pytest.fail("must be cached"))


def test_what_a_disk_loses_by_itself_is_found_on_demand(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.npy", sample_frames()
    frames.read_or_build(path, SHAPE, lambda: [block(whole)])
    time_ns = path.stat().st_mtime_ns
    damage_first_frame(path)
    os.utime(path, ns=(time_ns, time_ns))
    trusted = frames.read_or_build(path, SHAPE, lambda: pytest.fail("must be trusted"))
    assert (trusted != whole).sum() == 1
    with pytest.raises(UserError) as caught:
        frames.check_every_byte(trusted)
    assert str(caught.value) == (
        f"{path}: is damaged; check the disk, and delete the file: the next start makes it again"
    )
    path.unlink()
    frames.check_every_byte(frames.read_or_build(path, SHAPE, lambda: [block(whole)]))


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[frames.Block]:
        yield block(sample_frames()[:2])
        raise KeyboardInterrupt

    path = tmp_path / "cache" / "a.npy"
    with pytest.raises(KeyboardInterrupt):
        frames.read_or_build(path, SHAPE, interrupted)
    assert cached_files(path.parent) == []


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from spquant_search.data import loading\n"
        "die = lambda done, total: os._exit(9) if done > 200 else None\n"
        "limit = dict(train=300, validation=1, test=1)\n"
        "loading.load('fashion-events', time_steps=3, cache_dir=pathlib.Path(sys.argv[1]), limit=limit, progress=die)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 9
    left, lock = cached_files(tmp_path)
    assert (lock.name[:6], lock.suffix) == (".lock-", ".npy")
    assert left.name.endswith(".tmp")
    assert sorted(path.suffix for path in left.iterdir()) == ["", ".npy"]

    load_tiny(tmp_path)  # the next that builds removes it
    assert [path.suffix for path in cached_files(tmp_path)] == [".npy"] * 3


def test_a_build_that_does_not_get_on_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is stopped; and should it go on later, it replaces the file by an equal one."""
    monkeypatch.setattr(frames, "_LOOK_S", 0.05)
    monkeypatch.setattr(frames, "_STUCK_S", 0.4)
    path, whole = tmp_path / "a.npy", sample_frames()
    goes_on, began = threading.Event(), threading.Event()

    def stops() -> Iterator[frames.Block]:
        for part in (whole[:2], whole[2:4]):  # as long as it grows it is waited for
            yield block(part)
            began.set()
            time.sleep(0.3)
        goes_on.wait(30)
        yield block(whole[4:])

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(lambda: frames.read_or_build(path, SHAPE, stops))
        assert began.wait(10)
        before = time.monotonic()
        with pytest.warns(UserWarning, match=rf"a\.npy: process {os.getpid()} on .* has built nothing of it for 0\.0"):
            np.testing.assert_array_equal(frames.read_or_build(path, SHAPE, lambda: [block(whole)]), whole)
        assert time.monotonic() - before > 0.6
        goes_on.set()
        np.testing.assert_array_equal(stopped.result(), whole)
    np.testing.assert_array_equal(frames.read_or_build(path, SHAPE, lambda: pytest.fail("must be cached")), whole)
    assert cached_files(tmp_path) == [path]


def test_of_several_that_start_together_one_builds(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.npy", sample_frames()
    built = []

    def slow() -> Iterator[frames.Block]:
        built.append(1)
        yield block(whole[:2])
        time.sleep(0.1)
        yield block(whole[2:])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: frames.read_or_build(path, SHAPE, slow), range(8)))
    for read in answers:
        np.testing.assert_array_equal(read, whole)
    assert len(built) == 1
    assert cached_files(tmp_path) == [path]


def test_whoever_waits_is_told_for_whom_and_how_far_that_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_LOOK_S", 0.02)
    path, whole = tmp_path / "a.npy", sample_frames()
    began, goes_on, told = threading.Event(), threading.Event(), []

    def slow() -> Iterator[frames.Block]:
        yield block(whole[:2])
        began.set()
        goes_on.wait(30)
        yield block(whole[2:])

    def waiting(who: str, done: int, total: int) -> None:
        told.append((who, done, total))
        goes_on.set()

    with ThreadPoolExecutor(1) as pool:
        slow_one = pool.submit(lambda: frames.read_or_build(path, SHAPE, slow, waiting=waiting))
        assert began.wait(10)
        mine = frames.read_or_build(path, SHAPE, lambda: pytest.fail("must be waited for"), waiting=waiting)
        np.testing.assert_array_equal(mine, slow_one.result())
    who, done, total = told[0]
    assert who.startswith(f"process {os.getpid()} on ")
    header = path.stat().st_size - whole.nbytes - 12
    assert (done, total) == (min(header + whole[:2].nbytes, whole.nbytes), whole.nbytes)
    frames.read_or_build(path, SHAPE, lambda: pytest.fail("must be cached"), waiting=lambda *_: pytest.fail("no wait"))


def test_without_locks_a_build_that_another_overtakes_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", unsupported)
    path, whole = tmp_path / "a.npy", sample_frames()
    overtaken = []

    def slow() -> Iterator[frames.Block]:
        yield block(whole[:2])
        overtaken.append(frames.read_or_build(path, SHAPE, lambda: [block(whole)]))
        yield block(whole[2:])

    mine = frames.read_or_build(path, SHAPE, slow)
    for read in (mine, overtaken[0], frames.read_or_build(path, SHAPE, lambda: pytest.fail("must be cached"))):
        np.testing.assert_array_equal(read, whole)
    assert cached_files(tmp_path) == [path]


def test_two_processes_may_start_together(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from spquant_search.data import loading\n"
        "limit = dict(train=300, validation=1, test=1)\n"
        "loaded = loading.load('fashion-events', time_steps=3, cache_dir=pathlib.Path(sys.argv[1]), limit=limit)\n"
        "print(int(loaded.train.frames.astype('u8').sum()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1] != ""
    assert [path.suffix for path in cached_files(tmp_path)] == [".npy"] * 3


def test_an_unwritable_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError) as caught:
        load_tiny(blocked / "cache")
    assert str(caught.value) == (
        f"{blocked}/cache: the cache of frames cannot be written (Not a directory); "
        "choose another folder by the environment variable SPQUANT_CACHE"
    )


def test_frames_that_no_disk_holds_are_not_begun(tmp_path: Path) -> None:
    def build() -> Iterator[frames.Block]:
        raise AssertionError("hours of work for nothing")

    shape = (60_000, 10_000, 2, 16_384, 16_384)
    with pytest.raises(UserError, match=r": 60,000 samples of 10000 frames of 2x16384x16384 take [\d,.]+ GiB, and"):
        frames.read_or_build(tmp_path / "cache" / "a.npy", shape, build)
    assert not list(tmp_path.rglob("*.npy"))


def test_a_full_disk_is_the_users_to_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(frames, "_append", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); choose another folder"):
        load_tiny(tmp_path)
    assert cached_files(tmp_path) == []


def test_an_error_of_the_callers_callback_is_not_blamed_on_the_cache(tmp_path: Path) -> None:
    def broken(done: int, total: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        load_tiny(tmp_path, progress=broken)


def test_a_disk_that_loses_bytes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_append", lambda path, content: path.write_bytes(content))
    with pytest.raises(UserError, match=r"a\.npy: reads back other bytes than were written; check the disk, or choose"):
        frames.read_or_build(tmp_path / "a.npy", SHAPE, lambda: [block(sample_frames())])


def test_where_the_cache_is_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SPQUANT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert files.cache_folder() == tmp_path / ".cache" / "spquant-search"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert files.cache_folder() == tmp_path / ".cache" / "spquant-search"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert files.cache_folder() == Path("/xdg/spquant-search")
    monkeypatch.setenv("SPQUANT_CACHE", "~/mine")
    assert files.cache_folder() == tmp_path / "mine"
    load_tiny(None)
    assert len(cached_files(tmp_path / "mine")) == 3


def test_a_recipe_is_plain_json() -> None:
    recipe = SimulatedFrames(images=np.zeros((1, 28, 28), np.uint8), first_number=0, time_steps=6).recipe()
    assert json.loads(json.dumps(recipe))["camera"]["threshold"] == 0.458
