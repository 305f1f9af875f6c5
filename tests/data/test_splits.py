"""Orders and shares of samples: in proportion to the classes, and independent of each other."""

from __future__ import annotations

import numpy as np

from spquant_search.data.splits import hold_out, hold_out_groups, proportional_order


def test_every_prefix_has_the_classes_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = proportional_order(labels, np.arange(100), seed=3)
    assert sorted(order.tolist()) == list(range(100))
    for length in range(1, 101):
        counts = np.bincount(labels[order[:length]], minlength=3)
        assert (np.abs(counts - length * np.array([0.6, 0.3, 0.1])) <= 1.5).all()


def test_equal_classes_come_in_shuffled_rounds() -> None:
    equal = np.tile(np.arange(5), 20)
    rounds = equal[proportional_order(equal, np.arange(100), seed=0)].reshape(20, 5)
    np.testing.assert_array_equal(np.sort(rounds, axis=1), np.broadcast_to(np.arange(5), (20, 5)))
    assert len(np.unique(rounds, axis=0)) > 10


def test_a_share_of_each_class_is_held_out() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    kept, held = hold_out(labels, np.arange(100), 0.1, seed=0)
    assert np.bincount(labels[held]).tolist() == [6, 3, 1]
    assert sorted([*kept, *held]) == list(range(100))
    assert held.tolist() != hold_out(labels, np.arange(100), 0.1, seed=1)[1].tolist()


def test_more_samples_of_a_class_leave_the_others_where_they_are() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    _, held = hold_out(labels, np.arange(100), 0.1, seed=0)
    more = np.repeat([0, 1, 2], [60, 30, 40])
    np.testing.assert_array_equal(held[:9], hold_out(more, np.arange(130), 0.1, seed=0)[1][:9])


def test_some_samples_are_kept_however_large_the_share() -> None:
    few = np.repeat([0, 1], [3, 2])
    assert [len(part) for part in hold_out(few, np.arange(5), 0.99, seed=0)] == [2, 3]
    assert [len(part) for part in hold_out(few[:3], np.arange(3), 0.99, seed=0, keep=2)] == [2, 1]


def test_no_group_is_in_both_parts() -> None:
    groups = [f"user{number % 5}" for number in range(20)]
    for share, users in ((0.01, 1), (0.4, 2), (0.99, 4)):
        kept, held = hold_out_groups(groups, np.arange(20), share, seed=0)
        assert len(held) == 4 * users
        assert not {groups[i] for i in held} & {groups[i] for i in kept}


def test_splits_of_one_seed_share_no_random_numbers() -> None:
    labels, indices = np.zeros(60, np.int64), np.arange(60)
    groups = [f"g{index:02}" for index in range(60)]
    for first, second in ((1, 2), (0, 1)):
        orders = [proportional_order(labels, indices, 0, number=number).tolist() for number in (first, second)]
        assert orders[0] != orders[1]
        for held_out in (
            [hold_out(labels, indices, 0.3, 0, number=number)[1].tolist() for number in (first, second)],
            [hold_out_groups(groups, indices, 0.3, 0, number=number)[1].tolist() for number in (first, second)],
        ):
            assert held_out[0] != held_out[1]
