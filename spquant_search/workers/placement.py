"""How many trainers there are, and which GPU each takes. Nothing here asks a device: it follows from what is given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

VISIBLE = "CUDA_VISIBLE_DEVICES"  # the environment variable by which CUDA shows some GPUs alone to a process
USED_SHARE = 0.9  # of what is free on a device: the rest is for what estimates miss, and for memory in pieces
MOST_ON_A_GPU = 8  # trainers that nobody asked for: a GPU works for one of them at a time, or little more


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU, or a part of one, that this command may use."""

    visible_as: str  # what CUDA_VISIBLE_DEVICES names it by: a number, a GPU's UUID, or a MIG instance
    name: str  # such as NVIDIA H200
    capability: tuple[int, int]  # compute capability: (9, 0) is sm_90
    free_bytes: int  # when it was asked
    total_bytes: int


def named_gpus(value: str | None) -> tuple[str, ...] | None:
    """Return the GPUs that a value of CUDA_VISIBLE_DEVICES names, as CUDA reads it; None where it is not set: all.

    What stands behind the first entry that is no name is ignored. Of a list with a name twice CUDA shows nothing.
    Whether there is such a GPU is not known here.
    """
    if value is None:
        return None
    found: list[str] = []
    for entry in map(str.strip, value.split(",")):
        number = re.match(r"\+?([0-9]+)", entry)  # CUDA reads a number as far as it goes
        if number is None and not re.match(r"(GPU|MIG)-.", entry):
            break
        found.append(entry if number is None else str(int(number[1])))
    return () if len(set(found)) < len(found) else tuple(found)


def place_trainers(wanted: int | None, gpus: Sequence[Gpu], *, trainer_bytes: int, cores: int) -> tuple[Gpu, ...]:
    """Return the GPU of each trainer: they go around the ``gpus``, of which there is one at least.

    ``wanted`` is the number of trainers. None: as many as find memory, each with a core of its own, and no more than
    are of use; a GPU that has no room for another is then passed over. One trainer there is in any case.
    """
    if wanted is not None:
        return tuple(gpus[number % len(gpus)] for number in range(wanted))
    rooms = [min(MOST_ON_A_GPU, trainers_in(gpu.free_bytes, trainer_bytes)) for gpu in gpus]
    placed: list[Gpu] = []
    for turn in count():
        with_room = [gpu for gpu, room in zip(gpus, rooms, strict=True) if room > turn]
        placed += with_room
        if not with_room or len(placed) >= cores:
            break
    return tuple(placed[: max(1, cores)]) or (max(gpus, key=lambda gpu: gpu.free_bytes),)


def trainers_on_processor(*, available_bytes: int | None, trainer_bytes: int, cores: int) -> int:
    """Return how many trainers a processor takes: one a core, as far as memory goes where it is known; 1 at least."""
    room = cores if available_bytes is None else trainers_in(available_bytes, trainer_bytes)
    return max(1, min(cores, room))


def trainers_in(free_bytes: int, trainer_bytes: int) -> int:
    """Return how many trainers find room in what is free."""
    return int(USED_SHARE * max(0, free_bytes)) // max(1, trainer_bytes)
