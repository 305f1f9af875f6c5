"""The trainers of a start of a run, as its folder keeps them: how many there were, and on which devices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUse:
    """A GPU and the trainers on it."""

    visible_as: str  # what CUDA_VISIBLE_DEVICES named it by
    name: str
    trainers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainers:
    """The trainers of one start, of one coordinator."""

    device: str  # cpu or cuda
    count: int
    gpus: tuple[GpuUse, ...] = ()  # those that have a trainer
