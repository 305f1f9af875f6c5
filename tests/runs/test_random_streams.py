"""Streams of random numbers: one for every purpose, and none that another is given too."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

import spquant_search
from spquant_search.driver.seeds import finalize_seed, fine_tuning_seed, supernet_seed, trial_seed
from spquant_search.runs.random_streams import (
    Purpose,
    derived_seed,
    derived_seed_of_32_bits,
    random_generator,
    repeatable,
    seed_sequence,
)

NUMBERS = st.lists(st.integers(0, 3) | st.integers(0, 2**32 - 1), max_size=4).map(tuple)
NAMES = st.tuples(st.integers(0, 2) | st.integers(0, 2**53 - 1), st.sampled_from(Purpose), NUMBERS)


def state(seed: int, purpose: Purpose, numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(seed_sequence(seed, purpose, *numbers).generate_state(4).tolist())


@given(NAMES, NAMES)
def test_streams_of_two_names_begin_differently(one: tuple, other: tuple) -> None:
    assert (state(*one) == state(*other)) == (one == other)


@given(NAMES, st.integers(1, 3))
def test_a_further_zero_is_another_stream(name: tuple, zeros: int) -> None:
    seed, purpose, numbers = name
    longer = (*numbers, *[0] * zeros)
    assert state(seed, purpose, longer) != state(seed, purpose, numbers)
    assert derived_seed(seed, purpose, *longer) != derived_seed(seed, purpose, *numbers)


def seeds_of_trainings(search_seed: int) -> Iterator[int]:
    yield supernet_seed(search_seed)
    for number in range(40):
        yield trial_seed(search_seed, number)
        for repeat in range(4):
            yield fine_tuning_seed(search_seed, number, repeat)
            yield from (finalize_seed(search_seed, number, repeat, epochs=epochs) for epochs in (1, 3))


def test_no_two_trainings_share_a_seed_nor_a_draw() -> None:
    seeds = [seed for search_seed in range(12) for seed in seeds_of_trainings(search_seed)]
    assert len(set(seeds)) == len(seeds) == 12 * (1 + 40 * 13)
    assert max(seeds) < 2**53
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)  # what torch takes of them on a processor
    streams = (Purpose.INITIAL_WEIGHTS, Purpose.BATCH_ORDER, Purpose.LAYERS, Purpose.AUGMENTATION, Purpose.SUBNETS)
    some = list(dict.fromkeys([*range(12), *seeds[::7]]))  # the search's own seeds are seeds of data sets too
    beginnings = {
        derived_seed(seed, purpose, *key) for seed in some for purpose in streams for key in ((), (0,), (0, 0))
    }
    assert len(beginnings) == len(some) * len(streams) * 3
    draws = {tuple(random_generator(seed, purpose).random(2)) for seed in some[:200] for purpose in Purpose}
    assert len(draws) == 200 * len(Purpose)


def test_what_a_search_draws_and_what_its_trainings_draw_are_different_streams() -> None:
    draws = [
        tuple(random_generator(seed, purpose, number).integers(2**63, size=2))
        for seed, purpose, number in itertools.product(range(20), Purpose, range(20))
    ]
    assert len(set(draws)) == len(draws)


def test_equal_names_give_equal_seeds() -> None:
    assert derived_seed(3, Purpose.TRIAL, 5) == derived_seed(3, Purpose.TRIAL, 5) == trial_seed(3, 5)
    assert 0 <= derived_seed_of_32_bits(3, Purpose.OPTUNA_SAMPLER, 5) < 2**32
    one, other = random_generator(3, Purpose.GREY_BOX, 5), random_generator(3, Purpose.GREY_BOX, 5)
    np.testing.assert_array_equal(one.random(4), other.random(4))


def test_every_purpose_has_a_number_of_its_own() -> None:
    assert len(set(Purpose)) == len(Purpose.__members__)


def test_all_random_numbers_of_the_package_come_from_streams() -> None:
    package = Path(spquant_search.__file__).parent
    by_itself = re.compile(r"SeedSequence|default_rng|RandomState|np\.random\.(?!Generator)[a-z]")
    seeded = re.compile(
        r"(?:manual_seed|random\.Random)\((?!seed\)|derived_seed\()|Sampler\([^)]*seed=(?!seed|int\(seed\))"
    )
    found = [
        f"{file.name}: {line.strip()}"
        for file in sorted(package.rglob("*.py"))
        if file.name != "random_streams.py"
        for line in file.read_text(encoding="utf-8").splitlines()
        if by_itself.search(line) or seeded.search(line)
    ]
    assert found == []


def test_code_of_a_user_draws_the_same_numbers_and_leaves_those_of_the_program_alone() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002

    def seed_program() -> None:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)

    seed_program()
    undisturbed = draw(), draw()
    seed_program()
    before = draw()
    with repeatable(3):
        first = draw()
    assert (before, draw()) == undisturbed
    with repeatable(3):
        assert draw() == first
    with repeatable(4):
        assert set(draw()).isdisjoint(first)
