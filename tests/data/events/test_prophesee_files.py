"""Prophesee's own files: words by hand, a plain loop over random words, and headers that are not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from data import camera_writers
from data.camera_writers import HEADERS, WORD, write_dat, write_words
from data.event_writers import HEIGHT, WIDTH, Rows, made_up_events
from data.read_events import failure, read

from spquant_search.data.events import prophesee_raw

SENSOR = (HEIGHT, WIDTH)
_LOOPS: dict[str, Callable[[Sequence[int]], list[tuple[int, int, int, int]]]] = {
    "EVT2": camera_writers.decoded_evt2,
    "EVT21": camera_writers.decoded_evt21,
    "EVT3": camera_writers.decoded_evt3,
}
_WORDS: dict[str, Callable[[Rows], list[int]]] = {
    "EVT2": camera_writers.evt2_words,
    "EVT21": camera_writers.evt21_words,
    "EVT3": camera_writers.evt3_words,
}


def in_rows(count: int = 400) -> Rows:
    """Draw events of which many share a row, a time and a polarity, from the left to the right."""
    generator = np.random.default_rng(1)
    rows = made_up_events(3, WIDTH, HEIGHT, count)
    rows[:, [1, 2, 3]] = rows[:, [1, 2, 3]][np.sort(generator.integers(0, count, count))]
    return rows[np.lexsort((rows[:, 0], rows[:, 3], rows[:, 1], rows[:, 2]))]


@pytest.mark.parametrize("encoding", list(HEADERS))
@pytest.mark.parametrize("rows", [made_up_events(1, WIDTH, HEIGHT), in_rows()], ids=["alone", "in rows"])
def test_every_event_of_a_raw_file(tmp_path: Path, encoding: str, rows: Rows) -> None:
    path = tmp_path / "a.RAW"
    write_words(path, encoding, _WORDS[encoding](rows))
    np.testing.assert_array_equal(read(path, sensor=SENSOR), rows)


def test_words_of_evt2_by_hand(tmp_path: Path) -> None:
    write_words(
        tmp_path / "a.raw",
        "EVT2",
        [
            0x10000000,  # an event before any time is passed over
            0x80000001,  # time 64 and on
            0x11405014,  # ON, 5 us, x = 10, y = 20
            0xA0000001,  # a trigger
            0xE0000000,  # something else
            0xF2345678,  # which goes on
            0x0FFFFFFF,  # OFF, 63 us, x = y = 2047
            0x8FFFFFFF,  # the last 64 us of the clock
            0x1FC00000,
            0x80000000,  # which starts again
            0x10400000,
        ],
    )
    assert read(tmp_path / "a.raw").tolist() == [
        [10, 20, 69, 1],
        [2047, 2047, 127, 0],
        [0, 0, 2**34 - 1, 1],
        [0, 0, 2**34 + 1, 1],
    ]


def test_words_of_evt3_by_hand(tmp_path: Path) -> None:
    write_words(
        tmp_path / "a.raw",
        "EVT3",
        [
            0x2005,  # an event before any time is passed over
            0x8001,  # time 4096 and on
            0x6005,
            0x0064,  # row 100
            0x280A,  # ON at 10
            0x3014,  # OFF from 20 on
            0x4803,  # 20, 21 and 31
            0x4001,  # 32
            0x5081,  # 44 and 51
            0x5080,  # the next vector goes on: 59
            0xA001,  # a trigger
            0xE014,  # something else
            0xF123,
            0x7001,
            0x1003,  # a row of something else
            0x2009,
            0x0807,  # row 7, of the second camera
            0x2FFF,  # ON at 2047
            0x8002,  # the lower bits are 0 until they are said
            0x2001,
            0x6FFF,
            0x8002,  # the same again changes nothing
            0x2002,
            0x8FFF,
            0x6FFF,
            0x2003,
            0x8000,  # the clock starts again
            0x2004,
        ],
    )
    assert read(tmp_path / "a.raw").tolist() == [
        [10, 100, 4101, 1],
        *([x, 100, 4101, 0] for x in (20, 21, 31, 32, 44, 51, 59)),
        [2047, 7, 4101, 1],
        [1, 7, 8192, 0],
        [2, 7, 8192 + 4095, 0],
        [3, 7, 2**24 - 1, 0],
        [4, 7, 2**24, 0],
    ]


def test_words_of_evt21_by_hand(tmp_path: Path) -> None:
    words = [0x8000_0001_0000_0000, 0x1140_5014_8000_0003, 0xE000_0000_FFFF_FFFF, 0x0FC0_0001_0000_0010]
    expected = [[10, 20, 69, 1], [11, 20, 69, 1], [41, 20, 69, 1], [4, 1, 127, 0]]
    write_words(tmp_path / "a.raw", "EVT21", words)
    assert read(tmp_path / "a.raw").tolist() == expected
    swapped = [(word & 0xFFFFFFFF) << 32 | word >> 32 for word in words]
    write_words(tmp_path / "a.raw", "EVT21", swapped, b"% format EVT21;endianness=legacy\n% end\n")
    assert read(tmp_path / "a.raw").tolist() == expected


@pytest.mark.parametrize("encoding", list(HEADERS))
@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_random_words_agree_with_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, block: int
) -> None:
    monkeypatch.setattr(prophesee_raw, "_BLOCK_WORDS", block)
    bits = 8 * np.dtype(WORD[encoding]).itemsize
    for seed in range(10):
        generator = np.random.default_rng(seed)
        words = generator.integers(0, np.iinfo(np.uint64).max, 300, np.uint64)
        kinds = generator.choice([0, 1, 2, 3, 4, 5, 6, 8, 8, 10, 14, 15, 7], 300).astype(np.uint64)
        words = words & np.uint64((1 << bits - 4) - 1) | kinds << np.uint64(bits - 4)
        write_words(tmp_path / "a.raw", encoding, words.tolist())
        expected = np.array(_LOOPS[encoding](words.tolist()), np.int64).reshape(-1, 4)
        np.testing.assert_array_equal(read(tmp_path / "a.raw"), expected)
        assert len(expected) > 20


@pytest.mark.parametrize(
    "header",
    [
        b"% evt 2.0\n",
        b"% evt 2.0\r\n% geometry 24x20\r\n",
        b"% format EVT2\n% end\n",
        b"% Date 2026-11-30\n%\n% format EVT2;width=24;height=20\n% end\n",
    ],
)
def test_headers_with_and_without_an_end(tmp_path: Path, header: bytes) -> None:
    rows = made_up_events(1, WIDTH, HEIGHT)
    write_words(tmp_path / "a.raw", "EVT2", camera_writers.evt2_words(rows), header)
    np.testing.assert_array_equal(read(tmp_path / "a.raw", sensor=SENSOR), rows)


def test_words_that_look_like_a_header(tmp_path: Path) -> None:
    """0x2025 is both an event at 37 and the characters of a comment."""
    for end in (b"% end\n", b""):
        write_words(tmp_path / "a.raw", "EVT3", [0x2025, 0x8000, 0x2025], b"% evt 3.0\n" + end)
        assert read(tmp_path / "a.raw").tolist() == [[37, 0, 0, 0]]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"% evt 4.0\n% end\n", "is encoded as '4.0', and EVT2, EVT21 and EVT3 are read; convert it to one"),
        (b"% format EVT4;height=20;width=24\n% end\n", "is encoded as 'EVT4', and EVT2"),
        (b"% format HISTO3D;height=20;width=24\n% end\n", "is encoded as 'HISTO3D', and EVT2"),
        (b"% evt 2.1\n% end\n", "is encoded as EVT 2.1 and does not say in which order of bytes"),
        (b"% geometry 24x20\n% end\n", "its header does not say in which of Prophesee's encodings it is"),
        (b"", "its header does not say in which of Prophesee's encodings it is"),
    ],
)
def test_encodings_that_are_not_read_are_named(tmp_path: Path, header: bytes, words: str) -> None:
    write_words(tmp_path / "a.raw", "EVT3", [0x8000, 0x2025], header)
    assert failure(tmp_path / "a.raw").startswith(f"{tmp_path / 'a.raw'}: {words}")


@pytest.mark.parametrize("encoding", list(HEADERS))
def test_a_raw_file_whose_end_is_cut(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.raw"
    write_words(path, encoding, _WORDS[encoding](made_up_events(1, WIDTH, HEIGHT)))
    path.write_bytes(path.read_bytes()[:-1])
    assert (
        f"a.raw: cannot be read: its end is cut: its last {np.dtype(WORD[encoding]).itemsize}-byte word is not w"
        in (failure(path))
    )


def test_a_sensor_of_another_size_is_refused(tmp_path: Path) -> None:
    write_words(tmp_path / "a.raw", "EVT3", [], b"% evt 3.0\n% geometry 1280x720\n% end\n")
    write_dat(tmp_path / "a.dat", made_up_events(1, WIDTH, HEIGHT))
    for name, size in (("a.raw", [720, 1280]), ("a.dat", [20, 24])):
        assert failure(tmp_path / name, sensor=(480, 640)) == (
            f"{tmp_path / name}: is a recording of {size} pixels [height, width], and data.sensor says [480, 640]; "
            f"write sensor: {size}, and keep recordings of other cameras elsewhere"
        )


@pytest.mark.parametrize("version", [1, 2])
def test_every_event_of_a_dat_file(tmp_path: Path, version: int) -> None:
    rows = made_up_events(1, WIDTH, HEIGHT)
    write_dat(tmp_path / "a.dat", rows, version)
    np.testing.assert_array_equal(read(tmp_path / "a.dat", sensor=SENSOR), rows)


def test_events_of_dat_files_by_hand(tmp_path: Path) -> None:
    events = bytes.fromhex("feffffff0ac0001000000000ff3f0000ffffffff00c0ff0f0100000000000000")
    for kind in (b"\x00\x08", b"\x0c\x08"):
        (tmp_path / "a.dat").write_bytes(b"% Data file containing TD events.\n% Version 2.0\n" + kind + events)
        assert read(tmp_path / "a.dat").tolist() == [
            [10, 3, 2**32 - 2, 1],
            [2**14 - 1, 0, 2**32, 0],  # the clock has started again
            [0, 2**14 - 1, 2**32 - 1, 0],  # and here not yet
            [0, 0, 2**32 + 1, 0],
        ]
    (tmp_path / "a.dat").write_bytes(b"% Version 1\n\x00\x08" + bytes.fromhex("07000000ff0102000800000000fe0100"))
    assert read(tmp_path / "a.dat").tolist() == [[511, 0, 7, 1], [0, 255, 8, 0]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read: it does not begin with the header of a .dat file"),
        (b"\x0c\x08" + bytes(16), "cannot be read: it does not begin with the header of a .dat file"),
        (b"% Date x\n\x0c\x08" + bytes(8), "its header names no version, where 1 and 2 are read"),
        (b"% Version 3\n\x0c\x08" + bytes(8), "its header names the version '3', where 1 and 2 are read"),
        (
            b"% Version 2\n\x0e\x08" + bytes(8),
            "holds events of type 0x0e and 8 bytes, where changes of contrast are of",
        ),
        (b"% Version 2\n\x0c\x10" + bytes(16), "holds events of type 0x0c and 16 bytes"),
        (b"% Version 2\n\x0c", "holds events of type 0x0c and no bytes"),
        (b"% Version 2\n", "holds events of type 0x? and no bytes"),
        (b"% Version 2\n\x0c\x08" + bytes(9), "cannot be read: its end is cut: its last 8-byte event is not whole"),
    ],
)
def test_dat_files_that_are_not_read(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.dat").write_bytes(content)
    assert failure(tmp_path / "a.dat").startswith(f"{tmp_path / 'a.dat'}: {words}")


def test_files_without_events_hold_none(tmp_path: Path) -> None:
    write_words(tmp_path / "a.raw", "EVT3", [])
    write_words(tmp_path / "b.raw", "EVT3", [0x8000])
    write_words(tmp_path / "c.raw", "EVT2", [0xE0000000])
    write_dat(tmp_path / "d.dat", np.empty((0, 4), np.int64))
    assert [len(read(tmp_path / name)) for name in ("a.raw", "b.raw", "c.raw", "d.dat")] == [0, 0, 0, 0]
