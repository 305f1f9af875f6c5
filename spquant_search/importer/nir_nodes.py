"""What the nodes of a NIR graph compute, as operations.

Their equations are those of the classes of the package nir (1.0.8), in continuous time. A neuron is

    tau dv/dt = (v_leak - v) + r I    (LIF, LI)        dv/dt = r I    (IF, I)

and where v > v_threshold it spikes and v becomes v_reset. In steps of dt, by Euler's method, as SpikingJelly and
snnTorch write and read graphs: v = v + dt / tau * (v_leak - v + r I). It begins at rest, v_leak (LIF, LI) or v_reset
(IF), from which potentials are measured here. How long a step is, what a spike does to the potential, and whether one
that is equal to the threshold spikes are arguments, as a graph of either library does not tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spquant_search.importer.library_neuron import LibraryNeuron, Reset
from spquant_search.importer.operations import (
    Convolution,
    Linear,
    Membrane,
    Operation,
    Pair,
    Pool,
    Scale,
    Sides,
    Spiking,
)
from spquant_search.importer.refusals import Refused

Shape = tuple[int, ...]
NirReset = Literal["zero", "subtract", "delayed-subtract"]
RESETS: Mapping[str, Reset] = {"zero": "zero", "subtract": "subtract", "delayed-subtract": "delayed"}
_LEAK_WITHIN = 1e-7  # what float32 makes of tau


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """What a graph does not say of its neurons."""

    dt: float  # of a time step, in the unit of tau and 1/r: seconds
    reset: Reset
    strict: bool  # whether a potential must be above the threshold, or may be equal to it


class Stage(NamedTuple):
    """An operation, the shape in which it sees features, and the shape of those that it makes."""

    operation: Operation
    seen: Shape
    makes: Shape


class Made(NamedTuple):
    """The operations of a node, one behind the other, and the shape of the features behind them."""

    stages: tuple[Stage, ...]
    features: Shape


def made_of(kind: str, node: Any, shape: Shape, untold: Untold) -> Made:
    """Return what a node of this class makes of features of this shape.

    Raises:
        Refused: it has no form, or its parameters do not fit.
    """
    check_kind(kind, node)
    try:
        return _FORMS[kind](node, shape, untold)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError, RuntimeError) as error:
        raise Refused(
            f"its parameters are not understood ({error})", "they must be numbers and arrays of them"
        ) from error


def check_kind(kind: str, node: Any) -> None:
    """Raise where no node of this class has a form.

    Raises:
        Refused: it says why.
    """
    if kind not in _FORMS:
        why = _WITHOUT_FORM.get(kind, "it is no node of the package nir" if not kind else "")
        raise Refused("it has no form" + (f": {why}" if why else f", only {', '.join(sorted(_FORMS))} have one"))


# ---- layers


def _passed(node: Any, shape: Shape, untold: Untold) -> Made:
    del untold
    declared = getattr(node, "input_type", None) or {}
    _check_declared(next(iter(declared.values()), None), shape)
    return Made((), shape)


def _check_declared(declared: Any, shape: Shape) -> None:
    if declared is not None and tuple(np.asarray(declared).reshape(-1).tolist()) != shape:
        raise Refused(f"it says that it takes features of shape {_words(declared)}, and reads {_words(shape)}")


def _words(shape: Any) -> str:
    return "[" + ", ".join(str(int(size)) for size in np.asarray(shape).reshape(-1)) + "]"


def _flatten(node: Any, shape: Shape, untold: Untold) -> Made:
    _passed(node, shape, untold)
    first, last = (int(place) + len(shape) * (int(place) < 0) for place in (node.start_dim, node.end_dim))
    if not 0 <= first <= last < len(shape):
        raise Refused(f"its dimensions {node.start_dim} to {node.end_dim} are none of features {_words(shape)}")
    return Made((), (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def _affine(node: Any, shape: Shape, untold: Untold) -> Made:
    del untold
    weight = _numbers(node.weight, "weight", 2)
    if shape != (weight.shape[1],):
        why = f"its weights take {weight.shape[1]} features in one vector, and it reads {_words(shape)}"
        raise Refused(why, "put a Flatten before it" if math.prod(shape) == weight.shape[1] else "")
    return _one(Linear(weight, _bias(node, len(weight))), shape, (len(weight),))


def _scale(node: Any, shape: Shape, untold: Untold) -> Made:
    del untold
    factor = torch.tensor(_by_channel(node.scale, "scale", shape), dtype=torch.float64).reshape(-1)
    return _one(Scale(factor, torch.zeros(1, dtype=torch.float64)), shape, shape)


def _one(operation: Operation, seen: Shape, makes: Shape) -> Made:
    return Made((Stage(operation, seen, makes),), makes)


def _convolution(node: Any, shape: Shape, untold: Untold) -> Made:
    """Make a convolution of maps, or of a signal of one dimension, which has height 1."""
    del untold
    image = _image(shape, flat=_is_flat(node))
    weight = _numbers(node.weight, "weight", 3 if _is_flat(node) else 4)
    weight = weight[:, :, None] if _is_flat(node) else weight
    groups = _sizes(node.groups, "groups", least=1)[0]
    if weight.shape[1] * groups != shape[0] or len(weight) % groups:
        why = f"its weights, {_words(weight.shape)} in {groups} groups, take {weight.shape[1] * groups} channels"
        raise Refused(f"{why}, and it reads {_words(shape)}")
    if node.input_shape is not None:
        _check_declared((shape[0], *np.asarray(node.input_shape).reshape(-1).tolist()), shape)
    stride, dilation = (_window(node, name, least=1) for name in ("stride", "dilation"))
    kernel = (weight.shape[2], weight.shape[3])
    spans = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    sides = _sides(node, spans, stride)
    padded = (image[1] + sides[2] + sides[3], image[2] + sides[0] + sides[1])
    makes = (len(weight), *_places(padded, [span + 1 for span in spans], stride))
    operation = Convolution(weight, _bias(node, len(weight)), stride, sides, dilation, groups)
    return Made((Stage(operation, image, makes),), (makes[0], makes[2]) if _is_flat(node) else makes)


def _is_flat(node: Any) -> bool:
    return type(node).__name__ == "Conv1d"


def _image(shape: Shape, *, flat: bool = False) -> Shape:
    if len(shape) != (2 if flat else 3):
        takes = "[channels, length]" if flat else "[channels, height, width]"
        raise Refused(f"it reads features of shape {_words(shape)}, which are no {takes}")
    return (shape[0], 1, shape[1]) if flat else shape


def _sides(node: Any, spans: list[int], stride: Pair) -> Sides:
    """Return the padding of all sides; "same" puts what is odd to the right and to the bottom, as torch does."""
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    word = padding if isinstance(padding, str) else ""
    if word == "same":
        if stride != (1, 1):
            raise Refused(f'padding "same" with a stride of {stride} has no meaning', "give the padding in numbers")
        high, wide = spans
        return wide // 2, wide - wide // 2, high // 2, high - high // 2
    if word not in ("", "valid"):
        raise Refused(f'its padding is {padding!r}: "same", "valid" and numbers have a meaning')
    high, wide = (0, 0) if word else _window(node, "padding", least=0)
    return wide, wide, high, high


def _window(node: Any, name: str, *, least: int) -> Pair:
    """Return a size for rows and columns; a signal of one dimension has one row."""
    sizes = _sizes(getattr(node, name), name, least=least)
    if len(sizes) > 2:
        raise Refused(f"its {name} has {len(sizes)} numbers")
    return (least, sizes[-1]) if _is_flat(node) else (sizes[0], sizes[-1])


def _sizes(value: Any, name: str, *, least: int) -> list[int]:
    given = np.asarray(value).reshape(-1)
    sizes = [int(size) for size in given]
    if not sizes or min(sizes) < least or any(given != sizes):
        raise Refused(f"its {name} is {value}: a whole number from {least} on is one")
    return sizes


def _places(padded: Pair, windows: list[int], stride: Pair) -> Pair:
    """Return how many places a window has on rows and columns."""
    rows, columns = ((size - window) // step + 1 for size, window, step in zip(padded, windows, stride, strict=True))
    if min(rows, columns) < 1:
        raise Refused(f"its window, {windows[0]}x{windows[1]}, is larger than the padded map, {padded[0]}x{padded[1]}")
    return rows, columns


def _pool(node: Any, shape: Shape, untold: Untold) -> Made:
    """Make an average, which counts padding, as torch's does by default; a sum is that times the window's size."""
    del untold
    channels, height, width = _image(shape)
    kernel, stride = (_window(node, name, least=1) for name in ("kernel_size", "stride"))
    padding = _window(node, "padding", least=0)
    padded = (height + 2 * padding[0], width + 2 * padding[1])
    makes = (channels, *_places(padded, list(kernel), stride))
    average = Stage(Pool("average", kernel, stride, padding), shape, makes)
    if type(node).__name__ == "AvgPool2d":
        return Made((average,), makes)
    size = Scale(torch.tensor([float(math.prod(kernel))]).double(), torch.zeros(1, dtype=torch.float64))
    return Made((average, Stage(size, makes, makes)), makes)


# ---- neurons


def _integrate_and_fire(node: Any, shape: Shape, untold: Untold) -> Made:
    reset = _by_channel(node.v_reset, "v_reset", shape)
    return _spiking(node, shape, untold, leak=1.0, gain=untold.dt * _array(node.r, "r", shape), rest=reset)


def _leaky(node: Any, shape: Shape, untold: Untold) -> Made:
    rest, reset = (_by_channel(getattr(node, name), name, shape) for name in ("v_leak", "v_reset"))
    if rest != reset:
        why = f"a spike resets it to {_range(reset)} (v_reset), and it leaks towards {_range(rest)} (v_leak)"
        raise Refused(why, "only where both are equal it has a form")
    leak, gain = _decay(node, shape, untold)
    return _spiking(node, shape, untold, leak=leak, gain=gain, rest=rest)


def _threshold(node: Any, shape: Shape, untold: Untold) -> Made:
    """Make neurons that keep nothing from one step to the next."""
    form = LibraryNeuron(leak=0.0, threshold=_above(node.threshold, 0.0, shape, "threshold"), strict=untold.strict)
    return _one(Spiking(form), shape, shape)


def _spiking(
    node: Any,
    shape: Shape,
    untold: Untold,
    *,
    leak: float | tuple[float, ...],
    gain: NDArray[np.float64],
    rest: float | tuple[float, ...],
) -> Made:
    current, factor = _gained(gain, shape)
    form = LibraryNeuron(
        leak=leak,
        gain=factor,
        threshold=_above(node.v_threshold, rest, shape, "v_threshold"),
        strict=untold.strict,
        reset=untold.reset,
        rest=rest if isinstance(rest, float) else 0.0,
    )
    return Made((*current, Stage(Spiking(form), shape, shape)), shape)


def _integrator(node: Any, shape: Shape, untold: Untold) -> Made:
    return _membrane(shape, leak=1.0, gain=untold.dt * _array(node.r, "r", shape), rest=0.0)


def _leaky_integrator(node: Any, shape: Shape, untold: Untold) -> Made:
    rest = _by_channel(node.v_leak, "v_leak", shape)
    if isinstance(rest, tuple):
        raise Refused(f"its channels leak towards different potentials, {_range(rest)} (v_leak)", "give them one")
    leak, gain = _decay(node, shape, untold)
    return _membrane(shape, leak=leak, gain=gain, rest=rest)


def _membrane(shape: Shape, *, leak: float | tuple[float, ...], gain: NDArray[np.float64], rest: float) -> Made:
    current, factor = _gained(gain, shape)
    form = LibraryNeuron(leak=leak, gain=factor, threshold=math.inf, reset="none", rest=rest)
    return Made((*current, Stage(Spiking(form), shape, shape), Stage(Membrane(), shape, shape)), shape)


def _decay(node: Any, shape: Shape, untold: Untold) -> tuple[float | tuple[float, ...], NDArray[np.float64]]:
    """Return what a step keeps, and what a current is multiplied with."""
    tau = _array(node.tau, "tau", shape)
    if (tau < untold.dt * (1 - _LEAK_WITHIN)).any():
        why = f"its time constant tau is {_range(tau)}, shorter than a time step of dt={untold.dt:g}"
        raise Refused(why, "give dt= in the unit of tau")
    share = np.minimum(untold.dt / tau, 1.0)
    leak = _by_channel(1.0 - share, "tau", shape)
    kept = tuple(map(_rounded, leak)) if isinstance(leak, tuple) else _rounded(leak)
    return kept, share * _array(node.r, "r", shape)


def _rounded(leak: float) -> float:
    """Return a leak of whole 4096ths where it is one but for the rounding of a file's numbers."""
    nearest = round(4096 * leak) / 4096
    return nearest if abs(leak - nearest) < _LEAK_WITHIN else leak


def _gained(gain: NDArray[np.float64], shape: Shape) -> tuple[tuple[Stage, ...], float]:
    """Return what multiplies a current: a number of the neurons, or an operation where channels differ."""
    factor = _by_channel(gain, "r", shape)
    if isinstance(factor, float):
        return (), factor
    slope = torch.tensor(factor, dtype=torch.float64)
    return (Stage(Scale(slope, torch.zeros(1, dtype=torch.float64)), shape, shape),), 1.0


def _above(threshold: Any, rest: float | tuple[float, ...], shape: Shape, what: str) -> float | tuple[float, ...]:
    given = _array(threshold, what, shape, infinite=True)
    apart = _by_channel(np.broadcast_to(given - _spread(rest, shape), shape), what, shape, infinite=True)
    if not (min(apart) if isinstance(apart, tuple) else apart) > 0:
        raise Refused(f"its {what}, {_range(given)}, is not above the potential that it rests at, {_range(rest)}")
    return apart


# ---- parameters


def _array(values: Any, what: str, shape: Shape, *, infinite: bool = False) -> NDArray[np.float64]:
    """Return a parameter of neurons: one number, or one of each neuron."""
    given = np.asarray(values)
    if given.dtype.kind not in "fiu":
        raise Refused(f"its {what} holds {given.dtype}, and no numbers")
    given = given.astype(np.float64)
    if np.isnan(given).any() or (np.isinf(given).any() and not (infinite and (given > -np.inf).all())):
        raise Refused(f"its {what} holds numbers that are not finite, {_range(given)}")
    if given.size == 1:
        return given.reshape(())
    if given.shape != shape:
        raise Refused(f"its {what} is of shape {_words(given.shape)}, and it reads {_words(shape)}")
    return given


def _spread(value: float | tuple[float, ...], shape: Shape) -> NDArray[np.float64]:
    by_channel = np.asarray(value, dtype=np.float64)
    return by_channel if by_channel.ndim == 0 else by_channel.reshape(-1, *[1] * (len(shape) - 1))


def _by_channel(values: Any, what: str, shape: Shape, *, infinite: bool = False) -> float | tuple[float, ...]:
    """Return a parameter as one number, or one of each channel."""
    given = _array(values, what, shape, infinite=infinite)
    if given.size and bool((given == given.flat[0]).all()):
        return float(given.flat[0])
    by_channel = given.reshape(len(given), -1)
    if bool((by_channel != by_channel[:, :1]).any()):
        raise Refused(f"its {what} differs within a channel, {_range(given)}", "give a channel one value")
    return tuple(float(value) for value in by_channel[:, 0])


def _numbers(values: Any, what: str, dimensions: int) -> Tensor:
    given = np.asarray(values)
    if given.dtype.kind not in "fiu" or given.ndim != dimensions or not given.size:
        raise Refused(f"its {what} is an array {_words(given.shape)} of {given.dtype}, and has {dimensions} dimensions")
    numbers = given.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise Refused(f"its {what} holds numbers that are not finite")
    return torch.from_numpy(numbers)


def _bias(node: Any, size: int) -> Tensor | None:
    if getattr(node, "bias", None) is None:
        return None
    bias = _numbers(node.bias, "bias", 1)
    if len(bias) != size:
        raise Refused(f"its bias has {len(bias)} numbers for {size} channels")
    return bias


def _range(values: Any) -> str:
    given = np.asarray(values, dtype=np.float64)
    low, high = float(given.min()), float(given.max())
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


_FORMS: Mapping[str, Callable[[Any, Shape, Untold], Made]] = {
    "Input": _passed,
    "Output": _passed,
    "Flatten": _flatten,
    "Affine": _affine,
    "Linear": _affine,
    "Scale": _scale,
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "AvgPool2d": _pool,
    "SumPool2d": _pool,
    "IF": _integrate_and_fire,
    "LIF": _leaky,
    "I": _integrator,
    "LI": _leaky_integrator,
    "Threshold": _threshold,
}
_WITHOUT_FORM = {
    "CubaLIF": "it has two states, a current and a membrane",
    "CubaLI": "it has two states, a current and a membrane",
    "Delay": "it keeps what came in earlier steps",
}
