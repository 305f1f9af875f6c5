"""Seconds a sample: a picked network's C library against PyTorch at batch 1, on one core, and how exact it all is.

spquant-search pick RUN --out FOLDER
benchmarks/inference.py FOLDER [FOLDER ..]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from measurement import as_document
from numpy.typing import NDArray

from spquant_search.deploy.artifact import FLOAT_WEIGHTS_FILE, Artifact, read_artifact
from spquant_search.deploy.c_library import FAST, SMALL, CLibrary, compiler
from spquant_search.deploy.reference import Model
from spquant_search.deploy.weights_file import read_manifest
from spquant_search.runs.files import cache_folder
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, LayerPrecision, NetworkConfig
from spquant_search.space.shapes import InputShape
from spquant_search.training.data_set import load_data

SAMPLES, WARM_UP = 100, 5


def median_ms(run: Callable[[int], object], samples: int) -> float:
    """Return the median milliseconds of a call, one sample each."""
    for index in range(WARM_UP):
        run(index % samples)
    taken = []
    for index in range(samples):
        begun = time.perf_counter()
        run(index)
        taken.append(time.perf_counter() - begun)
    return 1000 * statistics.median(taken)


def in_floats(config: NetworkConfig) -> NetworkConfig:
    """Return the same network's configuration with nothing quantized and nothing omitted."""
    return NetworkConfig(
        time_steps=config.time_steps,
        layers=tuple(
            (
                name,
                LayerPrecision(
                    weight_bits=FLOAT_BITS,
                    membrane_levels=None if precision.membrane_levels is None else FLOAT_MEMBRANE,
                ),
            )
            for name, precision in config.layers
        ),
    )


def pytorch(artifact: Artifact, folder: Path, shape: InputShape, frames: NDArray[np.uint8]) -> Callable[[int], object]:
    """Return a function that runs the float network in fp32 at batch 1, its neurons compiled."""
    network = artifact.network(folder / FLOAT_WEIGHTS_FILE, shape)
    configure(network, in_floats(artifact.config), artifact.neuron)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(index: int) -> object:
        counts = torch.from_numpy(np.array(frames[index])).clamp(max=shape.largest)
        values = counts.to(torch.float32, memory_format=torch.channels_last)
        with torch.inference_mode():
            return network(Spikes(values=values, time_steps=artifact.time_steps, largest=shape.largest)).sum(0).argmax()

    return run


def unrounded_accuracy(
    artifact: Artifact, folder: Path, shape: InputShape, frames: NDArray[np.uint8], labels: NDArray[Any]
) -> float:
    """Return the share of correct classes with a and d as they were before they were rounded."""
    network = artifact.network(folder / FLOAT_WEIGHTS_FILE, shape)
    for layer in searchable_layers(network).values():
        if isinstance(layer, SpikingConv2d | Shortcut):
            layer.affine = lambda scale, divisor, layer=layer: tuple(  # type: ignore[method-assign]
                one.double() for one in layer.real_affine(scale, divisor)
            )
    correct = 0
    for begin in range(0, len(frames), 64):
        batch = torch.from_numpy(np.array(frames[begin : begin + 64])).clamp(max=shape.largest)
        values = batch.transpose(0, 1).flatten(0, 1).to(torch.float32, memory_format=torch.channels_last)
        with torch.inference_mode():
            logits = network(Spikes(values=values, time_steps=artifact.time_steps, largest=shape.largest))
        correct += int((logits.sum(0).argmax(1).numpy() == labels[begin : begin + 64]).sum())
    return correct / len(frames)


def measured(folder: Path, cc: str) -> dict[str, Any]:
    artifact = read_artifact(folder)
    shape = InputShape(**read_manifest(folder)["input"])
    data = load_data(artifact.space(), cache=cache_folder())
    frames, labels = data.test.frames, data.test.labels
    model = Model.load(folder)
    form = model.manifest["network"]
    few = np.array(frames[:SAMPLES])
    with tempfile.TemporaryDirectory() as fast, tempfile.TemporaryDirectory() as small:
        library = CLibrary(folder, form, cc=cc, work=Path(fast), flags=FAST)
        compact = CLibrary(folder, form, cc=cc, work=Path(small), flags=SMALL)
        torch_ms = median_ms(pytorch(artifact, folder, shape, few), SAMPLES)
        c_ms = median_ms(lambda index: library.run(few[index : index + 1], keep_spikes=False), SAMPLES)
        small_ms = median_ms(lambda index: compact.run(few[index : index + 1], keep_spikes=False), SAMPLES)
        predicted = np.concatenate(
            [
                library.run(np.array(frames[begin : begin + 64]), keep_spikes=False).logits.argmax(axis=1)
                for begin in range(0, len(frames), 64)
            ]
        )
    accuracy = float((predicted == labels).mean())
    unrounded = unrounded_accuracy(artifact, folder, shape, frames, labels)
    return {
        "folder": folder.name,
        "trial": artifact.trial,
        "weight_bits": [precision.weight_bits for _, precision in artifact.config.layers],
        "pytorch_ms": torch_ms,
        "c_fast_ms": c_ms,
        "c_small_ms": small_ms,
        "c_speedup": torch_ms / c_ms,
        "test_samples": len(frames),
        "accuracy": accuracy,
        "accuracy_unrounded": unrounded,
        "rounding_points": 100 * (accuracy - unrounded),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="what pick wrote")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cc = compiler()
    if cc is None:
        parser.error("there is no C compiler")
    torch.set_num_threads(1)
    rows = [measured(folder, cc) for folder in options.folders]
    figures = {
        "c_speedup": rows[0]["c_speedup"],
        "rounding_points": statistics.mean(row["rounding_points"] for row in rows),
    }
    if options.json:
        print(json.dumps(as_document(rows, figures), indent=1))
        return
    for row in rows:
        print(
            f"{row['folder']}: PyTorch {row['pytorch_ms']:.2f} ms, C {row['c_fast_ms']:.2f} ms "
            f"(small {row['c_small_ms']:.2f} ms), {row['c_speedup']:.1f}x; {100 * row['accuracy']:.2f} %, "
            f"{row['rounding_points']:+.2f} points by rounding"
        )
    print(figures)


if __name__ == "__main__":
    main()
