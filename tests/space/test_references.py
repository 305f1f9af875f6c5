"""The presets: what they are on every network, where they may stand, and the paper's table beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from network_shapes import layer_shapes
from shapes import convolution, layer, readout, shortcut

from spquant_search.costs.memory import CostReport, cost_report
from spquant_search.errors import SpaceError
from spquant_search.report.numbers import quantity
from spquant_search.report.paper import PAPER_ROWS, PaperComparison, paper_comparison, paper_table
from spquant_search.space.binding import bind
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.presets import Preset, preset_values
from spquant_search.space.reading import frozen_space, parse_space
from spquant_search.space.references import preset_config
from spquant_search.space.schema import ModelSpace
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape
from spquant_search.training.prepare import prepare

SHAPES = (
    layer(name="conv1", has_membrane=True, can_gate=False),
    layer(name="conv2", has_membrane=True, can_gate=True),
    layer(name="shortcut", has_membrane=False, can_gate=False),
    layer(name="attention", has_membrane=True, can_gate=False, has_weights=False),
    layer(name="readout", has_membrane=False, can_gate=False),
)
CONVOLUTIONS = (SHAPES[0], SHAPES[1], SHAPES[4])

# ---------------------------------------------------------------- configurations


def test_snn_bl_is_the_float_network() -> None:
    config = preset_config(Preset.SNN_BL, network="vgg9", shapes=SHAPES, time_steps=4)
    assert config["conv2"] == LayerPrecision()
    assert all(precision.is_float for _, precision in config.layers)
    assert config["readout"].membrane_levels is None


@pytest.mark.parametrize(
    ("network", "bits"),
    [("vgg9", 2), ("vgg5", 2), ("mobilenet", 2), ("resnet19", 4), ("resnet34", 4), ("spikformer4-256", 8)],
)
def test_quant_snn_has_the_papers_bits_in_every_layer(network: str, bits: int) -> None:
    config = preset_config(Preset.QUANT_SNN, network=network, shapes=SHAPES, time_steps=4)
    assert config.layers == (
        ("conv1", LayerPrecision(weight_bits=bits, membrane_levels=3)),
        ("conv2", LayerPrecision(weight_bits=bits, membrane_levels=3)),
        ("shortcut", LayerPrecision(weight_bits=bits, membrane_levels=None)),
        ("attention", LayerPrecision(weight_bits=32, membrane_levels=3)),
        ("readout", LayerPrecision(weight_bits=bits, membrane_levels=None)),
    )


def test_spquant_snn_adds_gates_and_masks_where_a_layer_can_have_them() -> None:
    config = preset_config(Preset.SPQUANT_SNN, network="resnet19", shapes=SHAPES, time_steps=4)
    assert [precision.channel_mass for _, precision in config.layers] == [1.0, 0.85, 1.0, 1.0, 1.0]
    assert [precision.skip_below for _, precision in config.layers] == [0.0, 0.0, None, None, None]
    assert [precision.weight_bits for _, precision in config.layers] == [4, 4, 4, 32, 4]


def test_a_network_of_ones_own_has_the_bits_of_vgg9_unless_told_otherwise() -> None:
    own = preset_config(Preset.QUANT_SNN, network="mine", shapes=SHAPES, time_steps=4)
    assert own == preset_config(Preset.QUANT_SNN, network="vgg9", shapes=SHAPES, time_steps=4)
    told = preset_config(Preset.QUANT_SNN, network="mine", shapes=SHAPES, time_steps=4, weight_bits=3)
    assert (told["conv1"].weight_bits, told["conv1"].membrane_levels) == (3, 3)
    assert preset_values(Preset.SNN_BL, "mine", weight_bits=3)["weight_bits"] == 32


# ---------------------------------------------------------------- references

TEXT = """
data: {name: fashion-events}
time_steps: 4
model: {network: NETWORK}
layers:
  all: {weight_bits: [2, 4], membrane_levels: [3, 16], channel_mass: [0.85, 1], skip_below: [none, 0]}
search: {references: [REFERENCE]}
"""


def bound(reference: str, network: str = "vgg9", **changes: object) -> SearchSpace:
    document = yaml.safe_load(TEXT.replace("REFERENCE", reference).replace("NETWORK", network))
    document["layers"] |= changes
    return bind(parse_space(yaml.safe_dump(document), source="space.yaml"), CONVOLUTIONS, source="space.yaml")


def problems(reference: str, network: str = "vgg9", **changes: object) -> tuple[str, ...]:
    with pytest.raises(SpaceError) as caught:
        bound(reference, network, **changes)
    return tuple(str(problem) for problem in caught.value.problems)


@pytest.mark.parametrize("preset", [Preset.QUANT_SNN, Preset.SPQUANT_SNN])
@pytest.mark.parametrize("network", ["vgg9", "resnet19"])
def test_a_preset_is_a_reference(preset: Preset, network: str) -> None:
    space = bound(f"{{preset: {preset}}}", network)
    assert space.references == (preset_config(preset, network=network, shapes=CONVOLUTIONS, time_steps=4),)
    assert parse_space(frozen_space(space.file), source="frozen") == space.file


def test_keys_beside_a_preset_replace_its_values() -> None:
    (reference,) = bound("{preset: spquant-snn, weight_bits: 4, skip_below: none}").references
    assert reference["conv2"] == LayerPrecision(weight_bits=4, membrane_levels=3, channel_mass=0.85)


@pytest.mark.parametrize(
    ("reference", "network", "changes", "message"),
    [
        (
            "{preset: quant-snn}",
            "spikformer4-256",
            {},
            "search.references.0.preset: quant-snn has weight_bits 8, which is no choice of conv1.weight_bits: 2, 4; "
            "add it to layers.conv1.weight_bits or layers.all.weight_bits, or remove this reference",
        ),
        (  # a layer that is fixed to another value does not make it another preset
            "{preset: quant-snn}",
            "vgg9",
            {"conv2": {"weight_bits": 8}},
            "search.references.0.preset: quant-snn has weight_bits 2, which is no choice of conv2.weight_bits: 8; "
            "add it to layers.conv2.weight_bits or layers.all.weight_bits, or remove this reference",
        ),
        (
            "{preset: spquant-snn}",
            "vgg9",
            {"conv2": {"channel_mass": [0.8, 1]}},
            "search.references.0.preset: spquant-snn has channel_mass 0.85, which is no choice of conv2.channel_mass: "
            "0.8, 1; add it to layers.conv2.channel_mass or layers.all.channel_mass, or remove this reference",
        ),
        (
            "{preset: quant-snn, weight_bits: yes}",
            "vgg9",
            {},
            "search.references.0.weight_bits: quant-snn has weight_bits True, which is no choice of conv1.weight_bits: "
            "2, 4; add it to layers.conv1.weight_bits or layers.all.weight_bits, or remove this reference",
        ),
        (
            "{preset: quantsnn}",
            "vgg9",
            {},
            "search.references.0.preset: unknown preset 'quantsnn'; did you mean 'quant-snn'? "
            "Known: snn-bl, quant-snn, spquant-snn",
        ),
        (
            "{preset: [quant-snn]}",
            "vgg9",
            {},
            "search.references.0.preset: unknown preset ['quant-snn']; did you mean 'quant-snn'? "
            "Known: snn-bl, quant-snn, spquant-snn",
        ),
        (
            "{presets: quant-snn, weight_bits: 4, membrane_levels: 3}",
            "vgg9",
            {},
            "search.references.0.presets: unknown key; did you mean 'preset'? "
            "Known here: weight_bits, membrane_levels, channel_mass, skip_below, time_steps",
        ),
    ],
)
def test_presets_outside_the_space(reference: str, network: str, changes: dict[str, object], message: str) -> None:
    assert problems(reference, network, **changes) == (message,)


# ---------------------------------------------------------------- the paper's memory table


def vgg9(
    preset: Preset, *, pool: str = "after", size: tuple[int, int] = (48, 48), width: float = 1.0
) -> PaperComparison | None:
    model = ModelSpace(network="vgg9", pool=pool, width=width)  # type: ignore[arg-type]
    shapes = layer_shapes(model, InputShape(channels=3, height=size[0], width=size[1], classes=10), source="space.yaml")
    config = preset_config(preset, network="vgg9", shapes=shapes, time_steps=10)
    report = cost_report(shapes, config)
    return paper_comparison(report, preset, model=model, height=size[0], width=size[1])


# ResNet-19 for 32x32 images: a stem, 3 + 3 + 2 blocks of 2 convolutions, 512 -> 256 -> 10.
RESNET19 = (
    convolution("stem", 3, 128, 32**2, gate=False),
    *(convolution(f"s1c{index}", 128, 128, 32**2) for index in range(6)),
    shortcut("s2shortcut", 128, 256, 16**2),
    convolution("s2c0", 128, 256, 16**2),
    *(convolution(f"s2c{index}", 256, 256, 16**2) for index in range(1, 6)),
    shortcut("s3shortcut", 256, 512, 8**2),
    convolution("s3c0", 256, 512, 8**2),
    *(convolution(f"s3c{index}", 512, 512, 8**2) for index in range(1, 4)),
    convolution("fc", 512, 256, 1, area=1, gate=False),
    readout(256, 10),
)


def resnet19(preset: Preset) -> PaperComparison | None:
    model = ModelSpace(network="resnet19")
    config: NetworkConfig = preset_config(preset, network="resnet19", shapes=RESNET19, time_steps=2)
    report = cost_report(RESNET19, config)
    return paper_comparison(report, preset, model=model, height=32, width=32)


def ours(comparison: PaperComparison | None) -> dict[str, float]:
    assert comparison is not None
    return {cell.name: cell.ours for cell in comparison.cells}


def differences(comparison: PaperComparison | None) -> dict[str, float | None]:
    assert comparison is not None
    return {cell.name: cell.difference_percent for cell in comparison.cells}


QUANTIZED = (Preset.QUANT_SNN, Preset.SPQUANT_SNN)
PAPERS_W = "paper's W + U + X"


def test_vgg9_by_hand() -> None:
    # 9,263,808 weights and 921,600 neurons; X: 32 bits a neuron beside float membranes, 8 beside quantized ones.
    assert ours(vgg9(Preset.SNN_BL)) == pytest.approx(
        {"W": 37.055232, "U": 3.6864, "X": 3.6864, "W + U + X": 44.428032, PAPERS_W: 41.12 + 2 * 3.6864}
    )
    for preset in QUANTIZED:
        assert ours(vgg9(preset)) == pytest.approx(
            {"W": 2.315952, "U": 0.2304, "X": 0.9216, "W + U + X": 3.467952, PAPERS_W: 2.57 + 5 * 0.2304}
        )


def test_resnet19_by_hand() -> None:
    # 128 * 1024 * 7 + 256 * 256 * 6 + 512 * 64 * 4 = 1,441,792 neurons: 5.5 MiB of floats, 11 / 32 MiB of 2 bits.
    baseline, quantized = ours(resnet19(Preset.SNN_BL)), ours(resnet19(Preset.QUANT_SNN))
    assert (baseline["U"], baseline["X"], baseline[PAPERS_W]) == (5.5, 5.5, 49.94 + 11)
    assert (quantized["U"], quantized["X"]) == (0.34375, 1.375)
    assert baseline["W"] * 2**20 == 4 * 12_687_232
    assert quantized["W"] * 8 == baseline["W"]
    comparison = resnet19(Preset.SNN_BL)
    assert comparison is not None
    assert comparison.neurons_left_out == 256


def test_the_papers_totals_follow_from_its_own_weights() -> None:
    for comparison in (vgg9(Preset.SNN_BL), *map(vgg9, QUANTIZED), resnet19(Preset.SNN_BL)):
        difference = differences(comparison)[PAPERS_W]
        assert difference is not None
        assert abs(difference) < 1
    # ResNet-19's quantized total only from the membrane cell that does not follow itself.
    assert differences(resnet19(Preset.QUANT_SNN))[PAPERS_W] == pytest.approx(6.3, abs=0.1)
    (row,) = [row for row in PAPER_ROWS if row.network == "resnet19" and not row.is_float]
    assert row.weights + 5 * row.membranes == pytest.approx(row.total, rel=1e-6)


def test_every_cell_that_is_off_by_more_than_its_rounding_says_why() -> None:
    found = [vgg9(preset) for preset in Preset] + [resnet19(preset) for preset in Preset]
    found += [vgg9(preset, size=(48, 64)) for preset in Preset] + [vgg9(preset, pool="before") for preset in Preset]
    for comparison in found:
        assert comparison is not None
        for cell in comparison.cells:
            assert cell.difference_percent is None or abs(cell.difference_percent) < 1 or cell.reason, cell


def test_pooling_before_the_neuron_is_not_the_papers_network() -> None:
    comparison = vgg9(Preset.QUANT_SNN, pool="before")
    assert comparison is not None
    assert [cell.reason for cell in comparison.cells if "model.pool=after" in cell.reason]
    assert ours(comparison)["U"] < 0.2


@pytest.mark.parametrize("changes", [{"size": (32, 32)}, {"width": 0.125}])
def test_no_row_for_another_input_or_width(changes: dict[str, object]) -> None:
    assert vgg9(Preset.QUANT_SNN, **changes) is None  # type: ignore[arg-type]


def test_no_row_for_a_network_of_ones_own_by_the_same_name() -> None:
    config = preset_config(Preset.SNN_BL, network="resnet19", shapes=RESNET19, time_steps=2)
    report = cost_report(RESNET19, config)
    for own, found in ((None, True), ("package.module:function", False)):
        model = ModelSpace(network="resnet19", build=own)
        comparison = paper_comparison(report, Preset.SNN_BL, model=model, height=32, width=32)
        assert (comparison is not None) is found


def test_paper_table_shows_both_and_its_units() -> None:
    comparison, floats = resnet19(Preset.QUANT_SNN), vgg9(Preset.SNN_BL)
    assert comparison is not None
    assert floats is not None
    table = paper_table(comparison)
    assert table.header == ("cell", "ours MiB", "paper MiB", "difference %")
    assert table.rows == (
        ("W", "6.0497", "6.24", "-3.0"),
        ("U", "0.3438", "0.25", "+37.5"),
        ("X", "1.3750", "-", "-"),
        ("W + U + X", "7.7685", "7.49", "+3.7"),
        (PAPERS_W, "7.9588", "7.49", "+6.3"),
    )
    notes = "\n".join(table.notes)
    for words in ("MiB is 2^20 bytes", "\nU: 0.25 MiB would be", "256 neurons between linear layers", "README"):
        assert words in notes
    assert paper_table(floats).rows[1] == ("U", "3.6864", "3.68", "+0.2")
    assert "MB is 10^6 bytes" in paper_table(floats).notes[0]
    assert not any("linear layers" in note for note in paper_table(floats).notes)


def test_paper_object_of_the_json() -> None:
    comparison = vgg9(Preset.QUANT_SNN)
    assert comparison is not None
    document = comparison.as_dict()
    assert list(document) == ["source", "system", "unit", "unit_bytes", "neurons_left_out", "cells"]
    assert (document["unit"], document["unit_bytes"], document["neurons_left_out"]) == ("MB", 10**6, 0)
    assert [cell["cell"] for cell in document["cells"]] == ["W", "U", "X", "W + U + X", PAPERS_W]
    membranes, buffer = document["cells"][1:3]
    assert membranes == {
        "cell": "U",
        "ours": 0.2304,
        "paper": 0.23,
        "difference_percent": pytest.approx(0.1739, abs=1e-4),
        "reason": None,
    }
    assert (buffer["paper"], buffer["difference_percent"]) == (None, None)


# ---------------------------------------------------------------- docs/paper.md

PAGE = (Path(__file__).parents[2] / "docs" / "paper.md").read_text(encoding="utf-8")
# Of the space files that the page names: network, and frames as (height, width) with their classes.
FILES = {
    "vgg9-cifar10dvs.yaml": ("vgg9", 48, 48, 10),
    "vgg9-ncaltech101.yaml": ("vgg9", 48, 64, 101),
    "resnet19-cifar10.yaml": ("resnet19", 32, 32, 10),
    "spikformer4-256-cifar10.yaml": ("spikformer4-256", 32, 32, 10),
}


def rows_of(columns: int) -> list[list[str]]:
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("|")]
    return [row for row in rows if len(row) == columns]


def of_file(name: str, preset: Preset) -> tuple[CostReport, PaperComparison | None]:
    network, height, width, classes = FILES[name]
    model = ModelSpace(network=network, pool="after")
    shapes = layer_shapes(model, InputShape(channels=3, height=height, width=width, classes=classes), source=name)
    config = preset_config(preset, network=network, shapes=shapes, time_steps=2)  # what is stored is that of one step
    report = cost_report(shapes, config)
    return report, paper_comparison(report, preset, model=model, height=height, width=width)


def test_memory_figures_of_the_page_are_those_of_the_command() -> None:
    rows = [row for row in rows_of(8) if row[0] in FILES]
    assert {row[0] for row in rows} == set(FILES)
    for name, preset, unit, *figures in rows:
        _, comparison = of_file(name, Preset(preset))
        assert comparison is not None
        assert comparison.row.unit == unit
        assert figures == [cells[1] for cells in paper_table(comparison).rows]


def test_operations_of_the_page_are_those_of_the_command() -> None:
    rows = [row for row in rows_of(2) if row[0] in FILES]
    assert [row[0] for row in rows] == list(FILES)
    for name, macs in rows:
        assert macs == quantity(of_file(name, Preset.SNN_BL)[0].dense_macs)


def test_the_papers_cells_on_the_page_are_those_in_the_code() -> None:
    names = {"MB": "MB", "MiB": "MiB", "unknown": "MiB"}
    cells = [
        (names[row[7]], row[2] == "32", float(row[4]), float(row[5]), float(row[6]))
        for row in rows_of(10)
        if row[1].endswith(("SNN-BL", "SNN"))
    ]
    assert len(cells) == 10
    assert set(cells) == {(row.unit, row.is_float, row.weights, row.membranes, row.total) for row in PAPER_ROWS}


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[2].glob("spaces/*.yaml")), ids=lambda file: file.stem)
def test_every_space_that_comes_along_holds_its_references_and_costs_less_as_a_preset(file: Path) -> None:
    prepared = prepare(file, ["data.classes=3"] if file.stem == "vgg5-images" else [])  # which has no images yet
    network, shapes = prepared.space.file.model.network, prepared.shapes
    memory = {
        preset: cost_report(
            prepared.shapes,
            preset_config(preset, network=network, shapes=shapes, time_steps=prepared.space.file.most_time_steps),
        ).memory_bytes
        for preset in Preset
    }
    assert prepared.space.references
    assert memory[Preset.QUANT_SNN] < memory[Preset.SPQUANT_SNN] < memory[Preset.SNN_BL]
