"""Export a trained network to files: manifest, packed weights, test vectors, numpy reference, C library, and a README.

The same network and the same frames always give the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from spquant_search import __version__
from spquant_search.deploy.c_source import CSource, c_source
from spquant_search.deploy.integer_form import IntegerNetwork, integer_network
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.deploy.reference import (
    FORMAT,
    MANIFEST_FILE,
    VECTORS_FILE,
    WEIGHTS_FILE,
    Model,
    checksum,
    manifest_bytes,
)
from spquant_search.deploy.vectors import vectors_file
from spquant_search.space.shapes import InputShape

REFERENCE_FILE, HEADER_FILE, SOURCE_FILE, PAGE_FILE = "reference.py", "model.h", "model.c", "README.md"
_RULES = {
    "ties": "a membrane potential halfway between two levels is stored as the one nearer to zero",
    "threshold": "a neuron spikes above its threshold, not at it; its membrane then is 0",
    "prediction": "the class with the largest logit; of several the first",
    "packing": "a row's codes in bit fields of 1, 2, 4 or 8 bits (3 bits: 2, then 1); of each field byte j of q holds "
    "the columns j, j + q, j + 2 q .. from its lowest bits on; code = weight + largest weight, of 1 bit the sign",
    "rows": "convolutions: [kernel row, kernel column, input channel of a group] x output channels; "
    "readout: classes x [row, column, channel]; gates: input x output channels",
    "numbers": "slope, offset, gate and gain: little-endian two's complement",
}


@dataclass(frozen=True, slots=True)
class Export:
    """The files of a network that do not come from its run, and the manifest without checksums."""

    manifest: dict[str, Any]
    files: dict[str, bytes]  # by name
    c: CSource


def export(
    network: nn.Module, shape: InputShape, frames: NDArray[np.uint8], *, time_steps: int, about: dict[str, Any]
) -> Export:
    """Export a network in the precision that it has now; ``about`` goes into the manifest as it is.

    ``frames`` [sample, time or 1, channel, row, column] are those of the test vectors.

    Raises:
        NoIntegerForm: the network keeps floating-point numbers somewhere.
        TooLarge: the C library cannot hold it.
    """
    form = integer_network(network, shape, time_steps=time_steps)
    description, weights = manifest_and_weights(form)
    model = Model.of(description, weights)
    c = c_source(model, weights)
    outputs = model.run(frames)
    in_pytorch = run_in_pytorch(network, frames, description["network"])
    if any(not np.array_equal(in_pytorch.spikes[name], fired) for name, fired in outputs.spikes.items()):
        raise AssertionError("the integer form and the evaluated network do not spike alike")
    reference = resources.files("spquant_search.deploy").joinpath("reference.py").read_bytes()
    files = {
        WEIGHTS_FILE: weights,
        VECTORS_FILE: vectors_file(frames, outputs),
        REFERENCE_FILE: reference,
        HEADER_FILE: c.header.encode(),
        SOURCE_FILE: c.source.encode(),
    }
    return Export(about | description, files, c)


def sealed(manifest: dict[str, Any], files: dict[str, bytes]) -> dict[str, bytes]:
    """Add the manifest to the files; it holds the checksum of every file and its own."""
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    complete = manifest | {"files": checksums}
    return files | {MANIFEST_FILE: manifest_bytes(complete | {"checksum": checksum(complete)})}


def manifest_and_weights(form: IntegerNetwork) -> tuple[dict[str, Any], bytes]:
    """Return the part of the manifest that describes a network, and the content of ``weights.bin``."""
    segments: list[dict[str, Any]] = []
    weights = bytearray()
    for segment in form.segments:
        segments.append(
            {
                "layer": segment.layer,
                "role": segment.role,
                "type": segment.type,
                "bits": segment.bits,
                "rows": segment.rows,
                "columns": segment.columns,
                "offset": len(weights),
                "bytes": len(segment.data),
            }
        )
        weights += segment.data
    network = {"time_steps": form.time_steps, "steps": list(form.steps)}
    description = {
        "format": FORMAT,
        "versions": {"spquant-search": __version__},
        "rules": _RULES,
        "network": network,
        "segments": segments,
    }
    return description, bytes(weights)


def page(about: dict[str, Any], c: CSource) -> str:
    """Write the folder's README.md."""
    accuracy, test_accuracy = about["accuracy"], about["test_accuracy"]
    on_device = (("flash", about["flash_bytes"]), ("RAM", about["ram_bytes"]))
    rows = [
        f"| accuracy on the validation split | {100 * accuracy:.2f} % |",
        f"| accuracy on the test split | {'not tested' if test_accuracy is None else f'{100 * test_accuracy:.2f} %'} |",
        f"| memory as the front counts it | {about['memory_bytes']:,} bytes |",
        *(f"| {name} as the front counts it | {size:,} bytes |" for name, size in on_device if size is not None),
        f"| weights, packed | {c.sizes.weights:,} bytes |",
        f"| slopes, offsets, gates | {c.sizes.overhead:,} bytes |",
        f"| membranes, packed | {c.sizes.membrane:,} bytes |",
        f"| spikes between layers, in RAM | {c.sizes.maps:,} bytes |",
        f"| sums of one position, in RAM | {c.sizes.scratch:,} bytes |",
    ]
    table = "\n".join(["| | |", "|---|--:|", *rows])
    return _PAGE.format(run=about["run"], trial=about["trial"], table=table)


_PAGE = """\
# Trial {trial} of {run}, as integers

{table}

| file | what it is |
|---|---|
| `manifest.json` | the network's steps, bits, shifts, packing and rules; a checksum of every file |
| `weights.bin` | all its numbers, packed |
| `model.h`, `model.c` | a C99 library: no floating point, no allocation |
| `reference.py` | the same in numpy, which reads the two files above: `python reference.py` repeats the test vectors |
| `test_vectors.npz` | frames, the spikes of every layer, and the logits that they must give |
| `config.yaml`, `weights.safetensors` | the configuration and the trained floating-point weights, to train on from |

Once a sample: `spq_reset()`, then `spq_step(counts)` for each of its SPQ_TIME_STEPS frames, then `spq_class()`.

    cc -std=c99 -Os -c model.c                 # for a device
    cc -std=c99 -O3 -DSPQ_FAST -c model.c      # larger and faster
    cc -std=c99 -DSPQ_COUNT -c model.c         # counts synaptic operations

`spquant-search verify FOLDER` runs PyTorch, numpy and C on the test split and compares every spike.
"""
