"""Pools of whole numbers: sums, whose count goes into a divisor, and maxima."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.kernels.pooling import sum_pool
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.window import Sides, Span, Window, window

PoolKind = Literal["before", "max-before", "after", "max"]
MOST_IN_BF16 = 2**8
TWO_BY_TWO = Window(Span(2, 2), Span(2, 2))


@dataclass(frozen=True, slots=True)
class Pool:
    """How a layer pools: ``before`` averages currents, ``max-before`` takes the largest; ``after`` averages spikes,
    ``max`` takes the largest.

    Window, stride (None: that of the window) and padding as in :class:`torch.nn.MaxPool2d`: rows and columns that no
    window takes in are left out. An average counts zeros of the padding.
    """

    kind: PoolKind
    kernel_size: Sides = 2
    stride: Sides | None = None
    padding: Sides = 0
    window: Window = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the window.

        Raises:
            ValueError: an argument is not what it must be.
        """
        if self.kind not in get_args(PoolKind):
            raise ValueError(f"a pool is one of {words_of_kinds()}; got {self.kind!r}")
        object.__setattr__(self, "window", pool_window(self.kernel_size, self.stride, self.padding))

    @property
    def is_before(self) -> bool:
        """True where currents are pooled and not spikes."""
        return self.kind in ("before", "max-before")

    @property
    def takes_largest(self) -> bool:
        return self.kind in ("max", "max-before")

    @property
    def terms(self) -> int:
        """How many numbers a pooled one is the sum of, at most."""
        return 1 if self.takes_largest else self.window.area


def words_of_kinds() -> str:
    return ", ".join(f'"{kind}"' for kind in get_args(PoolKind))


def pool_window(kernel_size: Sides, stride: Sides | None, padding: Sides) -> Window:
    """Make the window of a pool.

    Raises:
        ValueError: an argument is not what it must be; the padding differs between two sides of an axis, or is more
            than half of the window, so that some would lie on nothing else.
    """
    made = window(kernel_size, kernel_size if stride is None else stride, padding)
    if any(span.before != span.after for span in made):
        raise ValueError(f"a pool is padded alike before and after: by an int or (rows, columns); got {padding!r}")
    if any(2 * span.before > span.size for span in made):
        raise ValueError(f"the padding of a pool is at most half of its window; got {padding!r} with {made}")
    return made


def pooled_sums(
    values: Float[Tensor, "sample channels height width"], window: Window
) -> Float[Tensor, "sample channels rows columns"]:
    """Sum the values under a window; whole numbers stay whole."""
    if window == TWO_BY_TWO:
        return sum_pool(values)
    padding = (window.rows.before, window.columns.before)
    return F.avg_pool2d(values, window.sizes, window.strides, padding, divisor_override=1)


def pooled_largest(
    values: Float[Tensor, "sample channels height width"], window: Window
) -> Float[Tensor, "sample channels rows columns"]:
    """Take the largest value under a window; padding is never taken."""
    return F.max_pool2d(values, window.sizes, window.strides, (window.rows.before, window.columns.before))


def pooled(spikes: Spikes, pool: Pool) -> Spikes:
    """Pool a signal: a sum's count goes into the divisor."""
    if pool.takes_largest:
        return replace(spikes, values=pooled_largest(spikes.values, pool.window))
    terms = pool.window.area
    # bf16, which training may have, holds whole numbers up to 256 only.
    values = spikes.values.float() if spikes.largest * terms > MOST_IN_BF16 else spikes.values
    values = pooled_sums(values, pool.window)
    return replace(spikes, values=values, largest=spikes.largest * terms, divisor=spikes.divisor * terms)


def needs_a_step(pool: Pool) -> bool:
    """Tell whether a device pools a layer's spikes in a step of its own: those of 2x2 it pools where it reads them."""
    return not pool.is_before and pool.window != TWO_BY_TWO


def pool_step_name(layer: str) -> str:
    """Name the step that pools a layer's spikes; no layer lies within another."""
    return f"{layer}.pool"
