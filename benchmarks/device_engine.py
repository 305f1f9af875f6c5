"""Instructions of the C engine on an emulated Cortex-M4, beside those of the engine before it had a fast path.

    .venv/bin/python benchmarks/device_engine.py PICKED...            # folders that `spquant-search pick` wrote
    .venv/bin/python benchmarks/device_engine.py --layers PICKED      # layer by layer, with what may be expected
    .venv/bin/python benchmarks/device_engine.py --host PICKED...     # on this machine, under valgrind

It takes qemu-system-arm and arm-none-eabi-gcc. Under `-icount shift=0` an instruction takes 1 ns of the emulator's
time, which is equal from run to run. Instructions are not cycles: wait states and latencies are not in them. A sample
is the mean of the folder's test vectors, its reset included, and both engines must give numpy's logits. The engine
before is `engine_before/engine.c`, with the same numbers; on the host it is compiled with -DSPQ_FAST, as it was there.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measurement import markdown_table
from numpy.typing import NDArray

from spquant_search.costs.fast_path import Form
from spquant_search.deploy.c_source import c_source
from spquant_search.deploy.fast_layers import Paths, form_of, paths_of
from spquant_search.deploy.reference import Model, ModelOutputs

BEFORE = Path(__file__).with_name("engine_before")
DEVICE = BEFORE / "device"
INSTRUCTIONS_A_TICK = 40
CORTEX_M4 = ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb")
QEMU = ("qemu-system-arm", "-M", "mps2-an386", "-icount", "shift=0", "-nographic")
QEMU += ("-semihosting-config", "enable=on,target=native", "-kernel")
_CALLS = r"(?m)^    ((?:first_layer|fast_convolution|convolution|readout)\(&\w+\);)$"
# What a layer may take, beside 5 (of 8 bits: 7) instructions for each event that is gathered and each of its channels.
A_NEURON, A_POSITION = 20, 120


@dataclass(frozen=True, slots=True)
class Engine:
    """The sources of one engine for a member, and how a compiler is called for it."""

    source: str
    header: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """Instructions of a sample and of its layers, and the bytes of the object file."""

    sample: float
    layers: tuple[float, ...]
    flash: int
    ram: int


def engines(folder: Path) -> tuple[Engine, Engine, Model]:
    """Return the engine before and this one for a member, and the member."""
    model = Model.load(folder)
    weights, header = (folder / "weights.bin").read_bytes(), (folder / "model.h").read_text()
    text = (BEFORE / "engine.c").read_text()
    before = c_source(model, weights, paths=Paths({}, {}, 0), engine=text).source
    return Engine(before, header), Engine(c_source(model, weights).source, header), model


def frames_header(frames: NDArray[np.uint8]) -> str:
    """Return the test vectors as a C header, channels last."""
    last = frames.transpose(0, 1, 3, 4, 2)
    rows = ",\n".join(
        "{" + ",".join("{" + ",".join(map(str, f.ravel())) + "}" for f in sample) + "}" for sample in last
    )
    sizes = f"[{last.shape[0]}][{last.shape[1]}][{last[0, 0].size}]"
    return f"#define SAMPLES {len(last)}\nstatic const uint8_t frames{sizes} = {{{rows}}};\n"


def _run(command: list[str]) -> str:
    # qemu writes what the device says to its standard error.
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if answer.returncode:
        sys.exit(f"{' '.join(command)}\n{answer.stdout}")
    return answer.stdout


def _write(engine: Engine, frames: NDArray[np.uint8], work: Path, *, by_layer: bool) -> list[str]:
    """Write the sources of a program; return the compiler's arguments for them."""
    source, calls = engine.source, len(re.findall(_CALLS, engine.source))
    arguments = ["-std=c99", f"-I{work}", *engine.flags]
    if by_layer:
        numbers = iter(range(calls))
        source = re.sub(_CALLS, lambda found: f"layer_starts(); {found[1]} layer_ends({next(numbers)});", source)
        source = "void layer_starts(void);\nvoid layer_ends(int layer);\n" + source
        arguments.append(f"-DSPQ_LAYERS={calls}")
    (work / "model.c").write_text(source)
    (work / "model.h").write_text(engine.header)
    (work / "frames.h").write_text(frames_header(frames))
    return arguments


def _check(lines: str, expected: ModelOutputs | None) -> list[int]:
    """Hold the logits that a program wrote against numpy's, where there are any; return the ticks of its samples."""
    numbers = [[int(word) for word in line.split()[1:]] for line in lines.splitlines() if line.startswith("sample")]
    logits = np.array([line[1:] for line in numbers], dtype=np.uint32).astype(np.int32)
    if expected is not None and not np.array_equal(logits, expected.logits):
        sys.exit(f"{(logits != expected.logits).sum()} logits differ from numpy's")
    return [line[0] for line in numbers]


def on_device(engine: Engine, frames: NDArray[np.uint8], expected: ModelOutputs | None, *, optimize: str) -> Measured:
    """Run a member on the emulated device."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        found: list[list[int]] = []
        for by_layer in (False, True):
            arguments = _write(engine, frames, work, by_layer=by_layer)
            sources = [str(path) for path in (DEVICE / "start.c", DEVICE / "main.c", work / "model.c")]
            link = ["-nostartfiles", "-T", str(DEVICE / "link.ld"), "-lc", "-lgcc", "-o", str(work / "program.elf")]
            _run([*CORTEX_M4, optimize, *arguments, *sources, *link])
            lines = _run([*QEMU, str(work / "program.elf")])
            ticks = _check(lines, expected)
            layers = [int(line.split()[1]) for line in lines.splitlines() if line.startswith("layer")]
            found.append(layers if by_layer else ticks)
        arguments = _write(engine, frames, work, by_layer=False)
        _run([*CORTEX_M4, optimize, *arguments, "-c", str(work / "model.c"), "-o", str(work / "model.o")])
        text, data, bss = map(int, _run(["arm-none-eabi-size", str(work / "model.o")]).splitlines()[1].split()[:3])
    samples = INSTRUCTIONS_A_TICK / len(frames)
    return Measured(sum(found[0]) * samples, tuple(ticks * samples for ticks in found[1]), text + data, data + bss)


def on_host(engine: Engine, frames: NDArray[np.uint8], expected: ModelOutputs, *, march: str) -> float:
    """Return the instructions of a sample on this machine, without those of a program that runs none."""
    counted = []
    for some in (frames, frames[:1]):
        with tempfile.TemporaryDirectory() as temporary:
            work = Path(temporary)
            arguments = _write(engine, some, work, by_layer=False)
            sources = [str(DEVICE / "main.c"), str(work / "model.c")]
            _run(["gcc", "-O3", f"-march={march}", "-DHOST", *arguments, *sources, "-o", str(work / "program")])
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={work}/out", str(work / "program")]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            if some is frames:
                _check(answer.stdout, expected)
            (line,) = re.findall(r"Collected : (\d+)", answer.stderr)
            counted.append(int(line))
    return (counted[0] - counted[1]) / (len(frames) - 1)


def bounds(model: Model, frames: NDArray[np.uint8], outputs: ModelOutputs) -> list[float]:
    """Return what the convolutions of a member may take, in the order of their calls."""
    by_name = {step["name"]: step for step in model.steps}
    found = []
    for step in model.steps:
        if step["kind"] != "convolution":
            continue
        form = form_of(step, by_name)
        seen = np.minimum(frames.transpose(0, 1, 3, 4, 2), step["largest"])
        inputs = outputs.spikes.get(step["inputs"][0], seen).astype(np.int64)
        events = _events(inputs.reshape(-1, *inputs.shape[2:]), form) / len(frames)
        steps = outputs.spikes[step["name"]].shape[1] * int(np.prod(form.positions))
        each = 7 if step["weight_bits"] == 8 else 5
        found.append(
            events * step["out_channels"] * each + A_NEURON * steps * step["out_channels"] + A_POSITION * steps
        )
    return found


def _events(values: NDArray[np.int64], form: Form) -> float:
    """Return how many events all kernels gather: inputs that are not zero, or the bits of 2x2 sums that are set."""
    rows, columns = form.positions
    padded = np.pad(values, ((0, 0), (1, 2), (1, 2), (0, 0)))
    down = 1
    if form.pools:
        down = 2
        padded = padded[:, :-1, :-1] + padded[:, 1:, :-1] + padded[:, :-1, 1:] + padded[:, 1:, 1:]
        present = sum(padded >> bit & 1 for bit in range(3)).sum(axis=3)
    else:
        present = (padded != 0).sum(axis=3)
    taken = [present[:, i::down, j::down][:, :rows, :columns].sum() for i in range(3) for j in range(3)]
    return float(sum(taken))


def _layer_rows(after: Measured, before: Measured, model: Model, limits: list[float]) -> list[list[str]]:
    names = [step["name"] for step in model.steps if step["kind"] in ("convolution", "readout")]
    paths, rows = paths_of(model), []
    for index, name in enumerate(names):
        layer = paths.fast.get(name)
        limit = limits[index] if index < len(limits) else None
        share = "" if limit is None else f"{after.layers[index] / limit:.2f}"
        kind = "" if layer is None else f"{layer.kind}, {layer.neurons}"
        rows.append([name, kind, f"{before.layers[index]:,.0f}", f"{after.layers[index]:,.0f}", share])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("members", nargs="+", type=Path)
    parser.add_argument("--layers", action="store_true", help="a table of each member's layers")
    parser.add_argument("--host", action="store_true", help="on this machine instead")
    parser.add_argument("--march", default="x86-64", help="of the host's compiler")
    parser.add_argument("--optimize", default="-O2", help="of the device's compiler")
    parser.add_argument("--open", action="store_true", help="also with gates open, which gives other logits")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, ratios, document = [], [], []
    for folder in options.members:
        before, after, model = engines(folder)
        with np.load(folder / "test_vectors.npz") as vectors:
            frames = vectors["frames"]
        outputs = model.run(frames)
        if options.host:
            fast = Engine(before.source, before.header, ("-DSPQ_FAST",))
            counts = [on_host(engine, frames, outputs, march=options.march) for engine in (fast, after)]
            rows.append([folder.name, *(f"{count / 1e6:.2f}" for count in counts), f"{counts[0] / counts[1]:.2f}"])
            ratios.append(counts[0] / counts[1])
            continue
        old, new = (on_device(engine, frames, outputs, optimize=options.optimize) for engine in (before, after))
        ratios.append(old.sample / new.sample)
        small = [on_device(engine, frames, outputs, optimize="-Os") for engine in (before, after)]
        row: list[Any] = [folder.name, f"{old.sample / 1e6:.2f}", f"{new.sample / 1e6:.2f}", f"{ratios[-1]:.2f}"]
        row += [f"{small[0].flash:,} -> {small[1].flash:,}", f"{small[0].ram:,} -> {small[1].ram:,}"]
        row.append(f"{small[1].sample / 1e6:.2f}")
        if options.open:
            forced = Engine(after.source, after.header, ("-DSPQ_FORCE_OPEN",))
            opened = on_device(forced, frames, None, optimize=options.optimize)
            row.append(f"{opened.sample / 1e6:.2f}")
        rows.append(row)
        limits = bounds(model, frames, outputs)
        document.append({"member": folder.name, "before": old.layers, "after": new.layers, "bounds": limits})
        if options.layers:
            print(f"\n{folder.name}\n")
            headings = ["layer", "path", "before", "now", "of its bound"]
            print("\n".join(markdown_table(headings, _layer_rows(new, old, model, limits), text_columns=2)))
    if options.json:
        print(json.dumps(document))
    headings = ["member", "before, millions", "now", "ratio"]
    if not options.host:
        headings += ["flash at -Os", "RAM", "now at -Os, millions", *(["gates open, millions"] if options.open else [])]
    print("\n".join(markdown_table(headings, rows)))
    print(f"\nmedian ratio {statistics.median(ratios):.2f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    main()
