import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.stats import spearmanr

from spquant_search.driver.grey_box.gaussian_process import (
    FIT_OBSERVATIONS,
    GaussianProcess,
    Hyperparameters,
    Observations,
    _Evidence,
    _prior,
    _shape,
    _spread_out,
    calibrated,
    rank_correlation,
)

KINDS = np.array([0, 0, 1, 1, 1])


def observations(features, values, lower=None, configuration=None):
    count = len(values)
    return Observations(
        features=np.asarray(features, float),
        values=np.asarray(values, float),
        lower=np.zeros(count, int) if lower is None else np.asarray(lower),
        configuration=np.arange(count) if configuration is None else np.asarray(configuration),
    )


def function(features):
    return 0.6 + 0.1 * features[:, 0] - 0.05 * features[:, 2] + 0.05 * np.tanh(2 * features[:, 1] * features[:, 3])


def sample(count, *, seed=0, noise=0.002):
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (count, 5))
    return features, function(features) + rng.normal(0, noise, count)


def by_the_book(process, at):
    """Posterior of Rasmussen and Williams (2.25) and (2.26), entry by entry, from the model as the module states it."""
    h, told = process.hyperparameters, process._observations

    def function_covariance(x, y):
        total, squares = 1.0, 0.0
        for kind in range(2):
            own = kind == KINDS
            total += h.linear[kind] * np.mean(x[own] * y[own])
            squares += np.mean((x[own] - y[own]) ** 2) / h.length[kind] ** 2
        r = np.sqrt(squares)
        return total + h.matern * (1 + np.sqrt(5) * r + 5 / 3 * r**2) * np.exp(-np.sqrt(5) * r)

    count = len(told)
    covariance = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            covariance[i, j] = function_covariance(told.features[i], told.features[j])
            if told.lower[i] == told.lower[j] > 0:
                covariance[i, j] *= 1 + h.discrepancy
        covariance[i, i] += h.noise + (h.lower_noise if told.lower[i] else 0.0) + 1e-8
    cross = np.array([function_covariance(at, x) for x in told.features])
    inverse = np.linalg.inv(covariance)
    mean = process._mean + process._scale * cross @ inverse @ process._values
    variance = function_covariance(at, at) - cross @ inverse @ cross
    return mean, process._scale * np.sqrt(variance)


def two_fidelities(tops=12, lows=30, seed=0):
    features, values = sample(lows, seed=seed)
    low = 0.3 + 0.5 * values + 0.01 * features[:, 4]
    return observations(
        np.concatenate([features[:tops], features]),
        np.concatenate([values[:tops], low]),
        lower=[0] * tops + [1] * lows,
        configuration=[*range(tops), *range(lows)],
    )


def test_predictions_are_those_of_the_book_at_two_fidelities():
    process = GaussianProcess(two_fidelities(), KINDS)
    at = np.random.default_rng(9).uniform(-1, 1, (4, 5))
    means, deviations = process.predict(at)
    for index in range(4):
        mean, deviation = by_the_book(process, at[index])
        assert means[index] == pytest.approx(mean, rel=1e-6)
        assert deviations[index] == pytest.approx(deviation, rel=1e-4)


def test_the_gradient_of_the_evidence_is_that_of_its_value():
    told = two_fidelities()
    values = (told.values - told.values.mean()) / told.values.std()
    evidence = _Evidence(shape=_shape(told.features, KINDS), values=values, lower=told.lower)
    centre, _ = _prior(2)
    for seed in range(3):
        at = centre + np.random.default_rng(seed).normal(0, 1, len(centre))
        error = check_grad(lambda theta: evidence(theta)[0], lambda theta: evidence(theta)[1], at)
        assert error < 1e-4 * np.linalg.norm(evidence(at)[1])


def test_a_smooth_function_is_learned_and_its_uncertainty_is_honest():
    process = GaussianProcess(observations(*sample(60)), KINDS)
    at, _ = sample(300, seed=1)
    means, deviations = process.predict(at)
    assert np.sqrt(np.mean((means - function(at)) ** 2)) < 0.25 * function(at).std()
    scaled = (means - function(at)) / deviations
    assert 0.8 < np.mean(np.abs(scaled) < 2) <= 1
    assert process._scale * process.hyperparameters.noise**0.5 < 0.02


def test_far_from_all_observations_the_uncertainty_grows():
    process = GaussianProcess(observations(*sample(40)), KINDS)
    _, (inside, outside) = process.predict(np.array([np.zeros(5), np.full(5, 3.0)]))
    assert outside > 2 * inside


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(42)))
def test_the_order_of_observations_does_not_matter(order):
    told = two_fidelities()
    shuffled = told.chosen(np.array(order))
    at, _ = sample(5, seed=3)
    expected, found = GaussianProcess(told, KINDS), GaussianProcess(shuffled, KINDS)
    assert np.array_equal(expected.predict(at)[0], found.predict(at)[0])
    assert np.array_equal(expected.predict(at)[1], found.predict(at)[1])
    assert expected.skill(at_least=10) == found.skill(at_least=10)


def test_nothing_at_the_predicted_fidelity_is_refused():
    told = two_fidelities()
    with pytest.raises(ValueError, match="a Gaussian process needs an observation at the fidelity that it predicts"):
        GaussianProcess(told.chosen(told.lower > 0), KINDS)


def test_equal_values_are_no_division_by_zero():
    features, _ = sample(12)
    process = GaussianProcess(observations(features, np.full(12, 0.5)), KINDS)
    means, _ = process.predict(features)
    assert means == pytest.approx(np.full(12, 0.5))
    assert process.skill(at_least=10) == 0.0


# ---------------------------------------------------------------- fidelities


def test_lower_observations_are_moved_and_scaled_by_their_pairs():
    """Five pairs with top = 2 low + 0.1, and one configuration that was read at the lower fidelity only."""
    low = np.array([0.1, 0.2, 0.25, 0.3, 0.4, 0.35])
    told = observations(
        np.zeros((11, 1)),
        [*(2 * low[:5] + 0.1), *low],
        lower=[0] * 5 + [1] * 6,
        configuration=[*range(5), *range(6)],
    )
    assert calibrated(told).values == pytest.approx([*(2 * low[:5] + 0.1), *(2 * low + 0.1)])


def test_with_few_pairs_lower_observations_are_only_moved_and_with_none_they_stay():
    few = observations(np.zeros((5, 1)), [0.5, 0.7, 0.4, 0.5, 0.3], [0, 0, 1, 1, 1], [0, 1, 0, 1, 2])
    assert calibrated(few).values == pytest.approx([0.5, 0.7, 0.55, 0.65, 0.45])
    none = observations(np.zeros((2, 1)), [0.5, 0.4], [0, 1], [0, 1])
    assert calibrated(none).values.tolist() == [0.5, 0.4]


def test_many_cheap_observations_help_where_few_are_full_ones():
    """100 configurations at a lower fidelity that has an offset, a scale and a bias; 12 of them at the full one."""
    at, _ = sample(300, seed=5)
    errors = {"full alone": [], "both": []}
    for seed in range(3):
        both = two_fidelities(tops=12, lows=100, seed=seed)
        for name, told in (("full alone", both.chosen(both.lower == 0)), ("both", both)):
            means, _ = GaussianProcess(told, KINDS).predict(at)
            errors[name].append(np.sqrt(np.mean((means - function(at)) ** 2)))
    assert np.mean(errors["both"]) < 0.5 * np.mean(errors["full alone"])
    # What the lower fidelity itself says is off by the offset, the scale and the bias.
    assert np.mean(errors["both"]) < 0.25 * np.sqrt(np.mean((0.3 - 0.5 * function(at)) ** 2))


def test_what_the_lower_fidelity_always_underrates_is_learned_from_pairs():
    """As in a supernet, whose one-bit layers read low: the bias depends on the configuration."""
    features, values = sample(80, seed=2)
    low = values - 0.06 * (features[:, 0] < -0.3)
    tops = 30
    told = observations(
        np.concatenate([features[:tops], features]),
        np.concatenate([values[:tops], low]),
        [0] * tops + [1] * 80,
        [*range(tops), *range(80)],
    )
    process = GaussianProcess(told, KINDS)
    only_low = features[tops:]
    wrong = low[tops:] + np.mean(values[:tops] - low[:tops])
    means, _ = process.predict(only_low)
    assert np.sqrt(np.mean((means - function(only_low)) ** 2)) < 0.6 * np.sqrt(
        np.mean((wrong - function(only_low)) ** 2)
    )


def test_a_noisy_lower_fidelity_counts_for_less():
    features, values = sample(40)
    rng = np.random.default_rng(1)
    noisy = observations(
        np.concatenate([features, features]),
        np.concatenate([values, values + rng.normal(0, 0.05, 40)]),
        [0] * 40 + [1] * 40,
        [*range(40), *range(40)],
    )
    h = GaussianProcess(noisy, KINDS).hyperparameters
    assert h.lower_noise > 10 * h.noise


# ---------------------------------------------------------------- believed observations, cross-validation


def test_believed_observations_change_no_mean_and_remove_doubt():
    process = GaussianProcess(observations(*sample(30)), KINDS)
    far = np.full((1, 5), 1.5)
    at = np.concatenate([far, far * 0.95, sample(5, seed=4)[0]])
    means, deviations = process.predict(at)
    believed_means, believed = process.condition_on_predictions(far).predict(at)
    assert believed_means == pytest.approx(means, abs=1e-6)
    assert np.all(believed <= deviations + 1e-9)
    assert believed[0] < 0.6 * deviations[0]
    assert process.condition_on_predictions(far[:0]) is process


def test_left_out_predictions_are_those_of_a_model_that_was_not_shown_them():
    """Against conditioning again without each fold, both observations of a configuration left out together."""
    process = GaussianProcess(two_fidelities(), KINDS)
    told = process._observations
    found = process.left_out()
    order = sorted(
        set(told.configuration.tolist()),
        key=lambda name: (
            told.values[told.configuration == name].mean(),
            np.flatnonzero(told.configuration == name)[0],
        ),
    )
    for fold in range(5):
        held = np.isin(told.configuration, order[fold::5])
        rest = GaussianProcess.__new__(GaussianProcess)
        rest.__dict__.update(process.__dict__)
        rest._observations, rest._values = told.chosen(~held), process._values[~held]
        rest._condition()
        top = held & (told.lower == 0)
        assert found[top] == pytest.approx(rest.predict(told.features[top])[0], rel=1e-6)


def test_skill_is_high_on_a_function_and_low_on_noise():
    assert GaussianProcess(observations(*sample(40)), KINDS).skill(at_least=10) > 0.9
    rng = np.random.default_rng(0)
    skills = [
        GaussianProcess(observations(rng.uniform(-1, 1, (40, 5)), rng.normal(size=40)), KINDS).skill(at_least=10)
        for _ in range(10)
    ]
    assert np.mean(skills) < 0.25
    assert max(skills) < 0.5


def test_skill_is_that_at_the_highest_fidelity_with_enough_observations():
    process = GaussianProcess(two_fidelities(tops=12, lows=30), KINDS)
    told, left_out = process._observations, process.left_out()
    for at_least, fidelity in ((12, 0), (13, 1), (30, 1)):
        here = told.lower == fidelity
        expected = spearmanr(left_out[here], told.values[here]).statistic
        assert process.skill(at_least=at_least) == pytest.approx(expected)
    assert process.skill(at_least=31) is None


def test_hyperparameters_are_fitted_to_whole_configurations_from_worst_to_best():
    told = two_fidelities(tops=100, lows=300)
    part = told.chosen(_spread_out(told, FIT_OBSERVATIONS))
    assert FIT_OBSERVATIONS / 2 < len(part) <= 1.3 * FIT_OBSERVATIONS
    chosen = set(part.configuration.tolist())
    assert set(told.configuration[np.isin(told.configuration, list(chosen))].tolist()) == chosen
    assert len(part) == np.isin(told.configuration, list(chosen)).sum()
    means = [told.values[told.configuration == name].mean() for name in range(300)]
    assert {int(np.argmin(means)), int(np.argmax(means))} <= chosen


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_rank_correlation_is_spearmans(pairs):
    a, b = np.array(pairs, float).T
    if a.std() == 0 or b.std() == 0:
        assert rank_correlation(a, b) == 0.0
    else:
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_hyperparameters_are_plain_values():
    found = GaussianProcess(observations(*sample(20)), KINDS).hyperparameters
    assert isinstance(found, Hyperparameters)
    assert found.linear.shape == found.length.shape == (2,)
    assert min(found.matern, found.noise, found.lower_noise, found.discrepancy) > 0
