"""The seeds of trials and of fine-tuned finalists, made from the seed of the search."""

from __future__ import annotations

import numpy as np


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of everything random in a trial, independent of the order in which trials run."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def final_seed(seed: int, number: int, repeat: int) -> int:
    """Return the seed of everything random in one repeat of a member, whatever else is fine-tuned."""
    return int(np.random.SeedSequence([seed, number, repeat]).generate_state(1)[0])
