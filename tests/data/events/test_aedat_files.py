"""AEDAT 2 and 3: bytes by hand, every event of every camera, and files that are not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.camera_writers import AEDAT2, AEDAT3, packet, polarity_packet, write_aedat2, write_aedat3
from data.event_writers import made_up_events
from data.read_events import failure, read

ROWS = made_up_events(1, 128, 128)


@pytest.mark.parametrize(
    ("chip", "sensor"), [("DVS128", (128, 128)), ("DAVIS240C", (180, 240)), ("Davis346red", (260, 346))]
)
@pytest.mark.parametrize("names_camera", [True, False])
def test_every_event_of_an_aedat2_file(tmp_path: Path, chip: str, sensor: tuple[int, int], names_camera: bool) -> None:
    path = tmp_path / "a.aedat"
    write_aedat2(path, ROWS, chip)
    if not names_camera:
        path.write_bytes(path.read_bytes().replace(b"AEChip", b"Camera"))
    np.testing.assert_array_equal(read(path, sensor=sensor), ROWS)


def test_every_event_of_an_aedat3_file(tmp_path: Path) -> None:
    write_aedat3(tmp_path / "a.aedat", ROWS)
    np.testing.assert_array_equal(read(tmp_path / "a.aedat", sensor=(180, 240)), ROWS)


def test_addresses_of_a_dvs128_by_hand(tmp_path: Path) -> None:
    """Bit 0 is 0 for ON; columns are counted from the right, rows from below."""
    records = "000000000000000500007fff00000006000080000000000700000102fffffff00000010200000008"
    (tmp_path / "a.aedat").write_bytes(f"{AEDAT2}# AEChip: DVS128\r\n".encode() + bytes.fromhex(records))
    assert read(tmp_path / "a.aedat").tolist() == [
        [127, 127, 5, 1],
        [0, 0, 6, 0],  # the one after it is a signal from outside
        [126, 126, -16, 1],  # a moment before the clock began
        [126, 126, 8, 1],
    ]


def test_addresses_of_a_davis_by_hand(tmp_path: Path) -> None:
    """Bit 11 is 1 for ON; samples of frames have bit 31, signals bit 10."""
    records = "00000800000000052ccef00000000006800008000000000700000400000000080040100000000009"
    for end in ("\r\n", "\r\n#End Of ASCII Header\r\n", "\n# End of ASCII Header\n"):
        header = f"{AEDAT2}# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C{end}"
        (tmp_path / "a.aedat").write_bytes(header.encode() + bytes.fromhex(records))
        assert read(tmp_path / "a.aedat").tolist() == [[239, 179, 5, 1], [0, 0, 6, 0], [238, 178, 9, 0]]


def test_records_that_begin_like_a_header(tmp_path: Path) -> None:
    """An event of row 140 begins with the sign of a line of a header."""
    records = bytes.fromhex("2300000000000005") + bytes.fromhex("230000000000000a")
    (tmp_path / "a.aedat").write_bytes(f"{AEDAT2}# AEChip: DAVIS240C\r\n".encode() + records)
    assert read(tmp_path / "a.aedat").tolist() == [[239, 39, 5, 0], [239, 39, 10, 0]]


def test_packets_of_aedat3_by_hand(tmp_path: Path) -> None:
    by_hand = bytes.fromhex(
        "0100" "0100" "08000000" "04000000" "00000000" "03000000" "03000000" "02000000"  # type, source, ..., overflow
        "03000000" "ffffff7f"  # valid, ON, x = y = 0, at the end of 31 bits
        "02000000" "00000000"  # not valid
        "0d000400" "00000000"  # valid, OFF, x = 2, y = 3
    )  # fmt: skip
    later = polarity_packet(np.array([[4, 5, 6, 1]]), overflow=1)
    (tmp_path / "a.aedat").write_bytes(AEDAT3 + by_hand + packet(3, bytes(36), 36, source=2) + later)
    assert read(tmp_path / "a.aedat").tolist() == [[0, 0, 2**31 - 1, 1], [2, 3, 0, 0], [4, 5, 2**31 + 6, 1]]


@pytest.mark.parametrize("chip", ["DVS128", "DAVIS240C"])
def test_a_clock_that_starts_again(tmp_path: Path, chip: str) -> None:
    rows = ROWS + np.array([0, 0, 2**32 - int(ROWS[30, 2]), 0])
    write_aedat2(tmp_path / "a.aedat", rows, chip)
    np.testing.assert_array_equal(read(tmp_path / "a.aedat"), rows)


@pytest.mark.parametrize(
    ("content", "sensor", "words"),
    [
        (b"", None, "cannot be read: it does not begin with the line of an AEDAT file"),
        (b"\x00\x01\x02\x03", None, "cannot be read: it does not begin with the line of an AEDAT file"),
        (
            b"#!AER-DAT1.0\r\n" + bytes(12),
            None,
            "is an AEDAT file of version 1.0; 2 and 3 are read, and 4 from .aedat4",
        ),
        (AEDAT2.encode() + bytes(12), None, "cannot be read: its end is cut: its last 8-byte event is not whole"),
        (AEDAT2.encode() + bytes(8), None, "its header names no camera (# AEChip: ...); say by data.sensor how many"),
        (
            f"{AEDAT2}# AEChip: ch.unizh.Tmpdiff\r\n".encode() + bytes(8),
            None,
            "is a recording of 'ch.unizh.Tmpdiff', wh",
        ),
        (
            f"{AEDAT2}# AEChip: DVS128\r\n".encode() + bytes(8),
            (180, 240),
            "is a recording of [128, 128] pixels [height, width], and data.sensor says [180, 240]; write sensor: [128",
        ),
        (
            AEDAT2.encode() + bytes(8),
            (180, 240),
            "its header names no camera (# AEChip: ...), and its addresses are those of a DVS128, with [128, 128] pix",
        ),
        (
            AEDAT2.encode() + bytes.fromhex("2ccef00000000006"),
            (128, 128),
            "its header names no camera (# AEChip: ...), and its addresses are not those of a DVS128, with [128, 128]",
        ),
        (AEDAT3.replace(b"RAW", b"SerializedTS"), None, "its packets are compressed (#Format: SerializedTS), and only"),
        (AEDAT3, (260, 346), "is a recording of [180, 240] pixels [height, width], and data.sensor says [260, 346]"),
        (AEDAT3 + bytes(27), None, "cannot be read: its end is cut: its last packet has no whole header"),
        (AEDAT3 + b"\xff" * 28, None, "cannot be read: the packet before its byte 28 behind the header is none"),
        (
            AEDAT3 + packet(1, bytes(12), 12),
            None,
            "cannot be read: its polarity events have 12 bytes, where 8 are right",
        ),
        (
            AEDAT3 + packet(1, bytes(16), 8)[:-3],
            None,
            "cannot be read: its end is cut: 13 bytes are left of a packet of 16",
        ),
        (
            AEDAT3 + polarity_packet(ROWS) + polarity_packet(ROWS, source=2),
            None,
            "holds events of several cameras; save each in a file of its own",
        ),
    ],
)
def test_aedat_files_that_are_not_read(
    tmp_path: Path, content: bytes, sensor: tuple[int, int] | None, words: str
) -> None:
    (tmp_path / "a.aedat").write_bytes(content)
    assert failure(tmp_path / "a.aedat", sensor=sensor).startswith(f"{tmp_path / 'a.aedat'}: {words}")


def test_files_without_events_hold_none(tmp_path: Path) -> None:
    (tmp_path / "a.aedat").write_bytes(f"{AEDAT2}# AEChip: DVS128\r\n".encode())
    (tmp_path / "b.aedat").write_bytes(AEDAT3 + polarity_packet(ROWS, valid=False) + packet(1, b"", 8))
    assert [len(read(tmp_path / name)) for name in ("a.aedat", "b.aedat")] == [0, 0]
