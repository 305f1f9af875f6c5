"""The form of a neuron: how fast it leaks, when it spikes, and what a spike takes from its potential.

:mod:`spquant_search.snn.neuron` has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from pydantic import ConfigDict

LEAK_STEPS = 4096  # a quantized neuron leaks by k / 4096
# A learned leak lies between 0 and 1, and is never 1: it begins here at most, which is rounded to 1.
LARGEST_LEARNED_LEAK = 1.0 - 1.0 / (4 * LEAK_STEPS)
Reset = Literal["zero", "subtract", "delayed-subtract"]


def rounded_leak(leak: float) -> float:
    """Return the leak of a quantized neuron: the nearest k / 4096, and at least 1/4096."""
    return max(1, round(leak * LEAK_STEPS)) / LEAK_STEPS


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuronForm:
    """What of a neuron is neither searched nor part of its weights.

    Raises:
        ValueError: a value that no neuron has; the message begins with its name.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # where a file holds one
    leak: float = 0.5  # of the potential that is kept from one step to the next; 1: an integrator (IF)
    learn_leak: bool = False  # `leak` is where it begins then
    # "subtract": the threshold; "delayed-subtract": the threshold over the leak, which is what subtracting the
    # threshold one step later comes to.
    reset: Reset = "zero"
    spike_at_threshold: bool = False  # spikes at the threshold too, not only above it

    def __post_init__(self) -> None:
        is_number = isinstance(self.leak, int | float) and not isinstance(self.leak, bool)
        if not is_number or not 1 / LEAK_STEPS <= self.leak <= 1:
            raise ValueError(f"leak must be a number from 1/{LEAK_STEPS} to 1; got {self.leak!r}")
        if self.reset not in get_args(Reset):
            words = ", ".join(f'"{name}"' for name in get_args(Reset))
            raise ValueError(f"reset must be one of {words}; got {self.reset!r}")
        for name in ("learn_leak", "spike_at_threshold"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False; got {getattr(self, name)!r}")

    @property
    def subtracts(self) -> bool:
        return self.reset != "zero"

    @property
    def rounded_leak(self) -> float:
        """The leak of a quantized neuron that does not learn it."""
        return rounded_leak(self.leak)

    @property
    def halves(self) -> bool:
        """True where a potential is halved from step to step, and a spike needs more than 1 and leaves 0."""
        leaks = self.rounded_leak == 0.5 and not self.learn_leak
        return leaks and not self.subtracts and not self.spike_at_threshold

    @property
    def returns_to_rest(self) -> bool:
        """True where a potential below 0 always comes back to 0 without current, whatever the grid.

        Ties round toward zero, so that half of a potential is stored nearer to 0 than the potential was; nine tenths
        of it may be stored as the same level again, for ever.
        """
        return self.rounded_leak <= 0.5 and not self.learn_leak
