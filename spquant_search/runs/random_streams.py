"""Give every purpose of random numbers a stream of its own.

A stream is named by a seed, a purpose, and numbers such as those of a trial and an epoch. The purpose and the numbers
are the spawn key of numpy's seed sequence, which tells apart keys of different lengths too. The entropy of a seed
sequence does not: numpy fills it up with zeros, so that [seed, number] and [seed, number, 0] are one stream.

Streams are independent as far as their generators tell seeds apart. Torch's generator on a processor and Optuna's
samplers keep 32 bits of a seed, so that two of their streams are equal by chance once in four billion pairs.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np

_SEED_BITS = 53  # so many are exact for every reader of JSON


class Purpose(IntEnum):
    """What random numbers are for; a number that a purpose has had is never given to another."""

    CAMERA_THRESHOLDS = 0
    CAMERA_NOISE = 1  # of a sample
    SAMPLE_ORDER = 2  # of a split
    CLASS_SHARE = 3  # of a split and a class: which samples are held out
    GROUP_SHARE = 4  # of a split: which groups of samples are held out
    TRIAL = 5  # of a trial: the seed of its training
    SUPERNET = 6  # the seed of the supernet's training
    FINE_TUNING = 7  # of a member and a repeat: the seed of its training in a search's last stage
    FINALIZE = 8  # of a member, a repeat and a number of epochs: the seed of its training by `finalize`
    OPTUNA_SAMPLER = 9  # of a trial
    GREY_BOX = 10  # of a trial
    PARAMETER = 11  # of a trial and the bytes of a parameter's name, drawn by itself
    INITIAL_WEIGHTS = 12  # of a training, like the four that follow
    BATCH_ORDER = 13  # in an epoch
    LAYERS = 14  # in an epoch: what layers of a user's network draw, as dropout does
    AUGMENTATION = 15  # in an epoch, of a batch
    SUBNETS = 16  # the configurations of the supernet's steps
    TEST_VECTORS = 17  # made-up frames
    MADE_UP_SIGNALS = 18  # of a network that is looked at before any training
    USERS_SAMPLES = 19  # what a user's code draws that returns samples, by generators that a process has one of
    SECOND_EXAMPLE = 20  # of a network that is imported
    CHANNEL_ORDER = 21  # of a network that is picked, of maps that share one


def seed_sequence(seed: int, purpose: Purpose, *numbers: int) -> np.random.SeedSequence:
    """Return the beginning of a stream; the numbers are below 2^32."""
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *numbers))


def random_generator(seed: int, purpose: Purpose, *numbers: int) -> np.random.Generator:
    """Return numpy's generator of a stream."""
    return np.random.default_rng(seed_sequence(seed, purpose, *numbers))


def derived_seed(seed: int, purpose: Purpose, *numbers: int) -> int:
    """Return a seed below 2^53 for another generator, or for streams that are made from it in turn."""
    (word,) = seed_sequence(seed, purpose, *numbers).generate_state(1, np.uint64)
    return int(word) >> (64 - _SEED_BITS)


def derived_seed_of_32_bits(seed: int, purpose: Purpose, *numbers: int) -> int:
    """Return a seed below 2^32 for a generator that takes no larger one."""
    return int(seed_sequence(seed, purpose, *numbers).generate_state(1)[0])


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Let a user's code draw the same numbers every time from Python's, numpy's and torch's own generators.

    They have their old states at the end. Torch's is left alone where nobody has imported it.
    """
    torch = sys.modules.get("torch")
    old, old_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - those that such code draws from
    old_torch = None if torch is None else torch.get_rng_state()
    word = derived_seed_of_32_bits(seed, Purpose.USERS_SAMPLES)
    random.seed(word)
    np.random.seed(word)  # noqa: NPY002
    if torch is not None:
        torch.manual_seed(word)
    try:
        yield
    finally:
        random.setstate(old)
        np.random.set_state(old_numpy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(old_torch)
