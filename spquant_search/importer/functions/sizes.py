"""Sizes of windows as torch takes them, and signals of one dimension as those of two with height 1."""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.importer.axes import Dimensions, feature_dimensions, lead_of
from spquant_search.importer.graph import Followed
from spquant_search.importer.operations import Pair
from spquant_search.importer.refusals import Refused


def pair(x: Followed, value: int | Sequence[int], *, in_height: int) -> Pair:
    """Return a size for height and width, as a function was given it for ``x``.

    Along the height of a signal of one dimension it is ``in_height``: 1 for a kernel, 0 for a padding.
    """
    sizes = (value,) if isinstance(value, int) else tuple(value)
    if len(x.features) == 2:
        return in_height, int(sizes[-1])
    return int(sizes[0]), int(sizes[-1])


def images(x: Followed) -> tuple[int, int, int]:
    """Return the features of a signal as [channels, height, width]; one of one dimension has height 1."""
    features = x.features
    if len(features) == 3:
        return features[0], features[1], features[2]
    if len(features) == 2:
        return features[0], 1, features[1]
    raise Refused(
        f"it is given features of shape {features}, which are no [channels, length] or [channels, height, width]"
    )


def image_dimensions(x: Followed, shape: Sequence[int]) -> Dimensions:
    """Return the dimensions of what is made of ``x``: [channels, height, width], without height where it has none."""
    lead = x.dimensions[: lead_of(x.dimensions)]
    if len(x.features) == 2:
        return lead + feature_dimensions((shape[0], shape[2]), places=(0, 2))
    return lead + feature_dimensions(shape)


def image_shape(x: Followed, output: Sequence[int]) -> tuple[int, int, int]:
    """Return [channels, height, width] of a tensor that was made of ``x``."""
    if len(x.features) == 2:
        return output[-2], 1, output[-1]
    return output[-3], output[-2], output[-1]
