"""A Gaussian process over configurations, from observations at several fidelities. Pure functions of arrays.

The model of an observation z at fidelity f of the configuration with features x:

    z = t(x) + d_f(x) + noise_f,    d_f = 0 at the highest fidelity

t has the prior covariance c + linear + Matern-5/2, with one weight and one length scale for each kind of feature (all
layers' weight bits share theirs). Every lower fidelity has a discrepancy d_f of its own, with the covariance of t times
a learnt factor, and more noise: an additive model in the sense of Kennedy and O'Hagan (Biometrika 87, 2000), whose
scale and offset between fidelities are taken from configurations that were observed at both (:func:`calibrated`).
Hyper-parameters are those of largest posterior density (Rasmussen and Williams 2006, eq. 5.8, with log-normal priors).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize
from scipy.stats import rankdata

FOLDS = 5
FIT_OBSERVATIONS = 120  # the most observations to which hyper-parameters are fitted; predictions use all
FIT_STEPS = 15  # of L-BFGS; 40 rank no better
MIN_PAIRS = 5  # pairs of observations before the spread of a lower fidelity is scaled to that of the highest
_CONSTANT = 1.0  # prior variance of the mean, in units of the observations' variance
_JITTER = 1e-8
_BOUND = 7.0  # of a log hyper-parameter, on both sides of its prior's centre

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Observations:
    """Measured values of configurations; a configuration may have one at each fidelity."""

    features: Float[np.ndarray, "observation feature"]
    values: Float[np.ndarray, " observation"]
    lower: Int[np.ndarray, " observation"]  # 0 at the fidelity that is predicted, 1, 2, ... at each lower one
    configuration: Int[np.ndarray, " observation"]  # observations of one configuration have the same number

    def __len__(self) -> int:
        return len(self.values)

    def chosen(self, index: NDArray[np.generic]) -> Observations:
        return Observations(
            features=self.features[index],
            values=self.values[index],
            lower=self.lower[index],
            configuration=self.configuration[index],
        )

    def in_canonical_order(self) -> Observations:
        """Sort by contents, so that nothing depends on the order in which observations were made."""
        keys = (*self.features.T, self.lower, self.values)
        return self.chosen(np.lexsort(keys))


def calibrated(observations: Observations) -> Observations:
    """Move and scale observations of lower fidelities to the highest, as far as pairs tell.

    A value v at fidelity f becomes m + s / s_f * (v - m_f) with means and standard deviations over the configurations
    observed at both f and the highest fidelity: the reduced major axis of the pairs. With one to four pairs only the
    means are moved; without a pair the value stays.
    """
    values = observations.values.astype(float)
    top = {observations.configuration[i]: observations.values[i] for i in np.flatnonzero(observations.lower == 0)}
    for fidelity in np.unique(observations.lower[observations.lower > 0]):
        here = np.flatnonzero(observations.lower == fidelity)
        both = [i for i in here if observations.configuration[i] in top]
        pairs = np.array([(observations.values[i], top[observations.configuration[i]]) for i in both])
        if not len(pairs):
            continue
        spread_low, spread_top = pairs.std(axis=0)
        slope = spread_top / spread_low if len(pairs) >= MIN_PAIRS and min(spread_low, spread_top) > 0 else 1.0
        mean_low, mean_top = pairs.mean(axis=0)
        values[here] = mean_top + slope * (observations.values[here] - mean_low)
    return replace(observations, values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hyperparameters:
    """The hyper-parameters of the covariance of standardised observations."""

    linear: Float[np.ndarray, " kind"]  # weight of a kind's features in the linear part
    length: Float[np.ndarray, " kind"]  # length scale, in root mean square differences of a kind's features
    matern: float
    noise: float
    lower_noise: float  # added at lower fidelities
    discrepancy: float  # variance of a lower fidelity's discrepancy, as a share of the variance of the function itself


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """The parts of the covariance matrix of observations that depend on no hyper-parameter."""

    products: Float[np.ndarray, "kind observation observation"]  # mean product of features of one kind
    distances: Float[np.ndarray, "kind observation observation"]  # mean squared difference

    def covariance(self, h: Hyperparameters) -> tuple[Array, Array, Array]:
        """Return the covariances of the function, their Matern part for a variance of 1, and the change of that part.

        The change is with half the logarithm of a length scale, for a squared distance of 1 in
        its unit: 5/3 (1 + r) exp(-r) with r = sqrt(5) times the distance.
        """
        r = np.sqrt(5 * np.tensordot(h.length**-2.0, self.distances, axes=1))
        decay = np.exp(-r)
        decay_r = decay * r
        smooth = decay + decay_r + decay_r * r / 3
        function = _CONSTANT + np.tensordot(h.linear, self.products, axes=1) + h.matern * smooth
        return function, smooth, 5 / 3 * (decay + decay_r)


def _shape(features: Array, kinds: NDArray[np.int_]) -> _Shape:
    products, distances = [], []
    for kind in range(kinds.max() + 1):
        of_kind = features[:, kinds == kind]
        product = of_kind @ of_kind.T / of_kind.shape[1]
        squares = product.diagonal()
        products.append(product)
        distances.append(np.maximum(squares[:, None] + squares[None, :] - 2 * product, 0.0))
    return _Shape(products=np.array(products), distances=np.array(distances))


def _covariance(
    rows: Float[np.ndarray, "row feature"],
    columns: Float[np.ndarray, "column feature"],
    h: Hyperparameters,
    kinds: Int[np.ndarray, " feature"],
) -> Float[np.ndarray, "row column"]:
    """Return what :meth:`_Shape.covariance` returns, without the parts that only a fit needs."""
    a, b = (_weighted(features, h.length**-2.0, kinds) for features in (rows, columns))
    squares: Array = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    r = np.sqrt(5 * np.maximum(squares, 0.0, out=squares), out=squares)
    smooth: Array = np.exp(-r)
    smooth *= r * (r / 3 + 1) + 1
    smooth *= h.matern
    a, b = (_weighted(features, h.linear, kinds) for features in (rows, columns))
    smooth += a @ b.T
    smooth += _CONSTANT
    return smooth


def _weighted(features: Array, weights: Array, kinds: NDArray[np.int_]) -> Array:
    """Weight features so that their plain products are the kinds' mean products times ``weights``."""
    weighted: Array = features * np.sqrt(weights / np.bincount(kinds))[kinds]
    return weighted


def _same_lower(lower: NDArray[np.int_]) -> Bool[np.ndarray, "observation observation"]:
    """Return which pairs of observations share a discrepancy."""
    same: Bool[np.ndarray, "observation observation"] = (lower[:, None] == lower[None, :]) & (lower > 0)[:, None]
    return same


def _unpacked(theta: Array, kinds: int) -> Hyperparameters:
    value = np.exp(theta)
    return Hyperparameters(
        linear=value[:kinds],
        length=value[kinds : 2 * kinds],
        matern=float(value[2 * kinds]),
        noise=float(value[2 * kinds + 1]),
        lower_noise=float(value[2 * kinds + 2]),
        discrepancy=float(value[2 * kinds + 3]),
    )


def _prior(kinds: int) -> tuple[Array, Array]:
    """Return the centres and widths of the log hyper-parameters, in the order of :func:`_unpacked`."""
    centre = [*[np.log(1.0)] * kinds, *[np.log(1.0)] * kinds, *np.log([0.3, 0.02, 0.05, 0.1])]
    width = [*[1.5] * kinds, *[1.0] * kinds, 1.5, 2.0, 1.5, 1.5]
    return np.array(centre), np.array(width)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Evidence:
    """The negative log posterior of log hyper-parameters and its gradient."""

    shape: _Shape
    values: Float[np.ndarray, " observation"]
    lower: Int[np.ndarray, " observation"]

    def __call__(self, theta: Array) -> tuple[float, Array]:
        kinds = len(self.shape.products)
        h = _unpacked(theta, kinds)
        function, smooth, change = self.shape.covariance(h)
        same = _same_lower(self.lower)
        covariance = function * (1 + h.discrepancy * same) + np.diag(_noise(h, self.lower))
        factor = cholesky(covariance, lower=True, check_finite=False)
        inverse = _inverse(factor)
        weights = inverse @ self.values
        # Rasmussen and Williams eq. 5.9: the derivative is the sum of `slope` times that of the covariance.
        slope = 0.5 * (inverse - np.outer(weights, weights))
        shared = slope * (1 + h.discrepancy * same)
        by_distance = h.matern * shared * change
        gradient = [
            *h.linear * np.tensordot(self.shape.products, shared, axes=2),
            *h.length**-2.0 * np.tensordot(self.shape.distances, by_distance, axes=2),
            h.matern * np.sum(shared * smooth),
            h.noise * np.trace(slope),
            h.lower_noise * slope.diagonal()[self.lower > 0].sum(),
            h.discrepancy * np.sum(slope * same * function),
        ]
        centre, width = _prior(kinds)
        distance = (theta - centre) / width
        value = 0.5 * self.values @ weights + np.log(factor.diagonal()).sum() + 0.5 * distance @ distance
        return float(value), np.array(gradient) + distance / width


def _inverse(factor: Array) -> Array:
    """Invert the matrix with this lower Cholesky factor."""
    half, _ = dpotri(factor, lower=True)
    inverse: Array = np.tril(half) + np.tril(half, -1).T
    return inverse


def _noise(h: Hyperparameters, lower: NDArray[np.int_]) -> Array:
    return np.where(lower > 0, h.noise + h.lower_noise, h.noise) + _JITTER


def fitted_hyperparameters(observations: Observations, values: Array, kinds: NDArray[np.int_]) -> Hyperparameters:
    """Return the most probable hyper-parameters of standardised ``values``, fitted to at most FIT_OBSERVATIONS."""
    index = _spread_out(observations, FIT_OBSERVATIONS)
    part = observations.chosen(index)
    evidence = _Evidence(shape=_shape(part.features, kinds), values=values[index], lower=part.lower)
    centre, _ = _prior(kinds.max() + 1)
    bounds = [(value - _BOUND, value + _BOUND) for value in centre]
    found = minimize(evidence, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": FIT_STEPS})
    return _unpacked(found.x, kinds.max() + 1)


def _spread_out(observations: Observations, most: int) -> NDArray[np.int_]:
    """Return the places of at most ``most`` observations: of configurations evenly from the worst to the best."""
    if len(observations) <= most:
        return np.arange(len(observations))
    order = _by_value(observations)
    count = max(2, int(most * len(order) / len(observations)))
    taken = np.unique(np.linspace(0, len(order) - 1, count).astype(int))
    return np.flatnonzero(np.isin(observations.configuration, order[taken]))


def _by_value(observations: Observations) -> Int[np.ndarray, " configuration"]:
    """Order configurations by the mean of their observations, from the lowest; ties stay in the given order."""
    names, first, inverse, sizes = np.unique(
        observations.configuration, return_index=True, return_inverse=True, return_counts=True
    )
    means = np.bincount(inverse, weights=observations.values) / sizes
    ordered: Int[np.ndarray, " configuration"] = names[np.lexsort((first, means))]
    return ordered


class GaussianProcess:
    """The posterior of the function at the highest fidelity, given observations."""

    def __init__(self, observations: Observations, kinds: Sequence[int] | NDArray[np.int_]) -> None:
        """Fit the hyper-parameters.

        Raises:
            ValueError: there is no observation at the highest fidelity.
        """
        self._kinds = np.asarray(kinds)
        self._observations = calibrated(observations.in_canonical_order())
        top = self._observations.values[self._observations.lower == 0]
        if not len(top):
            raise ValueError("a Gaussian process needs an observation at the fidelity that it predicts")
        scaled_by = top if len(top) >= MIN_PAIRS else self._observations.values
        self._mean, self._scale = float(scaled_by.mean()), float(scaled_by.std()) or 1.0
        self._values = (self._observations.values - self._mean) / self._scale
        self.hyperparameters = fitted_hyperparameters(self._observations, self._values, self._kinds)
        self._condition()

    def _condition(self) -> None:
        h, lower, features = self.hyperparameters, self._observations.lower, self._observations.features
        function = _covariance(features, features, h, self._kinds)
        covariance = function * (1 + h.discrepancy * _same_lower(lower)) + np.diag(_noise(h, lower))
        self._factor = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._factor, True), self._values, check_finite=False)

    def condition_on_predictions(self, features: Float[np.ndarray, "candidate feature"]) -> GaussianProcess:
        """Return the posterior if these configurations were observed as predicted: equal means, smaller deviations."""
        if not len(features):
            return self
        means, _ = self.predict(features)
        conditioned = copy(self)
        count = len(features)
        conditioned._observations = Observations(
            features=np.concatenate([self._observations.features, features]),
            values=np.concatenate([self._observations.values, means]),
            lower=np.concatenate([self._observations.lower, np.zeros(count, int)]),
            configuration=np.concatenate([self._observations.configuration, -1 - np.arange(count)]),
        )
        conditioned._values = (conditioned._observations.values - self._mean) / self._scale
        conditioned._condition()
        return conditioned

    def predict(
        self, features: Float[np.ndarray, "candidate feature"]
    ) -> tuple[Float[np.ndarray, " candidate"], Float[np.ndarray, " candidate"]]:
        """Return mean and standard deviation of the function (without the noise of an observation)."""
        h = self.hyperparameters
        cross = _covariance(features, self._observations.features, h, self._kinds)
        means = self._mean + self._scale * (cross @ self._weights)
        explained = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        linear = _weighted(features, h.linear, self._kinds)
        prior = _CONSTANT + (linear**2).sum(axis=1) + h.matern
        variances = np.maximum(prior - (explained**2).sum(axis=0), _JITTER)
        return means, self._scale * np.sqrt(variances)

    def left_out(self) -> Float[np.ndarray, " observation"]:
        """Predict every observation without the fifth of all configurations to which its configuration belongs.

        From the inverse of the covariance of all (Rasmussen and Williams section 5.4.2, for groups): the error in a
        fold F is inverse[F, F]^-1 (inverse values)[F]. Hyper-parameters and scales stay those of all observations.
        """
        inverse = _inverse(self._factor)
        order = _by_value(self._observations)
        rank = {name: position for position, name in enumerate(order)}
        # Every fifth from the worst to the best: all folds have nearly the same mean.
        fold = np.array([rank[name] % FOLDS for name in self._observations.configuration])
        errors = np.zeros(len(self._values))
        for part in range(FOLDS):
            here = np.flatnonzero(fold == part)
            if len(here):
                errors[here] = np.linalg.solve(inverse[np.ix_(here, here)], self._weights[here])
        return self._mean + self._scale * (self._values - errors)

    def skill(self, *, at_least: int) -> float | None:
        """Return the rank correlation of observations with their predictions in 5-fold cross-validation.

        It is that of :meth:`left_out` at the highest fidelity at which ``at_least`` configurations were observed; None
        where there is no such fidelity.
        """
        for fidelity in range(int(self._observations.lower.max()) + 1):
            here = self._observations.lower == fidelity
            if here.sum() >= at_least:
                return rank_correlation(self.left_out()[here], self._observations.values[here])
        return None


def rank_correlation(a: Float[np.ndarray, " item"], b: Float[np.ndarray, " item"]) -> float:
    """Return Spearman's rank correlation, equal values sharing their mean rank; 0 where one side is constant."""
    x, y = rankdata(a), rankdata(b)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
