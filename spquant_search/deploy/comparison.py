"""Find where two implementations of a network differ, in spikes or logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.names import readable
from spquant_search.deploy.pytorch_run import PytorchOutputs
from spquant_search.deploy.reference import ModelOutputs


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first place where two implementations differ."""

    between: str
    layer: str  # or "logits"
    sample: int
    where: str

    def __str__(self) -> str:
        return f"{self.between}: {readable(self.layer)}, sample {self.sample}, {self.where}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many spikes and logits of an implementation differ from numpy's, and the first that does."""

    wrong: int
    first: Mismatch | None


def whole_logits(outputs: PytorchOutputs, unit: float) -> NDArray[np.int64]:
    """Return PyTorch's logits in whole numbers of ``unit``, as numpy and C have them."""
    return np.rint(outputs.logits / unit).astype(np.int64)


def compare(
    name: str,
    expected: ModelOutputs,
    spikes: Mapping[str, NDArray[np.bool_]],
    logits: NDArray[np.int64],
    *,
    first_sample: int = 0,
) -> Comparison:
    """Compare what the implementation ``name`` gives with what numpy gives.

    Spikes are by layer, [sample, time, row, column, channel]; ``first_sample`` is the number of the first of them.
    """
    total = 0
    first: Mismatch | None = None
    for layer, fired in expected.spikes.items():
        wrong = fired != spikes[layer]
        total += int(wrong.sum())
        if first is None and wrong.any():
            sample, t, row, column, channel = (int(index) for index in np.argwhere(wrong)[0])
            where = f"time step {t}, channel {channel}, row {row}, column {column}"
            first = Mismatch(f"numpy and {name}", layer, first_sample + sample, where)
    wrong = logits != expected.logits
    total += int(wrong.sum())
    if first is None and wrong.any():
        sample, label = (int(index) for index in np.argwhere(wrong)[0])
        first = Mismatch(f"numpy and {name}", "logits", first_sample + sample, f"class {label}")
    return Comparison(total, first)
