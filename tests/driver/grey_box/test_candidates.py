import numpy as np
import pytest

from spquant_search.driver.grey_box.candidates import Grid, axis

BITS = axis("conv1.weight_bits", (1, 2, 3, 4, 8))
LEVELS = axis("conv1.membrane_levels", (0, 3, 16, 256))
MASS = axis("conv2.channel_mass", (0.5, 0.75, 1.0))
SKIP = axis("conv2.skip_below", (0.0, None, -0.5))
WORD = axis("rule", ("nearest", "toward zero", "up"))
GRID = Grid(axes=(BITS, LEVELS, MASS, SKIP, WORD))


def places(of):
    return of.codes[:, 0].tolist()


def test_bits_are_placed_by_their_logarithm():
    assert BITS.choices == (1, 2, 3, 4, 8)
    assert places(BITS) == pytest.approx([-1, -1 / 3, -1 + 2 / 3 * np.log2(3), 1 / 3, 1])


def test_a_float_membrane_comes_after_the_largest_number_of_levels():
    assert LEVELS.choices == (3, 16, 256, 0)
    assert places(LEVELS) == pytest.approx(np.interp(np.log2([3, 16, 256, 512]), np.log2([3, 512]), [-1, 1]).tolist())


def test_thresholds_are_placed_from_the_smallest_to_the_largest():
    assert places(MASS) == [-1, 0, 1]


def test_no_mask_comes_one_step_before_the_lowest_cut():
    assert SKIP.choices == (None, -0.5, 0.0)
    assert places(SKIP) == [-1, 0, 1]
    assert axis("a.skip_below", (None, 0.0)).choices == (None, 0.0)
    assert places(axis("a.skip_below", (None, 0.0))) == [-1, 1]


def test_the_second_feature_flattens_to_the_larger_end():
    (small, middle, large) = MASS.codes[:, 1]
    assert small == 1
    assert small - middle > 3 * (middle - large) > 0


def test_words_have_a_feature_each_and_no_order():
    assert not WORD.ordered
    assert WORD.codes.tolist() == np.eye(3).tolist()


def test_layers_share_a_kind_and_words_have_their_own():
    assert axis("conv7.weight_bits", (1, 2)).kind == "weight_bits"
    assert axis("w12", (1, 2)).kind == axis("w3", (1, 2)).kind == "w"
    assert axis("7", (1, 2)).kind == "7"
    # channel_mass, membrane_levels, rule, skip_below, weight_bits
    assert GRID.kinds.tolist() == [4, 4, 1, 1, 0, 0, 3, 3, 2, 2, 2]


def test_rows_and_values_are_two_forms_of_a_configuration():
    every = GRID.all_rows()
    assert len(every) == GRID.count == 5 * 4 * 3 * 3 * 3
    assert len(np.unique(every, axis=0)) == GRID.count
    values = GRID.parameters(every)
    assert values[0] == {
        "conv1.weight_bits": 1,
        "conv1.membrane_levels": 3,
        "conv2.channel_mass": 0.5,
        "conv2.skip_below": None,
        "rule": "nearest",
    }
    assert np.array_equal(GRID.rows(values), every)
    assert GRID.rows([]).shape == (0, 5)


def test_a_number_beside_the_choices_is_the_nearest_one():
    assert MASS.indices([0.6500000000000001, 1.0, 0.1]).tolist() == [1, 2, 0]
    assert SKIP.indices([None, -0.45, 7]).tolist() == [0, 1, 2]


def test_a_grid_holds_whole_configurations_only():
    values = GRID.parameters(GRID.all_rows()[:1])[0]
    assert GRID.holds(values)
    assert not GRID.holds({**values, "rule": "down"})
    assert not GRID.holds({"rule": "up"})


def test_offspring_are_near_their_parents_and_take_from_both():
    many = Grid(axes=tuple(axis(f"conv{i}.weight_bits", (1, 2, 3, 4, 8)) for i in range(40)))
    parents = np.array([[0] * 40, [4] * 40])
    children = many.offspring(np.random.default_rng(0), parents, 2000)
    assert children.min() >= 0
    assert children.max() <= 4
    # One choice away where it was changed at all: 7/3 of 40 are, less those beyond an end.
    changed = ~np.isin(children, (0, 4))
    assert set(children[changed]) == {1, 3}
    assert changed.sum(axis=1).mean() == pytest.approx(7 / 6, rel=0.1)
    # Half of CROSSED have a mother and a father that differ.
    mixed = ((children < 2).any(axis=1) & (children > 2).any(axis=1)).mean()
    assert mixed == pytest.approx(0.2, abs=0.03)


def test_tilted_rows_reach_further_than_uniform_ones():
    many = Grid(axes=tuple(axis(f"conv{i}.weight_bits", (1, 2, 3, 4, 8)) for i in range(40)))
    tilted = many.tilted(np.random.default_rng(0), 500)
    uniform = many.uniform(np.random.default_rng(0), 500)
    assert tilted.min() == uniform.min() == 0
    assert tilted.max() == uniform.max() == 4
    assert tilted.mean(axis=1).std() > 2 * uniform.mean(axis=1).std()
