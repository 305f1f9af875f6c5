"""Costs of a configuration: bytes and dense operations, exact before any training.

1 MAC is one multiply-accumulate; FLOPs are 2 per MAC. Dense MACs count every output of a convolution with its whole
kernel, padding included, as `torch.utils.flop_counter` does. Rows and columns that no pool takes in are no outputs and
have no neurons; an output whose current is pooled in several windows is computed, and counted, for each. Bytes are
those of one sample, every tensor packed at its own number of bits; membranes are stored from one time step to the next,
and so not at all where there is a single one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, OFF, LayerPrecision, NetworkConfig
from spquant_search.space.shapes import LayerShape

FLOPS_PER_MAC = 2
# The device's per-channel affine step a * A + d: a in 16 bits, d in 32, and one shift a layer in 8.
SLOPE_BYTES, OFFSET_BYTES, SHIFT_BYTES = 2, 4, 1
THRESHOLD_BYTES = 1  # of a learned one: sixteen times its reciprocal
LEAK_BYTES = 2  # of a learned one: 4096 times it
FLOAT_BYTES = 4


def membrane_bits(levels: int | None) -> int:
    """Return the bits of a stored membrane potential: ceil(log2 levels), so 3 levels (1.58 bits) take 2; a float 32."""
    if levels is None:
        return 0
    return FLOAT_BITS if levels == FLOAT_MEMBRANE else (levels - 1).bit_length()


def packed_bytes(values: int, bits: int) -> int:
    """Return the bytes of ``values`` values of ``bits`` bits laid end to end."""
    return -(-values * bits // 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCost:
    """One layer's bytes and dense MACs under one precision."""

    shape: LayerShape
    precision: LayerPrecision

    @property
    def weight_bytes(self) -> int:
        return packed_bytes(self.shape.weights, self.precision.weight_bits)

    @property
    def membrane_bytes(self) -> int:
        return packed_bytes(self.shape.neurons, membrane_bits(self.precision.membrane_levels))

    @property
    def overhead_bytes(self) -> int:
        """The per-channel a and d, a learned threshold and leak, and the gate's predictor.

        A predictor has 8 bits a pair of channels and one bit a channel.
        """
        return self._affine_bytes + self._learned_bytes + self._predictor_bytes

    @property
    def _learned_bytes(self) -> int:
        # Where all currents come from convolutions, a and d could take a threshold up; with residuals and in attention
        # not. A leak is what a potential is multiplied by from one time step to the next: with one step there is none.
        leaks = self.shape.learns_leak and self.precision.membrane_levels is not None
        return THRESHOLD_BYTES * self.shape.learns_threshold + LEAK_BYTES * leaks

    @property
    def _affine_bytes(self) -> int:
        channels = self.shape.out_channels
        if not self.shape.has_weights:
            return 0
        if self.precision.weight_bits == FLOAT_BITS:
            return channels * FLOAT_BYTES * (1 if self.shape.kind == "readout" else 2)
        if self.shape.kind == "readout":  # one scale for the whole tensor never changes the argmax: only d is kept
            return channels * OFFSET_BYTES
        return channels * (SLOPE_BYTES + OFFSET_BYTES) + SHIFT_BYTES

    @property
    def _predictor_bytes(self) -> int:
        if self.precision.channel_mass >= 1.0:
            return 0
        return self.predictor_macs + packed_bytes(self.shape.out_channels, 1)  # a weight of one byte a product

    @property
    def predictor_macs(self) -> int:
        """The products of the channel gate's predictor in one time step; 0 without a gate."""
        return self.shape.in_channels * self.shape.out_channels if self.precision.channel_mass < 1.0 else 0

    @property
    def memory_bytes(self) -> int:
        return self.weight_bytes + self.membrane_bytes + self.overhead_bytes

    @property
    def input_buffer_bytes(self) -> int:
        """The paper's second neuron-sized buffer (X): 32 bits a neuron in a float layer, 8 in a quantized one."""
        return self.shape.neurons * (FLOAT_BYTES if self.precision.is_float else 1)

    def as_dict(self) -> dict[str, Any]:
        return {
            "layer": self.shape.name,
            "weights": self.shape.weights,
            "neurons": self.shape.neurons,
            "dense_macs": self.shape.dense_macs,
            "weight_bits": self.precision.weight_bits,
            "membrane_levels": self.precision.membrane_levels,
            "weight_bytes": self.weight_bytes,
            "membrane_bytes": self.membrane_bytes,
            "overhead_bytes": self.overhead_bytes,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CostReport:
    """A whole configuration's bytes and dense MACs; totals are sums over its layers."""

    layers: tuple[LayerCost, ...]
    time_steps: int

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def membrane_bytes(self) -> int:
        return sum(layer.membrane_bytes for layer in self.layers)

    @property
    def overhead_bytes(self) -> int:
        return sum(layer.overhead_bytes for layer in self.layers)

    @property
    def memory_bytes(self) -> int:
        return self.weight_bytes + self.membrane_bytes + self.overhead_bytes

    @property
    def paper_total_bytes(self) -> int:
        """W + U + X of the SpQuant-SNN tables: no overhead, but a second neuron-sized buffer."""
        buffers = sum(layer.input_buffer_bytes for layer in self.layers)
        return self.weight_bytes + self.membrane_bytes + buffers

    @property
    def dense_macs(self) -> int:
        """MACs of one time step."""
        return sum(layer.shape.dense_macs for layer in self.layers)

    @property
    def dense_macs_all_steps(self) -> int:
        return self.dense_macs * self.time_steps

    def as_dict(self) -> dict[str, Any]:
        names = ("weight_bytes", "membrane_bytes", "overhead_bytes", "memory_bytes", "paper_total_bytes")
        totals = {name: getattr(self, name) for name in (*names, "dense_macs", "dense_macs_all_steps")}
        return {
            "time_steps": self.time_steps,
            "layers": [layer.as_dict() for layer in self.layers],
            "total": totals,
        }


def cost_report(shapes: Sequence[LayerShape], config: NetworkConfig) -> CostReport:
    """Return the cost of ``config`` on a network whose layers are ``shapes``."""
    layers = tuple(LayerCost(shape=shape, precision=config[shape.name]) for shape in shapes)
    return CostReport(layers=layers, time_steps=config.time_steps)


def known_effective_macs(shapes: Sequence[LayerShape], config: NetworkConfig) -> int | None:
    """Return a configuration's effective MACs before any training; None where a gate or a mask may save some.

    Without gates and masks these are the dense MACs. What gates and masks save only shows in training.
    """
    saves = any(getattr(layer, kind) != value for _, layer in config.layers for kind, value in OFF.items())
    return None if saves else cost_report(shapes, config).dense_macs_all_steps
