"""The uncertainty of an accuracy: how far it may be from that on other samples of the same kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
FEW_SAMPLES = 500  # fewer validation samples are remarked on: at 90 % the interval is more than 5 points wide


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """The bounds of an accuracy, fractions."""

    low: float
    high: float


def wilson_interval(accuracy: float, samples: int) -> Interval | None:
    """Return Wilson's score interval of a share of right answers; None without samples or without an accuracy.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), E. B. Wilson, J. Am. Stat. Assoc. 22 (1927).
    Unlike the standard error it says something where all answers are right. Not scipy's, whose import takes a second.
    """
    if samples <= 0 or not math.isfinite(accuracy):
        return None
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = accuracy + z * z / (2 * samples)
    half = z * math.sqrt(accuracy * (1 - accuracy) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    # Rounding must neither leave 0 .. 1 nor put the accuracy itself outside.
    low, high = (centre - half) / scale, (centre + half) / scale
    return Interval(low=max(0.0, min(low, accuracy)), high=min(1.0, max(high, accuracy)))
