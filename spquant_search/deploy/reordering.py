"""Put the channels of a network in integers in another order, which changes nothing else.

Which maps must have one order, and where a channel may go, follows from the steps alone: what is added is in one order,
channels stay in the group, the head or the class that they belong to, and those of the input stay where they are. What
reads a map takes its weights in that order. Where a step's rule is not known, all that it touches stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.channel_order import BLOCK, Opened, Order, best_order, open_blocks
from spquant_search.deploy.integer_form import IntegerNetwork
from spquant_search.deploy.segments import Segment
from spquant_search.deploy.weights_file import decode, pack_rows
from spquant_search.runs.random_streams import Purpose, random_generator

_OF_OUTPUTS = ("slope", "offset", "gate_at_rest")  # a column an output channel
_OF_LAYERS = ("gain", "leak")  # one number a layer
_KNOWN_ROLES = {"weights", "gate", *_OF_OUTPUTS, *_OF_LAYERS}
LEAST_GAIN = 0.01  # of all blocks: what less does is not worth the question which channel is which


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedOrder:
    """The steps whose maps have their channels in one order, and where runs begin that no channel may leave."""

    steps: tuple[str, ...]
    channels: int
    cells: tuple[int, ...]  # the first is 0

    @property
    def is_free(self) -> bool:
        """Tell whether there is more than one order."""
        return len(self.cells) < self.channels

    def allows(self, order: Order) -> bool:
        """Tell whether an order holds every channel once, and none outside of its run."""
        ends = (*self.cells[1:], self.channels)
        return len(order) == self.channels and all(
            np.array_equal(np.sort(order[begin:end]), np.arange(begin, end))
            for begin, end in zip(self.cells, ends, strict=True)
        )


def shared_orders(form: IntegerNetwork) -> tuple[SharedOrder, ...]:
    """Find which maps of a network have one order, and what it may be."""
    maps = _Maps()
    for step in form.steps:
        _add_rules(maps, step)
    for segment in form.segments:
        if segment.role not in _KNOWN_ROLES:
            step = next(step for step in form.steps if step["name"] == segment.layer)
            maps.fix(step["name"], *step["inputs"])
    return tuple(maps.shared())


class _Maps:
    """The maps of a network in sets that share an order (a union-find), each with the places that divide it."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._channels: dict[str, int] = {}
        self._cells: dict[str, set[int]] = {}

    def add(self, name: str, channels: int) -> None:
        self._parent[name], self._channels[name], self._cells[name] = name, channels, {0}

    def share(self, one: str, other: str) -> None:
        """Give two maps one order, which keeps to the runs of both."""
        first, second = self._find(one), self._find(other)
        if first != second:
            self._parent[second] = first
            self._cells[first] |= self._cells[second]

    def divide(self, name: str, size: int) -> None:
        """Let no channel of a map leave its run of ``size`` neighbours."""
        self._cells[self._find(name)].update(range(0, self._channels[name], size))

    def fix(self, *names: str) -> None:
        """Leave maps as they are; a readout makes none."""
        for name in names:
            if name in self._parent:
                self.divide(name, 1)

    def shared(self) -> Iterator[SharedOrder]:
        sets: dict[str, list[str]] = {}
        for name in self._parent:
            sets.setdefault(self._find(name), []).append(name)
        for first, names in sets.items():
            cells = tuple(sorted(self._cells[first]))
            yield SharedOrder(steps=tuple(names), channels=self._channels[first], cells=cells)

    def _find(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name


def _add_rules(maps: _Maps, step: Mapping[str, Any]) -> None:
    """Add the map that a step makes, with what it asks of this map and of those that it reads."""
    name, kind, inputs = step["name"], step["kind"], step["inputs"]
    if kind not in ("readout", "count"):
        maps.add(name, step["out_channels"] if "out_channels" in step else step["shape"][0])
    if kind in ("convolution", "shortcut"):
        _add_groups(maps, step)
        for residual in inputs[1:]:
            maps.share(name, residual)
    elif kind in ("sum", "average", "pool", "identity"):
        for read in inputs:
            maps.share(name, read)
    elif kind == "attention":  # the product of q and k pairs their channels; its sums weight those of v
        q, k, v = inputs
        maps.share(q, k)
        maps.share(name, v)
        for read in (q, v):
            maps.divide(read, step["out_channels"] // step["heads"])
    elif kind == "count":
        maps.divide(inputs[0], step["votes"])
    elif kind != "readout":  # the input, or a kind that is not known here
        maps.fix(name, *inputs)


def _add_groups(maps: _Maps, step: Mapping[str, Any]) -> None:
    name, (read, *_), groups = step["name"], step["inputs"], step["groups"]
    inputs, outputs = step["in_shape"][0], step["out_channels"]
    if groups == inputs == outputs:  # each channel is read by the one of its number
        maps.share(name, read)
    elif groups > 1:
        maps.divide(read, inputs // groups)
        maps.divide(name, outputs // groups)


def reordered(form: IntegerNetwork, orders: Mapping[SharedOrder, Order]) -> IntegerNetwork:
    """Return the same network with its channels in other orders; a step whose channels moved says so in ``order``.

    Raises:
        ValueError: an order is none that its maps may have.
    """
    for shared, order in orders.items():
        if not shared.allows(order):
            raise ValueError(f"{', '.join(shared.steps)}: cannot have the order {order.tolist()}")
    of_steps = {name: order for shared, order in orders.items() for name in shared.steps}
    steps = {step["name"]: step for step in form.steps}
    segments = tuple(_segment(segment, steps[segment.layer], of_steps) for segment in form.segments)
    described = (
        step | {"order": of_steps[step["name"]].tolist()} if step["name"] in of_steps else step for step in form.steps
    )
    return replace(form, steps=tuple(described), segments=segments)


def _segment(segment: Segment, step: Mapping[str, Any], orders: Mapping[str, Order]) -> Segment:
    """Return the numbers of a layer with its inputs and outputs in the orders of their maps."""
    read = orders.get(step["inputs"][0])
    made = orders.get(step["name"])
    if (read is None and made is None) or segment.role in _OF_LAYERS:
        return segment
    values = decode(asdict(segment), segment.data)
    if step["kind"] == "readout":
        if segment.role != "weights" or read is None:
            return segment
        by_channel = values.reshape(len(values), -1, len(read))  # [class, position, channel]
        return _encoded(segment, by_channel[:, :, read].reshape(values.shape))
    read = np.arange(step["in_shape"][0]) if read is None else read
    made = np.arange(step["out_channels"]) if made is None else made
    if segment.role == "weights":
        return _encoded(segment, _weights(values, step, read, made))
    return _encoded(segment, values[read][:, made] if segment.role == "gate" else values[:, made])


def _weights(values: NDArray[np.int64], step: Mapping[str, Any], read: Order, made: Order) -> NDArray[np.int64]:
    """Reorder [kernel row, kernel column, input channel of a group] x output channels."""
    inputs, outputs = len(read) // step["groups"], len(made) // step["groups"]  # of a group
    first = np.arange(len(made)) // outputs * inputs  # input of each output's group
    rows = read[first + np.arange(inputs)[:, None]] - made // outputs * inputs
    assert rows.min() >= 0
    assert rows.max() < inputs, "an input has left the group that reads it"
    by_place = values.reshape(-1, inputs, len(made))
    moved: NDArray[np.int64] = by_place[:, rows, made].reshape(values.shape)
    return moved


def _encoded(segment: Segment, values: NDArray[np.int64]) -> Segment:
    packed = segment.type == "packed"
    return replace(segment, data=pack_rows(values, segment.bits) if packed else values.astype(segment.type).tobytes())


def with_closed_blocks(
    form: IntegerNetwork, opened: Mapping[str, Opened], *, samples: int
) -> tuple[IntegerNetwork, dict[str, Any] | None]:
    """Return a network in orders in which more blocks of its channels are closed, and what the manifest says of it.

    ``opened``: what the gates of its layers opened on so many ``samples``. Where no order gains a hundredth, the
    network is as it was, and the manifest has None.
    """
    opened = {step["name"]: opened[step["name"]] for step in form.steps if step.get("gated")}
    orders: dict[SharedOrder, Order] = {}
    for number, shared in enumerate(shared_orders(form)):
        gated = [opened[name] for name in shared.steps if name in opened]
        if gated and shared.is_free and shared.channels >= 2 * BLOCK:
            rows = np.concatenate(gated)
            order = best_order(rows, shared.cells, random_generator(0, Purpose.CHANNEL_ORDER, number))
            if (order != np.arange(len(order))).any():
                orders[shared] = order
    gained = _gained(opened, orders, samples) if orders else None
    if gained is None or gained["open"][0] - gained["open"][1] < LEAST_GAIN:
        return form, None
    return reordered(form, orders), gained


def _gained(opened: Mapping[str, Opened], orders: Mapping[SharedOrder, Order], samples: int) -> dict[str, Any]:
    """Say which share of the blocks of all gated layers is open, in the old order and in the new one."""
    of_steps = {name: order for shared, order in orders.items() for name in shared.steps}
    counts = {
        name: (open_blocks(rows), open_blocks(rows[:, of_steps[name]] if name in of_steps else rows), _blocks(rows))
        for name, rows in opened.items()
    }
    before, after, blocks = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
    words = f"open blocks of {BLOCK} channels {before / blocks:.2f} -> {after / blocks:.2f}, of training samples"
    return {
        "words": words,
        "block": BLOCK,
        "samples": samples,
        "open": [round(count / blocks, 4) for count in (before, after)],
        "layers": {name: [round(old / whole, 4), round(new / whole, 4)] for name, (old, new, whole) in counts.items()},
    }


def _blocks(rows: Opened) -> int:
    return len(rows) * len(range(0, rows.shape[1], BLOCK))
