"""Decode Prophesee's .raw recordings: EVT 2.0, 2.1 and 3.0, in blocks of words, without a loop over events.

The encodings are documented at https://docs.prophesee.ai/stable/data/encoding_formats. As the camera's own decoder
does, words before the first TIME_HIGH are passed over, as nothing says when they were; so are triggers, other words
than those of events and times, and what a later version may bring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.binning import Events
from spquant_search.data.events.camera_files import (
    block_events,
    columns_of_blocks,
    read_header,
    require_sensor,
    size_in,
)
from spquant_search.data.events.clocks import counted_on
from spquant_search.data.events.refusals import damaged
from spquant_search.errors import UserError

_BLOCK_WORDS = 1 << 17  # few enough for a processor's cache
_FAR = 1 << 20  # pixels: outside of any sensor
_NAMES = {"2.0": "EVT2", "2.1": "EVT21", "3.0": "EVT3", "EVT2.1": "EVT21", "EVT2.0": "EVT2", "EVT3.0": "EVT3"}

_TIME_HIGH, _TIME_LOW = 0x8, 0x6
_ADDR_Y, _OTHER_ADDR_Y, _ADDR_X, _BASE_X, _VECTOR_12, _VECTOR_8 = range(6)


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """What the words so far have set; -1 where nothing has been set."""

    high: int = -1  # TIME_HIGH, without its returns to zero
    low: int = 0
    row: int = 0  # the last word ADDR_Y
    base: int = 0  # the last word VECT_BASE_X
    moved: int = 0  # pixels that vectors have moved on from there


class _Decoded(NamedTuple):
    events: Events
    state: _State


class _Encoding(NamedTuple):
    word: np.dtype[Any]
    kind_at: int  # the lowest of the four bits of a word that say its kind
    decode: Callable[[NDArray[Any], NDArray[np.uint8], _State], _Decoded]


def read_raw(path: Path, sensor: tuple[int, int] | None) -> Events:
    """Read the events of a .raw file; ``sensor`` is (height, width) where it is known, and compared with the file's.

    Raises:
        UserError: the file is damaged, of another sensor, or in an encoding that is not read.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file, b"%")
            name, options = _encoding(path, header)
            require_sensor(path, _size(header, options), sensor)
            legacy = name == "EVT21" and options.get("endianness") == "legacy"
            return columns_of_blocks(_blocks(path, file, _ENCODINGS[f"{name} legacy" if legacy else name]))
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error


def _encoding(path: Path, header: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the encoding and the options of a header's line ``% format EVT3;height=720;width=1280``."""
    name, *options = (header.get("format") or header.get("evt") or "").split(";")
    if not name:
        raise UserError(
            f"{path}: its header does not say in which of Prophesee's encodings it is (% format EVT3, % evt 3.0); "
            "get the file again, or convert it to .csv or HDF5"
        )
    name = _NAMES.get(name.strip(), name.strip())
    found = dict(option.strip().partition("=")[::2] for option in options)
    if name == "EVT21" and "format" not in header:
        raise UserError(
            f"{path}: is encoded as EVT 2.1 and does not say in which order of bytes (% format EVT21;endianness=...); "
            "convert it to EVT3, .csv or HDF5"
        )
    if name not in _ENCODINGS:
        raise UserError(
            f"{path}: is encoded as {name[:40]!r}, and EVT2, EVT21 and EVT3 are read; convert it to one of them, "
            ".csv or HDF5"
        )
    return name, found


def _size(header: Mapping[str, str], options: Mapping[str, str]) -> tuple[int, int] | None:
    width, _, height = header.get("geometry", "").partition("x")
    return size_in(options) or size_in({"width": width, "height": height})


def _blocks(path: Path, file: IO[bytes], encoding: _Encoding) -> Iterator[Events]:
    state, size = _State(), encoding.word.itemsize
    while content := file.read(_BLOCK_WORDS * size):
        if len(content) % size:
            raise damaged(path, f"its end is cut: its last {size}-byte word is not whole")
        words = np.frombuffer(content, encoding.word)
        kinds = (words >> encoding.kind_at & 0xF).astype(np.uint8)
        if state.high < 0:
            first = np.flatnonzero(kinds == _TIME_HIGH)[:1].tolist()
            if not first:
                continue
            words, kinds = words[first[0] :], kinds[first[0] :]
        events, state = encoding.decode(words, kinds, state)
        yield events


def _evt2(words: NDArray[Any], kinds: NDArray[np.uint8], state: _State) -> _Decoded:
    """Decode EVT 2.0: type (4 bits), time (6), x (11), y (11); TIME_HIGH brings the upper 28 bits of the time."""
    seen = np.flatnonzero(kinds <= 1)
    highs, so_far, state = _time_highs(words, 0, kinds, state)
    chosen = words[seen]
    times = highs[so_far[seen]] << 6 | chosen >> 22 & 0x3F
    return _Decoded(block_events(chosen >> 11 & 0x7FF, chosen & 0x7FF, times, kinds[seen]), state)


def _evt21(words: NDArray[Any], kinds: NDArray[np.uint8], state: _State, *, legacy: bool = False) -> _Decoded:
    """Decode EVT 2.1: words of EVT 2.0 for 32 pixels from x on, with a bit for each; legacy files swap the halves."""
    place, bits = (0, 32) if legacy else (32, 0)
    seen = np.flatnonzero(kinds <= 1)
    highs, so_far, state = _time_highs(words, place, kinds, state)
    chosen = words[seen]
    times = highs[so_far[seen]] << 6 | (chosen >> place + 22 & 0x3F).astype(np.int64)
    word, offset = _set_bits((chosen >> bits).astype("<u4"))
    x, y = chosen >> place + 11 & 0x7FF, chosen >> place & 0x7FF
    return _Decoded(block_events(x[word] + offset.astype(np.uint64), y[word], times[word], kinds[seen][word]), state)


def _time_highs(
    words: NDArray[Any], place: int, kinds: NDArray[np.uint8], state: _State
) -> tuple[NDArray[np.int64], NDArray[np.int32], _State]:
    """Return the TIME_HIGHs, of 28 bits from ``place`` on, counted on, and how many there are up to each word.

    The first is the one before the block.
    """
    is_high = kinds == _TIME_HIGH
    found = (words[np.flatnonzero(is_high)] >> place & 0xFFFFFFF).astype(np.int64)
    highs = _counted_on(found, 28, state.high)
    return highs, _so_far(is_high), replace(state, high=int(highs[-1]))


def _counted_on(found: NDArray[np.int64], bits: int, before: int) -> NDArray[np.int64]:
    """Count readings on, and put the one before them in front; without one, the first follows itself."""
    before = int(found[0]) if before < 0 else before
    return np.concatenate(([before], counted_on(found, bits, before)))


def _so_far(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Count the flags up to and with each; as bytes they are summed in a fifth of the time."""
    return np.cumsum(flags.view(np.uint8), dtype=np.int32)


def _evt3(words: NDArray[Any], kinds: NDArray[np.uint8], state: _State) -> _Decoded:
    """Decode EVT 3.0: words of 16 bits, each of which sets a part of what the events after it have in common."""
    is_vector = (kinds == _VECTOR_12) | (kinds == _VECTOR_8)
    fired = np.flatnonzero(is_vector | (kinds == _ADDR_X))
    times, state = _evt3_times(words, kinds, fired, state)
    is_row = kinds <= _OTHER_ADDR_Y
    known_rows = np.concatenate(([state.row], words[np.flatnonzero(is_row)])).astype(np.int32)
    rows = known_rows[_so_far(is_row)[fired]]
    state = replace(state, row=int(known_rows[-1]))
    x, masks, state = _evt3_columns(words, kinds, is_vector, fired, state)
    if (rows >> 12).any():  # of another system than that of the changes of contrast
        masks = np.where(rows >> 12 == _OTHER_ADDR_Y, 0, masks)
    y, p = rows & 0x7FF, x >> 30
    x &= (1 << 30) - 1
    if (masks != 1).any():
        word, offset = _set_bits(masks.astype("<u2"))
        x, y, times, p = x[word] + offset.astype(np.int32), y[word], times[word], p[word]
    return _Decoded(block_events(x, y, times, p), state)


def _evt3_columns(
    words: NDArray[Any],
    kinds: NDArray[np.uint8],
    is_vector: NDArray[np.bool_],
    fired: NDArray[np.intp],
    state: _State,
) -> tuple[NDArray[np.int32], NDArray[np.int32], _State]:
    """Return of each word with events x, with the polarity as bit 30, and the pixels from there on as bits."""
    chosen = words[fired].astype(np.int32)
    x = chosen & 0x7FF | (chosen & 0x800) << 19
    is_base = kinds == _BASE_X
    if not is_vector.any():
        if (bases := np.flatnonzero(is_base)).size:
            state = replace(state, base=int(words[bases[-1]]), moved=0)
        return x, np.ones_like(x), state
    known = np.concatenate(([state.base], words[np.flatnonzero(is_base)])).astype(np.int32)
    # How far all vectors so far would have moved one base on; less what they had where theirs was set.
    widths = np.where(kinds == _VECTOR_12, np.uint8(12), np.where(kinds == _VECTOR_8, np.uint8(8), np.uint8(0)))
    passed = np.cumsum(widths, dtype=np.int32)
    before = np.concatenate(([-state.moved], passed[np.flatnonzero(is_base)])).astype(np.int32)
    at = np.flatnonzero(is_vector[fired])
    which, width = _so_far(is_base)[fired[at]], widths[fired[at]]
    base = known[which]
    x[at] = (base & 0x7FF) + passed[fired[at]] - width - before[which] | (base & 0x800) << 19
    masks = np.ones_like(x)
    masks[at] = chosen[at] & (1 << width.astype(np.int32)) - 1
    return x, masks, replace(state, base=int(known[-1]), moved=min(int(passed[-1] - before[-1]), _FAR))


def _evt3_times(
    words: NDArray[Any], kinds: NDArray[np.uint8], fired: NDArray[np.intp], state: _State
) -> tuple[NDArray[np.int64], _State]:
    """Return the time of each word with events: TIME_HIGH (12 bits, counted on) and TIME_LOW (12 bits)."""
    is_clock = (kinds == _TIME_HIGH) | (kinds == _TIME_LOW)
    at = np.flatnonzero(is_clock)
    is_high = kinds[at] == _TIME_HIGH
    readings = (words[at] & 0xFFF).astype(np.int64)
    highs = _counted_on(readings[is_high], 12, state.high)
    # A new TIME_HIGH begins at zero; one that is repeated leaves the lower bits as they are.
    readings[is_high] = 0
    is_set = ~is_high
    is_set[is_high] = np.diff(highs) != 0
    lows = np.concatenate(([state.low], readings[np.flatnonzero(is_set)]))[_so_far(is_set)]
    clock = np.concatenate(([state.low | state.high << 12], lows | highs[_so_far(is_high)] << 12))
    state = replace(state, high=int(highs[-1]), low=int(clock[-1] & 0xFFF))
    return clock[_so_far(is_clock)[fired]], state


def _set_bits(masks: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the numbers of the masks and of the bits, from the lowest, that are set in them."""
    width = 8 * masks.dtype.itemsize
    at = np.flatnonzero(np.unpackbits(masks.view(np.uint8), bitorder="little").view(np.bool_))
    return at >> width.bit_length() - 1, at & width - 1


_ENCODINGS = {
    "EVT2": _Encoding(np.dtype("<u4"), 28, _evt2),
    "EVT21": _Encoding(np.dtype("<u8"), 60, _evt21),
    "EVT21 legacy": _Encoding(np.dtype("<u8"), 28, partial(_evt21, legacy=True)),
    "EVT3": _Encoding(np.dtype("<u2"), 12, _evt3),
}
