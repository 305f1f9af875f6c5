"""Weight and membrane quantizers: hand-worked values, properties, and definitions written another way."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spquant_search.snn.quantize import (
    BELOW_AN_EXACT_TIE,
    CLIP_RMS,
    SAWB,
    SMALLEST_SCALE,
    MembraneCode,
    SurrogateShape,
    fake_quantize,
    fast_membrane_gradient,
    grid_code,
    highest_integer,
    membrane_code,
    membrane_gradient,
    quantize_membrane,
    quantize_weight,
    surrogate_shape,
)
from spquant_search.space.fields import QUANTIZER_BITS, Quantizer
from spquant_search.space.grid import MembraneGrid, membrane_grid

# Every kind of grid: one value above zero, the released code's, dyadic ones that reach 1 and that do not, own bounds.
GRIDS = [membrane_grid(levels) for levels in (2, 3, 4, 5, 6, 7, 9, 16, 24, 100, 256)] + [
    membrane_grid(13, -2.0),
    membrane_grid(3, 0.0),
    membrane_grid(4, -0.5),
]
grids = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.levels} from {grid.lowest:g}")
channel = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30)


def random_weight(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def row(values: list[float]) -> Tensor:
    return torch.tensor([values])


def quantized_membrane(potential: Tensor, grid: MembraneGrid) -> Tensor:
    lowest, highest, step = (torch.tensor(value) for value in (grid.lowest, grid.highest, grid.step))
    return quantize_membrane(potential, lowest, highest, step)


def surrogate(potential: Tensor, grid: MembraneGrid) -> Tensor:
    return membrane_gradient(potential, torch.tensor(grid.lowest), torch.tensor(grid.highest))


def fast_surrogate(potential: Tensor, shape: SurrogateShape) -> Tensor:
    return fast_membrane_gradient(potential, *(torch.tensor(value) for value in shape))


# Weights: which values they take


@pytest.mark.parametrize(("bits", "distinct"), [(1, 2), (2, 3), (3, 7), (4, 15), (8, 255)])
def test_every_channel_takes_all_integers_that_its_bits_allow_and_no_other(bits: int, distinct: int) -> None:
    ramp = torch.linspace(-1.0, 1.0, 901).reshape(1, 53, 17)
    integers, scale = quantize_weight(ramp * torch.tensor([0.1, 1.0, 7.0])[:, None, None], bits)
    highest = highest_integer(bits)
    allowed = {-1, 1} if bits == 1 else set(range(-highest, highest + 1))
    assert len(allowed) == distinct
    for of_channel in integers:
        assert set(of_channel.unique().tolist()) == allowed
    assert scale.shape == (3, 1, 1)
    assert (scale > 0).all()


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_quantization_is_symmetric(bits: int) -> None:
    weight = random_weight(4, 60)
    integers, scale = quantize_weight(weight, bits)
    mirrored, same_scale = quantize_weight(-weight, bits)
    torch.testing.assert_close(mirrored, -integers, rtol=0, atol=0)
    torch.testing.assert_close(same_scale, scale, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("bits", "weight", "integers", "scale"),
    [
        (1, [0.1, -0.4, 0.5, -1.0], [1, -1, 1, -1], 0.5),  # mean magnitude 2.0 / 4
        (1, [0.0, -2.0], [1, -1], 1.0),  # zero counts as +1
        (2, [0.1, -0.4, 0.5, -1.0], [0, -1, 1, -1], 1.9 / 3),  # cut at 0.7 * 0.5; the mean of what stays
        (2, [0.3, -0.3, 0.6, 0.0], [1, -1, 1, 0], 0.4),  # cut at 0.7 * 0.3
        (3, [0.1, -0.4, 0.6, -1.0], [0, -1, 2, -3], 1 / 3),  # 1.95 rms = 1.21 is above the largest: nothing clipped
        (4, [0.1, -0.4, 0.6, -1.0], [1, -3, 4, -7], 1 / 7),
        (8, [0.1, -0.4, 0.6, -1.0], [13, -51, 76, -127], 1 / 127),
        (3, [1.0] * 15 + [-7.0], [1] * 15 + [-3], 2 * CLIP_RMS[3] / 3),  # rms 2: the last one is clipped
    ],
)
def test_hand_worked_weights(bits: int, weight: list[float], integers: list[int], scale: float) -> None:
    found, found_scale = quantize_weight(row(weight), bits)
    assert found[0].tolist() == integers
    assert found_scale.item() == pytest.approx(scale, rel=1e-6)


def test_highest_integers() -> None:
    assert [highest_integer(bits) for bits in (1, 2, 3, 4, 8)] == [1, 1, 3, 7, 127]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 32])
def test_a_channel_of_zeros_stays_silent_and_disturbs_no_other(bits: int) -> None:
    weight = random_weight(3, 20)
    alone = quantize_weight(weight[2:], bits)
    weight[1] = 0.0
    integers, scale = quantize_weight(weight, bits)
    assert ((integers * scale)[1].abs() <= SMALLEST_SCALE).all()
    torch.testing.assert_close(integers[2:], alone.integers, rtol=0, atol=0)
    torch.testing.assert_close(scale[2:], alone.scale, rtol=0, atol=0)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_one_scale_for_a_tensor_is_that_of_its_values_in_one_channel(bits: int) -> None:
    weight = random_weight(4, 30) * torch.tensor([[0.1], [1.0], [3.0], [0.5]])
    integers, scale = quantize_weight(weight, bits, per_tensor=True)
    flat, flat_scale = quantize_weight(weight.reshape(1, -1), bits)
    assert scale.numel() == 1
    torch.testing.assert_close(scale.reshape(()), flat_scale.reshape(()))
    torch.testing.assert_close(integers.reshape(1, -1), flat, rtol=0, atol=0)


def test_32_bits_are_the_weight_itself() -> None:
    weight = random_weight(3, 2, 3, 3)
    integers, scale = quantize_weight(weight, 32)
    assert integers is weight
    assert scale.shape == (3, 1, 1, 1)
    assert (scale == 1).all()
    assert quantize_weight(weight, 32, per_tensor=True).scale.shape == (1, 1, 1, 1)


# Weights: how good they are


@given(weight=channel, bits=st.sampled_from([3, 4, 8]))
def test_a_weight_is_off_by_at_most_half_a_step_inside_the_clip_and_clipped_outside(
    weight: list[float], bits: int
) -> None:
    values = row(weight).double()
    integers, scale = quantize_weight(values, bits)
    highest = highest_integer(bits)
    inside = values.abs() <= highest * scale * (1 + 1e-9)
    error = (integers * scale - values).abs()
    assert (error[inside] <= scale.item() / 2 * (1 + 1e-6) + 1e-12).all()
    assert (integers[~inside] == highest * values[~inside].sign()).all()


@given(weight=st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=6))
def test_no_signs_and_scale_have_a_smaller_squared_error_than_the_1_bit_weight(weight: list[float]) -> None:
    values = row(weight).double()
    integers, scale = quantize_weight(values, 1)
    error = (integers * scale - values).square().sum().item()
    for signs in itertools.product((-1.0, 1.0), repeat=len(weight)):
        # The best scale for given signs, by least squares.
        best = sum(sign * value for sign, value in zip(signs, weight, strict=True)) / len(weight)
        other = sum((best * sign - value) ** 2 for sign, value in zip(signs, weight, strict=True))
        assert error <= other * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_clip_minimises_the_squared_error_on_a_normal_distribution(bits: int) -> None:
    values = np.linspace(0.0, 9.0, 40_001)
    density = np.exp(-(values**2) / 2)
    highest = highest_integer(bits)

    def error(clip: float) -> float:
        step = clip / highest
        kept = np.minimum(np.round(values / step), highest) * step
        return float(((values - kept) ** 2 * density).sum())

    clips = np.arange(1.0, 5.0, 0.01)
    best = clips[np.argmin([error(clip) for clip in clips])]
    assert CLIP_RMS[bits] == pytest.approx(best, abs=0.011)


@given(weight=channel, bits=st.sampled_from([1, 2]))
def test_quantizing_a_1_or_2_bit_weight_again_changes_nothing(weight: list[float], bits: int) -> None:
    integers, scale = quantize_weight(row(weight).double(), bits)
    again, same_scale = quantize_weight(integers * scale, bits)
    torch.testing.assert_close(again * same_scale, integers * scale, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_quantizing_again_changes_nothing_where_nothing_is_clipped(bits: int) -> None:
    # Uniform values: their largest is 1.7 root mean squares, below every clip.
    weight = torch.rand(4, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    integers, scale = quantize_weight(weight, bits)
    again, same_scale = quantize_weight(integers * scale, bits)
    torch.testing.assert_close(again, integers, rtol=0, atol=0)
    torch.testing.assert_close(same_scale, scale)


# Weights in training


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_training_sees_exactly_the_integers_times_the_scale(bits: int, per_tensor: bool) -> None:
    weight = random_weight(6, 200) * 0.05
    integers, scale = quantize_weight(weight, bits, per_tensor=per_tensor)
    torch.testing.assert_close(fake_quantize(weight, bits, per_tensor=per_tensor), integers * scale, rtol=0, atol=0)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 32])
def test_the_gradient_passes_straight_through_also_where_weights_are_clipped(bits: int) -> None:
    weight = row([0.01, -0.02, 0.5, -9.0, 0.3, 0.0]).requires_grad_()
    above = random_weight(1, 6)
    (fake_quantize(weight, bits) * above).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, above, rtol=0, atol=0)


# Weights: the other quantizers


@pytest.mark.parametrize(
    ("quantizer", "bits", "weight", "integers", "scale"),
    [
        ("mean", 4, [0.2, -0.4, 0.6, -2.0], [1, -2, 3, -7], 1.6 / 7),  # clipped at 2 * 0.8
        ("mean", 3, [0.2, -0.4, 0.6, -2.0], [0, -1, 1, -3], 1.6 / 3),
        ("mean", 8, [0.2, -0.4, 0.6, -2.0], [16, -32, 48, -127], 1.6 / 127),
        ("ternary-mean", 2, [0.1, -0.04, 0.5, -1.0], [1, 0, 1, -1], 1.6 / 3),  # cut at 0.05
        ("ternary-mean", 2, [0.05, 1.0], [1, 1], 1.05 / 2),  # what is at the cut is kept
        ("sawb", 4, [1.0, -1.0, 3.0, -3.0], [3, -3, 7, -7], (5**0.5 - 1.013 * 2) / 0.077 / 7),  # clipped at 2.73
        ("sawb", 8, [0.1] * 63 + [4.0], [3] * 63 + [127], 4.0 / 127),
    ],
)
def test_hand_worked_weights_of_other_quantizers(
    quantizer: Quantizer, bits: int, weight: list[float], integers: list[int], scale: float
) -> None:
    found, found_scale = quantize_weight(row(weight), bits, quantizer=quantizer)
    assert found_scale.item() == pytest.approx(scale, rel=1e-5)
    assert found[0].tolist() == integers


def slowly_quantized(weight: Tensor, bits: int, quantizer: Quantizer) -> tuple[list[list[int]], float]:
    """The quantizers of the released code in plain numbers, from their formulas."""
    rows = weight.tolist()
    every = [value for row in rows for value in row]
    n = 2 ** (bits - 1) - 1

    def mean(values: list[float]) -> float:
        return math.fsum(abs(value) for value in values) / len(values)

    if quantizer == "ternary-mean":
        cut = 0.05 * max(abs(value) for value in every)
        size = mean([value for value in every if abs(value) >= cut])
        return [[int(math.copysign(abs(value) >= cut, value)) for value in row] for row in rows], size
    clip = 2 * mean(every)
    if quantizer == "sawb":
        middle = math.fsum(every) / len(every)
        deviation = (math.fsum((value - middle) ** 2 for value in every) / len(every)) ** 0.5
        z0, z1 = {4: (0.077, 1.013), 8: (0.027, 1.114)}[bits]
        estimate = deviation / z0 - z1 / z0 * mean(every)
        clip = max(min(estimate, max(map(abs, every))), mean(every))
    return [[round(min(max(value, -clip), clip) * n / clip) for value in row] for row in rows], clip / n


OTHERS = [(name, bits) for name in ("sawb", "mean", "ternary-mean") for bits in QUANTIZER_BITS[name]]


@pytest.mark.parametrize("shape", [(5, 40), (3, 2, 3, 3)])
@pytest.mark.parametrize(("quantizer", "bits"), OTHERS)
def test_other_quantizers_are_their_formulas(quantizer: Quantizer, bits: int, shape: tuple[int, ...]) -> None:
    weight = (random_weight(*shape).double() * 0.3).float().double()
    integers, scale = quantize_weight(weight, bits, quantizer=quantizer)
    expected, expected_scale = slowly_quantized(weight.flatten(1), bits, quantizer)
    assert integers.flatten(1).tolist() == expected
    assert scale.item() == pytest.approx(expected_scale, rel=1e-9)
    assert scale.dim() == len(shape)


@pytest.mark.parametrize("bits", [4, 8])
def test_sawb_estimates_the_best_clip_of_a_normal_distribution(bits: int) -> None:
    z0, z1 = SAWB[bits]
    assert (1.0 - z1 * (2 / math.pi) ** 0.5) / z0 == pytest.approx(CLIP_RMS[bits], rel=0.06)


def test_sawb_stays_between_the_mean_and_the_largest_magnitude() -> None:
    # Without tails the estimate is below zero, and with one value far out it is beyond it.
    assert quantize_weight(row([0.5, -0.5, 0.5]), 4, quantizer="sawb").scale.item() == pytest.approx(0.5 / 7)
    assert quantize_weight(row([0.1] * 63 + [4.0]), 8, quantizer="sawb").scale.item() == pytest.approx(4.0 / 127)


@pytest.mark.parametrize(("quantizer", "bits"), OTHERS)
def test_other_quantizers_make_nothing_of_zeros_and_train_on_what_they_evaluate(
    quantizer: Quantizer, bits: int
) -> None:
    zeros = quantize_weight(torch.zeros(2, 9), bits, quantizer=quantizer)
    assert (zeros.integers * zeros.scale == 0).all()
    weight = (random_weight(6, 50) * 0.05).requires_grad_()
    integers, scale = quantize_weight(weight, bits, quantizer=quantizer)
    assert set(integers.unique().tolist()) <= set(range(-highest_integer(bits), highest_integer(bits) + 1))
    trained = fake_quantize(weight, bits, quantizer=quantizer)
    assert torch.equal(trained, integers * scale)
    above = random_weight(6, 50, seed=1)
    (trained * above).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, above)


@pytest.mark.parametrize("quantizer", ["sawb", "mean", "ternary-mean"])
def test_bits_that_a_quantizer_does_not_have_are_refused(quantizer: Quantizer) -> None:
    has = ", ".join(map(str, QUANTIZER_BITS[quantizer]))
    with pytest.raises(ValueError, match=rf"^the quantizer {quantizer} has {has} bits; got 1$"):
        quantize_weight(random_weight(2, 3), 1, quantizer=quantizer)


# Membranes: the values


def nearest_level(potential: float, grid: MembraneGrid) -> float:
    """The definition in exact arithmetic: of the nearest levels, the one nearest to zero."""
    exact = Fraction(potential)
    return min(grid.values, key=lambda level: (abs(Fraction(level) - exact), abs(Fraction(level))))


@grids
def test_a_membrane_is_stored_as_its_nearest_level_and_ties_go_toward_zero(grid: MembraneGrid) -> None:
    quarters = torch.arange(4 * (grid.lowest - 2) / grid.step, 4 * (grid.highest + 2) / grid.step) * grid.step / 4
    above, below = (torch.nextafter(quarters, torch.tensor(end)) for end in (math.inf, -math.inf))
    far = torch.tensor([-1e30, -300.0, 1e-30, -1e-30, 300.0, 1e30])
    potentials = torch.cat([quarters, above, below, far])
    stored = quantized_membrane(potentials, grid)
    assert set(stored.tolist()) == set(grid.values)
    some = slice(None, None, 1 + len(potentials) // 1001)  # exact arithmetic is slow; the stride is odd
    assert stored[some].tolist() == [nearest_level(value, grid) for value in potentials[some].tolist()]
    assert stored[-6:].tolist() == [nearest_level(value, grid) for value in far.tolist()]


def every_bf16_value(below: float) -> Tensor:
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16).float()
    return patterns[patterns.abs() < below]


def coded(potential: Tensor, code: MembraneCode) -> Tensor:
    bounds = (torch.tensor(value) for value in (code.steps_per_unit, code.lowest, code.highest))
    return grid_code(potential, *bounds) * code.step


@grids
def test_the_short_form_for_bf16_is_right_for_every_bf16_value(grid: MembraneGrid) -> None:
    every = every_bf16_value(2**24 * grid.step)
    assert torch.equal(coded(every, membrane_code(grid)), quantized_membrane(every, grid))


def test_the_short_form_for_bf16_keeps_a_float_membrane() -> None:
    every = every_bf16_value(2.0**60)
    kept = coded(every, MembraneCode())
    assert torch.equal(kept[every.abs() > 2**-33], every[every.abs() > 2**-33])
    torch.testing.assert_close(kept, every, rtol=0, atol=2**-40)


# The finest potential that evaluation has: 24 fraction bits of a and d, 4 of a learned threshold.
FINEST = 2.0**-28


@grids
def test_the_short_form_for_double_precision_is_right_on_both_sides_of_every_tie(grid: MembraneGrid) -> None:
    ties = torch.arange(-700, 701, dtype=torch.float64) * (grid.step / 2)
    potentials = torch.cat([ties + offset * FINEST for offset in (-2, -1, 0, 1, 2)])
    code = MembraneCode(BELOW_AN_EXACT_TIE / grid.step, grid.step, grid.lowest / grid.step, grid.highest / grid.step)
    steps_per_unit, lowest, highest = (
        torch.tensor(value, dtype=torch.float64) for value in (code.steps_per_unit, code.lowest, code.highest)
    )
    found = grid_code(potentials, steps_per_unit, lowest, highest) * code.step
    assert torch.equal(found, quantized_membrane(potentials, grid))


@given(potentials=st.lists(st.floats(-6, 6, width=32), min_size=1), grid=st.sampled_from(GRIDS))
def test_storing_a_stored_membrane_changes_nothing(potentials: list[float], grid: MembraneGrid) -> None:
    stored = quantized_membrane(torch.tensor(potentials), grid)
    assert set(stored.tolist()) <= set(grid.values)
    assert quantized_membrane(stored, grid).tolist() == stored.tolist()


@given(potentials=st.lists(st.floats(-6, 6, width=32), min_size=1), grid=st.sampled_from(GRIDS))
def test_inside_the_grid_a_membrane_is_off_by_at_most_half_a_step(potentials: list[float], grid: MembraneGrid) -> None:
    inside = torch.tensor(potentials).clamp(grid.lowest, grid.highest)
    assert ((quantized_membrane(inside, grid) - inside).abs() <= grid.step / 2).all()


@grids
def test_zero_is_stored_as_zero(grid: MembraneGrid) -> None:
    assert 0.0 in grid.values
    assert quantized_membrane(torch.zeros(1), grid).item() == 0.0


@pytest.mark.parametrize("leak", [0.5, 0.25, 0.125])
def test_a_neuron_without_input_leaks_to_zero_whatever_its_grid(leak: float) -> None:
    for grid in [*map(membrane_grid, range(2, 257)), *GRIDS]:
        stored = torch.tensor(grid.values)
        # Every step halves the code at least, and a code of 1 becomes 0.
        for _ in range(math.ceil(math.log2(grid.levels)) + 1):
            stored = quantized_membrane(leak * stored, grid)
        assert (stored == 0).all(), grid


# Membranes: the gradient


def stacked_bumps(potential: Tensor, grid: MembraneGrid, boundaries: list[float]) -> Tensor:
    """SpQuant-SNN's surrogate, times the step: a bump 2 sigmoid'(2 (u - c)) on every decision boundary c."""
    opened = [torch.sigmoid(2 * (potential - boundary)) for boundary in boundaries]
    return torch.stack([grid.step * 2 * value * (1 - value) for value in opened]).sum(0)


def test_the_stacked_bumps_here_are_those_of_the_released_code() -> None:
    three, five = membrane_grid(3), membrane_grid(5)
    found = stacked_bumps(torch.tensor([0.0, 0.5, 1.0, 2.0]).double(), three, [-0.5, 0.5])
    assert found.tolist() == pytest.approx([0.786, 0.710, 0.484, 0.104], abs=5e-4)
    found = stacked_bumps(torch.tensor([-1.0, 0.0]).double(), five, [-2.5, -1.5, -0.5, 0.5])
    assert found.tolist() == pytest.approx([0.967, 0.890], abs=5e-4)


@pytest.mark.parametrize(("levels", "tolerance"), [(3, 0.035), (4, 0.024), (5, 0.022), (16, 0.001), (256, 1e-5)])
def test_the_gradient_is_the_stacked_bumps_in_closed_form(levels: int, tolerance: float) -> None:
    grid = membrane_grid(levels)
    potentials = torch.linspace(grid.lowest - 1, grid.highest + 1, 401, dtype=torch.float64)
    boundaries = [level + grid.step / 2 for level in grid.values[:-1]]
    stacked = stacked_bumps(potentials, grid, boundaries)
    assert ((surrogate(potentials, grid) - stacked).abs().max() / stacked.max()).item() <= tolerance


@grids
def test_the_gradient_rises_by_the_range_of_the_grid_as_the_quantizer_does(grid: MembraneGrid) -> None:
    potentials = torch.linspace(-30.0, 30.0, 60_001, dtype=torch.float64)
    rise = torch.trapezoid(surrogate(potentials, grid), potentials).item()
    assert rise == pytest.approx(grid.highest - grid.lowest, rel=1e-6)


@grids
def test_the_fast_gradient_is_the_gradient(grid: MembraneGrid) -> None:
    potentials = torch.cat([torch.linspace(-9.0, 9.0, 20_001), torch.tensor([-1e4, -60.0, 60.0, 1e4, 1e30])])
    fast = fast_surrogate(potentials, surrogate_shape(grid)).double()
    torch.testing.assert_close(fast, surrogate(potentials.double(), grid), rtol=0, atol=1e-5)


def test_the_fast_gradient_of_a_very_wide_grid_is_finite_everywhere_and_1_inside() -> None:
    shape = surrogate_shape(membrane_grid(130, -128.0))
    slopes = fast_surrogate(torch.tensor([-1e30, -1e4, -80.0, -28.5, 0.0, -128.0, 1e4, 1e30]), shape)
    assert slopes.tolist() == pytest.approx([0, 0, 1, 1, torch.tensor(2.0).sigmoid().item(), 0.5, 0, 0], abs=1e-5)


def test_the_fast_gradient_without_quantization_is_1() -> None:
    assert fast_surrogate(torch.linspace(-1e6, 1e6, 999), SurrogateShape()).unique().tolist() == [1.0]


def test_the_gain_depends_on_the_range_of_the_grid_and_not_on_its_step() -> None:
    # The released code's bumps, without the step as a factor, would have a gain of 100 at 256 levels.
    for grid in map(membrane_grid, range(3, 257)):
        middle = torch.tensor((grid.lowest + grid.highest) / 2, dtype=torch.float64)
        gain = surrogate(middle, grid).item()
        assert gain == pytest.approx(math.tanh((grid.highest - grid.lowest) / 2))
        assert 0.46 < gain < 0.97
