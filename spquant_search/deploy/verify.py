"""Compare a deployed network in PyTorch, in numpy and in C: spike for spike, on the test split."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.artifact import FLOAT_WEIGHTS_FILE, Artifact
from spquant_search.deploy.c_library import (
    FAST,
    CLibrary,
    CompilerFailed,
    ObjectSize,
    compiler,
    device_compiler,
    object_size,
    refusal,
)
from spquant_search.deploy.c_names import CNames
from spquant_search.deploy.comparison import Comparison, Mismatch, compare, whole_logits
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.deploy.reference import Model
from spquant_search.deploy.vectors import at_time_steps
from spquant_search.space.shapes import InputShape

BATCH = 64


@dataclass(slots=True)
class Verification:
    """The result of a comparison. Accuracies are fractions; test vectors have no labels and so no accuracies."""

    samples: int = 0
    of_test_split: bool = True
    spikes: int = 0  # compared with each other implementation
    mismatches: dict[str, int] = field(default_factory=dict)  # by implementation, against numpy
    first: Mismatch | None = None
    correct: dict[str, int] | None = None
    synaptic_ops: float = 0.0  # a sample, as the front defines them
    executed_ops: float | None = None  # a sample, in C
    sizes: list[ObjectSize] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compiles: bool = True  # also where no compiler works
    paths: dict[str, dict[str, str]] = field(default_factory=dict)  # of layers in C, as the manifest has them

    @property
    def holds(self) -> bool:
        """Tell whether the C library compiles and all implementations agree."""
        return self.compiles and not any(self.mismatches.values())

    def accuracy(self, implementation: str) -> float | None:
        """Return the fraction of samples that an implementation classifies correctly; None without labels."""
        return None if self.correct is None else self.correct[implementation] / max(self.samples, 1)


def verify(
    folder: Path,
    artifact: Artifact,
    frames: NDArray[np.uint8],
    labels: NDArray[Any] | None,
    *,
    shape: InputShape,
    flags: Sequence[str] = FAST,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Compare the implementations on frames [sample, time or 1, channel, row, column], batch by batch.

    Of frames of more time steps than the network's PyTorch is shown sums, as in the search; numpy and C are shown the
    frames that a device makes. The C library is compiled with ``flags``.

    Raises:
        DamagedArtifact: the folder's files are not those that were written.
    """
    model = Model.load(folder)
    network = artifact.network(folder / FLOAT_WEIGHTS_FILE, shape)
    form = model.manifest["network"]
    found = Verification(of_test_split=labels is not None, paths=model.manifest.get("paths", {}))
    with tempfile.TemporaryDirectory() as temporary:
        library = _library(folder, model.manifest, Path(temporary), found, flags)
        names = ["PyTorch", "numpy", *(["C"] if library else [])]
        found.mismatches = {name: 0 for name in names if name != "numpy"}
        found.correct = None if labels is None else dict.fromkeys(names, 0)
        operations = executed = 0
        for begin in range(0, len(frames), BATCH):
            searched = np.asarray(frames[begin : begin + BATCH])
            in_pytorch = run_in_pytorch(network, searched, form)
            batch = at_time_steps(searched, artifact.time_steps)
            expected = model.run(batch)
            predictions = {"numpy": expected.predictions, "PyTorch": in_pytorch.logits.argmax(axis=1)}
            logits = whole_logits(in_pytorch, form["steps"][-1]["unit"])
            _add(found, "PyTorch", compare("PyTorch", expected, in_pytorch.spikes, logits, first_sample=begin))
            if library:
                in_c = library.run(batch)
                executed += in_c.operations
                predictions["C"] = in_c.logits.argmax(axis=1)
                _add(found, "C", compare("C", expected, in_c.spikes, in_c.logits, first_sample=begin))
            operations += sum(expected.operations.values())
            found.samples += len(batch)
            found.spikes += sum(fired.size for fired in expected.spikes.values())
            _count_correct(found, predictions, None if labels is None else labels[begin : begin + BATCH])
            progress(found.samples, len(frames))
        found.synaptic_ops = operations / max(found.samples, 1)
        found.executed_ops = executed / max(found.samples, 1) if library else None
        found.sizes = list(_sizes(folder, CNames.of(model.manifest), Path(temporary), found))
    return found


def _library(
    folder: Path, manifest: dict[str, Any], work: Path, found: Verification, flags: Sequence[str]
) -> CLibrary | None:
    cc = compiler()
    if cc is None:
        found.notes.append("C was not run: there is no C compiler here; install one, or name it in $CC")
        return None
    try:
        names = CNames.of(manifest)
        return CLibrary(folder, manifest["network"], cc=cc, work=work, flags=flags, names=names)
    except CompilerFailed as error:
        words = refusal(cc, work)
        found.notes.append(f"C was not run: {words or error}")
        found.compiles = words is not None
        return None


def _add(found: Verification, name: str, compared: Comparison) -> None:
    found.mismatches[name] += compared.wrong
    found.first = found.first or compared.first


def _count_correct(found: Verification, predictions: dict[str, NDArray[Any]], labels: NDArray[Any] | None) -> None:
    if found.correct is not None and labels is not None:
        for name, predicted in predictions.items():
            found.correct[name] += int((predicted == labels).sum())


def _sizes(folder: Path, names: CNames, work: Path, found: Verification) -> Iterator[ObjectSize]:
    cc, device = compiler(), device_compiler()
    for tool in ((cc, ()) if cc else None, device):
        if tool is None:
            continue
        name, flags = tool
        try:
            yield object_size(folder, cc=name, work=work, flags=flags, names=names)
        except (CompilerFailed, OSError) as error:
            found.notes.append(f"not measured with {name}: {error}")
    if device is None:
        found.notes.append("not measured for a Cortex-M4: arm-none-eabi-gcc is not installed")
