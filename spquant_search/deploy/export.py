"""Export a trained network to files: manifest, packed weights, test vectors, numpy reference, C library, and a README.

The same network and the same frames always give the same bytes.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from spquant_search import __version__
from spquant_search.deploy.c_library import QUICK, CLibrary, CompilerFailed, compiler, refusal
from spquant_search.deploy.c_names import CNames
from spquant_search.deploy.c_source import CSource, c_source
from spquant_search.deploy.comparison import compare, whole_logits
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.fast_layers import paths_of
from spquant_search.deploy.firmware import firmware_files
from spquant_search.deploy.integer_form import IntegerNetwork, integer_network
from spquant_search.deploy.pytorch_run import open_channels, run_in_pytorch
from spquant_search.deploy.reference import Model, ModelOutputs
from spquant_search.deploy.reordering import with_closed_blocks
from spquant_search.deploy.vectors import vectors_file
from spquant_search.deploy.weights_file import (
    FORMAT,
    MANIFEST_FILE,
    VECTORS_FILE,
    WEIGHTS_FILE,
    checksum,
    manifest_bytes,
)
from spquant_search.space.shapes import InputShape

# Where the program of an artifact is put together.
_TAKEN_FROM_FILES = r"\nfrom spquant_search\.deploy\.weights_file import \(.*?\)\n"
_BEGIN_OF_CODE, _BEGIN_OF_FILES = (f"# {'-' * 64} {name}\n" for name in ("the network", "files"))
REFERENCE_FILE = "reference.py"
_RULES = {
    "ties": "a membrane potential halfway between two levels is stored as the one nearer to zero",
    "threshold": "a neuron spikes above its threshold, and where spikes_at_threshold is true at it too",
    "reset": "a spike's membrane then is 0; where subtracts is a number, it is less by that many 2^-subtracts_bits",
    "leak": "a membrane is kept by leak / 2^leak_bits of it from one step to the next",
    "prediction": "the class with the largest logit; of several the first",
    "packing": "a row's codes in bit fields of 1, 2, 4 or 8 bits (3 bits: 2, then 1); of each field byte j of q holds "
    "the columns j, j + q, j + 2 q .. from its lowest bits on; code = weight + largest weight, of 1 bit the sign",
    "rows": "convolutions: [kernel row, kernel column, input channel of a group] x output channels; "
    "readout: classes x [row, column, channel]; gates: input x output channels",
    "order": "channel k of a step that has an order is channel order[k] of the trained network in floating point",
    "numbers": "slope, offset, gate, gain and leak: little-endian two's complement",
}


class Differs(Exception):
    """The files do not compute what the network does in PyTorch; the message says where, or what the compiler said."""


@dataclass(frozen=True, slots=True)
class Export:
    """The files of a network that do not come from its run, and the manifest without checksums."""

    manifest: dict[str, Any]
    files: dict[str, bytes]  # by name
    c: CSource
    unchecked: str | None  # why the C library was not run


def export(  # noqa: PLR0913 - options by name
    network: nn.Module,
    shape: InputShape,
    frames: NDArray[np.uint8],
    *,
    time_steps: int,
    about: dict[str, Any],
    facts: DeviceFacts | None = None,
    labels: Sequence[int] = (),
    training: NDArray[np.uint8] | None = None,
) -> Export:
    """Export a network in the precision that it has now; ``about`` goes into the manifest as it is.

    ``facts``: what a device's program must know beside the network, and the names that it has in C. ``training``:
    frames of samples by which channels are put in an order in which gates close whole blocks; without them all stay in
    that of training.

    ``frames`` [sample, time or 1, channel, row, column] are those of the test vectors, ``labels`` their classes where
    they have any. They are run in PyTorch, in numpy and, where there is a C compiler, in C, and must give the same
    spikes and logits.

    Raises:
        NoIntegerForm: the network keeps floating-point numbers somewhere.
        TooLarge: the C library cannot hold it.
        Differs: PyTorch, numpy and C do not agree, or the C library does not compile.
    """
    facts = facts or DeviceFacts()
    names = facts.names
    form, gained = integer_network(network, shape, time_steps=time_steps), None
    if training is not None:
        opened = open_channels(network, training, largest=shape.largest, time_steps=time_steps)
        form, gained = with_closed_blocks(form, opened, samples=len(training))
    description, weights = manifest_and_weights(form)
    model = Model.of(description, weights)
    c = c_source(model, weights, facts)
    outputs = model.run(frames)
    _check_against_pytorch(network, frames, description["network"], outputs)
    files = {
        WEIGHTS_FILE: weights,
        VECTORS_FILE: vectors_file(frames, outputs, model.steps),
        REFERENCE_FILE: reference_program().encode(),
        names.header: c.header.encode(),
        names.source: c.source.encode(),
        **firmware_files(facts, frames, outputs.logits, labels=labels, about=about),
    }
    unchecked = _check_in_c(files, frames, description["network"], outputs, names)
    about_c = facts.manifest() | {"c_library": names.manifest(), "paths": paths_of(model).described()}
    return Export(about | about_c | description | {"channel_order": gained}, files, c, unchecked)


def _check_against_pytorch(
    network: nn.Module, frames: NDArray[np.uint8], form: dict[str, Any], expected: ModelOutputs
) -> None:
    in_pytorch = run_in_pytorch(network, frames, form)
    found = compare("PyTorch", expected, in_pytorch.spikes, whole_logits(in_pytorch, form["steps"][-1]["unit"]))
    if found.wrong:
        raise Differs(
            f"{found.wrong:,} spikes and logits of its integers are not those of PyTorch, first between {found.first}; "
            "between layers it may change signals in place or choose by their values, which integers do not follow"
        )


def _check_in_c(
    files: dict[str, bytes],
    frames: NDArray[np.uint8],
    form: dict[str, Any],
    expected: ModelOutputs,
    names: CNames,
) -> str | None:
    """Compile the library and run the test vectors; return why that was not done, None where all is equal."""
    cc = compiler()
    if cc is None:
        return "there is no C compiler here; install one, or name it in $CC"
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for name in (names.header, names.source):
            (work / name).write_bytes(files[name])
        try:
            in_c = CLibrary(work, form, cc=cc, work=work, flags=QUICK, names=names).run(frames)
        except CompilerFailed as error:
            if (words := refusal(cc, work)) is not None:
                return words
            raise Differs(f"its C library does not compile, which is a fault of this program: {error}") from None
    found = compare("C", expected, in_c.spikes, in_c.logits)
    if found.wrong:
        raise Differs(
            f"{found.wrong:,} spikes and logits of its C library are not those of numpy, which is a fault of this "
            f"program; first between {found.first}"
        )
    return None


def sealed(manifest: dict[str, Any], files: dict[str, bytes]) -> dict[str, bytes]:
    """Add the manifest to the files; it holds the checksum of every file and its own."""
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    complete = manifest | {"files": checksums}
    return files | {MANIFEST_FILE: manifest_bytes(complete | {"checksum": checksum(complete)})}


def reference_program() -> str:
    """Return the reference in numpy as one program: what it takes from this package stands in it."""
    here = resources.files("spquant_search.deploy")
    program, files = (here.joinpath(name).read_text(encoding="utf-8") for name in ("reference.py", "weights_file.py"))
    own, found = re.subn(_TAKEN_FROM_FILES, "", program, flags=re.DOTALL)
    begin, mark = own.find(_BEGIN_OF_CODE), files.find(_BEGIN_OF_FILES)
    if not found or min(begin, mark) < 0:
        raise AssertionError("reference.py or weights_file.py lacks a mark")
    imported = "import hashlib\nimport json\n"
    return own[:begin].replace("import sys\n", f"{imported}import sys\n") + files[mark:] + "\n\n" + own[begin:]


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
