"""Write recordings as cameras do, word by word, and decode words of Prophesee's cameras one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from data.event_writers import Rows

HEADERS = {
    "EVT2": b"% integrator_name Prophesee\n% evt 2.0\n% format EVT2;height=20;width=24\n% geometry 24x20\n% end\n",
    "EVT21": b"% evt 2.1\n% format EVT21;height=20;width=24\n% end\n",
    "EVT3": b"% evt 3.0\n% format EVT3;height=20;width=24\n% generation 4.2\n% end\n",
}
WORD = {"EVT2": "<u4", "EVT21": "<u8", "EVT3": "<u2"}


def write_words(path: Path, encoding: str, words: Iterable[int], header: bytes | None = None) -> None:
    content = np.array(list(words), np.uint64).astype(WORD[encoding]).tobytes()
    path.write_bytes((HEADERS[encoding] if header is None else header) + content)


def evt2_words(rows: Rows) -> list[int]:
    words, high = [0xE << 28 | 5, 0xA << 28 | 1], -1
    for x, y, t, p in rows.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high & 0xFFFFFFF)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return words


def evt21_words(rows: Rows) -> list[int]:
    words, high = [], -1
    for x, y, t, p in rows.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append((0x8 << 28 | high & 0xFFFFFFF) << 32)
        words.append((p << 28 | (t & 63) << 22 | (x & ~31) << 11 | y) << 32 | 1 << (x & 31))
    return words


def evt3_words(rows: Rows) -> list[int]:
    """Write one ADDR_X an event, or a vector where events of a row and a time follow each other from the left."""
    words, time, row = [0xE001, 0xF123, 0x7001], -1, -1
    at, listed = 0, rows.tolist()
    while at < len(listed):
        x, y, t, p = listed[at]
        if t != time:
            words += [0x8000 | t >> 12 & 0xFFF] if t >> 12 != time >> 12 else []
            words.append(0x6000 | t & 0xFFF)
            time = t
        if y != row:
            words.append(row := y)
        many = at + 1
        while many < len(listed) and listed[many][1:] == listed[at][1:] and x < listed[many][0] < x + 32:
            if listed[many][0] <= listed[many - 1][0]:
                break
            many += 1
        if many - at == 1:
            words.append(0x2000 | p << 11 | x)
        else:
            mask = sum(1 << listed[number][0] - x for number in range(at, many))
            words += [0x3000 | p << 11 | x, 0x4000 | mask & 0xFFF, 0x4000 | mask >> 12 & 0xFFF, 0x5000 | mask >> 24]
        at = many
    return words


def decoded_evt2(words: Sequence[int]) -> list[tuple[int, int, int, int]]:
    rows: list[tuple[int, int, int, int]] = []
    high, turns = None, 0
    for word in words:
        kind, value = word >> 28, word & 0xFFFFFFF
        if kind == 8:
            turns += high is not None and high - value >= 1 << 27
            high = value
        elif kind < 2 and high is not None:
            rows.append((value >> 11 & 0x7FF, value & 0x7FF, (turns << 34) + (high << 6) + (value >> 22), kind))
    return rows


def decoded_evt21(words: Sequence[int]) -> list[tuple[int, int, int, int]]:
    rows: list[tuple[int, int, int, int]] = []
    high, turns = None, 0
    for word in words:
        kind, value = word >> 60, word >> 32 & 0xFFFFFFF
        if kind == 8:
            turns += high is not None and high - value >= 1 << 27
            high = value
        elif kind < 2 and high is not None:
            for bit in range(32):
                if word >> bit & 1:
                    t = (turns << 34) + (high << 6) + (value >> 22)
                    rows.append(((value >> 11 & 0x7FF) + bit, value & 0x7FF, t, kind))
    return rows


def decoded_evt3(words: Sequence[int]) -> list[tuple[int, int, int, int]]:
    rows: list[tuple[int, int, int, int]] = []
    high, turns, low, row, is_contrast, base, polarity = None, 0, 0, 0, True, 0, 0
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 8:
            turns += high is not None and high - value >= 1 << 11
            low = low if high in (None, value) else 0
            high = value
        if high is None:
            continue
        t = (turns << 24) + (high << 12) + low
        if kind in (0, 1):
            row, is_contrast = value & 0x7FF, kind == 0
        elif kind == 2 and is_contrast:
            rows.append((value & 0x7FF, row, t, value >> 11))
        elif kind == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif kind in (4, 5):
            width = 12 if kind == 4 else 8
            rows += [(base + bit, row, t, polarity) for bit in range(width) if value >> bit & 1 and is_contrast]
            base += width
        elif kind == 6:
            low = value
    return rows


def write_dat(path: Path, rows: Rows, version: int = 2) -> None:
    x, y, t, p = rows.T
    bits_x, bits_y = {1: (9, 8), 2: (14, 14)}[version]
    header = (
        f"% Data file containing CD events.\n% Version {version}\n% Date 2026-11-30 08:00:00\n% Height 20\n% Width 24\n"
    )
    data = np.stack([t, x | y << bits_x | p << bits_x + bits_y], axis=1).astype("<u4")
    path.write_bytes(header.encode() + bytes([0x0C, 8]) + data.tobytes())


AEDAT2 = "#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n"


def write_aedat2(path: Path, rows: Rows, chip: str = "DAVIS240C") -> None:
    """Write addresses as jAER does: the rows from below, the columns from the right."""
    height, width = {"DVS128": (128, 128), "DAVIS240C": (180, 240), "Davis346red": (260, 346)}[chip]
    x, y, t, p = rows.T
    right, below = width - 1 - x, height - 1 - y
    address = below << 8 | right << 1 | 1 - p if chip == "DVS128" else below << 22 | right << 12 | p << 11
    header = f"{AEDAT2}# AEChip: eu.seebetter.ini.chips.davis.{chip}\r\n#End Of ASCII Header\r\n"
    path.write_bytes(header.encode() + np.stack([address, t & 0xFFFFFFFF], axis=1).astype(">u4").tobytes())


AEDAT3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS240C\r\n#Start-Time: 2026-11-30 08:00:00\r\n#!END-HEADER\r\n"


def packet(kind: int, content: bytes, size: int, *, overflow: int = 0, source: int = 1) -> bytes:
    number = len(content) // size
    header = np.array([kind | source << 16, size, 4, overflow, number, number, number], "<i4")
    return header.tobytes() + content


def polarity_packet(rows: Rows, *, overflow: int = 0, source: int = 1, valid: bool = True) -> bytes:
    x, y, t, p = rows.T
    words = np.stack([x << 17 | y << 2 | p << 1 | valid, t], axis=1)
    return packet(1, words.astype("<u4").tobytes(), 8, overflow=overflow, source=source)


def write_aedat3(path: Path, rows: Rows) -> None:
    """Write packets of 7 events, with packets of other kinds between them."""
    parts = [AEDAT3]
    for start in range(0, len(rows), 7):
        parts += [packet(0, bytes(16), 8), polarity_packet(rows[start : start + 7]), packet(2, bytes(50), 50)]
    path.write_bytes(b"".join(parts))
