"""The energy estimate, by hand: prices, operations, membrane traffic, and where it is shown."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from examples import config, example_run, trial
from rich.console import Console
from shapes import attention, convolution, readout

from spquant_search.costs.memory import cost_report
from spquant_search.report import front_table as tables
from spquant_search.report import numbers
from spquant_search.report.cost_table import cost_table
from spquant_search.runs import energy
from spquant_search.runs.energy import Energy, measured_energy, total_energy, upper_bounds
from spquant_search.runs.results import LayerActivity
from spquant_search.space.configuration import LayerPrecision, NetworkConfig

FIRST = convolution("conv1", 2, 4, 16, gate=False)
SECOND = convolution("conv2", 4, 8, 16, neurons=32)
READOUT = readout(32, 10)
ATTENTION = attention("attention", 4, 16, macs=1000)
STEPS = 5
WORD = 10 / 64  # pJ a bit of an 8 KiB SRAM


def activity(synaptic_ops: float) -> LayerActivity:
    return LayerActivity(effective_macs=1e9, synaptic_ops=synaptic_ops, density=0.1, open_share=1.0)


def bounds(network: NetworkConfig) -> tuple[Energy, ...]:
    return upper_bounds(cost_report((FIRST, SECOND, READOUT), network))


def test_prices_are_those_of_the_table() -> None:
    # Horowitz, ISSCC 2014, 45 nm.
    assert pytest.approx(4.6) == energy.FP32_MAC
    assert (energy.FP32_ADD, energy.INT32_ADD, energy.INT8_MULTIPLY, energy.SRAM_8KIB_64_BITS) == (0.9, 0.1, 0.2, 10)


def test_upper_bound_of_integer_layers_by_hand() -> None:
    first, second, readout = bounds(config("442", "3 16", time_steps=STEPS))
    # 72 weights at 16 positions in 5 steps; 64 membranes of 2 bits, read and written in each step.
    assert first.fp32_operations == pytest.approx(5760 * 4.6)
    assert first.integer_operations == pytest.approx(5760 * 0.3)
    assert first.membranes == pytest.approx(2 * 64 * 2 * STEPS * WORD)
    assert second.fp32_operations == pytest.approx(288 * 16 * STEPS * 0.9)
    assert second.integer_operations == pytest.approx(288 * 16 * STEPS * 0.1)
    assert second.membranes == pytest.approx(2 * 32 * 4 * STEPS * WORD)
    assert readout == Energy(
        fp32_operations=pytest.approx(320 * STEPS * 0.9),
        integer_operations=pytest.approx(320 * STEPS * 0.1),
        membranes=0.0,
    )


def test_float_layers_have_one_price() -> None:
    layers = bounds(config("000", "0 0", time_steps=STEPS))
    assert all(layer.fp32_operations == layer.integer_operations for layer in layers)
    assert layers[0].membranes == pytest.approx(2 * 64 * 32 * STEPS * WORD)


def test_float_weights_beside_quantized_membranes_stay_float() -> None:
    layers = bounds(config("000", "3 3", time_steps=STEPS))
    assert layers[1].integer_operations == layers[1].fp32_operations


def test_gates_add_their_predictors_products() -> None:
    plain = bounds(config("444", "3 3", time_steps=STEPS))[1]
    gated = bounds(config("444", "3 3", mass=0.85, time_steps=STEPS))[1]
    assert gated.fp32_operations - plain.fp32_operations == pytest.approx(4 * 8 * STEPS * 0.9)


@pytest.mark.parametrize(("levels", "price"), [(3, 0.1), (0, 0.9)])
def test_attention_adds_integers_once_its_membrane_is_quantized(levels: int, price: float) -> None:
    network = NetworkConfig(
        time_steps=STEPS,
        layers=(("conv1", LayerPrecision()), ("attention", LayerPrecision(membrane_levels=levels))),
    )
    _, attention = upper_bounds(cost_report((FIRST, ATTENTION), network))
    assert attention.integer_operations == pytest.approx(1000 * STEPS * price)


@pytest.mark.parametrize(("bits", "price"), [(4, 0.1), (32, 0.9)])
def test_attention_of_one_time_step_computes_as_the_other_layers_do(bits: int, price: float) -> None:
    of_weights = LayerPrecision(weight_bits=bits, membrane_levels=None)
    network = NetworkConfig(
        time_steps=1, layers=(("conv1", of_weights), ("attention", LayerPrecision(membrane_levels=None)))
    )
    _, attention = upper_bounds(cost_report((FIRST, ATTENTION), network))
    assert attention.integer_operations == pytest.approx(1000 * price)
    assert attention.membranes == 0


def test_measured_energy_by_hand() -> None:
    layers = (("conv1", activity(1000.0)), ("conv2", activity(200.0)), ("readout", activity(30.0)))
    result = trial(1, kib=10, of=config("440", "3 16", time_steps=STEPS), layers=layers)
    found = measured_energy(result)
    assert found is not None
    assert found.fp32_operations == pytest.approx(1000 * 4.6 + 230 * 0.9)
    assert found.integer_operations == pytest.approx(1000 * 0.3 + 200 * 0.1 + 30 * 0.9)  # the subnet's are floats
    assert found.membranes == pytest.approx(2 * 8 * result.membrane_bytes * STEPS * WORD)
    assert found.at_fp32_price == found.fp32_operations + found.membranes
    assert found.at_integer_price == found.integer_operations + found.membranes


def test_nothing_is_estimated_without_measured_operations() -> None:
    assert measured_energy(trial(1)) is None
    partly = trial(1, layers=(("conv1", activity(1.0)),))
    assert measured_energy(partly) is None


def test_full_density_is_the_measured_estimate_of_a_network_that_is_never_silent() -> None:
    network = config("442", "3 16", time_steps=STEPS)
    report = cost_report((FIRST, SECOND, READOUT), network)
    layers = tuple((cost.shape.name, activity(cost.shape.dense_macs * STEPS)) for cost in report.layers)
    result = trial(1, of=network, layers=layers)
    found = measured_energy(result)
    bound = total_energy(upper_bounds(report))
    assert found is not None
    assert found.fp32_operations == pytest.approx(bound.fp32_operations)
    assert found.integer_operations == pytest.approx(bound.integer_operations)


def test_sums_over_layers() -> None:
    one = Energy(fp32_operations=1.0, integer_operations=2.0, membranes=3.0)
    assert total_energy([one, one]) == Energy(fp32_operations=2.0, integer_operations=4.0, membranes=6.0)
    assert total_energy([]) == Energy(fp32_operations=0, integer_operations=0, membranes=0)


# ---------------------------------------------------------------- in the tables


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [(812_345, "0.812"), (999_600, "1.00"), (12_340_000, "12.3"), (999_600_000, "1,000"), (1_234_000_000, "1,234")],
)
def test_microjoules_as_people_read_them(picojoules: float, text: str) -> None:
    assert numbers.microjoules(picojoules) == text


def test_cost_table_says_that_it_is_an_upper_bound() -> None:
    report = cost_report((FIRST, SECOND, READOUT), config("442", "3 16", time_steps=STEPS))
    table = cost_table(report, title="Cost", energy_columns=True)
    assert table.header[-2:] == ("uJ fp32", "uJ int")
    # 26,496 pJ of operations and 200 pJ of membranes; 1,728 and 200.
    assert table.rows[0][-2:] == ("0.027", "0.002")
    assert table.total[-2:] == ("0.049", "0.005")
    notes = "\n".join(table.notes)
    for words in ("upper bound", "all 5 steps", "no measurement", "Horowitz", "extrapolated"):
        assert words in notes
    narrow = cost_table(report, title="Cost", energy_columns=False)
    assert "uJ fp32" not in narrow.header
    assert "at most 0.049 uJ fp32 or 0.005 uJ int" in "\n".join(narrow.notes)


def test_tables_of_nine_layers_with_energy_fit_100_columns_and_with_intervals_125() -> None:
    nine = config("844422223", "3 3 3 3 16 256 3 3", mass=0.85, skip=0.0, time_steps=STEPS)
    layers = tuple((name, activity(123e6)) for name, _ in nine.layers)
    baseline = trial(0, 0.9, 1000, 4900, origin="baseline", of=config("0" * 9, " ".join("0" * 8)), layers=layers)
    run = example_run(
        results=(baseline, trial(12, 0.9, 99.9, 490, origin="reference", of=nine, layers=layers)),
        test_accuracy={0: 0.9, 12: 0.88},
    )
    # As large as VGG-9 at 48x48.
    wide = replace(SECOND, in_channels=512, out_channels=512, positions=2304, neurons=294_912)
    shapes = tuple(replace(wide, name=name) for name, _ in nine.layers)
    cost = cost_report(shapes, nine)
    for table, width in (
        (tables.front_table(run, with_energy=True, intervals=()), 100),
        (tables.front_table(run, with_energy=True), 125),
        (cost_table(cost, title="Cost", energy_columns=True), 100),
    ):
        file = io.StringIO()
        Console(file=file, width=width, color_system=None).print(table.rich())
        lines = file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
        assert any("8444 2222 3  3333 AE33  g7s8" in line for line in lines) or table.header[0] == "layer"


def test_front_table_has_it_where_operations_were_measured() -> None:
    layers = tuple((name, activity(1e6)) for name in ("conv1", "conv2", "readout"))
    baseline = trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0", time_steps=STEPS))
    run = example_run(
        results=(baseline, trial(2, 0.864, 10, 12.5, of=config("844", "3 16", time_steps=STEPS), layers=layers))
    )
    table = tables.front_table(run, with_energy=True)
    place = table.header.index("uJ fp32")
    assert table.header[place : place + 2] == ("uJ fp32", "uJ int")
    # 6.4 and 0.5 million pJ, and 2,048 bytes of membranes: 25,600 pJ.
    assert table.rows[0][place : place + 2] == ("6.43", "0.526")
    assert table.rows[1][place : place + 2] == ("", "")
    assert any("measured on the validation split" in note for note in table.notes)
    assert "uJ fp32" not in tables.front_table(run).header
    assert not any("uJ" in note for note in tables.front_table(run).notes)
