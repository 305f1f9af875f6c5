"""What of a neuron's form is code, and not data: how a potential is compared with the threshold and reset."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spquant_search.snn.kernels.compile import Compiled
from spquant_search.space.neuron_form import NeuronForm

# A whole number, as a constant of compiled code: a float would be an argument of it, in double precision.
THRESHOLD = 1


class Rule(NamedTuple):
    """When a neuron spikes, and what a spike does to its potential: each rule has compiled functions of its own.

    As data the two would cost every neuron some operations, and most networks have the rule of the defaults.
    """

    at_threshold: bool = False  # u >= 1 spikes, not only u > 1
    subtracts: bool = False  # an amount, where others are set to 0

    @classmethod
    def of(cls, form: NeuronForm) -> Rule:
        """Return the rule of a neuron's form."""
        return cls(form.spike_at_threshold, form.subtracts)


ABOVE_TO_ZERO = Rule()


def has_fired(potential: Tensor, rule: Rule) -> Tensor:
    """Tell which potentials spike."""
    return potential >= THRESHOLD if rule.at_threshold else potential > THRESHOLD


def after_reset(potential: Tensor, fired: Tensor, amount: Tensor, rule: Rule) -> Tensor:
    """Return what spikes leave of potentials; ``amount`` is what they subtract, in thresholds."""
    if rule.subtracts:
        return torch.where(fired, potential - amount, potential)
    return torch.where(fired, 0.0, potential)


def compiled_by_rule(function: Callable[..., Any], *, unrolled: bool = False) -> dict[Rule, Compiled]:
    """Return a function with a keyword ``rule`` as it is compiled for each rule, see :class:`Compiled`."""
    rules = [Rule(*both) for both in product((False, True), repeat=2)]
    return {rule: Compiled(_bound(function, rule), unrolled=unrolled) for rule in rules}


def _bound(function: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    """Return a function at one rule, with code of its own, by which torch tells functions apart."""
    if rule == ABOVE_TO_ZERO:  # its default
        return function

    def at_rule(*arguments: Any) -> Any:
        return function(*arguments, rule=rule)

    code = at_rule.__code__.replace(co_name=f"{function.__name__}_{rule.at_threshold:d}{rule.subtracts:d}")
    return FunctionType(code, at_rule.__globals__, code.co_name, None, at_rule.__closure__)
