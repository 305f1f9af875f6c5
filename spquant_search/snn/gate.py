"""The channel gate decides, per sample and time step, which output channels of a layer are worth computing.

The gate's predictor sees how many input spikes n_i each input channel has. Its logit for output channel c is linear in
n divided by its sum, ``sum_i (C w_ci + b_c) n_i / sum_j n_j`` with C input channels, so that the decision "logit > 0"
is the sign of ``sum_i v_ci n_i``: no division on the device, and with v in 8-bit integers nothing but integer sums.
Without any input spike the channel is open when b_c > 0.

Its target is the smallest set of channels that holds the share r of the layer's activity, the spatial mean of the
positive part of the input current (the cumulative-mass threshold of Fire-Together-Wire-Together, which SpQuant-SNN
uses; there on the largest magnitude).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.snn.constants import kept
from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.quantize import highest_integer

PREDICTOR_BITS = 8


def _positive_mean(current: Float[Tensor, "sample height width channel"]) -> Float[Tensor, "sample channel"]:
    """Average the positive part over the pixels, in fp32."""
    return current.float().relu().sum(dim=(1, 2)) / (current.shape[1] * current.shape[2])


_compiled_positive_mean = Compiled(_positive_mean)


def channel_activity(current: Float[Tensor, "sample channel height width"]) -> Float[Tensor, "sample channel"]:
    """Return the spatial mean of the positive part of each channel's input current, without gradient.

    ``current`` should lie in memory with its channels last.
    """
    mean: Tensor = _compiled_positive_mean(current.detach().permute(0, 2, 3, 1).contiguous())
    return mean


def channel_target(activity: Float[Tensor, "sample channel"], mass: float) -> Bool[Tensor, "sample channel"]:
    """Return the smallest set of channels that holds the share ``mass`` of each sample's activity.

    A channel belongs to the set when all more active channels hold less than that share. Without any activity the set
    is empty.
    """
    ordered, order = activity.sort(dim=1, descending=True, stable=True)
    held_before = ordered.cumsum(dim=1) - ordered
    needed = held_before < mass * activity.sum(dim=1, keepdim=True)
    return torch.zeros_like(needed).scatter(1, order, needed)


def _bias_at(bias: Tensor, mass_slope: Tensor, mass: float) -> Float[Tensor, " out"]:
    return bias + mass_slope * math.log(mass / (1.0 - mass))


def _quantized(
    weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"]
) -> tuple[Float[Tensor, "out in"], Float[Tensor, "out in"]]:
    """Return the integers of C w + b, and their real values with the straight-through gradient."""
    values = weight.shape[1] * weight + bias[:, None]
    limit = highest_integer(PREDICTOR_BITS)
    with torch.no_grad():
        scale = values.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / limit
        integers = (values / scale).round()
    return integers, values + (integers * scale - values).detach()


def _decision(
    weight: Tensor, bias: Tensor, mass_slope: Tensor, mass: float
) -> tuple[Float[Tensor, "in out"], Bool[Tensor, " out"]]:
    """Return what counts are multiplied by, in double precision, and the channels that are open without any input."""
    bias = _bias_at(bias, mass_slope, mass)
    return _quantized(weight, bias)[0].double().T, bias > 0


def _opened(
    counts: Float[Tensor, "sample in"],
    total: Float[Tensor, "sample 1"],
    columns: Float[Tensor, "in out"],
    open_without: Bool[Tensor, " out"],
) -> Bool[Tensor, "sample out"]:
    return torch.where(total > 0, counts.double() @ columns > 0, open_without)


class ChannelGate(nn.Module):
    """A predictor of a layer's open channels from its input spike counts, trained beside the task, never through it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels))
        self.bias = nn.Parameter(torch.ones(out_channels))  # every channel starts open
        self.mass_slope = nn.Parameter(torch.zeros(out_channels))

    def bias_at(self, mass: float) -> Float[Tensor, " out"]:
        """Return the bias at a share of the activity: the lower the share, the fewer channels open."""
        return _bias_at(self.bias, self.mass_slope, mass)

    def integers(self, mass: float) -> Float[Tensor, "out in"]:
        """Return the predictor's 8-bit integers; each row, times a positive scale, is C w + b."""
        return _quantized(self.weight, self.bias_at(mass))[0]

    def open(self, counts: Float[Tensor, "sample in"], mass: float) -> Bool[Tensor, "sample out"]:
        """Decide as the device does: exact integer sums (in double precision, exact to 2^53)."""
        with torch.no_grad():
            columns, open_without = kept(self, _decision, self.weight, self.bias, self.mass_slope, mass)
            return _opened(counts, counts.sum(dim=1, keepdim=True), columns, open_without)

    def loss(
        self, counts: Float[Tensor, "sample in"], activity: Float[Tensor, "sample out"], mass: float
    ) -> Float[Tensor, ""]:
        """Return the binary cross-entropy of the predictor's logits against :func:`channel_target` of ``activity``."""
        return self.open_and_loss(counts, activity, mass)[1]

    def open_and_loss(
        self, counts: Float[Tensor, "sample in"], activity: Float[Tensor, "sample out"], mass: float
    ) -> tuple[Bool[Tensor, "sample out"], Float[Tensor, ""]]:
        """Return what :meth:`open` and :meth:`loss` do, for a training step, from one quantized predictor."""
        bias, total = self.bias_at(mass), counts.sum(dim=1, keepdim=True)
        integers, values = _quantized(self.weight, bias)
        with torch.no_grad():
            opened = _opened(counts, total, integers.double().T, bias > 0)
        logits = torch.where(total > 0, counts / total.clamp(min=1.0) @ values.T, bias)
        target = channel_target(activity, mass).to(logits.dtype)
        return opened, F.binary_cross_entropy_with_logits(logits, target)


def channel_gates(network: nn.Module) -> list[ChannelGate]:
    """Find the gates of a network's layers: by their class, as a layer of a user's may be called gate."""
    return [module for module in network.modules() if isinstance(module, ChannelGate)]
