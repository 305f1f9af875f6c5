"""Vary training samples at random: a batch at once, on the device it lies on, as bytes.

Every sample has random decisions for itself. They are drawn first and applied second, so that the outcome can be
checked sample by sample. Nothing here waits for the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from spquant_search.space.schema import Augmentation

Frames = UInt8[Tensor, "sample time channel height width"]
COUNTED = 2  # channels of events; a third one is their sum (data.polarity: both-and-sum)


class Moves(NamedTuple):
    """The moves of each sample's pixels: a window is cut, its content rolled, the outcome mirrored."""

    cut: Int[Tensor, "sample 2"]  # the window's first row and column; outside of the frame are zeros
    rolled: Int[Tensor, "sample 2"]  # down and to the right, in pixels; what leaves on one side enters on the other
    mirrored: Bool[Tensor, " sample"]  # left and right


class Drops(NamedTuple):
    """The events of each sample that are dropped; zeros where a sample loses none in this way."""

    window: Float[Tensor, "sample 2"]  # events from one time to another, as shares of the recording's time
    box: Int[Tensor, "sample 2 2"]  # events in [rows, columns][first, end)
    share: Float[Tensor, " sample"]  # each event with this probability


def augmented(frames: Frames, options: Augmentation, *, seed: int) -> Frames:
    """Return the batch with ``options`` applied; the batch itself if all are off.

    An equal ``seed`` gives an equal outcome on one kind of device.
    """
    moves = bool(options.flip or options.roll or options.crop)
    if not moves and not options.event_drop:
        return frames
    generator = torch.Generator(frames.device)
    generator.manual_seed(seed)
    if moves:
        frames = moved(frames, draw_moves(len(frames), options, generator))
    if options.event_drop:
        drops = draw_drops(frames.shape, options.event_drop, generator)
        frames = thinned(frames, kept_share(frames.shape, drops), generator)
    return frames


# ---------------------------------------------------------------- flip, roll, crop


def draw_moves(samples: int, options: Augmentation, generator: torch.Generator) -> Moves:
    """Draw mirroring with equal chances, and shifts by full pixels, all up to the largest equally likely."""

    def up_to(most: int) -> Tensor:
        return torch.randint(-most, most + 1, (samples, 2), generator=generator, device=generator.device)

    heads = torch.rand(samples, generator=generator, device=generator.device) < 0.5
    return Moves(cut=up_to(options.crop), rolled=up_to(options.roll), mirrored=heads & options.flip)


def moved(frames: Frames, moves: Moves) -> Frames:
    """Do all three moves at once: every pixel is read from its source."""
    height, width = frames.shape[3:]
    row, in_rows = _sources(height, cut=moves.cut[:, 0], rolled=moves.rolled[:, 0])
    column, in_columns = _sources(width, cut=moves.cut[:, 1], rolled=moves.rolled[:, 1], mirrored=moves.mirrored)
    source = (row[:, :, None] * width + column[:, None, :]).flatten(1)[:, None]
    inside = (in_rows[:, :, None] & in_columns[:, None, :]).flatten(1)[:, None]
    planes = frames.flatten(3).flatten(1, 2)
    return (planes.gather(2, source.expand(planes.shape)) * inside).view(frames.shape)


def _sources(
    size: int, *, cut: Int[Tensor, " sample"], rolled: Int[Tensor, " sample"], mirrored: Tensor | None = None
) -> tuple[Int[Tensor, "sample size"], Bool[Tensor, "sample size"]]:
    """Return the source of every row (or column), and a mask of those that have one inside the frame."""
    place = torch.arange(size, device=cut.device)
    before = place if mirrored is None else torch.where(mirrored[:, None], size - 1 - place, place)
    source = (before - rolled[:, None]) % size + cut[:, None]
    return source.clamp(0, size - 1), (source >= 0) & (source < size)


# ---------------------------------------------------------------- EventDrop


def draw_drops(shape: torch.Size, share: float, generator: torch.Generator) -> Drops:
    """Draw drops as EventDrop (Gu et al., IJCAI 2021): ``share`` of the samples lose events, in one of three ways.

    The ways are equally likely: by time 0.1 to 0.9 of the recording, by area a box of 0.05 to 0.25 of the frame's
    height and width, or 0.1 to 0.9 of the events at random. Window and box lie inside of the recording, anywhere with
    equal chances.
    """
    samples, height, width = shape[0], *shape[3:]

    def uniform() -> Tensor:
        return torch.rand(samples, generator=generator, device=generator.device)

    def stretch(size: int, ratio: Tensor) -> Tensor:
        length = (ratio * size).round().clamp(min=1)
        first = (uniform() * (size - length + 1)).floor()
        return torch.stack([first, first + length], dim=1)

    # Four intervals of [0, 1), in the last of which nothing is dropped.
    chance = uniform()
    by_time, by_area, at_random = ((chance >= share * i / 3) & (chance < share * (i + 1) / 3) for i in range(3))
    ratio = (1 + (9 * uniform()).floor()) / 10
    start = uniform() * (1 - ratio)
    side = (1 + (5 * uniform()).floor()) / 20
    box = torch.stack([stretch(height, side), stretch(width, side)], dim=1)
    return Drops(
        window=torch.stack([start, start + ratio], dim=1) * by_time[:, None],
        box=(box * by_area[:, None, None]).long(),
        share=ratio * at_random,
    )


def kept_share(shape: torch.Size, drops: Drops) -> Float[Tensor, "sample time 1 height width"]:
    """Return the probability with which an event stays, by its place and time.

    A frame counts the events of one of equal parts of the time, so that a window drops of it the share that it covers.
    """
    steps, height, width = shape[1], *shape[3:]
    edges = torch.arange(steps + 1, device=drops.share.device) / steps
    begin, end = drops.window[:, :1], drops.window[:, 1:]
    covered = ((torch.minimum(end, edges[1:]) - torch.maximum(begin, edges[:-1])) * steps).clamp(0, 1)
    in_rows, in_columns = _between(height, drops.box[:, 0]), _between(width, drops.box[:, 1])
    outside = ~(in_rows[:, :, None] & in_columns[:, None, :])
    in_time = (1 - covered) * (1 - drops.share)[:, None]
    return in_time[:, :, None, None, None] * outside[:, None, None]


def _between(size: int, ends: Int[Tensor, "sample 2"]) -> Bool[Tensor, "sample size"]:
    place = torch.arange(size, device=ends.device)
    return (place >= ends[:, :1]) & (place < ends[:, 1:])


def thinned(frames: Frames, kept: Float[Tensor, "sample time 1 height width"], generator: torch.Generator) -> Frames:
    """Keep each event with the probability ``kept``; a sample that would lose all its events keeps them."""
    events = frames[:, :, :COUNTED].float()
    left = torch.binomial(events, kept.expand(events.shape).contiguous(), generator=generator)
    if frames.shape[2] > COUNTED:
        left = torch.cat([left, left.sum(dim=2, keepdim=True).clamp(max=255)], dim=2)
    some = left.flatten(1).any(dim=1)
    return torch.where(some[:, None, None, None, None], left.to(torch.uint8), frames)
