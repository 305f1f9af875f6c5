"""Run a deployed network in integers, from its files alone: the reference that every other implementation must equal.

It needs numpy and nothing else, and reads ``manifest.json`` and ``weights.bin`` of the folder that ``spquant-search
pick`` wrote; a copy of it lies there as ``reference.py``. Run as a program, it repeats the test vectors of the folder::

    python reference.py [FOLDER]

Everything is a whole number. A layer's potentials are in units of 2^-fraction of its threshold::

    A    = sum of integer weights over integer inputs; where pool is "before", summed under its window
    I    = (slope * A + offset) << (fraction - shift), the largest under the window where pool is "max-before",
           0 in a channel that its gate closes, + the residual current
    I    = I * gain                                    where a threshold was learned: fraction is 4 larger then
    u    = (code * leak << leak_shift') + I            without I where code < skip_below
    s    = 1 if u > 1 << fraction else 0               >= where it spikes at the threshold
    r    = 0 if s else u                               where it subtracts, u - (subtracts << subtracts_shift') if s
    code = r / 2^(fraction - step_bits), rounded to the nearest, ties toward zero, clipped to the grid

with leak_shift' = fraction - step_bits - leak_bits, subtracts_shift' = fraction - subtracts_bits, and code = 0 before
the first time step. Where there is one time step alone no code is stored, and u = I.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.weights_file import (
    VECTORS_FILE,
    WEIGHTS_FILE,
    DamagedArtifact,
    Integers,
    decode,
    read_manifest,
    weight_of,
)

GAIN_BITS = 4  # a learned threshold's gain is in sixteenths
EXACT_DOUBLE = 2**53
BEFORE = ("before", "max-before")  # pools of currents


# ---------------------------------------------------------------- the network


@dataclass(frozen=True)
class Model:
    """A network in integers: the manifest's description of it and the arrays of each layer, by their roles."""

    manifest: dict[str, Any]
    arrays: dict[str, dict[str, Integers]]

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read the network in a folder.

        Raises:
            DamagedArtifact: a file is missing or was changed.
        """
        manifest = read_manifest(folder)
        return cls.of(manifest, (folder / WEIGHTS_FILE).read_bytes())

    @classmethod
    def of(cls, manifest: dict[str, Any], weights: bytes) -> Model:
        """Make a network of a manifest and the content of ``weights.bin``."""
        arrays: dict[str, dict[str, Integers]] = {}
        for segment in manifest["segments"]:
            begin = segment["offset"]
            values = decode(segment, weights[begin : begin + segment["bytes"]])
            arrays.setdefault(segment["layer"], {})[segment["role"]] = values
        return cls(manifest, arrays)

    @property
    def steps(self) -> list[dict[str, Any]]:
        return list(self.manifest["network"]["steps"])

    def run(self, frames: NDArray[np.uint8]) -> ModelOutputs:
        """Run samples [sample, time or 1, channel, row, column]; counts above the largest are clipped."""
        return _Run(self, frames).outputs()


@dataclass(frozen=True)
class ModelOutputs:
    """The logits, spikes and operations of some samples.

    ``logits`` [sample, class] are whole numbers, summed over time; the first of the largest wins. ``spikes`` are, by
    layer, those of its neurons before any pooling, [sample, time, row, column, channel]. ``operations`` are, by layer,
    the synaptic operations of all samples: non-zero inputs of the neurons that were computed.
    """

    logits: Integers
    spikes: dict[str, NDArray[np.bool_]]
    operations: dict[str, int]

    @property
    def predictions(self) -> Integers:
        predicted: Integers = self.logits.argmax(axis=1)
        return predicted


# ---------------------------------------------------------------- running


class _Run:
    """One run of a network, time step by time step; within a step, values are [sample, row, column, channel]."""

    def __init__(self, model: Model, frames: NDArray[np.uint8]) -> None:
        self.model = model
        self.frames = frames
        self.codes: dict[str, Integers] = {}
        self.spikes: dict[str, list[NDArray[np.bool_]]] = {}
        self.operations: dict[str, int] = {}
        self.logits: Integers | None = None
        self.membranes: Integers | None = None  # of a readout's classes

    def outputs(self) -> ModelOutputs:
        time_steps = self.model.manifest["network"]["time_steps"]
        if self.frames.shape[1] not in (1, time_steps):
            raise ValueError(f"a sample has 1 frame or one a time step, {time_steps}; got {self.frames.shape[1]}")
        for t in range(time_steps):
            self._step(self.frames[:, t if self.frames.shape[1] > 1 else 0])
        assert self.logits is not None
        spikes = {name: np.stack(steps, axis=1) for name, steps in self.spikes.items()}
        return ModelOutputs(self.logits, spikes, self.operations)

    def _step(self, frame: NDArray[np.uint8]) -> None:
        values: dict[str, Integers] = {}
        for step in self.model.steps:
            inputs = [values[name] for name in step["inputs"]]
            kind = step["kind"]
            if kind == "input":
                out = np.minimum(frame.transpose(0, 2, 3, 1).astype(np.int64), step["largest"])
            elif kind == "average":
                out = inputs[0].sum(axis=(1, 2), keepdims=True)
            elif kind == "sum":
                out = inputs[0] + inputs[1]
            elif kind == "pool":
                out = _pooled(inputs[0], step)
            elif kind == "identity":
                out = inputs[0]
            elif kind == "shortcut":
                out = self._affine(step, self._sums(step, inputs[0]))
            elif kind == "convolution":
                out = self._convolution(step, inputs)
                self._count_shortcut(step, values)
            elif kind == "attention":
                out = self._attention(step, inputs)
            else:
                out = self._count_spikes(step, inputs[0]) if kind == "count" else self._readout(step, inputs[0])
            values[step["name"]] = out

    def _array(self, step: dict[str, Any], role: str) -> Integers:
        return self.model.arrays[step["name"]][role]

    def _weights(self, step: dict[str, Any]) -> Integers:
        return weight_of(self._array(step, "weights"), step["weight_bits"])

    def _sums(self, step: dict[str, Any], inputs: Integers) -> Integers:
        """Return A at all positions of the convolution; sums of doubles below 2^53 are exact."""
        (kernel_rows, kernel_columns), groups = step["kernel"], step["groups"]
        weights = self._weights(step).astype(np.float64)  # [kernel row, kernel column, input of a group] x outputs
        weights = weights.reshape(kernel_rows, kernel_columns, -1, step["out_channels"])
        sums = np.zeros((len(inputs), *output_size(step, *inputs.shape[1:3]), step["out_channels"]))
        sizes = inputs.shape[3] // groups, step["out_channels"] // groups
        for i, j, seen in _under_kernel(inputs.astype(np.float64), step):
            for g in range(groups):
                part, out = (slice(g * size, (g + 1) * size) for size in sizes)
                sums[..., out] += seen[..., part] @ weights[i, j][:, out]
        return sums.astype(np.int64)

    def _affine(self, step: dict[str, Any], sums: Integers) -> Integers:
        """Return the current of each sum, in units of 2^-shift of the layer."""
        current: Integers = self._array(step, "slope")[0] * sums + self._array(step, "offset")[0]
        return current

    def _current(self, step: dict[str, Any], inputs: Integers) -> Integers:
        """Return the current of a layer's neurons: of sums that are pooled, or the largest current of a window."""
        pool, sums = step["pool"] or {"pool": None}, self._sums(step, inputs)
        current = self._affine(step, _pooled(sums, pool) if pool["pool"] == "before" else sums)
        current = _pooled(current, pool) if pool["pool"] == "max-before" else current
        return current[:, : step["positions"][0], : step["positions"][1]]

    def _convolution(self, step: dict[str, Any], inputs: list[Integers]) -> Integers:
        current = self._current(step, inputs[0]) << (step["fraction"] - step["shift"])
        opened = self._open(step, inputs[0])
        current = np.where(opened[:, None, None], current, 0)
        if len(inputs) > 1:
            residual = inputs[1][:, : current.shape[1], : current.shape[2]]
            current = current + (residual << (step["fraction"] - step["residual_shift"]))
        fired, skipped = self._fire(step, current)
        self._count(step, inputs[0], opened, skipped)
        spikes, pool = fired.astype(np.int64), step["pool"]
        return spikes if pool is None or pool["pool"] in BEFORE else _pooled(spikes, pool)

    def _open(self, step: dict[str, Any], inputs: Integers) -> NDArray[np.bool_]:
        """Tell which output channels the gate opens, [sample, channel]; a layer without a gate opens all."""
        if not step["gated"]:
            return np.ones((len(inputs), step["out_channels"]), dtype=bool)
        counts = inputs.sum(axis=(1, 2))
        sums = counts @ self._array(step, "gate")
        self._add_operations(step, np.count_nonzero(counts) * step["out_channels"])
        silent = counts.sum(axis=1, keepdims=True) == 0
        return np.asarray(np.where(silent, self._array(step, "gate_at_rest") > 0, sums > 0))

    def _fire(self, step: dict[str, Any], current: Integers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Let the neurons of a layer take one time step; return which spiked and which were skipped."""
        name, neuron = step["name"], step["neuron"]
        fraction = step["fraction"]
        if neuron["gain"] is not None:
            current, fraction = current * neuron["gain"], fraction + GAIN_BITS
        threshold = (1 << fraction) - neuron["spikes_at_threshold"]  # of whole numbers, one less is exceeded at it
        if neuron["levels"] is None:
            fired = current > threshold
            self.spikes.setdefault(name, []).append(fired)
            return fired, np.zeros_like(fired)
        code = self.codes.get(name)
        if code is None:
            code = np.zeros_like(current)
        cut = neuron["skip_below"]
        skipped = np.zeros_like(current, dtype=bool) if cut is None else code < cut
        to_step = fraction - neuron["step_bits"]
        leaked = code * neuron["leak"] << (to_step - neuron["leak_bits"])
        potential = leaked + np.where(skipped, 0, current)
        fired = potential > threshold
        kept = 0
        if neuron["subtracts"] is not None:
            kept = potential - (neuron["subtracts"] << (fraction - neuron["subtracts_bits"]))
        reset = np.where(fired, kept, potential)
        nearest = (reset + (1 << (to_step - 1)) - (reset > 0)) >> to_step  # ties toward zero
        lowest = neuron["lowest"]
        self.codes[name] = nearest.clip(lowest, lowest + neuron["levels"] - 1)
        self.spikes.setdefault(name, []).append(fired)
        return fired, skipped

    def _attention(self, step: dict[str, Any], inputs: list[Integers]) -> Integers:
        samples, height, width, channels = inputs[0].shape
        heads = step["heads"]
        q, k, v = (
            signal.reshape(samples, height * width, heads, channels // heads).transpose(0, 2, 1, 3) for signal in inputs
        )
        sums = ((q @ k.transpose(0, 1, 3, 2)) @ v).transpose(0, 2, 1, 3).reshape(samples, height, width, channels)
        fired, _ = self._fire(step, sums << (step["fraction"] - step["shift"]))
        return fired.astype(np.int64)

    def _readout(self, step: dict[str, Any], inputs: Integers) -> Integers:
        flat = inputs.reshape(len(inputs), -1)  # row, column, channel
        sums = flat @ self._weights(step).T
        self._add_operations(step, np.count_nonzero(flat) * step["classes"])
        offset = np.broadcast_to(self._array(step, "offset"), sums.shape)
        if step["membrane"] is None:
            self.logits = (offset if self.logits is None else self.logits) + sums
            return self.logits
        current = sums + offset
        if self.membranes is not None:  # from the second time step on: rounded to the nearest, halves up
            half = (1 << step["leak_bits"]) // 2
            current = current + ((self.membranes * step["leak"] + half) >> step["leak_bits"])
        self.membranes = current
        before = self.logits if step["membrane"] == "sum" else None
        self.logits = current if before is None else before + current
        return self.logits

    def _count_spikes(self, step: dict[str, Any], inputs: Integers) -> Integers:
        """Add the values of every class's channels, which are neighbours, over all positions."""
        counts = inputs.sum(axis=(1, 2)).reshape(len(inputs), step["classes"], step["votes"]).sum(axis=2)
        self.logits = counts if self.logits is None else self.logits + counts
        return self.logits

    def _count(
        self,
        step: dict[str, Any],
        inputs: Integers,
        opened: NDArray[np.bool_],
        skipped: NDArray[np.bool_] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Count non-zero inputs under the kernel of the outputs of open channels in ``size``, skipped neurons aside."""
        groups = step["groups"]
        present = (inputs != 0).reshape(*inputs.shape[:3], groups, -1).sum(axis=4)
        reached = np.add.reduce([seen for _, _, seen in _under_kernel(present, step)])
        if step["pool"] is not None and step["pool"]["pool"] in BEFORE:
            reached = _pooled(reached, step["pool"] | {"pool": "before"})  # each output of a window is computed
        rows, columns = size or step["positions"]
        reached = reached[:, :rows, :columns]
        per_group = step["out_channels"] // groups
        by_group = opened.reshape(-1, groups, per_group).sum(axis=2)
        total = int((reached.sum(axis=(1, 2)) * by_group).sum())
        if skipped is not None:
            missed = (skipped & opened[:, None, None]).reshape(*skipped.shape[:3], groups, per_group).sum(axis=4)
            total -= int((reached * missed).sum())
        self._add_operations(step, total)

    def _count_shortcut(self, reader: dict[str, Any], values: dict[str, Integers]) -> None:
        """Count the operations of a shortcut where a layer adds its current: of the outputs that the layer takes."""
        for name in reader["inputs"][1:]:
            step = next(step for step in self.model.steps if step["name"] == name)
            if step["kind"] == "shortcut":
                opened = np.ones((len(values[name]), step["out_channels"]), dtype=bool)
                self._count(step, values[step["inputs"][0]], opened, size=tuple(reader["positions"]))

    def _add_operations(self, step: dict[str, Any], count: int) -> None:
        self.operations[step["name"]] = self.operations.get(step["name"], 0) + int(count)


def output_size(step: dict[str, Any], height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of a convolution's output on a map of this size."""
    (rows, columns), (down, right), (before, after, above, below) = step["kernel"], step["stride"], step["padding"]
    return (height + above + below - rows) // down + 1, (width + before + after - columns) // right + 1


def _under_kernel(values: NDArray[Any], step: dict[str, Any]) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield each row and column of a kernel, and the values that lie under it at all outputs."""
    (down, right), (before, after, above, below) = step["stride"], step["padding"]
    rows, columns = output_size(step, *values.shape[1:3])
    padded = np.pad(values, ((0, 0), (above, below), (before, after), (0, 0)))
    for i in range(step["kernel"][0]):
        for j in range(step["kernel"][1]):
            yield i, j, padded[:, i::down, j::right][:, :rows, :columns]


def _pooled(values: Integers, pool: dict[str, Any]) -> Integers:
    """Sum the values under a window, or take the largest of them; padding is 0 to a sum and nothing to a maximum."""
    takes_largest = pool["pool"] in ("max", "max-before")
    (rows, columns), (down, right), (before, after, above, below) = pool["window"], pool["stride"], pool["padding"]
    nothing = np.iinfo(np.int64).min if takes_largest else 0
    padded = np.pad(values, ((0, 0), (above, below), (before, after), (0, 0)), constant_values=nothing)
    height, width = (padded.shape[1] - rows) // down + 1, (padded.shape[2] - columns) // right + 1
    parts = [padded[:, i::down, j::right][:, :height, :width] for i in range(rows) for j in range(columns)]
    return np.asarray(np.maximum.reduce(parts) if takes_largest else np.add.reduce(parts))


# ---------------------------------------------------------------- as a program


def check_vectors(folder: Path) -> tuple[int, int]:
    """Run the folder's test vectors; return how many spikes were compared and how many numbers differ.

    Raises:
        DamagedArtifact: a file is missing or was changed.
    """
    model = Model.load(folder)
    with np.load(folder / VECTORS_FILE) as vectors:
        outputs = model.run(vectors["frames"])
        wrong = int((outputs.logits != vectors["logits"]).sum())
        compared = 0
        for step in model.steps:
            if step["name"] not in outputs.spikes:
                continue
            fired = outputs.spikes[step["name"]]
            expected = np.unpackbits(vectors[f"spikes.{step['identifier']}"], count=fired.size).reshape(fired.shape)
            wrong += int((fired != expected).sum())
            compared += fired.size
    return compared, wrong


if __name__ == "__main__":
    try:
        compared, wrong = check_vectors(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent))
    except DamagedArtifact as error:
        sys.exit(f"{error}")
    print(f"{compared:,} spikes compared, {wrong} numbers differ")
    sys.exit(1 if wrong else 0)
