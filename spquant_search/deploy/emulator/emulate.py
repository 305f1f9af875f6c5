"""Compare a deployed network in numpy with its C on an emulated processor, and measure that."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.c_library import CompilerFailed, packed_spikes
from spquant_search.deploy.c_names import CNames
from spquant_search.deploy.comparison import Mismatch
from spquant_search.deploy.emulator.building import OPTIMIZED, Program, build
from spquant_search.deploy.emulator.results import Layout, Results
from spquant_search.deploy.emulator.running import PATIENCE_SECONDS, Emulator, Misbehaved
from spquant_search.deploy.emulator.targets import Target
from spquant_search.deploy.emulator.tools import Tools
from spquant_search.deploy.reference import Model, ModelOutputs

BATCH = 16  # samples of one start of the emulator
COMPARED = ("checksums", "logits", "classes")


@dataclass(slots=True)
class Emulation:
    """The result of an emulation; its figures mean something only where ``holds``."""

    target: Target
    tools: Tools
    layer_names: tuple[str, ...]
    time_steps: int
    samples: int = 0
    of_test_split: bool = True
    correct: int | None = None  # test vectors have no labels
    compared: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMPARED, 0))
    mismatches: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMPARED, 0))
    first: Mismatch | None = None
    failure: str | None = None  # what kept the program from its end
    instructions: list[float] = field(default_factory=list)  # of each sample
    traced: list[NDArray[np.float64]] = field(default_factory=list)  # the same of [layer and the rest], with SPQ_TRACE
    flash: int = 0  # of the library
    ram: int = 0
    stack: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the flags of gcc that decide about instructions and bytes."""
        return (*self.target.flags, *OPTIMIZED)

    @property
    def holds(self) -> bool:
        """Tell whether the program ran to its end, and all that it gave is what numpy gives."""
        return self.failure is None and not any(self.mismatches.values())

    @property
    def accuracy(self) -> float | None:
        """Return the fraction of samples that were classified correctly; None without labels."""
        return None if self.correct is None else self.correct / max(self.samples, 1)

    @property
    def mean_instructions(self) -> float:
        """Return the instructions of a sample, as a user builds the library."""
        return float(np.mean(self.instructions)) if self.instructions else 0.0

    @property
    def layers(self) -> dict[str, float]:
        """Return the instructions a sample of each layer with neurons, in a build with SPQ_TRACE."""
        return dict(zip(self.layer_names, self._traced_means, strict=False))

    @property
    def rest(self) -> float:
        """Return those of what follows the last such layer, the readout at least."""
        return self._traced_means[-1] if self.traced else 0.0

    @property
    def _traced_means(self) -> list[float]:
        return [float(mean) for mean in np.mean(self.traced, axis=0)] if self.traced else []


@dataclass(frozen=True, slots=True)
class _Build:
    """A program, what it writes, and the emulator that runs it."""

    emulator: Emulator
    program: Program
    layout: Layout

    def run(self, frames: NDArray[np.uint8], progress: Callable[[int], None]) -> Results:
        samples = len(frames)
        written = self.emulator.run(
            self.program,
            frames,
            result_bytes=self.layout.bytes_of(samples),
            progress=lambda size: progress(self.layout.samples_in(size)),
        )
        progress(samples)
        return self.layout.read(written, samples)


def emulate(
    folder: Path,
    target: Target,
    frames: NDArray[np.uint8],
    labels: NDArray[Any] | None,
    *,
    tools: Tools,
    patience: float = PATIENCE_SECONDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Emulation:
    """Run frames [sample, time or 1, channel, row, column] of the network's own time steps in numpy and the emulator.

    The library is built twice: with SPQ_TRACE, for the layers' checksums and instructions, and without, for the rest.

    Raises:
        DamagedArtifact: the folder's files are not those that were written.
        UserError: a tool does not work, or the program does not fit into the target's memory.
    """
    emulator = Emulator(target, tools, patience)
    model = Model.load(folder)
    names = tuple(step["name"] for step in model.steps if "neuron" in step)
    found = Emulation(target, tools, names, model.manifest["network"]["time_steps"])
    found.of_test_split, found.correct = labels is not None, None if labels is None else 0
    with tempfile.TemporaryDirectory() as temporary:
        try:
            frame_bytes = int(np.prod(frames.shape[2:]))
            traced, plain = _builds(folder, model, emulator, frame_bytes=frame_bytes, work=Path(temporary))
            found.flash, found.ram = plain.program.library_flash, plain.program.library_ram
            for begin in range(0, len(frames), BATCH):
                batch = np.asarray(frames[begin : begin + BATCH])
                # What traces runs first: it names the layer that differs.
                classes = _run_batch(found, model, (traced, plain), batch, lambda done: progress(done, 2 * len(frames)))
                if found.correct is not None and labels is not None:
                    found.correct += int((classes == labels[begin : begin + BATCH]).sum())
        except (CompilerFailed, Misbehaved) as error:
            found.failure = str(error)
    return found


def _builds(folder: Path, model: Model, emulator: Emulator, *, frame_bytes: int, work: Path) -> tuple[_Build, _Build]:
    """Build the library with SPQ_TRACE and without; the latter comes first, as it shows what a user's build needs."""
    network, builds = model.manifest["network"], []
    for name, traced in (("plain", False), ("traced", True)):
        layout = Layout.of(network, emulator.target, frame_bytes=frame_bytes, traced=traced)
        built = partial(build, folder, CNames.of(model.manifest), emulator.target, emulator.tools)
        program = built(work=work / name, traced_layers=layout.traced_layers)
        builds.append(_Build(emulator, program, layout))
    plain, traced_build = builds
    return traced_build, plain


def _run_batch(
    found: Emulation,
    model: Model,
    builds: tuple[_Build, ...],
    frames: NDArray[np.uint8],
    progress: Callable[[int], None],
) -> NDArray[np.int64]:
    """Run samples in numpy and in each build, add up what is found, and return the classes that were emulated."""
    expected = model.run(frames)
    done = len(builds) * found.samples
    for build_ in builds:
        results = build_.run(frames, partial(_progress_from, done, progress))
        done += len(frames)
        if results.checksums is not None:
            _compare_checksums(found, expected, results.checksums)
        _compare_numbers(found, "logits", expected.logits, results.logits)
        _compare_numbers(found, "classes", expected.predictions[:, None], results.classes[:, None])
        if results.instructions is not None:
            found.instructions += results.instructions.tolist()
            found.stack = max(found.stack, results.stack)
        if results.layers is not None:
            found.traced += list(results.layers.sum(axis=1))
    found.samples += len(frames)
    return results.classes


def _progress_from(before: int, progress: Callable[[int], None], samples: int) -> None:
    progress(before + samples)


def _compare_checksums(found: Emulation, expected: ModelOutputs, checksums: NDArray[np.uint32]) -> None:
    """Compare the checksums of every layer's spikes in each time step."""
    wanted = np.empty_like(checksums)
    for layer, name in enumerate(found.layer_names):
        for sample, time_steps in enumerate(packed_spikes(expected.spikes[name])):
            wanted[sample, :, layer] = [zlib.crc32(spikes.tobytes()) for spikes in time_steps]
    wrong = wanted != checksums
    found.compared["checksums"] += wrong.size
    found.mismatches["checksums"] += int(wrong.sum())
    if found.first is None and wrong.any():
        sample, t, layer = (int(index) for index in np.argwhere(wrong)[0])
        found.first = _mismatch(found, found.layer_names[layer], sample, f"time step {t}")


def _compare_numbers(found: Emulation, what: str, wanted: NDArray[np.int64], given: NDArray[np.int64]) -> None:
    wrong = wanted != given
    found.compared[what] += wrong.size
    found.mismatches[what] += int(wrong.sum())
    if found.first is None and wrong.any():
        sample, number = (int(index) for index in np.argwhere(wrong)[0])
        where = f"class {number}" if what == "logits" else f"class {given[sample, 0]} instead of {wanted[sample, 0]}"
        found.first = _mismatch(found, what, sample, where)


def _mismatch(found: Emulation, what: str, sample: int, where: str) -> Mismatch:
    return Mismatch(f"numpy and {found.target.words}", what, found.samples + sample, where)
