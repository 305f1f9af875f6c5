"""What is left to do where memory runs out: free what is free, and evaluate in smaller batches."""

from __future__ import annotations

import gc

import torch


class Shortage:
    """Whether memory has run out in this process before."""

    met = False

    @classmethod
    def make_room(cls) -> None:
        """Give back what torch keeps for later, and halve the batches of evaluation from now on.

        No accuracy and no count depends on the size of such a batch. Call it where no error is being handled: an error
        holds the tensors of all functions that it went through.
        """
        cls.met = True
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def evaluated_at_once(samples: int) -> int:
    """Return how many samples a batch of evaluation takes instead of so many."""
    return max(1, samples // 2) if Shortage.met else samples
