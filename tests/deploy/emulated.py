"""A small network, and programs in its library's place that do in the emulator what a test asks for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from deploy.agreement import exported
from deploy.networks import Choices, drawn_config, lively, written
from numpy.typing import NDArray
from torch import nn

from spquant_search.deploy.c_library import ARM_COMPILER
from spquant_search.deploy.c_names import DEFAULT_PREFIX, CNames
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.emulator.emulate import Emulation, emulate
from spquant_search.deploy.emulator.targets import TARGETS, Target
from spquant_search.deploy.emulator.tools import QEMU, find_tools
from spquant_search.deploy.export import Export, sealed
from spquant_search.snn.layers import configure
from spquant_search.snn.readout import Readout
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape

M4 = TARGETS["cortex-m4"]
needs_emulator = pytest.mark.skipif(
    shutil.which(QEMU) is None or shutil.which(ARM_COMPILER) is None,
    reason="qemu-system-arm or arm-none-eabi-gcc is not installed (make emulator)",
)
LAYERS, STEPS, CLASSES = 2, 3, 2
Small = tuple[Export, NDArray[np.uint8]]

# What a library must have; a test replaces what it is about.
PARTS = {
    "helpers": "",
    "reset": "",
    "step": "",
    "trace": "spq_trace(0, spikes, 1), spq_trace(1, spikes, 1);",
    "class": "return 0;",
    "logits": "return logits;",
}
_LIBRARY = """\
#include "model.h"
uint64_t spq_synaptic_ops;
static int32_t logits[SPQ_CLASSES];
@helpers@
#ifdef SPQ_TRACE
void (*spq_trace)(int layer, const uint8_t *spikes, uint32_t bytes);
#endif
void spq_reset(void) { @reset@ }
void spq_step(const uint8_t *frame)
{
    static uint8_t spikes[1];
    (void)frame;
    @step@
#ifdef SPQ_TRACE
    @trace@
#endif
    (void)spikes;
}
int spq_class(void) { @class@ }
const int32_t *spq_logits(void) { @logits@ }
"""


def small_network(prefix: str = DEFAULT_PREFIX) -> Small:
    """Export a network of two layers with neurons, and give samples of it."""
    generator = np.random.default_rng(4)
    network = nn.Sequential(
        SpikingConv2d(1, 5, can_gate=False, pool="after"), SpikingConv2d(5, 9), Readout(9, 4, CLASSES)
    )
    configure(network, drawn_config(network, generator, Choices()), NeuronSpace())
    shape = InputShape(channels=1, height=4, width=4, classes=CLASSES, largest=15)
    frames = generator.poisson(1.0, (4, STEPS, 1, 4, 4)).astype(np.uint8)
    lively(network, frames, 15)
    return exported(network, shape, frames, facts=DeviceFacts(names=CNames(prefix))), frames


def with_library(made: Export, folder: Path, source: str) -> Path:
    """Write a network whose C is another, with checksums that are right."""
    written(made, folder)
    (folder / "model.c").write_text(source)
    for name, content in sealed(made.manifest, made.files | {"model.c": source.encode()}).items():
        (folder / name).write_bytes(content)
    return folder


def library(**parts: str) -> str:
    """Return the text of a library that does what ``parts`` say, and otherwise nothing."""
    source = _LIBRARY
    for name, text in (PARTS | parts).items():
        source = source.replace(f"@{name}@", text)
    return source


def emulated(folder: Path, frames: NDArray[np.uint8], target: Target = M4, *, patience: float = 60.0) -> Emulation:
    return emulate(folder, target, frames, None, tools=find_tools(target), patience=patience)
