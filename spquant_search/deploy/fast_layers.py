"""Decide for each layer of a deployed network whether the C engine computes it on its fast path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spquant_search.costs.fast_path import FastLayer, Form, Reads, fast_layer, plain_reason
from spquant_search.deploy.reference import GAIN_BITS, Model
from spquant_search.deploy.weights_file import weight_of


@dataclass(frozen=True, slots=True)
class Paths:
    """The layers on the fast path, and why the others are not on it, by name."""

    fast: Mapping[str, FastLayer]
    plain: Mapping[str, str]
    fraction: int  # the fixed point that neurons of special kinds share, so that shifts are constants

    def described(self) -> dict[str, dict[str, str]]:
        """Return the part of the manifest that says it, by the layer's name."""
        described = {
            name: {"path": "fast", "sums": layer.kind, "neurons": layer.neurons} for name, layer in self.fast.items()
        }
        return described | {name: {"path": "plain", "because": reason} for name, reason in self.plain.items()}


def paths_of(model: Model) -> Paths:
    """Return the path of each convolution with neurons."""
    steps = model.steps
    by_name = {step["name"]: step for step in steps}
    fast: dict[str, FastLayer] = {}
    plain: dict[str, str] = {}
    layers = [step for step in steps if step["kind"] == "convolution"]
    for step in layers:
        form, bits = form_of(step, by_name), step["weight_bits"]
        reason = plain_reason(form, weight_bits=bits, gated=step["gated"]) or _trained_reason(step, form, model)
        if reason is not None:
            plain[step["name"]] = reason
            continue
        neuron = step["neuron"]
        layer = fast_layer(form, weight_bits=bits, levels=neuron["levels"], gated=step["gated"], halves=_halves(neuron))
        assert layer is not None
        fast[step["name"]] = layer
    special = [step for step in layers if step["name"] in fast and fast[step["name"]].neurons in ("two-bits", "words")]
    fraction = min((31 - step["potential_bits"] + fraction_of(step) for step in special), default=0)
    for step in special:
        layer = fast[step["name"]]
        if not max(fraction_of(step), layer.membrane_bits + 1) <= fraction <= 30:
            fast[step["name"]] = replace(layer, neurons="any")
    return Paths(fast, plain, fraction)


def fraction_of(step: dict[str, Any]) -> int:
    """Return the bits behind the point of a layer's potentials, those of a learned threshold's gain included."""
    return int(step["fraction"] + (GAIN_BITS if step["neuron"]["gain"] is not None else 0))


def form_of(step: dict[str, Any], by_name: Mapping[str, dict[str, Any]]) -> Form:
    """Return what the decision asks of a convolution."""
    pool = step["pool"]
    described = None
    if pool is not None:
        described = pool["pool"], tuple(pool["window"]), tuple(pool["stride"]), tuple(pool["padding"])
    channels, height, width = step["in_shape"]
    rows, columns = step["positions"]
    return Form(
        kernel=tuple(step["kernel"]),
        stride=tuple(step["stride"]),
        padding=tuple(step["padding"]),
        groups=step["groups"],
        pool=described,
        in_shape=(channels, height, width),
        out_channels=step["out_channels"],
        positions=(rows, columns),
        reads=_reads(by_name[step["inputs"][0]]),
        largest=step["largest"],
        has_residual=len(step["inputs"]) > 1,
    )


def _reads(source: dict[str, Any]) -> Reads:
    """Return what a step gives."""
    if source["kind"] == "input":
        return "counts"
    if source["kind"] == "pool":
        return "spikes" if source["largest"] == 1 else "values"
    pooled = (source.get("pool") or {"pool": None})["pool"]
    return "spikes" if "neuron" in source and pooled in (None, "before", "max-before") else "values"


def _halves(neuron: Mapping[str, Any]) -> bool:
    """Tell whether neurons may be of a special kind, as far as that is not their number of levels."""
    usual = {3: (-1, 0), 4: (-2, 0), 16: (-8, 3), 256: (-128, 7)}.get(neuron["levels"])
    half_leak = (neuron["leak"], neuron["leak_bits"]) == (1, 1)
    on_grid = usual == (neuron["lowest"], neuron["step_bits"])
    return half_leak and on_grid and neuron["subtracts"] is None and not neuron["spikes_at_threshold"]


def _trained_reason(step: dict[str, Any], form: Form, model: Model) -> str | None:
    """Say what of a trained layer's numbers keeps it from the fast path; that is rare."""
    if step["potential_bits"] > 31:
        return f"potentials of {step['potential_bits']} bits"
    if form.reads != "counts":
        return None
    codes = model.arrays[step["name"]]["weights"]
    weights = weight_of(codes, step["weight_bits"])
    sums = max(np.maximum(weights, 0).sum(axis=0).max(), np.maximum(-weights, 0).sum(axis=0).max())
    stored = codes.sum(axis=0).max() * (2 if step["weight_bits"] == 1 else 1)
    if sums * form.largest >= 2**15 or stored * form.largest >= 2**16:
        return "sums of counts beyond 16 bits"
    return None
