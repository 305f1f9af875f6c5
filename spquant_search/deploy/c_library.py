"""Compile the C library of a deployed network, run it on samples, and measure its size for a device."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.c_names import CNames

STANDARD = ("-std=c99",)
QUICK = ("-O1",)  # to compile, for a few samples
FAST = ("-O3", "-march=native")
SMALL = ("-Os", "-fno-pie")  # position-independent code would keep tables of addresses in RAM
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb")
ARM_COMPILER = "arm-none-eabi-gcc"
_MOST_LINES = 12  # of what a compiler says
_FAST_FALLBACK = ("-O3",)  # for compilers that know no -march=native

# Runs samples one after another and keeps the spikes of all layers and time steps in the order of computation.
_HARNESS = """\
#include <string.h>
#include "model.h"
static uint8_t *at;
static void keep(int layer, const uint8_t *spikes, uint32_t bytes)
{
    (void)layer;
    memcpy(at, spikes, bytes);
    at += bytes;
}
void run_samples(const uint8_t *frames, int samples, int frames_each, uint8_t *spikes, int32_t *logits)
{
    const int size = SPQ_HEIGHT * SPQ_WIDTH * SPQ_CHANNELS;
    int sample, t;
    at = spikes;
    spq_trace = spikes ? keep : 0;
    for (sample = 0; sample < samples; ++sample) {
        spq_reset();
        for (t = 0; t < SPQ_TIME_STEPS; ++t)
            spq_step(frames + (size_t)(sample * frames_each + (frames_each > 1 ? t : 0)) * (size_t)size);
        memcpy(logits + sample * SPQ_CLASSES, spq_logits(), sizeof(int32_t) * SPQ_CLASSES);
    }
}
"""


class CompilerFailed(Exception):
    """The compiler refused the library; the message is the compiler's."""


def compiler() -> str | None:
    """Return the command of $CC or of a C compiler of this machine, quoted for a shell; None where there is none.

    $CC may have arguments, as "ccache gcc" has. What cannot be started fails where it is used, and is named there.
    """
    if named := os.environ.get("CC", "").strip():
        name, *arguments = [named] if shutil.which(named) else _words(named)  # a path may have a blank
        return shlex.join([shutil.which(name) or name, *arguments])
    return next((shlex.quote(found) for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation mark that is not closed
        return [command]


def _compile(arguments: Sequence[str]) -> None:
    try:
        answer = subprocess.run(list(arguments), capture_output=True, text=True, check=False)
    except OSError as error:
        named = f" ($CC is {os.environ['CC']})" if os.environ.get("CC") else ""
        raise CompilerFailed(f"{arguments[0]} cannot be started: {error.strerror}{named}") from None
    if answer.returncode:
        lines = answer.stderr.strip().splitlines()
        more = [f"... and {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
        words = "\n".join(lines[:_MOST_LINES] + more) or f"exit code {answer.returncode}"
        raise CompilerFailed(f"{arguments[0]} failed: {words}")


def refusal(cc: str, work: Path) -> str | None:
    """Return what keeps a compiler from making any library at all, such as a missing header; None if nothing does."""
    source, library = work / "nothing.c", work / "nothing.so"
    source.write_text("#include <stdint.h>\n#include <string.h>\nuint8_t nothing;\n", encoding="utf-8")
    try:
        _compile([*shlex.split(cc), *STANDARD, "-shared", "-fPIC", "-o", str(library), str(source)])
        _load(library)
    except CompilerFailed as error:
        return f"the C compiler does not work here: {error}"
    return None


def _load(library: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CompilerFailed(f"what it made cannot be loaded: {error}") from None


@dataclass(frozen=True, slots=True)
class COutputs:
    """The logits and spikes of some samples, and how many synaptic operations the program executed for all of them."""

    logits: NDArray[np.int64]  # [sample, class]
    spikes: dict[str, NDArray[np.bool_]]  # by layer: [sample, time, row, column, channel]
    operations: int


class CLibrary:
    """The library of the sources in ``folder``, compiled in the folder ``work`` and loaded into this process.

    Raises:
        CompilerFailed: it does not compile, or cannot be loaded.
    """

    def __init__(
        self,
        folder: Path,
        network: dict[str, Any],
        *,
        cc: str,
        work: Path,
        flags: Sequence[str] = FAST,
        names: CNames | None = None,
    ) -> None:
        names = names or CNames()
        self._steps = [step for step in network["steps"] if "neuron" in step]
        self._time_steps = network["time_steps"]
        self._classes = network["steps"][-1]["classes"]
        harness, library = work / "harness.c", work / "model.so"
        harness.write_text(names.renamed(_HARNESS), encoding="utf-8")
        options = (f"-I{folder}", "-shared", "-fPIC", "-o", str(library), str(folder / names.source), str(harness))

        def compiled(flags: Sequence[str]) -> None:
            macros = (names.renamed(flag) for flag in (*flags, "-DSPQ_TRACE", "-DSPQ_COUNT"))
            _compile([*shlex.split(cc), *STANDARD, *macros, *options])

        try:
            compiled(flags)
        except CompilerFailed:
            if flags != FAST:
                raise
            compiled(_FAST_FALLBACK)
        self._library = _load(library)
        self._operations = ctypes.c_uint64.in_dll(self._library, names.renamed("spq_synaptic_ops"))

    def run(self, frames: NDArray[np.uint8], *, keep_spikes: bool = True) -> COutputs:
        """Run samples [sample, time or 1, channel, row, column]; without ``keep_spikes`` none are returned."""
        samples, frames_each = frames.shape[:2]
        channels_last = np.ascontiguousarray(frames.transpose(0, 1, 3, 4, 2))
        shapes = [(*step["positions"], step["out_channels"]) for step in self._steps]
        sizes = [height * width * -(-channels // 8) for height, width, channels in shapes]
        spikes = np.zeros((samples, self._time_steps, sum(sizes) if keep_spikes else 0), dtype=np.uint8)
        logits = np.zeros((samples, self._classes), dtype=np.int32)
        before = self._operations.value
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (channels_last, spikes, logits)]
        to_spikes = pointers[1] if keep_spikes else None
        self._library.run_samples(pointers[0], samples, frames_each, to_spikes, pointers[2])
        by_layer: dict[str, NDArray[np.bool_]] = {}
        begin = 0
        for step, (height, width, channels), size in zip(self._steps, shapes, sizes, strict=True):
            if not keep_spikes:
                break
            packed = spikes[:, :, begin : begin + size].reshape(samples, self._time_steps, height, width, -1)
            bits = np.unpackbits(packed, axis=4, count=channels, bitorder="big")
            by_layer[step["name"]] = bits.astype(bool)
            begin += size
        return COutputs(logits.astype(np.int64), by_layer, self._operations.value - before)


def packed_spikes(spikes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return spikes [sample, time, row, column, channel] as a library's trace gives them, channels in whole bytes."""
    return np.packbits(spikes, axis=4, bitorder="big")


@dataclass(frozen=True, slots=True)
class ObjectSize:
    """Bytes of the compiled library, as the program ``size`` reports them."""

    compiler: str
    text: int  # code and read-only numbers
    data: int  # initialized memory
    bss: int  # memory that starts at zero

    @property
    def flash(self) -> int:
        return self.text + self.data

    @property
    def ram(self) -> int:
        return self.data + self.bss


def object_size(
    folder: Path, *, cc: str, work: Path, flags: Sequence[str] = (), names: CNames | None = None
) -> ObjectSize:
    """Compile the library for the smallest size, and measure it.

    Raises:
        CompilerFailed: it does not compile.
        FileNotFoundError: there is no ``size``.
    """
    target, source = work / "model.o", folder / (names or CNames()).source
    _compile([*shlex.split(cc), *STANDARD, *SMALL, *flags, "-c", str(source), f"-I{folder}", "-o", str(target)])
    first, *others = shlex.split(cc)
    is_arm = any(Path(word).name.startswith("arm-none-eabi") for word in (first, *others))
    tool = "arm-none-eabi-size" if is_arm else "size"
    answer = subprocess.run([tool, str(target)], capture_output=True, text=True, check=True)
    text, data, bss = (int(word) for word in answer.stdout.splitlines()[1].split()[:3])
    return ObjectSize(compiler=" ".join([Path(first).name, *others]), text=text, data=data, bss=bss)


def device_compiler() -> tuple[str, tuple[str, ...]] | None:
    """Find the compiler for a Cortex-M4; return it with its flags, or None where it is not installed."""
    found = shutil.which(ARM_COMPILER)
    return None if found is None else (shlex.quote(found), CORTEX_M4)
