"""Check that a network's own code keeps whole numbers whole, on signals that are made up for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spquant_search.runs.random_streams import Purpose, derived_seed
from spquant_search.snn.dry_run import Call, ForwardFailed, batch_unlike, dry_run
from spquant_search.snn.layers import SearchableLayer, searchable_layers
from spquant_search.snn.networks.argument_errors import error_words
from spquant_search.snn.spikes import Spikes
from spquant_search.space.shapes import InputShape

OPEN_SHARE = 0.5  # of the channels of layers with a gate


def number_problems(
    network: nn.Module, shape: InputShape, outputs: Mapping[str, Spikes | Tensor], *, time_steps: int
) -> list[str]:
    """Say where a layer would read what is no whole number, or is none of those that its signal says.

    Every layer of ``network``, which is of no use afterwards, gives random numbers of the kind and shape that it gave
    in ``outputs``: nothing but the code between layers is computed.
    """
    problems: list[str] = []

    def check(call: Call) -> None:
        for spikes in call.signals:
            found = _problem(spikes)
            if found is not None:
                problems.append(f"{call.name} reads what {call.trace.maker(spikes.values)} makes, {found}")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(0, Purpose.MADE_UP_SIGNALS))
        for name, layer in searchable_layers(network).items():
            if name in outputs:
                layer.forward = _stand_in(layer, outputs[name])
        rows = time_steps * batch_unlike(time_steps)
        frames = torch.randint(0, shape.largest + 1, (rows, shape.channels, shape.height, shape.width)).float()
        try:
            dry_run(network, shape, time_steps=time_steps, frames=frames, on_call=check)
        except ForwardFailed as error:
            where = f" in {error}" if str(error) else ""
            return [f"fails on made-up frames{where}: {error_words(error.__cause__ or error)}"]
    return problems[:1]


def _stand_in(layer: SearchableLayer, output: Spikes | Tensor) -> Callable[..., Spikes | Tensor]:
    """Return a forward pass that gives random numbers of the kind and shape of ``output``, some channels closed."""

    def forward(*given: Any, **named: Any) -> Spikes | Tensor:
        if not isinstance(output, Spikes):
            return torch.randn(tuple(output.shape))
        values = torch.randint(0, output.largest + 1, tuple(output.values.shape)).float()
        has_residual = any(isinstance(value, Tensor) for value in (*given, *named.values()))
        if has_residual or getattr(layer, "gate", None) is None:
            return replace(output, values=values, open=None)
        opened = torch.rand(values.shape[:2]) < OPEN_SHARE
        return replace(output, values=values * opened[:, :, None, None], open=opened)

    return forward


def _problem(spikes: Spikes) -> str | None:
    """Say what is wrong with the values of a signal; None if nothing is."""
    values = spikes.values.double()
    if not bool(values.isfinite().all()):
        return "which is not finite"
    fractions = values[values != values.round()]
    if fractions.numel():
        return (
            f"which is no whole number, such as {float(fractions[0]):.4g}; keep sums whole, and note what they are to "
            "be divided by in Spikes.divisor"
        )
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > spikes.largest:
        wrong = least if least < 0 else most
        return f"and {wrong} is none of the numbers from 0 to {spikes.largest}, its Spikes.largest"
    if spikes.open is None:
        return None
    fits = spikes.open.shape == values.shape[:2]
    if not fits or bool(values.amax(dim=(2, 3))[~spikes.open].any()):
        return "and Spikes.open does not say which of its channels are silent; leave open out of these Spikes"
    return None
