"""Windows that move over a map: the kernel of a convolution, the block of a pool."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

Sides = int | tuple[int, int]  # rows and columns; one number is both
Padding = Sides | tuple[int, int, int, int]  # left, right, top, bottom, as in torch.nn.ZeroPad2d


class Span(NamedTuple):
    """A window along one axis: its size, its stride, and the zeros before and after what it moves over."""

    size: int
    stride: int = 1
    before: int = 0
    after: int = 0

    def positions(self, length: int) -> int:
        """Return how many places the window has on so many inputs; 0 where it does not fit."""
        return max(0, (length + self.before + self.after - self.size) // self.stride + 1)

    def reach(self, positions: int, length: int) -> int:
        """Return how many of ``length`` inputs, from the first on, its first ``positions`` places lie on."""
        return min(length, (positions - 1) * self.stride + self.size - self.before)

    def inputs(self, position: int, length: int) -> range:
        """Return the inputs under the window at one of its places, padding aside."""
        begin = position * self.stride - self.before
        return range(max(0, begin), min(length, begin + self.size))


class Window(NamedTuple):
    """A window on [rows, columns]."""

    rows: Span
    columns: Span

    def size_on(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of what it makes of a map."""
        return self.rows.positions(height), self.columns.positions(width)

    @property
    def area(self) -> int:
        return self.rows.size * self.columns.size

    @property
    def sizes(self) -> tuple[int, int]:
        return self.rows.size, self.columns.size

    @property
    def strides(self) -> tuple[int, int]:
        return self.rows.stride, self.columns.stride

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom."""
        return self.columns.before, self.columns.after, self.rows.before, self.rows.after

    def on_even_sides(self, values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return values and how torch is to pad them: it pads as much before as after, what is more is padded here."""
        left, right, top, bottom = self.padding
        if left == right and top == bottom:
            return values, (top, left)
        return F.pad(values, self.padding), (0, 0)

    def __str__(self) -> str:
        return f"{self.rows.size}x{self.columns.size}"


def window(kernel_size: Sides, stride: Sides = 1, padding: Padding | None = None) -> Window:
    """Make a window of what a user may write.

    ``padding`` None is half of an odd kernel on every side, so that at a stride of 1 the size of a map stays.

    Raises:
        ValueError: an argument is none of these, or an even kernel is padded by None.
    """
    sizes, strides = _sides("kernel_size", kernel_size), _sides("stride", stride)
    if padding is None:
        if any(size % 2 == 0 for size in sizes):
            raise ValueError(
                f"an even kernel has no middle that could lie on a pixel; say how kernel_size={kernel_size!r} is "
                "padded, such as padding=0"
            )
        padding = (sizes[0] // 2, sizes[1] // 2)
    left, right, top, bottom = _four(padding)
    return Window(Span(sizes[0], strides[0], top, bottom), Span(sizes[1], strides[1], left, right))


def is_count(value: object, *, least: int = 1) -> bool:
    """Tell whether a value is an int of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _sides(name: str, value: object) -> tuple[int, int]:
    both = value if isinstance(value, tuple) else (value, value)
    if len(both) != 2 or not all(map(is_count, both)):
        raise ValueError(f"{name} must be an int of at least 1, or two of them, (rows, columns); got {value!r}")
    return both[0], both[1]


def _four(value: object) -> tuple[int, int, int, int]:
    given = value if isinstance(value, tuple) else (value, value)
    if len(given) not in (2, 4) or not all(is_count(each, least=0) for each in given):
        raise ValueError(
            "padding must be an int of at least 0, or two of them, (rows, columns), or four, (left, right, top, "
            f"bottom); got {value!r}"
        )
    if len(given) == 2:
        return given[1], given[1], given[0], given[0]
    return given[0], given[1], given[2], given[3]
