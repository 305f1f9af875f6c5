"""The functions that the package compiles for a GPU, with arguments as large as a layer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from spquant_search.snn import gate
from spquant_search.snn.kernels import pooling
from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.neuron import exact, training
from spquant_search.snn.neuron.parameters import NeuronParameters

SIZE, CHANNELS = 34, 16  # of a layer
POOLED = SIZE // pooling.POOL

BF16, FP32, FP64 = torch.bfloat16, torch.float32, torch.float64
Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A function that is compiled, and how its arguments are made on a device for a number of samples."""

    name: str
    plain: Callable[..., Any]
    arguments: Callable[[torch.device, int], Arguments]
    is_unrolled: bool = True  # it has a loop over time steps

    def compiled(self) -> Compiled:
        """Return the function as the package compiles it."""
        return Compiled(self.plain, unrolled=self.is_unrolled)


def _parameters(function: Callable[..., Any], device: torch.device) -> Any:
    """Make the parameters of a neuron that a function takes as ``p``: what they are makes no other code."""
    kind = get_type_hints(function)["p"]
    dtype = FP32 if kind is NeuronParameters else FP64
    one, yes = torch.ones((), dtype=dtype, device=device), torch.ones((), dtype=torch.bool, device=device)
    return kind(**{name: (yes if name == "is_float" else one).clone() for name in kind._fields})


def cases(time_steps: int) -> Iterator[Case]:
    """Yield every function that a GPU runs compiled; batch norm's are compiled for processors alone."""

    def zeros(device: torch.device, *shape: int, dtype: torch.dtype = BF16) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def flat(device: torch.device, samples: int, dtype: torch.dtype) -> Tensor:
        return zeros(device, time_steps, samples * SIZE * SIZE * CHANNELS, dtype=dtype)

    for dtype, kind in ((BF16, "bf16"), (FP32, "fp32")):
        yield Case(
            name=f"forward, {kind}",
            plain=training._forward,
            arguments=lambda device, samples, dtype=dtype: (
                flat(device, samples, dtype),
                _parameters(training._forward, device),
            ),
        )
        yield Case(
            name=f"backward, {kind}",
            plain=training._backward,
            arguments=lambda device, samples, dtype=dtype: (
                *(flat(device, samples, dtype) for _ in range(2)),
                _parameters(training._backward, device),
            ),
        )
    yield Case(
        name="potentials, bf16",
        plain=training._potentials,
        arguments=lambda device, samples: (flat(device, samples, BF16), _parameters(training._potentials, device)),
    )
    yield Case(
        name="pooled spikes, bf16",
        plain=training._pooled_spikes,
        is_unrolled=False,
        arguments=lambda device, samples: (zeros(device, time_steps, samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="backward of pooled, bf16",
        plain=training._backward_of_pooled,
        arguments=lambda device, samples: (
            zeros(device, time_steps, samples, POOLED, POOLED, CHANNELS),
            zeros(device, time_steps, samples, SIZE, SIZE, CHANNELS),
            _parameters(training._backward_of_pooled, device),
        ),
    )
    yield Case(
        name="skipped, fp32",
        plain=training._skipped,
        arguments=lambda device, samples: (flat(device, samples, FP32), _parameters(training._skipped, device)),
    )
    yield from _of_evaluation(time_steps, flat, zeros)


def _of_evaluation(time_steps: int, flat: Callable[..., Tensor], zeros: Callable[..., Tensor]) -> Iterator[Case]:
    yield Case(
        name="evaluation, attention",
        plain=exact._run_exactly,
        arguments=lambda device, samples: (flat(device, samples, FP64), _parameters(exact._run_exactly, device)),
    )
    yield Case(
        name="evaluation, attention, skipped",
        plain=exact._skipped_exactly,
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
                plain=exact._fire_sums,
                arguments=lambda device, samples, r=has_residual, c=counts: sums(
                    device, samples, has_residual=r, counts=c
                ),
            )
    yield Case(
        name="channel activity, bf16",
        plain=gate._positive_mean,
        is_unrolled=False,
        arguments=lambda device, samples: (zeros(device, time_steps * samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="sum pooling, forward, bf16",
        plain=pooling._forward,
        is_unrolled=False,
        arguments=lambda device, samples: (zeros(device, time_steps * samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="sum pooling, backward, bf16",
        plain=pooling._backward,
        is_unrolled=False,
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
