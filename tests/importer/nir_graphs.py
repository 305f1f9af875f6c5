"""Graphs of NIR for tests: drawn at random, and put together by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from importer.libraries import nir

DT = 1e-4


def chain(*named: tuple[str, Any], extra: Sequence[tuple[str, str]] = ()) -> Any:
    """Return a graph of nodes one behind the other, with further edges."""
    names = [name for name, _ in named]
    edges = [*pairwise(names), *extra]
    return nir().NIRGraph(nodes=dict(named), edges=edges, type_check=False)


def ends(features: Sequence[int], classes: Sequence[int]) -> tuple[Any, Any]:
    """Return an Input and an Output."""
    return nir().Input(np.array(features)), nir().Output(np.array(classes))


def lif(shape: Sequence[int], *, tau: float = 2 * DT, r: float = 1.0, rest: float = 0.0, threshold: float = 1.0) -> Any:
    """Return neurons of one kind."""
    return nir().LIF(
        tau=np.full(shape, tau),
        r=np.full(shape, r),
        v_leak=np.full(shape, rest),
        v_threshold=np.full(shape, threshold),
        v_reset=np.full(shape, rest),
    )


def drawn(seed: int) -> Any:
    """Return a random graph on features [2, 6, 6] with 4 classes."""
    rng = np.random.default_rng(seed)
    nodes: list[tuple[str, Any]] = [("input", nir().Input(np.array([2, 6, 6])))]
    shape: tuple[int, ...] = (2, 6, 6)
    extra = []
    for block in range(1 + rng.integers(2)):
        for number in range(1 + rng.integers(3)):
            node, shape = _layer(rng, shape) if number else _convolution(rng, shape)
            nodes.append((f"layer{block}_{number}", node))
        nodes.append((f"neuron{block}", _neuron(rng, shape)))
        if rng.random() < 0.4:  # a shortcut around a convolution that keeps the size
            channels = shape[0]
            weight = rng.normal(size=(channels, channels, 3, 3))
            same = nir().Conv2d(None, weight, 1, "same", 1, 1, np.zeros(channels))
            nodes += [(f"around{block}", same), (f"behind{block}", _neuron(rng, shape))]
            extra.append((f"neuron{block}", f"behind{block}"))
    size = int(np.prod(shape))
    nodes.append(("flat", nir().Flatten(np.array(shape), 0, -1)))
    nodes.append(("fc", nir().Affine(rng.normal(size=(4, size)) / 2, 0.3 * rng.normal(size=4))))
    nodes.append(("last", _neuron(rng, (4,)) if rng.random() < 0.6 else _integrator(rng)))
    return chain(*nodes, ("output", nir().Output(np.array([4]))), extra=extra)


def _convolution(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    groups = int(rng.choice([1, 2]))
    high, wide = (int(size) for size in rng.integers(1, 4, size=2))
    padding: Any = ("valid", "same", (high // 2, wide // 2))[rng.integers(3)]
    stride = 1 if padding == "same" else int(rng.integers(1, 3))
    weight = rng.normal(size=(4, shape[0] // groups, high, wide)).astype(rng.choice([np.float32, np.float64]))
    node = nir().Conv2d(None, weight, stride, padding, 1, groups, 0.3 * rng.normal(size=4))
    around = {"valid": (0, 0), "same": (high - 1, wide - 1)}.get(str(padding), (2 * (high // 2), 2 * (wide // 2)))
    size = [(n + a - k) // stride + 1 for n, a, k in zip(shape[1:], around, (high, wide), strict=True)]
    return node, (4, *size)


def _layer(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    kind = rng.integers(3)
    if kind == 0 or min(shape[1:]) < 2:
        values = rng.choice([0.5, 1.0, 2.0, -1.5], size=shape[0])
        return nir().Scale(np.broadcast_to(values.reshape(-1, 1, 1), shape).copy()), shape
    padding = int(rng.integers(2))
    pool = nir().AvgPool2d if kind == 1 else nir().SumPool2d
    size = [(n + 2 * padding - 2) // 2 + 1 for n in shape[1:]]
    return pool(np.array([2, 2]), np.array([2, 2]), np.array([padding, padding])), (shape[0], *size)


def _neuron(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    def spread(low: float, high: float) -> Any:
        size = shape[0] if rng.random() < 0.3 else 1
        return np.broadcast_to(rng.uniform(low, high, size=size).reshape(-1, *[1] * (len(shape) - 1)), shape).copy()

    rest = spread(-0.2, 0.2)
    if rng.random() < 0.3:
        return nir().IF(r=spread(0.5, 1.5) / DT, v_threshold=rest + spread(0.5, 1.5), v_reset=rest)
    tau = np.full(shape, DT * rng.uniform(1.2, 8.0))
    return nir().LIF(tau=tau, r=spread(1.0, 3.0), v_leak=rest, v_threshold=rest + spread(0.4, 1.0), v_reset=rest)


def _integrator(rng: np.random.Generator) -> Any:
    if rng.random() < 0.5:
        return nir().I(r=np.full(4, 1 / DT))
    return nir().LI(tau=np.full(4, 3 * DT), r=np.full(4, 2.0), v_leak=np.full(4, 0.1))
