"""Augmentation against a slow reference that takes sample by sample, and by what must hold of every outcome."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from spquant_search.errors import SpaceError
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import Augmentation
from spquant_search.training.augmentation import (
    Drops,
    Moves,
    augmented,
    draw_drops,
    draw_moves,
    kept_share,
    moved,
    thinned,
)
from spquant_search.training.prepare import bind_network

EVERYTHING = Augmentation(flip=True, roll=2, crop=3, event_drop=0.75)
SEED = 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(samples: int = 12, *, channels: int = 2, height: int = 7, width: int = 9, largest: int = 6) -> Tensor:
    """Event frames of 4 steps; a third channel is the sum of the others, as `both-and-sum` stores it."""
    shape = (samples, 4, min(channels, 2), height, width)
    frames = torch.randint(0, largest + 1, shape, generator=generator(5), dtype=torch.uint8)
    return torch.cat([frames, frames.sum(dim=2, keepdim=True).clamp(max=255).to(torch.uint8)], 2)[:, :, :channels]


# ---------------------------------------------------------------- flip, roll, crop


def one_moved(frame: Tensor, moves: Moves, index: int) -> Tensor:
    """[time, channel, height, width] of one sample: padded and cut, rolled, mirrored, by torch's own functions."""
    (top, left), (down, right) = moves.cut[index].tolist(), moves.rolled[index].tolist()
    height, width = frame.shape[2:]
    pad = 10
    padded = F.pad(frame, (pad, pad, pad, pad))
    window = padded[:, :, pad + top : pad + top + height, pad + left : pad + left + width]
    rolled = torch.roll(window, shifts=(down, right), dims=(2, 3))
    return rolled.flip(3) if moves.mirrored[index] else rolled


@pytest.mark.parametrize(
    "options",
    [Augmentation(flip=True), Augmentation(roll=6), Augmentation(crop=6), Augmentation(flip=True, roll=3, crop=4)],
    ids=["flip", "roll", "crop", "all"],
)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_moves_are_those_of_the_reference_sample_by_sample(options: Augmentation, channels: int) -> None:
    frames = counts(20, channels=channels)
    moves = draw_moves(len(frames), options, generator(1))
    expected = torch.stack([one_moved(frame, moves, index) for index, frame in enumerate(frames)])
    out = moved(frames, moves)
    assert out.dtype == torch.uint8
    assert torch.equal(out, expected)
    assert not torch.equal(out, frames)


def test_moves_by_hand() -> None:
    frame = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.uint8).expand(3, 1, 1, 2, 3)
    moves = Moves(
        cut=torch.tensor([[0, 0], [0, 0], [1, -1]]),
        rolled=torch.tensor([[0, 0], [1, 1], [0, 0]]),
        mirrored=torch.tensor([True, False, False]),
    )
    assert moved(frame, moves).tolist() == [
        [[[[3, 2, 1], [6, 5, 4]]]],
        [[[[6, 4, 5], [3, 1, 2]]]],  # down and to the right, around the edge
        [[[[0, 4, 5], [0, 0, 0]]]],  # the window begins a row lower and a column further left
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(0, 6))
def test_what_moves_never_do(seed: int, roll: int, crop: int) -> None:
    frames = counts(6)
    total = frames.sum(dim=(3, 4))
    flipped = draw_moves(6, Augmentation(flip=True), generator(seed))
    assert torch.equal(moved(moved(frames, flipped), flipped), frames), "a flip undoes itself"
    rolled = draw_moves(6, Augmentation(flip=True, roll=roll), generator(seed))
    assert torch.equal(moved(frames, rolled).sum(dim=(3, 4)), total), "no event is lost or made by a roll"
    back = Moves(cut=rolled.cut, rolled=-rolled.rolled, mirrored=torch.zeros(6, dtype=torch.bool))
    assert torch.equal(moved(moved(frames, rolled._replace(mirrored=back.mirrored)), back), frames)
    cut = draw_moves(6, Augmentation(crop=crop), generator(seed))
    assert (moved(frames, cut).sum(dim=(3, 4)) <= total).all(), "events never grow by a crop"


def test_every_shift_is_drawn_equally_often_and_half_of_the_samples_are_mirrored() -> None:
    moves = draw_moves(20_000, Augmentation(flip=True, roll=2, crop=1), generator())
    for drawn, most in ((moves.rolled, 2), (moves.cut, 1)):
        assert drawn.unique().tolist() == list(range(-most, most + 1))
        expected = 20_000 / (2 * most + 1)
        for axis in (0, 1):
            assert ((drawn[:, axis].unique(return_counts=True)[1] - expected).abs() < 5 * expected**0.5).all()
    assert abs(moves.mirrored.float().mean().item() - 0.5) < 5 * 0.5 / 20_000**0.5
    assert not torch.equal(moves.rolled[:, 0], moves.rolled[:, 1])


def test_what_is_off_is_not_drawn() -> None:
    moves = draw_moves(50, Augmentation(roll=3), generator())
    assert not moves.mirrored.any()
    assert not moves.cut.any()


# ---------------------------------------------------------------- EventDrop


def test_a_window_drops_of_every_frame_the_share_that_it_covers() -> None:
    # Four frames; from an eighth to the half of the time: half of the first, all of the second.
    drops = Drops(
        window=torch.tensor([[0.125, 0.5]]), box=torch.zeros(1, 2, 2, dtype=torch.int64), share=torch.zeros(1)
    )
    kept = kept_share(torch.Size((1, 4, 2, 2, 2)), drops)
    assert kept.shape == (1, 4, 1, 2, 2)
    assert kept[0, :, 0, 0, 0].tolist() == [0.5, 0.0, 1.0, 1.0]


def one_kept(drops: Drops, index: int, time: int, row: int, column: int, steps: int) -> float:
    begin, end = drops.window[index].tolist()
    overlap = max(0.0, min(end, (time + 1) / steps) - max(begin, time / steps)) * steps
    (top, bottom), (left, right) = drops.box[index].tolist()
    boxed = top <= row < bottom and left <= column < right
    return (1 - overlap) * (1 - drops.share[index].item()) * (not boxed)


def test_what_is_kept_is_that_of_the_reference_pixel_by_pixel() -> None:
    shape = torch.Size((12, 5, 2, 6, 8))
    drops = draw_drops(shape, 0.9, generator(2))
    kept = kept_share(shape, drops)
    for index, time, row, column in itertools.product(range(12), range(5), range(6), range(8)):
        expected = one_kept(drops, index, time, row, column, steps=5)
        assert kept[index, time, 0, row, column].item() == pytest.approx(expected, abs=1e-5)
    assert kept.min() >= 0
    assert kept.max() <= 1


def test_a_sample_loses_events_in_one_way_each_as_often_and_as_far_as_the_paper_says() -> None:
    samples, share = 30_000, 0.75
    drops = draw_drops(torch.Size((samples, 4, 2, 40, 20)), share, generator())
    by_time, by_area, at_random = drops.window[:, 1] > 0, drops.box.flatten(1).any(1), drops.share > 0
    ways = torch.stack([by_time, by_area, at_random]).float()
    assert (ways.sum(0) <= 1).all()
    assert ((ways.mean(1) - share / 3).abs() < 5 * (0.25 * 0.75 / samples) ** 0.5).all()
    tenths = [round(0.1 * i, 1) for i in range(1, 10)]
    lengths = drops.window[by_time, 1] - drops.window[by_time, 0]
    assert sorted(set((lengths * 10).round().div(10).tolist())) == pytest.approx(tenths)
    assert drops.window.min() >= 0
    assert drops.window.max() <= 1 + 1e-6
    assert drops.share[at_random].unique().tolist() == pytest.approx(tenths)
    boxes = drops.box[by_area]
    sides = boxes[:, :, 1] - boxes[:, :, 0]
    assert {tuple(side) for side in sides.tolist()} == {(2, 1), (4, 2), (6, 3), (8, 4), (10, 5)}
    assert boxes.min() == 0
    assert boxes[:, 0].max() == 40
    assert boxes[:, 1].max() == 20


def test_events_are_dropped_one_by_one_with_the_binomials_mean_and_spread() -> None:
    frames = torch.full((2, 1, 2, 100, 100), 10, dtype=torch.uint8)
    kept = torch.tensor([0.3, 0.8])[:, None, None, None, None].expand(2, 1, 1, 100, 100)
    left = thinned(frames, kept, generator()).double().flatten(1)
    for values, probability in zip(left, (0.3, 0.8), strict=True):
        spread = 10 * probability * (1 - probability)
        assert values.mean().item() == pytest.approx(10 * probability, abs=5 * (spread / len(values)) ** 0.5)
        assert values.var().item() == pytest.approx(spread, rel=0.1)
    assert left.max() <= 10


def test_nothing_is_dropped_where_all_stay_and_all_where_none_do() -> None:
    frames = counts(3, largest=255)
    kept = torch.ones(3, 4, 1, 7, 9)
    kept[1, 2] = 0.0
    kept[2] = 0.0
    out = thinned(frames, kept, generator())
    assert torch.equal(out[0], frames[0])
    assert not out[1, 2].any()
    assert torch.equal(out[1, [0, 1, 3]], frames[1, [0, 1, 3]])
    assert torch.equal(out[2], frames[2]), "a sample that would lose all its events keeps them"


def test_the_channel_of_sums_stays_the_sum() -> None:
    frames = counts(40, channels=3, largest=250)
    out = augmented(frames, Augmentation(event_drop=1.0), seed=SEED).int()
    assert torch.equal(out[:, :, 2], (out[:, :, 0] + out[:, :, 1]).clamp(max=255))
    assert (out[:, :, :2] < frames[:, :, :2]).any()


# ---------------------------------------------------------------- all of it


def test_without_augmentation_the_batch_is_the_same_one() -> None:
    frames = counts()
    assert augmented(frames, Augmentation(), seed=SEED) is frames


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3]), st.floats(0, 1))
def test_augmentation_makes_no_event_and_leaves_the_batch_alone(seed: int, channels: int, share: float) -> None:
    frames = counts(8, channels=channels)
    before = frames.clone()
    options = Augmentation(flip=True, roll=3, crop=2, event_drop=share)
    out = augmented(frames, options, seed=seed)
    assert torch.equal(frames, before)
    assert (out.shape, out.dtype) == (frames.shape, torch.uint8)
    assert (out.sum(dim=(1, 3, 4)) <= frames.sum(dim=(1, 3, 4))).all()


def test_equal_seeds_give_equal_batches_and_other_seeds_others() -> None:
    frames = counts(30)
    first = augmented(frames, EVERYTHING, seed=7)
    assert torch.equal(augmented(frames, EVERYTHING, seed=7), first)
    for seed in (8, 9, 2**31, 0):
        assert not torch.equal(augmented(frames, EVERYTHING, seed=seed), first)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    augmented(counts(), EVERYTHING, seed=SEED)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "options", [Augmentation(flip=True), Augmentation(roll=3), Augmentation(crop=3), Augmentation(event_drop=1.0)]
)
def test_every_sample_of_a_batch_has_its_own_decisions(options: Augmentation) -> None:
    same = counts(1).repeat(40, 1, 1, 1, 1)
    outcomes = {tuple(frame.flatten().tolist()) for frame in augmented(same, options, seed=SEED)}
    assert len(outcomes) == 2 if options.flip else len(outcomes) > 10


def test_still_images_have_one_frame() -> None:
    images = torch.randint(0, 256, (16, 1, 3, 8, 8), generator=generator(), dtype=torch.uint8)
    options = Augmentation(flip=True, crop=2)
    moves = draw_moves(16, options, generator(3))
    expected = torch.stack([one_moved(image, moves, index) for index, image in enumerate(images)])
    assert torch.equal(moved(images, moves), expected)
    assert augmented(images, options, seed=SEED).shape == images.shape


# ---------------------------------------------------------------- what does not fit the data


@pytest.mark.parametrize(
    ("data", "augment", "problems"),
    [
        ("fashion-events", "{flip: true, roll: 33, crop: 33, event_drop: 1}", []),
        ("cifar10", "{flip: true, crop: 31}", []),
        (
            "cifar10",
            "{roll: 5, event_drop: 0.1}",
            [
                "roll: is for recordings, not for cifar10, whose samples are still images; set it to 0 and take crop",
                "event_drop: is for recordings, not for cifar10, whose samples are still images; set it to 0",
            ],
        ),
        (
            "dvs-gesture, size: [48, 64]",
            "{flip: true, roll: 48, crop: 50}",
            [
                "flip: dvs-gesture has classes for left and right, which a flip would swap; set it to false",
                "roll: must be less than the frame's height and width, 48x64; got 48",
                "crop: must be less than the frame's height and width, 48x64; got 50",
            ],
        ),
    ],
)
def test_augmentation_that_does_not_fit_the_data_is_refused(data: str, augment: str, problems: list[str]) -> None:
    text = f"data: {{name: {data}}}\ntime_steps: 2\nmodel: {{network: vgg9, width: 0.0625}}\nlayers: {{}}\n"
    file = parse_space(text + f"train: {{augment: {augment}}}\n", source="s.yaml")
    if not problems:
        assert bind_network(file, source="s.yaml").input.classes == 10
        return
    with pytest.raises(SpaceError) as caught:
        bind_network(file, source="s.yaml")
    assert tuple(map(str, caught.value.problems)) == tuple(f"train.augment.{problem}" for problem in problems)


def test_augmentation_and_layers_that_do_not_fit_are_named_together() -> None:
    text = "data: {name: cifar10}\ntime_steps: 2\nmodel: {network: vgg9, width: 0.0625}\n"
    text += "layers: {conv9: {weight_bits: 4}}\ntrain: {augment: {event_drop: 1}}\n"
    with pytest.raises(SpaceError) as caught:
        bind_network(parse_space(text, source="s.yaml"), source="s.yaml")
    assert [problem.key for problem in caught.value.problems] == [
        "train.augment.event_drop",
        "layers.conv9",
    ]
