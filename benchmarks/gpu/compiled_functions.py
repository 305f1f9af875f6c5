"""The functions that the package compiles for a GPU, with arguments as large as a layer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from spquant_search.snn import gate
from spquant_search.snn.kernels import pooling
from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.neuron import exact, training
from spquant_search.snn.neuron.parameters import neuron_parameters

SIZE, CHANNELS = 34, 16  # of a layer
POOLED = SIZE // pooling.POOL

BF16, FP32, FP64 = torch.bfloat16, torch.float32, torch.float64
Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A function that is compiled, and how its arguments are made on a device for a number of samples."""

    name: str
    compiled: Compiled
    arguments: Callable[[torch.device, int], Arguments]

    @property
    def plain(self) -> Callable[..., Any]:
        return self.compiled._plain


def _scalars() -> tuple[Any, Any]:
    parameters = neuron_parameters(leak=0.5, grid=None, skip_below=None, device=torch.device("cpu"))
    return parameters, exact.exact_parameters(parameters)


# Read here, where numbers can be read: on a device that is not there they cannot.
_PARAMETERS = [(type(group), [(float(one), one.dtype) for one in group]) for group in _scalars()]


def _parameters(device: torch.device, *, exactly: bool = False) -> Any:
    kind, values = _PARAMETERS[exactly]
    return kind(*(torch.full((), value, dtype=dtype, device=device) for value, dtype in values))


def cases(time_steps: int) -> Iterator[Case]:
    """Yield every function that a GPU runs compiled; batch norm's are compiled for processors alone."""

    def zeros(device: torch.device, *shape: int, dtype: torch.dtype = BF16) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def flat(device: torch.device, samples: int, dtype: torch.dtype) -> Tensor:
        return zeros(device, time_steps, samples * SIZE * SIZE * CHANNELS, dtype=dtype)

    for dtype, kind in ((BF16, "bf16"), (FP32, "fp32")):
        yield Case(
            name=f"forward, {kind}",
            compiled=training._compiled_forward,
            arguments=lambda device, samples, dtype=dtype: (flat(device, samples, dtype), _parameters(device)),
        )
        yield Case(
            name=f"backward, {kind}",
            compiled=training._compiled_backward,
            arguments=lambda device, samples, dtype=dtype: (
                *(flat(device, samples, dtype) for _ in range(2)),
                _parameters(device),
            ),
        )
    yield Case(
        name="potentials, bf16",
        compiled=training._compiled_potentials,
        arguments=lambda device, samples: (flat(device, samples, BF16), _parameters(device)),
    )
    yield Case(
        name="pooled spikes, bf16",
        compiled=training._compiled_pooled_spikes,
        arguments=lambda device, samples: (zeros(device, time_steps, samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="backward of pooled, bf16",
        compiled=training._compiled_backward_of_pooled,
        arguments=lambda device, samples: (
            zeros(device, time_steps, samples, POOLED, POOLED, CHANNELS),
            zeros(device, time_steps, samples, SIZE, SIZE, CHANNELS),
            _parameters(device),
        ),
    )
    yield Case(
        name="skipped, fp32",
        compiled=training._compiled_skipped,
        arguments=lambda device, samples: (flat(device, samples, FP32), _parameters(device)),
    )
    yield from _of_evaluation(time_steps, flat, zeros)


def _of_evaluation(time_steps: int, flat: Callable[..., Tensor], zeros: Callable[..., Tensor]) -> Iterator[Case]:
    yield Case(
        name="evaluation, attention",
        compiled=exact.compiled_exactly,
        arguments=lambda device, samples: (flat(device, samples, FP64), _parameters(device, exactly=True)),
    )
    yield Case(
        name="evaluation, attention, skipped",
        compiled=exact.compiled_skipped_exactly,
        arguments=lambda device, samples: (flat(device, samples, FP64), _parameters(device, exactly=True)),
    )

    def sums(device: torch.device, samples: int, *, has_residual: bool, counts: bool) -> Arguments:
        shape = (time_steps, samples, SIZE * SIZE, 1, CHANNELS)
        residual = zeros(device, *shape, dtype=FP64) if has_residual else None
        per_channel = [zeros(device, 1, CHANNELS, dtype=FP64) for _ in range(2)]
        opened = zeros(device, time_steps, samples, 1, 1, CHANNELS, dtype=FP64)
        whole = torch.full((), True, device=device)
        neuron = _parameters(device, exactly=True)
        return (zeros(device, *shape, dtype=FP32), *per_channel, opened, residual, whole, neuron, counts)

    for has_residual in (False, True):
        for counts in (False, True):
            more = f"{', residual' if has_residual else ''}{', skipped counted' if counts else ''}"
            yield Case(
                name=f"evaluation, convolution{more}",
                compiled=exact._compiled_fire_sums,
                arguments=lambda device, samples, r=has_residual, c=counts: sums(
                    device, samples, has_residual=r, counts=c
                ),
            )
    yield Case(
        name="channel activity, bf16",
        compiled=gate._compiled_positive_mean,
        arguments=lambda device, samples: (zeros(device, time_steps * samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="sum pooling, forward, bf16",
        compiled=pooling._compiled_forward,
        arguments=lambda device, samples: (zeros(device, time_steps * samples, SIZE, SIZE, CHANNELS),),
    )
    yield Case(
        name="sum pooling, backward, bf16",
        compiled=pooling._compiled_backward,
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
