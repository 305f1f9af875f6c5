"""Whatever is reshaped, what is followed says where every value has gone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spquant_search.importer.axes import (
    Axis,
    Dimensions,
    Kind,
    feature_dimensions,
    features_of,
    in_order,
    lead_of,
    regrouped,
    sizes_of,
)
from spquant_search.importer.refusals import Refused

TIME, BATCH = (Axis(Kind.TIME, 2),), (Axis(Kind.BATCH, 3),)


def numbered(shape: tuple[int, ...]) -> tuple[Tensor, Dimensions]:
    """Return numbers [time, batch, *shape], each in its place, and their dimensions."""
    values = torch.arange(6 * math.prod(shape), dtype=torch.float64).view(2, 3, *shape)
    return values, (TIME, BATCH, *feature_dimensions(shape))


@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3).map(tuple),
    moves=st.lists(st.tuples(st.sampled_from("pvfus"), st.integers(0, 10**6)), max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_any_moves_are_undone(shape: tuple[int, ...], moves: list[tuple[str, int]]) -> None:
    first, dimensions = numbered(shape)
    values = first
    for kind, number in moves:
        values, dimensions = moved(values, dimensions, kind, number)
        assert sizes_of(dimensions) == tuple(values.shape)
    assert torch.equal(in_order(values, dimensions, shape), first)


def moved(values: Tensor, dimensions: Dimensions, kind: str, number: int) -> tuple[Tensor, Dimensions]:
    """Do one permutation, view, flattening, unsqueezing or splitting, chosen by a number."""
    count = values.dim()
    if kind == "p":
        order = sorted(range(count), key=lambda place: hash((number, place)))
        return values.permute(order), tuple(dimensions[place] for place in order)
    if kind == "u":
        place = number % (count + 1)
        return values.unsqueeze(place), (*dimensions[:place], (), *dimensions[place:])
    shape = list(values.shape)
    if kind == "s" and shape:  # one dimension in two
        place = number % count
        sizes = [size for size in range(1, shape[place] + 1) if shape[place] % size == 0]
        size = sizes[number % len(sizes)]
        shape[place : place + 1] = [size, shape[place] // size]
    elif kind == "f" and count > 1:
        place = number % (count - 1)
        shape[place : place + 2] = [shape[place] * shape[place + 1]]
    try:
        return values.reshape(shape), regrouped(dimensions, shape)
    except Refused:  # time or samples would be taken apart
        return values, dimensions


def test_a_vector_can_be_seen_as_an_image_and_back() -> None:
    values, dimensions = numbered((32,))
    image = regrouped(dimensions, (2, 3, 2, 4, 4))
    assert features_of(image) == (2, 4, 4)
    assert regrouped(image, (2, 3, 32)) != dimensions  # in parts, whose order says that they are whole
    assert features_of(regrouped(image, (2, 3, 32))) == (32,)
    assert torch.equal(in_order(values.view(2, 3, 2, 4, 4), image, (32,)), values)


@pytest.mark.parametrize("shape", [(3, 2, 4), (6, 4), (1, 6, 4)])
def test_a_view_that_exchanges_time_and_samples_is_refused(shape: tuple[int, ...]) -> None:
    _, dimensions = numbered((4,))
    if shape == (3, 2, 4):
        with pytest.raises(Refused, match="a view takes apart an axis of 2 time entries"):
            regrouped(dimensions, shape)
    else:
        assert lead_of(regrouped(dimensions, shape)) == len(shape) - 1


def test_features_in_front_of_time_or_in_another_order_are_refused() -> None:
    _, (time, batch, *features) = numbered((2, 4, 5))
    with pytest.raises(Refused, match="time or samples stand behind or within the features"):
        lead_of((batch, features[0], time, *features[1:]))
    with pytest.raises(Refused, match="its features are permuted"):
        features_of((time, batch, features[2], features[0], features[1]))
    assert features_of((time, batch, (), features[0], (*features[1], *features[2]))) == (1, 2, 20)
