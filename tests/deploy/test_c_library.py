"""The compiled library runs clean under sanitizers and takes the bytes that were promised."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from deploy.agreement import STRICT, assert_runs_clean, exported
from deploy.networks import Choices, a_network, drawn_config, lively, loaded, needs_compiler, written
from torch import nn

from spquant_search.deploy.c_library import FAST, SMALL, CLibrary, compiler, device_compiler, object_size, refusal
from spquant_search.deploy.export import Export
from spquant_search.snn.layers import configure
from spquant_search.snn.readout import Readout
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape


@needs_compiler
@pytest.mark.parametrize("name", ["vgg9", "resnet19", "spikformer4-256"])
def test_a_program_runs_clean_under_sanitizers(name: str, tmp_path: Path, plain_neurons: None) -> None:
    network, shape, frames = a_network(name, seed=5, size=8 if name != "vgg9" else 16, width=1 / 32)
    assert_runs_clean(exported(network, shape, frames), frames, tmp_path)


_CPP_MAIN = """\
#include "model.h"
int main() {
    static uint8_t frame[SPQ_HEIGHT * SPQ_WIDTH * SPQ_CHANNELS];
    spq_reset();
    spq_step(frame);
    return spq_class() < SPQ_CLASSES && spq_logits() ? 0 : 1;
}
"""


def three_layers(channels: int, generator: np.random.Generator) -> Export:
    """Export a network of few channels in random precisions."""
    network = nn.Sequential(
        SpikingConv2d(1, channels, can_gate=False, pool="after"),
        SpikingConv2d(channels, channels, groups=channels if generator.random() < 0.5 else 1),
        Readout(channels, 4, 2),
    )
    configure(network, drawn_config(network, generator, Choices()), NeuronSpace())
    shape = InputShape(channels=1, height=4, width=4, classes=2, largest=15)
    frames = generator.poisson(1.0, (2, 1 + channels % 3, 1, 4, 4)).astype(np.uint8)
    lively(network, frames, 15)
    return exported(network, shape, frames)


COMPILED_AS = {
    "fast": (*FAST, "-DSPQ_COUNT"),
    "small": SMALL,
    "traced": ("-O2", "-DSPQ_COUNT", "-DSPQ_TRACE"),
    "C++": ("-x", "c++", "-std=c++11", *FAST),
}


@needs_compiler
@pytest.mark.parametrize("channels", [1, 2, 3, *(pytest.param(c, marks=pytest.mark.slow) for c in (4, 5, 6, 7, 8, 9))])
def test_a_network_of_any_size_compiles_without_a_warning(channels: int, tmp_path: Path, plain_neurons: None) -> None:
    folder = written(three_layers(channels, np.random.default_rng(channels)), tmp_path / "deployed")
    for name, flags in COMPILED_AS.items():
        if name == "C++" and shutil.which("c++") is None:
            continue
        cc = ["c++"] if name == "C++" else shlex.split(str(compiler()))
        strict = STRICT[1:] if name == "C++" else STRICT
        command = [*cc, *strict, *flags, "-c", str(folder / "model.c"), "-o", str(tmp_path / "model.o")]
        subprocess.run(command, check=True)


@needs_compiler
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("compiled_as", ["C", "C++"])
def test_a_program_in_cpp_links_the_library(compiled_as: str, deployed: Export, tmp_path: Path) -> None:
    folder = written(deployed, tmp_path / "deployed")
    main, library, program = tmp_path / "main.cpp", tmp_path / "model.o", tmp_path / "program"
    main.write_text(_CPP_MAIN)
    cpp = ["c++", "-std=c++11", *STRICT[1:]]
    by = [*shlex.split(str(compiler())), *STRICT] if compiled_as == "C" else [*cpp, "-x", "c++"]
    subprocess.run([*by, "-c", str(folder / "model.c"), "-o", str(library)], check=True)
    subprocess.run([*cpp, f"-I{folder}", str(main), str(library), "-o", str(program)], check=True)
    assert subprocess.run([str(program)], check=False).returncode == 0


# Where int has 16 bits, so has unsigned: only types of a named size may hold sizes and places in large maps.
_SHORT_UNSIGNED = """\
#include <stdint.h>
#include <string.h>
typedef uint16_t short_unsigned;
#define unsigned short_unsigned
"""


@needs_compiler
def test_sizes_do_not_rely_on_an_int_of_32_bits(tmp_path: Path, plain_neurons: None) -> None:
    """165,888 neurons of a map and 82,944 bits of a row of weights are more than 16 bits count."""
    torch.manual_seed(1)
    network = nn.Sequential(
        SpikingConv2d(1, 9, can_gate=False), SpikingConv2d(9, 9, stride=2, pool="after"), Readout(9, 48 * 24, 3)
    )
    layers = [(name, LayerPrecision(weight_bits=8, membrane_levels=24)) for name in ("0", "1")]
    layers.append(("2", LayerPrecision(weight_bits=8, membrane_levels=None)))
    configure(network, NetworkConfig(time_steps=3, layers=tuple(layers)), NeuronSpace())
    shape = InputShape(channels=1, height=192, width=96, classes=3, largest=15)
    frames = np.random.default_rng(1).poisson(0.3, (1, 2, 1, 192, 96)).astype(np.uint8)
    lively(network, frames, 15)
    made = exported(network, shape, frames)
    folder = written(made, tmp_path / "deployed")
    (tmp_path / "short.h").write_text(_SHORT_UNSIGNED)
    flags = ("-O1", "-include", str(tmp_path / "short.h"), "-Wno-error")
    library = CLibrary(folder, made.manifest["network"], cc=str(compiler()), work=tmp_path, flags=flags)
    found, expected = library.run(frames), loaded(made).run(frames)
    assert np.array_equal(found.logits, expected.logits)
    assert all(np.array_equal(found.spikes[name], fired) for name, fired in expected.spikes.items())


@needs_compiler
@pytest.mark.skipif(shutil.which("size") is None, reason="there is no size")
def test_an_object_file_holds_the_bytes_that_were_promised(deployed: Export, tmp_path: Path) -> None:
    """Its code and tables, and its memory, are at least the network's own numbers, and not far above."""
    folder = written(deployed, tmp_path / "deployed")
    tools = [(compiler(), ()), device_compiler()]
    sizes = deployed.c.sizes
    for tool in tools:
        if tool is None:
            continue
        found = object_size(folder, cc=str(tool[0]), work=tmp_path, flags=tool[1])
        own = sizes.weights + sizes.overhead
        assert own <= found.flash <= own + 15_000, "the code of a network that needs all of the engine"
        ram = sizes.membrane + sizes.maps + sizes.scratch
        assert ram <= found.ram <= ram + 300, "alignment"
        assert found.data == 0


@needs_compiler
@pytest.mark.parametrize("arguments", ["", " -DA=1", " '-DA=\"a b\"' -O0", "  "])
def test_the_compiler_that_is_named_may_have_arguments(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own compiler"
    own.write_text(f'#!/bin/sh\nprintf "<%s>" "$@" > {tmp_path}/said\nexec {shutil.which("cc") or "gcc"} "$@"\n')
    own.chmod(0o755)
    monkeypatch.setenv("CC", (shlex.quote(str(own)) if arguments.strip() else str(own)) + arguments)
    cc = compiler()
    assert cc is not None
    assert refusal(cc, tmp_path) is None
    expected = "".join(f"<{word}>" for word in shlex.split(arguments))
    assert (tmp_path / "said").read_text().startswith(f"{expected}<-std=c99>")


@pytest.mark.parametrize("named", ["no-such-cc", "no-such-cc -m64", "/no/such cc", "'no-such-cc", "''", "."])
def test_a_compiler_that_cannot_be_started_is_named(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", named)
    words = refusal(str(compiler()), tmp_path)
    assert words is not None
    assert re.fullmatch(rf"the C compiler does not work here: .* \(\$CC is {re.escape(named)}\)", words)
