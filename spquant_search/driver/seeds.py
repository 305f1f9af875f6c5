"""The seed of every trial, from the search's."""

from __future__ import annotations

import numpy as np


def trial_seed(seed: int, number: int) -> int:
    """The seed of everything random in one trial, independent of the order in which trials run."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def final_seed(seed: int, number: int, repeat: int) -> int:
    """The seed of everything random in one repeat of one member, whatever else is fine-tuned."""
    return int(np.random.SeedSequence([seed, number, repeat]).generate_state(1)[0])
