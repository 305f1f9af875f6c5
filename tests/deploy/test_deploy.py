"""A deployed network says the same in PyTorch, numpy and C, and its files cannot be changed unnoticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.costs.device import footprint
from spquant_search.costs.memory import cost_report
from spquant_search.deploy import reference as engine
from spquant_search.deploy.c_library import STRICT, CLibrary, ObjectSize, compiler, device_compiler, object_size
from spquant_search.deploy.c_source import TooLarge, c_source
from spquant_search.deploy.export import Deployment, deployment, described, sealed
from spquant_search.deploy.integer_form import NoIntegerForm, integer_network
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.deploy.reference import DamagedArtifact, Model, pack_rows, read_manifest, unpack_rows
from spquant_search.snn.architecture import architecture
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.fixedpoint import affine_in_fixed_point
from spquant_search.snn.layer_shapes import layer_shapes
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import FLOAT_MEMBRANE, LayerPrecision, NetworkConfig
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape

TIME = 3
SANITIZED = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=undefined")
ABOUT = {"run": "some", "trial": 1, "accuracy": 0.5, "test_accuracy": None}
needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")


@dataclass
class Choices:
    """What a random configuration is drawn from."""

    bits: tuple[int, ...] = (1, 2, 3, 4, 8)
    levels: tuple[int, ...] = (2, 3, 4, 5, 16, 24, 256)
    mass: tuple[float, ...] = (1.0, 0.7)
    skip: tuple[float | None, ...] = (None, 0.0, -0.5)


def drawn(network: nn.Module, generator: np.random.Generator, choices: Choices) -> NetworkConfig:
    layers = []
    for name, layer in searchable_layers(network).items():
        fires = isinstance(layer, SpikingConv2d | SpikingSelfAttention)
        can_gate = getattr(layer, "gate", None) is not None
        precision = LayerPrecision(
            weight_bits=int(generator.choice(choices.bits)),
            membrane_levels=int(generator.choice(choices.levels)) if fires else None,
            channel_mass=float(generator.choice(choices.mass)) if can_gate else 1.0,
            skip_below=choices.skip[generator.integers(len(choices.skip))]
            if isinstance(layer, SpikingConv2d)
            else None,
        )
        layers.append((name, precision))
    return NetworkConfig(layers=tuple(layers))


def lively(network: nn.Module, frames: NDArray[np.uint8], largest: int) -> None:
    """Statistics of these frames, slopes of both signs, gates that open some channels, other thresholds."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                sign = torch.where(torch.rand_like(module.weight) < 0.2, -1.0, 1.0)
                module.weight.copy_(sign * torch.empty_like(sign).uniform_(0.5, 2.0))
                module.bias.normal_(0.2, 0.5)
            if getattr(module, "mass_slope", None) is not None:
                module.weight.normal_(0, 0.3)  # type: ignore[union-attr, operator]
                module.bias.normal_(0.3, 0.3)  # type: ignore[union-attr, operator]
            if getattr(module, "log_threshold", None) is not None:
                module.log_threshold.normal_(0, 0.5)  # type: ignore[union-attr, operator]
        values = torch.from_numpy(frames).transpose(0, 1).flatten(0, 1).clamp(max=largest).float()
        for _ in range(3):
            network.train()(Spikes(values=values, time_steps=frames.shape[1], largest=largest))
    network.eval()


def a_network(  # noqa: PLR0913 - what a network is drawn from
    name: str,
    *,
    seed: int,
    size: int = 16,
    width: float = 1 / 16,
    pool: Any = "before",
    learn: bool = False,
    choices: Choices | None = None,
    largest: int = 15,
) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    shape = InputShape(channels=2, height=size, width=size + 1, classes=5, largest=largest)
    network = build(ModelSpace(network=name, width=width, pool=pool), shape, source="test")
    config = drawn(network, generator, choices or Choices())
    configure(network, config, NeuronSpace(learn_threshold=learn, leak=float(generator.choice([0.5, 0.25, 0.125]))))
    frames = generator.poisson(0.6, (4, TIME, 2, size, size + 1)).astype(np.uint8)
    lively(network, frames, largest)
    return network, shape, frames


def device_size(folder: Path, work: Path) -> ObjectSize:
    tool = device_compiler()
    assert tool is not None
    return object_size(folder, cc=tool[0], work=work, flags=tool[1])


def loaded(deployed: Deployment) -> Model:
    return Model.of(deployed.manifest, deployed.files[engine.WEIGHTS_FILE])


def written(deployed: Deployment, folder: Path) -> Path:
    folder.mkdir()
    for name, content in sealed(deployed.manifest, deployed.files).items():
        (folder / name).write_bytes(content)
    return folder


def assert_all_agree(network: nn.Module, shape: InputShape, frames: NDArray[np.uint8], tmp_path: Path) -> float:
    """PyTorch, numpy and C; returns the share of neurons that spiked."""
    deployed = deployment(network, shape, frames, time_steps=TIME, about=ABOUT)
    model = loaded(deployed)
    form = model.manifest["network"]
    outcome = model.run(frames)
    seen = run_in_pytorch(network, frames, form)
    assert outcome.spikes.keys() == seen.spikes.keys()
    for layer, fired in outcome.spikes.items():
        np.testing.assert_array_equal(fired, seen.spikes[layer], err_msg=layer)
    np.testing.assert_array_equal(outcome.predictions, seen.logits.argmax(axis=1))
    np.testing.assert_array_equal(seen.logits / form["steps"][-1]["unit"], outcome.logits)
    cc = compiler()
    if cc is not None:
        folder = written(deployed, tmp_path / "deployed")
        library = CLibrary(folder, form, cc=cc, work=tmp_path, flags=SANITIZED)
        in_c = library.run(frames)
        for layer, fired in outcome.spikes.items():
            np.testing.assert_array_equal(in_c.spikes[layer], fired, err_msg=layer)
        np.testing.assert_array_equal(in_c.logits, outcome.logits)
    return float(np.mean([fired.mean() for fired in outcome.spikes.values()]))


NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("vgg9", {"pool": "before"}),
    ("vgg9", {"pool": "after", "learn": True, "size": 17}),
    ("resnet19", {"width": 1 / 32}),
    ("resnet19", {"width": 1 / 32, "learn": True}),
    ("resnet34", {"width": 1 / 32, "size": 32, "pool": "after"}),
    ("spikformer4-256", {"size": 8}),
    ("spikformer4-256", {"size": 8, "learn": True}),
    ("mobilenet", {"width": 1 / 8}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=[f"{name} {options}" for name, options in NETWORKS])
def test_every_network_spikes_alike_in_pytorch_numpy_and_c(
    name: str, options: dict[str, Any], tmp_path: Path, plain_neurons: None
) -> None:
    rate = assert_all_agree(*a_network(name, seed=len(options), **options), tmp_path)
    assert 0.01 < rate < 0.9, "a network that is silent shows nothing"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    pool=st.sampled_from(["before", "after"]),
    learn=st.booleans(),
    largest=st.sampled_from([1, 15]),
)
def test_random_small_networks_spike_alike(
    tmp_path_factory: pytest.TempPathFactory, plain_neurons: None, seed: int, pool: str, learn: bool, largest: int
) -> None:
    made = a_network("vgg9", seed=seed, width=1 / 32, pool=pool, learn=learn, largest=largest)
    assert_all_agree(*made, tmp_path_factory.mktemp("random"))


class Mixed(nn.Module):
    """What the package's own networks do not have: groups, a shortcut after pooled spikes, an average over 4."""

    def __init__(self, *, doubled: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.doubled, self.twice = doubled, twice
        self.first = SpikingConv2d(2, 8, pool="after", can_gate=False)
        self.grouped = SpikingConv2d(8, 8, groups=2)
        self.shortcut = Shortcut(8, 8)
        self.pooled = SpikingConv2d(8, 8, groups=4, pool="before", kernel_size=5)
        self.last = SpikingConv2d(8, 6, pool="max", norm=False, kernel_size=1)
        self.readout = Readout(6, 1, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        one = self.first(spikes)
        two = self.grouped(one, one.current())
        three = self.grouped(two, self.shortcut(one)) if self.twice else self.pooled(two)
        if self.doubled:
            three = Spikes(values=three.values * 2, time_steps=three.time_steps, largest=2, divisor=2)
        logits: Tensor = self.readout(global_average(self.last(three)))
        return logits


def mixed(seed: int, **options: bool) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = Mixed(**options)
    configure(network, drawn(network, generator, Choices()), NeuronSpace())
    frames = generator.poisson(1.0, (4, TIME, 2, 17, 18)).astype(np.uint8)
    lively(network, frames, 15)
    return network, InputShape(channels=2, height=17, width=18, classes=3, largest=15), frames


@pytest.mark.parametrize("seed", range(4))
def test_a_network_of_ones_own_spikes_alike(seed: int, tmp_path: Path, plain_neurons: None) -> None:
    assert assert_all_agree(*mixed(seed), tmp_path) > 0.01


def test_what_has_no_integer_form_is_refused_with_its_reason(plain_neurons: None) -> None:
    for options, words in (
        ({"doubled": True}, "what last reads was made by something other than layers"),
        ({"twice": True}, "grouped: runs more than once a time step"),
    ):
        network, shape, _ = mixed(0, **options)
        with pytest.raises(NoIntegerForm, match=words):
            integer_network(network, shape, time_steps=TIME)
    network, shape, _ = mixed(0)
    layer = searchable_layers(network)["pooled"]
    layer.set_precision(LayerPrecision(weight_bits=32, membrane_levels=3), NeuronSpace())
    with pytest.raises(NoIntegerForm, match="pooled: keeps float weights"):
        integer_network(network, shape, time_steps=TIME)
    layer.set_precision(LayerPrecision(weight_bits=2, membrane_levels=0), NeuronSpace())
    with pytest.raises(NoIntegerForm, match="pooled: keeps a float membrane"):
        integer_network(network, shape, time_steps=TIME)


# Fixed point


@given(
    slope=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=8),
    offset=st.floats(-1000, 1000, width=32),
)
def test_fixed_point_is_as_fine_as_its_bits_allow(slope: list[float], offset: float) -> None:
    a, d = torch.tensor(slope), torch.full((len(slope),), offset)
    fixed = affine_in_fixed_point(a, d)
    shift = int(fixed.shift)
    assert fixed.slope.abs().max() <= 2**15 - 1
    assert fixed.offset.abs().max() <= 2**31 - 1
    values, offsets = fixed.values
    assert (values - a.double()).abs().max() <= 2.0 ** -(shift + 1)
    assert (offsets - d.double()).abs().max() <= 2.0 ** -(shift + 1)
    finer = 2.0 ** (shift + 1)
    assert shift == 24 or abs(a.double()).max() * finer > 2**15 - 1 or abs(offset) * finer > 2**31 - 1


# Packing


@given(
    bits=st.sampled_from([1, 2, 3, 4, 8]), rows=st.integers(1, 4), columns=st.integers(1, 40), seed=st.integers(0, 99)
)
def test_rows_are_unpacked_as_they_were_packed(bits: int, rows: int, columns: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns))
    data = pack_rows(codes, bits)
    assert len(data) == rows * engine.row_bytes(columns, bits)
    np.testing.assert_array_equal(unpack_rows(data, rows=rows, columns=columns, bits=bits), codes)


def test_packing_by_hand() -> None:
    """Six codes of 2 bits: byte j holds the columns j, j + 2, j + 4, from the lowest bits on."""
    assert pack_rows(np.array([[1, 2, 3, 0, 2, 1]]), 2) == bytes([0b10_11_01, 0b01_00_10])
    # Of 3 bits the lower two come first, then the third: here of the columns 0 .. 2 in one byte each.
    assert pack_rows(np.array([[5, 2, 7]]), 3) == bytes([0b11_10_01, 0b101])


# Files


@pytest.fixture(scope="module")
def deployed() -> Deployment:
    from spquant_search.snn.kernels.compile import Compiled

    before, Compiled.enabled = Compiled.enabled, False
    try:
        network, shape, frames = a_network("vgg9", seed=3, width=1 / 32)
        return deployment(network, shape, frames, time_steps=TIME, about=ABOUT)
    finally:
        Compiled.enabled = before


def test_the_same_network_gives_the_same_bytes(deployed: Deployment, plain_neurons: None) -> None:
    network, shape, frames = a_network("vgg9", seed=3, width=1 / 32)
    again = deployment(network, shape, frames, time_steps=TIME, about=ABOUT)
    assert (again.manifest, again.files) == (deployed.manifest, deployed.files)


def test_the_engine_repeats_the_test_vectors_without_torch(deployed: Deployment, tmp_path: Path) -> None:
    folder = written(deployed, tmp_path / "deployed")
    blocked = "import sys; sys.modules['torch'] = sys.modules['spquant_search'] = None; "
    run = f"{blocked}import runpy; runpy.run_path({str(folder / 'reference.py')!r}, run_name='__main__')"
    answer = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.endswith("spikes compared, 0 numbers differ\n")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_noticed(
    deployed: Deployment, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = written(deployed, tmp_path_factory.mktemp("changed") / "deployed")
    file = folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with pytest.raises(DamagedArtifact, match=file.name):
        read_manifest(folder)
    with pytest.raises(DamagedArtifact):
        Model.load(folder)


def test_a_missing_file_and_an_unknown_format_are_named(deployed: Deployment, tmp_path: Path) -> None:
    folder = written(deployed, tmp_path / "deployed")
    (folder / "model.c").unlink()
    with pytest.raises(DamagedArtifact) as error:
        read_manifest(folder)
    assert str(error.value) == f"{folder / 'model.c'}: is missing"
    (folder / "manifest.json").unlink()
    with pytest.raises(DamagedArtifact, match=r"manifest\.json: is missing"):
        read_manifest(folder)
    later = sealed(deployed.manifest | {"format": 99}, deployed.files)
    (folder / "manifest.json").write_bytes(later[engine.MANIFEST_FILE])
    with pytest.raises(DamagedArtifact, match="has format 99; this engine reads 1"):
        read_manifest(folder)


# The C library


_MAIN = """\
#include <stdio.h>
#include "model.h"
int main(void)
{
    static uint8_t frame[SPQ_HEIGHT * SPQ_WIDTH * SPQ_CHANNELS];
    int sample, t;
    for (sample = 0; sample < 2; ++sample) {
        spq_reset();
        for (t = 0; t < SPQ_TIME_STEPS; ++t) {
            if (fread(frame, 1, sizeof frame, stdin) != sizeof frame)
                return 1;
            spq_step(frame);
        }
        printf("%d\\n", spq_class());
    }
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("name", ["vgg9", "resnet19", "spikformer4-256"])
def test_a_program_runs_clean_under_sanitizers(name: str, tmp_path: Path, plain_neurons: None) -> None:
    network, shape, frames = a_network(name, seed=5, size=8 if name != "vgg9" else 16, width=1 / 32)
    made = deployment(network, shape, frames, time_steps=TIME, about=ABOUT)
    folder = written(made, tmp_path / "deployed")
    (tmp_path / "main.c").write_text(_MAIN)
    program = tmp_path / "program"
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = [compiler(), *STRICT, *flags, f"-I{folder}", folder / "model.c", tmp_path / "main.c", "-o", program]
    subprocess.run([str(part) for part in command], check=True)
    counts = frames[:2].transpose(0, 1, 3, 4, 2).tobytes()
    answer = subprocess.run([str(program)], input=counts, capture_output=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, b"")
    expected = loaded(made).run(frames[:2]).predictions.tolist()
    assert [int(line) for line in answer.stdout.split()] == expected


FOOTPRINTS: list[tuple[str, dict[str, Any]]] = [
    ("vgg9", {}),
    ("vgg9", {"pool": "after", "size": 17, "width": 1 / 4}),
    ("vgg9", {"choices": Choices(mass=(1.0,), levels=(3,))}),
    ("resnet19", {}),
    ("resnet34", {"width": 1 / 32, "size": 32, "pool": "after"}),
    ("spikformer4-256", {"size": 8}),
    ("mobilenet", {}),
]


@pytest.mark.skipif(device_compiler() is None, reason="there is no compiler for a Cortex-M4")
@pytest.mark.parametrize(("name", "options"), FOOTPRINTS)
def test_what_a_device_needs_is_known_before_training(
    name: str, options: dict[str, Any], tmp_path: Path, plain_neurons: None
) -> None:
    """The footprint is computed from shapes and precisions alone; the compiler's object file says the same."""
    for seed in (3, 4):
        network, shape, frames = a_network(name, seed=seed, **options)
        model = ModelSpace(network=name, width=options.get("width", 1 / 16), pool=options.get("pool", "before"))
        shapes = layer_shapes(model, shape, source="test")
        config = NetworkConfig(
            layers=tuple((name, layer.precision) for name, layer in searchable_layers(network).items())
        )
        of_network = architecture(model, shape, shapes)
        assert of_network is not None
        expected = footprint(of_network, cost_report(shapes, config, time_steps=TIME))
        assert expected is not None

        folder = written(deployment(network, shape, frames, time_steps=TIME, about=ABOUT), tmp_path / f"{seed}")
        found = device_size(folder, tmp_path)
        assert expected.ram == pytest.approx(found.ram, abs=32), "alignment"
        assert expected.flash == pytest.approx(found.flash, rel=0.05)
        assert expected.engine_flash == pytest.approx(found.flash - (expected.flash - expected.engine_flash), rel=0.05)
        assert found.data == 0


def test_a_configuration_that_keeps_floats_has_no_footprint(plain_neurons: None) -> None:
    network, shape, _ = a_network("vgg9", seed=3)
    model = ModelSpace(network="vgg9", width=1 / 16, pool="before")
    shapes = layer_shapes(model, shape, source="test")
    precisions = [layer.precision for layer in searchable_layers(network).values()]
    of_network = architecture(model, shape, shapes)
    assert of_network is not None
    for floats in ({"weight_bits": 32}, {"membrane_levels": FLOAT_MEMBRANE}):
        names = [one.name for one in shapes]
        layers = tuple(zip(names, [replace(precisions[0], **floats), *precisions[1:]], strict=True))
        assert footprint(of_network, cost_report(shapes, NetworkConfig(layers=layers), time_steps=TIME)) is None


@needs_compiler
@pytest.mark.skipif(shutil.which("size") is None, reason="there is no size")
def test_an_object_file_holds_the_bytes_that_were_promised(deployed: Deployment, tmp_path: Path) -> None:
    """Its code and tables, and its memory, are at least the network's own numbers, and not far above."""
    folder = written(deployed, tmp_path / "deployed")
    tools = [(compiler(), ()), device_compiler()]
    sizes = deployed.c.sizes
    for tool in tools:
        if tool is None:
            continue
        found = object_size(folder, cc=str(tool[0]), work=tmp_path, flags=tool[1])
        own = sizes.weights + sizes.overhead
        assert own <= found.flash <= own + 10_000, "the engine's code is a few kilobytes"
        ram = sizes.membrane + sizes.maps + sizes.scratch
        assert ram <= found.ram <= ram + 300, "alignment"
        assert found.data == 0


def test_the_library_uses_neither_floating_point_nor_allocation(deployed: Deployment) -> None:
    source = deployed.c.source
    includes = [line for line in source.splitlines() if line.startswith("#include")]
    assert includes == ['#include "model.h"', "#include <string.h>"]
    code = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("/*", "*")))
    for word in ("malloc", "float ", "double ", "@"):
        assert word not in code


def test_what_the_c_engine_cannot_hold_is_refused(plain_neurons: None) -> None:
    network, shape, _ = a_network("vgg9", seed=3, width=1 / 32, choices=Choices(mass=(0.7,)))
    form, weights = described(integer_network(network, shape, time_steps=TIME))
    for step in form["network"]["steps"]:
        if step.get("gated"):
            step["largest"] = 10**9
    with pytest.raises(TooLarge, match="conv2: the sums of its gate leave 32 bits"):
        c_source(Model.of(form, weights), weights)
    form["network"]["steps"][-1]["accumulator_bits"] = 33
    with pytest.raises(TooLarge, match="readout: sums of 33 bits leave the C engine's 32"):
        c_source(Model.of(form, weights), weights)
