"""Which layers the C engine computes on its fast path, how, and what that takes: known before any training.

The fast path is for convolutions of 3x3 with stride 1, which most spiking networks consist of. It works on words of 32
bits; ``deploy/engine/fast_*.c`` explains how. The plain path is right for every layer. Here is the one decision between
them: of shapes and precisions alone, so that a search knows flash and RAM, and of a trained network's own description.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from spquant_search.costs.memory import membrane_bits

Reads = Literal["counts", "spikes", "values"]  # what a layer's input consists of
Kind = Literal["counts-4", "counts-8", "slices", "lanes", "pairs"]  # how sums are formed
Neurons = Literal["once", "two-bits", "words", "any"]

MOST_COMPACT = 768  # words in RAM for the rows of open channels
_MOST_PAIRED = 2**15 - 1  # of a sum in 16 bits
_MOST_CHANNELS = 8 * 255  # blocks of 8 are numbered in bytes
_TAPS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What the fast path asks of a convolution apart from its precision."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, ...]
    groups: int
    pool: tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None  # kind, window, stride, padding
    in_shape: tuple[int, int, int]
    out_channels: int
    positions: tuple[int, int]  # of neurons
    reads: Reads
    largest: int  # of the values that it reads
    has_residual: bool

    @property
    def pools(self) -> bool:
        """Tell whether currents are pooled before the neurons."""
        return self.pool is not None and self.pool[0] in ("before", "max-before")

    @property
    def takes_largest(self) -> bool:
        """Tell whether neurons take the largest of several currents."""
        return self.pool is not None and self.pool[0] == "max-before"

    @property
    def group(self) -> int:
        """The neurons of as many positions as fill whole words with their spikes."""
        return math.lcm(32, self.out_channels)

    @property
    def neurons(self) -> int:
        return self.out_channels * math.prod(self.positions)


@dataclass(frozen=True, kw_only=True, slots=True)
class FastLayer:
    """How a layer is computed on the fast path."""

    form: Form
    kind: Kind
    neurons: Neurons
    weight_bits: int
    membrane_bits: int  # 0 where nothing is stored
    gated: bool

    @property
    def wide(self) -> bool:
        """Tell whether sums leave as a word each, not in pairs."""
        return self.kind == "pairs"

    @property
    def rows(self) -> int:
        """The rows of weights; where they are listed, with one of zeros."""
        return _TAPS * self.form.in_shape[0] + (0 if self.kind.startswith("counts") else 1)

    @property
    def weight_words(self) -> int:
        channels = self.form.out_channels
        if self.kind == "slices":
            return -(-channels // 32) * self.weight_bits * self.rows
        return channels // 8 * self.rows * (1 if self.kind in ("lanes", "counts-4") else 2)

    @property
    def membrane_words(self) -> int:
        return -(-self.form.neurons // self.form.group) * self.form.group // 32 * self.membrane_bits

    @property
    def table_bytes(self) -> int:
        """The numbers in flash: weights, slopes, offsets, and a gate, whose weights have a byte each."""
        channels = self.form.out_channels
        gate = channels * (self.form.in_shape[0] + 1) if self.gated else 0
        rule = 20 if self.neurons == "any" else 0
        return 4 * self.weight_words + 6 * channels + gate + rule

    @property
    def fires(self) -> tuple[Neurons, int, bool]:
        """What tells apart the copies of the neurons' code: their kind, bits that are constants, the sums."""
        if self.neurons == "any":
            return "any", 0, False
        return self.neurons, self.membrane_bits if self.neurons == "words" else 0, self.wide

    @property
    def compact_words(self) -> int:
        """The words that the rows of half of the channels take in RAM; 0 where they are not put together there."""
        if self.kind != "pairs" or not self.gated:
            return 0
        block = 2 * self.rows
        blocks = min(self.form.out_channels // 8, MOST_COMPACT // block)
        return blocks * block if 16 * blocks >= self.form.out_channels else 0


def plain_reason(form: Form, *, weight_bits: int, gated: bool) -> str | None:
    """Say why a convolution takes the plain path; None where it may take the fast one."""
    return _reason_of_kernel(form) or _reason_of_channels(form) or _reason_of_input(form, weight_bits, gated)


def _reason_of_kernel(form: Form) -> str | None:
    (rows, columns), (down, right) = form.kernel, form.stride
    if (form.kernel, form.stride, form.padding) != ((3, 3), (1, 1), (1, 1, 1, 1)):
        return f"a kernel of {rows}x{columns}, stride {down}x{right}, padding {', '.join(map(str, form.padding))}"
    if form.groups != 1:
        return f"{form.groups} groups of channels"
    if form.has_residual:
        return "a residual current"
    if form.pool is not None and form.pools and form.pool != ("before", (2, 2), (2, 2), (0, 0, 0, 0)):
        return f"currents pooled as {form.pool[0]} of {form.pool[1][0]}x{form.pool[1][1]}"
    return None


def _reason_of_channels(form: Form) -> str | None:
    if form.out_channels % 8:
        return f"{form.out_channels} channels, which fill no whole bytes"
    return None if form.out_channels <= _MOST_CHANNELS else f"{form.out_channels} channels"


def _reason_of_input(form: Form, weight_bits: int, gated: bool) -> str | None:
    channels, height, width = form.in_shape
    if form.reads == "values":
        return "an input of numbers that are neither the frame's nor spikes"
    if form.reads == "counts":
        if channels > 3:
            return f"the frame's counts of {channels} channels"
        return "the frame's counts, gated or pooled" if form.pools or gated else None
    if channels % 8:
        return f"{channels} input channels, which fill no whole bytes"
    if gated and height * width >= 2**14:
        return f"a gate over {height * width:,} positions"
    reach = _TAPS * channels * (4 if form.pools else 1)
    largest = reach * (1 if weight_bits <= 2 else 2 ** (weight_bits - 1) - 1)
    if weight_bits < 8 and largest > _MOST_PAIRED:
        return f"sums of up to {largest:,}, beyond 16 bits"
    return None if _TAPS * channels < 2**15 else f"{channels} input channels"


def kind_of_sums(form: Form, *, weight_bits: int, gated: bool) -> Kind:
    """Return how a fast layer forms its sums: what was found to take the fewest instructions."""
    if form.reads == "counts":
        return "counts-8" if weight_bits == 8 else "counts-4"
    if weight_bits == 8:
        return "pairs"
    narrow = form.out_channels < 32
    if weight_bits == 4 or (weight_bits == 3 and (narrow or gated)) or (weight_bits == 2 and form.out_channels == 8):
        return "lanes"  # 3 bits with a gate too: a word is of 8 channels instead of 32, and closed ones are left out
    return "slices"


class FastNeeds(NamedTuple):
    """What fast layers need of the engine: code, 1 where there is any, and the sizes of arrays. Of several layers it is
    the largest of each."""

    fast: int = 0
    counts_4: int = 0
    counts_8: int = 0
    slices: int = 0
    lanes: int = 0
    pairs: int = 0
    sums_2x2: int = 0
    gates: int = 0
    puts_together: int = 0  # rows of open channels
    stores: int = 0
    once: int = 0
    once_wide: int = 0
    two_bits: int = 0
    two_bits_wide: int = 0
    words_4: int = 0
    words_4_wide: int = 0
    words_8: int = 0
    words_8_wide: int = 0
    any_neurons: int = 0
    # Sizes, in elements.
    group: int = 0
    sums: int = 0
    open_words: int = 0
    seen: int = 0
    listed: int = 0
    pooled: int = 0
    blocks: int = 0
    compact: int = 0
    gated: int = 0

    @property
    def listing(self) -> int:
        """Tell whether any layer reads spikes."""
        return self.slices | self.lanes | self.pairs

    def ram_bytes(self, opened: int) -> int:
        """Return the RAM of the arrays; ``opened`` are the most channels of any layer. Pointers have 4 bytes."""
        in_blocks = self.lanes | self.pairs
        always = 8 * self.group + 4 * self.sums + self.group // 8 + 4 * self.fast
        pooled = 11 * self.pooled + 12 * self.sums_2x2
        blocks = (opened // 8 + 4) * in_blocks + (2 * opened + 4) * self.pairs
        counting = 64 * self.blocks + 4 * self.gated
        return (
            always
            + 4 * self.open_words
            + 2 * self.seen
            + 2 * self.listed
            + pooled
            + blocks
            + counting
            + 4 * self.compact
        )

    def code_bytes(self) -> int:
        """Return the bytes of code."""
        return sum(size * getattr(self, name) for name, size in CODE_BYTES.items())


# Bytes of code at `-Os` on a Cortex-M4, each where any layer needs it.
CODE_BYTES = {
    "fast": 540,
    "counts_4": 182,
    "counts_8": 199,
    "slices": 1054,
    "lanes": 759,
    "pairs": 845,
    "sums_2x2": 77,
    "gates": 694,
    "puts_together": 372,
    "stores": 171,
    "once": 119,
    "once_wide": 127,
    "two_bits": 761,
    "two_bits_wide": 812,
    "words_4": 570,
    "words_4_wide": 646,
    "words_8": 351,
    "words_8_wide": 330,
    "any_neurons": 410,
}
LAYER_BYTES = 181  # a layer's description, and its call


def fast_layer(
    form: Form | None, *, weight_bits: int, levels: int | None, gated: bool, halves: bool
) -> FastLayer | None:
    """Return how a layer in some precision is computed on the fast path; None where it is not.

    ``halves``: its neurons leak by a half, spike above their threshold, and then are at 0, on the usual grid.
    """
    if form is None or plain_reason(form, weight_bits=weight_bits, gated=gated) is not None:
        return None
    neurons: Neurons = "any"
    if levels is None:
        neurons = "once"
    elif halves and levels in (3, 4):
        neurons = "two-bits"
    elif halves and levels in (16, 256):
        neurons = "words"
    return FastLayer(
        form=form,
        kind=kind_of_sums(form, weight_bits=weight_bits, gated=gated),
        neurons=neurons,
        weight_bits=weight_bits,
        membrane_bits=membrane_bits(levels),
        gated=gated,
    )


def needs_of_fast(layer: FastLayer) -> FastNeeds:
    """Return what one layer needs."""
    form, wide = layer.form, "_wide" * layer.wide
    bits = f"_{layer.membrane_bits}" * (layer.neurons == "words")
    neurons = "any_neurons" if layer.neurons == "any" else f"{layer.neurons.replace('-', '_')}{bits}{wide}"
    listing = not layer.kind.startswith("counts")
    return FastNeeds(
        fast=1,
        sums_2x2=int(form.pools),
        gates=int(layer.gated),
        puts_together=int(layer.compact_words > 0),
        stores=int(layer.neurons != "once"),
        **{layer.kind.replace("-", "_"): 1, neurons: 1},
        group=form.group,
        sums=form.group if layer.wide else form.group // 2,
        open_words=form.group * layer.membrane_bits // 32 if layer.neurons == "words" else 0,
        seen=0 if listing else form.in_shape[2] + 2,
        listed=_TAPS * form.in_shape[0] + 4 if listing else 0,  # with some rows of zeros
        pooled=_pooled(form) if form.pools else 0,
        blocks=-(-form.out_channels // 32) if layer.kind == "slices" else 0,
        compact=layer.compact_words,
        gated=form.in_shape[0] if layer.gated else 0,
    )


def together(needs: Iterable[FastNeeds]) -> FastNeeds:
    """Return what several layers need together."""
    return FastNeeds(*map(max, zip(FastNeeds(), *needs, strict=True)))


def _pooled(form: Form) -> int:
    """Return the bytes of a row of 2x2 sums, with a pixel before and one behind, in whole words."""
    size = form.in_shape[0] // 8
    return -(-(form.in_shape[2] + 3) * size // 4) * 4 + 8
