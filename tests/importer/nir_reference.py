"""Run a NIR graph by the equations of its nodes: numpy in double precision, one neuron and one pixel after the other.

It shares nothing with what it checks, and takes a graph's word for nothing but its nodes and edges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Reference:
    """A graph that runs step by step."""

    graph: Any
    dt: float
    reset: str
    strict: bool
    potentials: dict[str, Array] = field(default_factory=dict)
    owed: dict[str, Array] = field(default_factory=dict)

    def run(self, x: Array) -> dict[str, Array]:
        """Return what every node gives, [time, samples, *features], of an input of that form."""
        self.potentials.clear()
        self.owed.clear()
        steps = [self._step(frame) for frame in x]
        return {name: np.stack([step[name] for step in steps]) for name in steps[0]}

    def _step(self, frame: Array) -> dict[str, Array]:
        values: dict[str, Array] = {}
        while len(values) < len(self.graph.nodes):
            for name, node in self.graph.nodes.items():
                sources = [a for a, b in self.graph.edges if b == name]
                if name in values or any(source not in values for source in sources):
                    continue
                total = frame
                if sources:
                    total = values[sources[0]]
                    for source in sources[1:]:
                        total = total + values[source]
                values[name] = self._node(name, node, total)
        return values

    def _node(self, name: str, node: Any, x: Array) -> Array:
        kind = type(node).__name__
        if kind in ("Input", "Output"):
            return x
        if kind == "Flatten":
            first = node.start_dim % (x.ndim - 1)
            last = node.end_dim % (x.ndim - 1)
            shape = x.shape[1:]
            return x.reshape(len(x), *shape[:first], -1, *shape[last + 1 :])
        if kind in ("Affine", "Linear"):
            out = np.zeros((len(x), len(node.weight)))
            for sample, row in np.ndindex(out.shape):
                out[sample, row] = sum(
                    float(w) * float(value) for w, value in zip(node.weight[row], x[sample], strict=True)
                )
            return out + (node.bias if kind == "Affine" else 0.0)
        if kind == "Scale":
            return x * np.asarray(node.scale, dtype=np.float64)
        if kind == "Conv1d":
            return convolved(x[:, :, None], np.asarray(node.weight)[:, :, None], node, flat=True)[:, :, 0]
        if kind == "Conv2d":
            return convolved(x, np.asarray(node.weight), node, flat=False)
        if kind in ("SumPool2d", "AvgPool2d"):
            return pooled(x, node, is_average=kind == "AvgPool2d")
        return self._neurons(name, node, kind, x)

    def _neurons(self, name: str, node: Any, kind: str, x: Array) -> Array:
        shape = x.shape[1:]
        if kind == "Threshold":
            return self._fired(x, node.threshold)
        rest = {"IF": "v_reset", "I": "", "LIF": "v_leak", "LI": "v_leak"}[kind]
        resting = np.broadcast_to(np.asarray(getattr(node, rest) if rest else 0.0, dtype=np.float64), shape)
        v = self.potentials.get(name, np.broadcast_to(resting, x.shape))
        slope = np.asarray(node.r) * x if kind in ("IF", "I") else ((resting - v) + node.r * x) / node.tau
        u = v + self.dt * slope
        if kind in ("LI", "I"):
            self.potentials[name] = u
            return u
        amount = np.asarray(node.v_threshold) - np.asarray(node.v_reset)
        if self.reset == "delayed-subtract":
            u = u - amount * self.owed.get(name, np.zeros_like(x))
        spikes = self._fired(u, node.v_threshold)
        self.owed[name] = spikes
        after = {"zero": node.v_reset, "subtract": u - amount, "delayed-subtract": u}[self.reset]
        self.potentials[name] = np.where(spikes == 1, after, u)
        return spikes

    def _fired(self, u: Array, threshold: Any) -> Array:
        limits = np.broadcast_to(np.asarray(threshold, dtype=np.float64), u.shape[1:])
        out = np.zeros_like(u)
        for place in np.ndindex(u.shape):
            limit = limits[place[1:]]
            out[place] = 1.0 if (u[place] > limit if self.strict else u[place] >= limit) else 0.0
        return out


def two(value: Any, *, flat: bool, across: int) -> tuple[int, int]:
    """Return a size of rows and columns."""
    numbers = [int(number) for number in np.atleast_1d(np.asarray(value))]
    return (across, numbers[0]) if flat else (numbers[0], numbers[-1])


def convolved(x: Array, weight: Array, node: Any, *, flat: bool) -> Array:
    """Sum up one output pixel after the other, with zeros around the map."""
    stride, dilation = (two(getattr(node, name), flat=flat, across=1) for name in ("stride", "dilation"))
    out_channels, per_group, high, wide = weight.shape
    before = [0, 0]
    size = []
    for axis, kernel in enumerate((high, wide)):
        span = dilation[axis] * (kernel - 1)
        around = {"same": span, "valid": 0}.get(node.padding) if isinstance(node.padding, str) else None
        if around is None:
            before[axis] = two(node.padding, flat=flat, across=0)[axis]
            around = 2 * before[axis]
        else:
            before[axis] = around // 2
        size.append((x.shape[2 + axis] + around - span - 1) // stride[axis] + 1)
    out = np.zeros((len(x), out_channels, *size))
    for sample, channel, row, column in np.ndindex(out.shape):
        group = channel // (out_channels // int(node.groups))
        total = float(np.asarray(node.bias)[channel])
        for one, i, j in np.ndindex(per_group, high, wide):
            y = row * stride[0] + i * dilation[0] - before[0]
            z = column * stride[1] + j * dilation[1] - before[1]
            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                total += float(weight[channel, one, i, j]) * float(x[sample, group * per_group + one, y, z])
        out[sample, channel, row, column] = total
    return out


def pooled(x: Array, node: Any, *, is_average: bool) -> Array:
    """Sum up windows of a map with zeros around it; the average counts these."""
    kernel, stride, padding = (
        two(getattr(node, name), flat=False, across=0) for name in ("kernel_size", "stride", "padding")
    )
    size = [(x.shape[2 + axis] + 2 * padding[axis] - kernel[axis]) // stride[axis] + 1 for axis in (0, 1)]
    out = np.zeros((*x.shape[:2], *size))
    for sample, channel, row, column in np.ndindex(out.shape):
        for i, j in np.ndindex(*kernel):
            y, z = row * stride[0] + i - padding[0], column * stride[1] + j - padding[1]
            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                out[sample, channel, row, column] += x[sample, channel, y, z]
    return out / (kernel[0] * kernel[1]) if is_average else out
