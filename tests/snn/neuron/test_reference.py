"""The reference's derivatives against finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from neurons import currents, parameters
from torch import Tensor

from spquant_search.snn.neuron import reference
from spquant_search.snn.neuron.parameters import NeuronParameters
from spquant_search.snn.neuron.reference import fire_step_by_step


def test_the_reference_differentiates_its_smooth_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """With spike and quantizer replaced by the integrals of their surrogates, the gradient must be the true one."""

    def smooth_spike(ctx: Any, potential: Tensor, rule: Any) -> Tensor:
        ctx.save_for_backward(potential)
        x = (potential - 1.0).clamp(-1.0, 1.0)
        return 0.5 + x - x * x.abs() / 2

    def smooth_levels(ctx: Any, potential: Tensor, p: NeuronParameters) -> Tensor:
        ctx.save_for_backward(potential)
        ctx.parameters = p
        integral = torch.nn.functional.softplus
        rise = integral(2 * (potential - p.lowest)) - integral(2 * (potential - p.highest))
        return rise / 2 + p.lowest

    monkeypatch.setattr(reference._Spike, "forward", staticmethod(smooth_spike))
    monkeypatch.setattr(reference._Quantize, "forward", staticmethod(smooth_levels))
    current = currents(4, 5, seed=3, grain=7).double().requires_grad_()
    for levels in (0, 3, 16):
        p = NeuronParameters(*(value.double() for value in parameters((levels, None, 0.5))))
        p = p._replace(is_float=p.is_float.bool())
        assert torch.autograd.gradcheck(lambda leaf, p=p: fire_step_by_step(leaf, p), current, atol=1e-6)
