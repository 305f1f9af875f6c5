"""The functions that the package compiles for a GPU, with arguments as large as a layer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from spquant_search.snn import gate
from spquant_search.snn.kernels import pooling
from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.neuron import exact, training
from spquant_search.snn.neuron.parameters import NeuronParameters
from spquant_search.snn.neuron.rule import ABOVE_TO_ZERO, Rule, compiled_by_rule

SIZE, CHANNELS = 34, 16  # of a layer
POOLED = SIZE // pooling.POOL

BF16, FP32, FP64 = torch.bfloat16, torch.float32, torch.float64
Arguments = tuple[Any, ...]

# What of a neuron's form is code; leaks, of integrators too, and how much a spike subtracts are data. The default's
# functions come first, then those whose leak is learned, then the other rules' that take most of a step.
RULES = {
    ABOVE_TO_ZERO: "",
    Rule(at_threshold=True, subtracts=False): ", at threshold",
    Rule(at_threshold=False, subtracts=True): ", subtracts",
    Rule(at_threshold=True, subtracts=True): ", subtracts, at threshold",
}
OF_ALL_RULES = (
    "forward, bf16",
    "backward, bf16",
    "potentials, bf16",
    "pooled spikes, bf16",
    "backward of pooled, bf16",
    "evaluation, attention",
    "evaluation, convolution",
    "evaluation, convolution, residual",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A function that is compiled, and how its arguments are made on a device for a number of samples."""

    name: str
    function: Callable[..., Any]
    arguments: Callable[[torch.device, int], Arguments]
    is_unrolled: bool = True  # it has a loop over time steps
    rule: Rule | None = ABOVE_TO_ZERO  # None: it is of no neuron
    kernels: int = 1  # that it becomes, at most

    @property
    def plain(self) -> Callable[..., Any]:
        """The function at its rule, as the package hands it to the compiler."""
        return self.compiled()._plain

    def compiled(self) -> Compiled:
        """Return the function as the package compiles it."""
        if self.rule is None:
            return Compiled(self.function, unrolled=self.is_unrolled)
        return compiled_by_rule(self.function, unrolled=self.is_unrolled)[self.rule]

    def at_rule(self, rule: Rule) -> Case:
        """Return the case of the same function at another rule."""
        return replace(self, name=f"{self.name}{RULES[rule]}", rule=rule)


def _parameters(function: Callable[..., Any], device: torch.device) -> Any:
    """Make the parameters of a neuron that a function takes as ``p``: what they are makes no other code."""
    kind = get_type_hints(function)["p"]
    dtype = FP32 if kind is NeuronParameters else FP64
    one, yes = torch.ones((), dtype=dtype, device=device), torch.ones((), dtype=torch.bool, device=device)
    return kind(**{name: (yes if name == "is_float" else one).clone() for name in kind._fields})


def zeros(device: torch.device, *shape: int, dtype: torch.dtype = BF16) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=device)


def cases(time_steps: int) -> Iterator[Case]:
    """Yield every function that a GPU runs compiled; batch norm's are compiled for processors alone."""

    def flat(device: torch.device, samples: int, dtype: torch.dtype) -> Tensor:
        return zeros(device, time_steps, samples * SIZE * SIZE * CHANNELS, dtype=dtype)

    usual = [*_of_training(time_steps, flat), *_of_evaluation(time_steps, flat)]
    yield from usual
    yield from _without_neurons(time_steps)
    learning = list(_of_learned_leaks(time_steps, flat))
    yield from learning
    for rule, case in product(RULES, (*usual, *learning)):
        is_learning = case in learning and rule.subtracts
        if rule != ABOVE_TO_ZERO and (is_learning or case.name in OF_ALL_RULES):
            yield case.at_rule(rule)


def _of_training(time_steps: int, flat: Callable[..., Tensor]) -> Iterator[Case]:
    for dtype, kind in ((BF16, "bf16"), (FP32, "fp32")):
        yield Case(
            name=f"forward, {kind}",
            function=training._forward,
            arguments=lambda device, samples, dtype=dtype: (
                flat(device, samples, dtype),
                _parameters(training._forward, device),
            ),
        )
        yield Case(
            name=f"backward, {kind}",
            function=training._backward,
            arguments=lambda device, samples, dtype=dtype: (
                *(flat(device, samples, dtype) for _ in range(2)),
                _parameters(training._backward, device),
            ),
        )
    yield Case(
        name="potentials, bf16",
        function=training._potentials,
        arguments=lambda device, samples: (flat(device, samples, BF16), _parameters(training._potentials, device)),
    )
    yield Case(
        name="pooled spikes, bf16",
        function=training._pooled_spikes,
        is_unrolled=False,
        arguments=lambda device, samples: (zeros(device, time_steps, samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="backward of pooled, bf16",
        function=training._backward_of_pooled,
        arguments=lambda device, samples: (
            *_pooled_and_potentials(device, time_steps, samples),
            _parameters(training._backward_of_pooled, device),
        ),
    )
    yield Case(
        name="skipped, fp32",
        function=training._skipped,
        arguments=lambda device, samples: (flat(device, samples, FP32), _parameters(training._skipped, device)),
    )


def _pooled_and_potentials(device: torch.device, time_steps: int, samples: int) -> tuple[Tensor, Tensor]:
    sizes = ((POOLED, POOLED), (SIZE, SIZE))
    pooled, potentials = (zeros(device, time_steps, samples, *size, CHANNELS) for size in sizes)
    return pooled, potentials


def _of_learned_leaks(time_steps: int, flat: Callable[..., Tensor]) -> Iterator[Case]:
    yield Case(
        name="backward to leak, bf16",
        function=training._backward_to_leak,
        arguments=lambda device, samples: (
            *(flat(device, samples, BF16) for _ in range(2)),
            _parameters(training._backward_to_leak, device),
        ),
    )
    yield Case(
        name="backward of pooled to leak, bf16",
        kernels=1 if time_steps == 1 else 2,  # what is added up over time has another shape than what is not
        function=training._backward_of_pooled_to_leak,
        arguments=lambda device, samples: (
            *_pooled_and_potentials(device, time_steps, samples),
            _parameters(training._backward_of_pooled_to_leak, device),
        ),
    )


def _of_evaluation(time_steps: int, flat: Callable[..., Tensor]) -> Iterator[Case]:
    yield Case(
        name="evaluation, attention",
        function=exact._run_exactly,
        arguments=lambda device, samples: (flat(device, samples, FP64), _parameters(exact._run_exactly, device)),
    )
    yield Case(
        name="evaluation, attention, skipped",
        function=exact._skipped_exactly,
        arguments=lambda device, samples: (flat(device, samples, FP64), _parameters(exact._skipped_exactly, device)),
    )

    def sums(device: torch.device, samples: int, *, has_residual: bool, counts: bool) -> Arguments:
        shape = (time_steps, samples, SIZE * SIZE, 1, CHANNELS)
        residual = zeros(device, *shape, dtype=FP64) if has_residual else None
        per_channel = [zeros(device, 1, CHANNELS, dtype=FP64) for _ in range(2)]
        opened = zeros(device, time_steps, samples, 1, 1, CHANNELS, dtype=FP64)
        whole = torch.full((), True, device=device)
        neuron = _parameters(exact._fire_sums, device)
        return (zeros(device, *shape, dtype=FP32), *per_channel, opened, residual, whole, neuron, counts)

    for has_residual in (False, True):
        for counts in (False, True):
            more = f"{', residual' if has_residual else ''}{', skipped counted' if counts else ''}"
            yield Case(
                name=f"evaluation, convolution{more}",
                function=exact._fire_sums,
                arguments=lambda device, samples, r=has_residual, c=counts: sums(
                    device, samples, has_residual=r, counts=c
                ),
            )


def _without_neurons(time_steps: int) -> Iterator[Case]:
    yield Case(
        name="channel activity, bf16",
        function=gate._positive_mean,
        is_unrolled=False,
        rule=None,
        arguments=lambda device, samples: (zeros(device, time_steps * samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="sum pooling, forward, bf16",
        function=pooling._forward,
        is_unrolled=False,
        rule=None,
        arguments=lambda device, samples: (zeros(device, time_steps * samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="sum pooling, backward, bf16",
        function=pooling._backward,
        is_unrolled=False,
        rule=None,
        arguments=lambda device, samples: (
            zeros(device, time_steps * samples, POOLED, POOLED, CHANNELS),
            SIZE,
            SIZE,
        ),
    )


def neuron_steps(arguments: Arguments, results: Any) -> int:
    """Return how many numbers the largest tensor has."""
    return max(leaf.numel() for leaf in tree_leaves((arguments, results)) if isinstance(leaf, Tensor))


def least_bytes(arguments: Arguments, results: Any) -> int:
    """Return the bytes that a kernel moves which reads every argument once and writes every result once."""
    leaves = (leaf for leaf in tree_leaves((arguments, results)) if isinstance(leaf, Tensor))
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves)
