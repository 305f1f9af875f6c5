"""Repack a layer's weights into the words that the C engine's fast path reads; the engine says what each is for.

Every function takes codes [row, output channel] and returns one word a number, as the engine reads them in memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spquant_search.costs.fast_path import FastLayer
from spquant_search.deploy.weights_file import Integers

Words = NDArray[np.uint64]


def weight_words(codes: Integers, layer: FastLayer) -> Words:
    """Return the table of a layer's weights."""
    if layer.kind == "slices":
        return _slices(codes, layer.weight_bits)
    if layer.weight_bits == 1:  # a sign: twice the code less the one of 0
        codes = 2 * codes
    if layer.kind == "lanes":
        return _in_fields(_with_zeros(codes), 8, [8 * (c % 4) + 4 * (c // 4) for c in range(8)]).T.ravel()
    if layer.kind == "pairs":
        return _bytes_side_by_side(_with_zeros(codes))
    codes = codes[_by_columns(layer.form.in_shape[0])[::-1]]
    if layer.kind == "counts-8":
        return _bytes_side_by_side(codes)
    places = [8 * (c // 4) + 4 * (c % 2) + 16 * (c % 4 // 2) for c in range(8)]
    return _in_fields(codes, 8, places).T.ravel()


def gate_words(gate: Integers) -> Words:
    """Return the weights of a gate [input, output], 128 added, four outputs a word: [outputs by four][input]."""
    return _in_fields(gate + 128, 4, [0, 8, 16, 24]).T.ravel()


def _slices(codes: Integers, bits: int) -> Words:
    """Return [block of 32 channels][bit][row]: bit 8 j + s of a word is of channel 4 s + j."""
    rows, channels = codes.shape
    padded = np.zeros((rows + 1, -(-channels // 32) * 32), dtype=np.int64)
    padded[:rows, :channels] = codes
    places = [8 * (c % 4) + c // 4 for c in range(32)]
    by_bit = [_in_fields(padded >> bit & 1, 32, places) for bit in range(bits)]  # [bit][row, block]
    return np.stack(by_bit).transpose(2, 0, 1).ravel()


def _bytes_side_by_side(codes: Integers) -> Words:
    """Return [block of 8 channels][row][two words], a byte a channel."""
    rows = len(codes)
    words = _in_fields(codes, 4, [0, 8, 16, 24])
    return words.reshape(rows, -1, 2).transpose(1, 0, 2).ravel()


def _in_fields(values: Integers, channels: int, places: list[int]) -> Words:
    """Put every ``channels`` numbers of a row into one word, each at its place: [row, word]."""
    by_word = values.reshape(len(values), -1, channels).astype(np.uint64)
    words: Words = np.bitwise_or.reduce(by_word << np.array(places, dtype=np.uint64), axis=2)
    return words


def _with_zeros(codes: Integers) -> Integers:
    """Add the row of zeros, with which lists are filled up."""
    return np.concatenate([codes, np.zeros_like(codes[:1])])


def _by_columns(inputs: int) -> list[int]:
    """Return the rows of a kernel of 3x3 column by column, row by row."""
    return [(row * 3 + column) * inputs + c for column in range(3) for row in range(3) for c in range(inputs)]
