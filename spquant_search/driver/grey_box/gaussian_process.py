"""A Gaussian process over configurations, from readings at several fidelities. Pure functions of arrays.

The model of a reading z at fidelity f of the configuration with features x:

    z = t(x) + d_f(x) + noise_f,    d_f = 0 at the highest fidelity

t has the prior covariance c + linear + Matern-5/2, with one weight and one length scale for each kind of feature (all
layers' weight bits share theirs). Every lower fidelity has a discrepancy d_f of its own, with the covariance of t times
a learnt factor, and more noise: an additive model in the sense of Kennedy and O'Hagan (Biometrika 87, 2000), whose
scale and offset between fidelities are taken from configurations that were read at both (:func:`calibrated`).
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

FOLDS = 5
FIT_OBSERVATIONS = 120  # hyper-parameters are fitted to so many readings at most; predictions use all
FIT_STEPS = 15  # of L-BFGS; 40 rank no better
MIN_PAIRS = 5  # of readings at two fidelities, before the spread of the lower is scaled to that of the higher
_CONSTANT = 1.0  # prior variance of the mean, in units of the readings' variance
_JITTER = 1e-8
_BOUND = 7.0  # of a log hyper-parameter, on both sides of its prior's centre

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Observations:
    """Measured values of configurations; a configuration may have one at each fidelity."""

    features: Float[np.ndarray, "reading feature"]
    values: Float[np.ndarray, " reading"]
    lower: Int[np.ndarray, " reading"]  # 0 at the fidelity that is predicted, 1, 2, ... at each lower one
    configuration: Int[np.ndarray, " reading"]  # which readings belong together

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
        """Sorted by their contents, so that nothing depends on the order in which they were made."""
        keys = (*self.features.T, self.lower, self.values)
        return self.chosen(np.lexsort(keys))


def calibrated(readings: Observations) -> Observations:
    """``readings`` with those of lower fidelities moved and scaled to the highest, as far as pairs tell.

    A value v at fidelity f becomes m + s / s_f * (v - m_f) with means and standard deviations over the configurations
    read at both f and the highest fidelity: the reduced major axis of the pairs. With one to four pairs only the means
    are moved; with none the value stays.
    """
    values = readings.values.astype(float)
    top = {readings.configuration[i]: readings.values[i] for i in np.flatnonzero(readings.lower == 0)}
    for fidelity in np.unique(readings.lower[readings.lower > 0]):
        here = np.flatnonzero(readings.lower == fidelity)
        pairs = np.array(
            [(readings.values[i], top[readings.configuration[i]]) for i in here if readings.configuration[i] in top]
        )
        if not len(pairs):
            continue
        spread_low, spread_top = pairs.std(axis=0)
        slope = spread_top / spread_low if len(pairs) >= MIN_PAIRS and min(spread_low, spread_top) > 0 else 1.0
        mean_low, mean_top = pairs.mean(axis=0)
        values[here] = mean_top + slope * (readings.values[here] - mean_low)
    return replace(readings, values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hyperparameters:
    """Of the covariance of standardised readings."""

    linear: Float[np.ndarray, " kind"]  # weight of a kind's features in the linear part
    length: Float[np.ndarray, " kind"]  # length scale, in root mean square differences of a kind's features
    matern: float
    noise: float
    lower_noise: float  # what lower fidelities have besides
    discrepancy: float  # variance of a lower fidelity's discrepancy, as a share of that of the function itself


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """What the covariance matrix of readings is made of, before any hyper-parameter."""

    products: Float[np.ndarray, "kind reading reading"]  # mean product of two configurations' features of one kind
    distances: Float[np.ndarray, "kind reading reading"]  # mean squared difference

    def covariance(self, h: Hyperparameters) -> tuple[Array, Array, Array]:
        """Covariances of the function; its Matern part for a variance of 1, and that one's change with the distance.

        The change is that of the Matern part with half the logarithm of a length scale, for a squared distance of 1 in
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
        own = features[:, kinds == kind]
        product = own @ own.T / own.shape[1]
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
    """The same as :meth:`_Shape.covariance`, without the parts that only a fit needs."""
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
    """Features whose plain products are the kinds' mean products times ``weights``."""
    weighted: Array = features * np.sqrt(weights / np.bincount(kinds))[kinds]
    return weighted


def _same_lower(lower: NDArray[np.int_]) -> Bool[np.ndarray, "reading reading"]:
    """Which pairs of readings share a discrepancy."""
    same: Bool[np.ndarray, "reading reading"] = (lower[:, None] == lower[None, :]) & (lower > 0)[:, None]
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
    """Centres and widths of the log hyper-parameters, in the order of :func:`_unpacked`."""
    centre = [*[np.log(1.0)] * kinds, *[np.log(1.0)] * kinds, *np.log([0.3, 0.02, 0.05, 0.1])]
    width = [*[1.5] * kinds, *[1.0] * kinds, 1.5, 2.0, 1.5, 1.5]
    return np.array(centre), np.array(width)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Evidence:
    """The negative log posterior of log hyper-parameters and its gradient."""

    shape: _Shape
    values: Float[np.ndarray, " reading"]
    lower: Int[np.ndarray, " reading"]

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
    """The inverse of the matrix whose lower Cholesky factor this is."""
    half, _ = dpotri(factor, lower=True)
    inverse: Array = np.tril(half) + np.tril(half, -1).T
    return inverse


def _noise(h: Hyperparameters, lower: NDArray[np.int_]) -> Array:
    return np.where(lower > 0, h.noise + h.lower_noise, h.noise) + _JITTER


def fitted_hyperparameters(readings: Observations, values: Array, kinds: NDArray[np.int_]) -> Hyperparameters:
    """The most probable hyper-parameters of standardised ``values``, fitted to at most FIT_OBSERVATIONS of them."""
    index = _spread_out(readings, FIT_OBSERVATIONS)
    part = readings.chosen(index)
    evidence = _Evidence(shape=_shape(part.features, kinds), values=values[index], lower=part.lower)
    centre, _ = _prior(kinds.max() + 1)
    bounds = [(value - _BOUND, value + _BOUND) for value in centre]
    found = minimize(evidence, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": FIT_STEPS})
    return _unpacked(found.x, kinds.max() + 1)


def _spread_out(readings: Observations, most: int) -> NDArray[np.int_]:
    """Observations of at most ``most``: whole configurations, evenly from the worst to the best."""
    if len(readings) <= most:
        return np.arange(len(readings))
    order = _by_value(readings)
    count = max(2, int(most * len(order) / len(readings)))
    taken = np.unique(np.linspace(0, len(order) - 1, count).astype(int))
    return np.flatnonzero(np.isin(readings.configuration, order[taken]))


def _by_value(readings: Observations) -> Int[np.ndarray, " configuration"]:
    """The configurations from the lowest to the highest value, the mean of their readings; ties in the given order."""
    names, first, inverse, sizes = np.unique(
        readings.configuration, return_index=True, return_inverse=True, return_counts=True
    )
    means = np.bincount(inverse, weights=readings.values) / sizes
    ordered: Int[np.ndarray, " configuration"] = names[np.lexsort((first, means))]
    return ordered


class GaussianProcess:
    """The posterior of the function at the highest fidelity, given readings."""

    def __init__(self, readings: Observations, kinds: Sequence[int] | NDArray[np.int_]) -> None:
        """Raises ValueError where there is no reading at the highest fidelity."""
        self._kinds = np.asarray(kinds)
        self._readings = calibrated(readings.in_canonical_order())
        top = self._readings.values[self._readings.lower == 0]
        if not len(top):
            raise ValueError("a Gaussian process needs a reading at the fidelity that it predicts")
        scaled_by = top if len(top) >= MIN_PAIRS else self._readings.values
        self._mean, self._scale = float(scaled_by.mean()), float(scaled_by.std()) or 1.0
        self._values = (self._readings.values - self._mean) / self._scale
        self.hyperparameters = fitted_hyperparameters(self._readings, self._values, self._kinds)
        self._condition()

    def _condition(self) -> None:
        h, lower, features = self.hyperparameters, self._readings.lower, self._readings.features
        function = _covariance(features, features, h, self._kinds)
        covariance = function * (1 + h.discrepancy * _same_lower(lower)) + np.diag(_noise(h, lower))
        self._factor = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._factor, True), self._values, check_finite=False)

    def condition_on_predictions(self, features: Float[np.ndarray, "believed feature"]) -> GaussianProcess:
        """The posterior if these configurations were read as they are predicted: equal means, smaller deviations."""
        if not len(features):
            return self
        means, _ = self.predict(features)
        believed = copy(self)
        count = len(features)
        believed._readings = Observations(
            features=np.concatenate([self._readings.features, features]),
            values=np.concatenate([self._readings.values, means]),
            lower=np.concatenate([self._readings.lower, np.zeros(count, int)]),
            configuration=np.concatenate([self._readings.configuration, -1 - np.arange(count)]),
        )
        believed._values = (believed._readings.values - self._mean) / self._scale
        believed._condition()
        return believed

    @property
    def noise_deviation(self) -> float:
        """Standard deviation of a reading at the highest fidelity around the function, in the readings' unit."""
        return self._scale * float(np.sqrt(self.hyperparameters.noise))

    def predict(
        self, features: Float[np.ndarray, "candidate feature"]
    ) -> tuple[Float[np.ndarray, " candidate"], Float[np.ndarray, " candidate"]]:
        """Mean and standard deviation of the function (without a reading's noise)."""
        h = self.hyperparameters
        cross = _covariance(features, self._readings.features, h, self._kinds)
        means = self._mean + self._scale * (cross @ self._weights)
        explained = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        linear = _weighted(features, h.linear, self._kinds)
        prior = _CONSTANT + (linear**2).sum(axis=1) + h.matern
        variances = np.maximum(prior - (explained**2).sum(axis=0), _JITTER)
        return means, self._scale * np.sqrt(variances)

    def left_out(self) -> Float[np.ndarray, " reading"]:
        """Every reading as predicted without the fifth of all configurations to which its own belongs.

        From the inverse of the covariance of all (Rasmussen and Williams section 5.4.2, for groups): the error in a
        fold F is inverse[F, F]^-1 (inverse values)[F]. Hyper-parameters and scales stay those of all readings.
        """
        inverse = _inverse(self._factor)
        order = _by_value(self._readings)
        rank = {name: position for position, name in enumerate(order)}
        # Every fifth from the worst to the best: all folds have nearly the same mean.
        fold = np.array([rank[name] % FOLDS for name in self._readings.configuration])
        errors = np.zeros(len(self._values))
        for part in range(FOLDS):
            here = np.flatnonzero(fold == part)
            if len(here):
                errors[here] = np.linalg.solve(inverse[np.ix_(here, here)], self._weights[here])
        return self._mean + self._scale * (self._values - errors)

    def skill(self, *, at_least: int) -> float | None:
        """The rank correlation of the readings with their predictions in 5-fold cross-validation (:meth:`left_out`).

        At the highest fidelity that ``at_least`` configurations were read at; None where there is none.
        """
        for fidelity in range(int(self._readings.lower.max()) + 1):
            here = self._readings.lower == fidelity
            if here.sum() >= at_least:
                return rank_correlation(self.left_out()[here], self._readings.values[here])
        return None


def rank_correlation(a: Float[np.ndarray, " item"], b: Float[np.ndarray, " item"]) -> float:
    """Spearman's: the correlation of the ranks, equal values sharing their mean rank; 0 where one side is constant."""
    x, y = _ranks(a), _ranks(b)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
