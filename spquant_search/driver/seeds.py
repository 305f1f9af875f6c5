"""The seeds of all trainings of a search, made from the seed of the search: no two trainings have the same."""

from __future__ import annotations

from spquant_search.runs.random_streams import Purpose, derived_seed


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of everything random in a trial, independent of the order in which trials run."""
    return derived_seed(seed, Purpose.TRIAL, number)


def supernet_seed(seed: int) -> int:
    """Return the seed of everything random in the training of the supernet."""
    return derived_seed(seed, Purpose.SUPERNET)


def fine_tuning_seed(seed: int, number: int, repeat: int) -> int:
    """Return the seed of everything random in one repeat of a member in the last stage of a search."""
    return derived_seed(seed, Purpose.FINE_TUNING, number, repeat)


def finalize_seed(seed: int, number: int, repeat: int, *, epochs: int) -> int:
    """Return the seed of everything random in one repeat of a member that ``finalize`` trains for so many epochs."""
    return derived_seed(seed, Purpose.FINALIZE, number, repeat, epochs)
