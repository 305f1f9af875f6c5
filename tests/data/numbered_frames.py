"""A source of frames that tells which process made them, and that can fail."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spquant_search.data.building import FEWEST_BLOCKS
from spquant_search.data.cache import Block, Shape
from spquant_search.errors import UserError


@dataclass(frozen=True)
class Numbered:
    """Every frame holds its sample's number; the process that made it leaves its own number in ``folder``."""

    folder: Path
    samples: int = 3 * FEWEST_BLOCKS - 1
    is_slow: bool = True
    bad: int = -1
    deadly: int = -1
    block_length: int = 3

    @property
    def shape(self) -> Shape:
        return (self.samples, 1, 1, 1, 1)

    def recipe(self) -> dict[str, object]:
        return {}

    @property
    def numbers(self) -> int:
        return 1

    def block(self, chosen: slice) -> Block:
        numbers = np.arange(self.samples)[chosen]
        (self.folder / str(os.getpid())).touch()
        if self.bad in numbers:
            raise UserError(f"{self.folder}: sample {self.bad} is damaged")
        if self.deadly in numbers:
            os._exit(9)
        time.sleep(0.01)
        return Block(numbers.astype(np.uint8).reshape(-1, 1, 1, 1, 1), numbers[:, None] + 1000)
