"""Tables: their columns, their width, their three forms."""

from __future__ import annotations

import io

import pytest
from examples import config, example_run, trial
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console
from shapes import convolution, readout

from spquant_search.costs.memory import cost_report
from spquant_search.report.cost_table import cost_table
from spquant_search.report.front_table import front_table, hypervolume_text
from spquant_search.report.layer_table import layer_table
from spquant_search.report.text_table import TextTable, markdown_text, one_line
from spquant_search.runs.pareto import ReferencePoint
from spquant_search.runs.results import LayerActivity


def shown(renderable: object, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(renderable)
    return file.getvalue().splitlines()


def test_one_line_keeps_words_and_drops_what_moves_a_cursor():
    assert one_line("a\x1b[31m b\r\n\tc\u202ed\x9b") == "a [31m b c d"


@given(st.text(max_size=30) | st.text("\\`*_[]<>|~&$ a;#!(", max_size=12))
@example("**a**")
@example("_a_")
@example("<b>&amp;")
@example("[a](b)")
@example("\\")
@example("`a` | b")
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    cell = page.render(f"| n |\n|---|\n| x{markdown_text(name)}x |")
    (tokens,) = page.parseInline(f"x{markdown_text(name)}x")
    kinds = {token.type for token in tokens.children or ()}
    assert kinds <= {"text", "text_special"}, "no emphasis, code, link or tag"
    shown = "".join(token.content for token in tokens.children or ())
    assert shown == f"x{one_line(name) or repr(name)}x"
    assert cell.count("<td>") == 1


def test_names_are_not_escaped_where_nothing_is_meant() -> None:
    assert markdown_text("car_side 2.T-shirt/top (new)!") == "car_side 2.T-shirt/top (new)!"


def test_front_table_by_hand():
    table = front_table(example_run(test_accuracy={2: 0.851}, test_samples=10_000))
    assert table.header == (
        *(
            "trial",
            "val",
            "val 95 %",
            "test",
            "test 95 %",
            "KiB",
            "factor",
            "FLOPs",
            "factor",
            "bits",
            "levels",
            "gate",
        ),
    )
    assert table.rows == (
        (
            *("2*", "86.4", "84.8..87.9", "85.1", "84.3..85.8"),
            *("10.0", "1/10.0", "25.0 M", "1/4.00", "844", "3A", "g1s2"),
        ),
        (*("0* base", "90.0", "88.6..91.3", "", ""), *("100.0", "1", "100 M", "1", "FFF", "FF", "")),
    )


def test_front_table_leaves_out_what_no_member_has():
    run = example_run(results=(trial(3, of=config("844", "3 3")),))
    table = front_table(run)
    assert table.header == ("trial", "val", "val 95 %", "KiB", "FLOPs", "bits", "levels")
    # No baseline: no factors.
    assert table.rows == (("3*", "80.0", "78.1..81.7", "10.0", "25.0 M", "844", "33"),)
    assert not any("base" in note.partition(": ")[0] for note in table.notes)


def test_front_table_of_nine_layers_fits_80_columns():
    nine = config("844422223", "3 3 3 3 16 256 3 3", mass=0.8, skip=0.0)
    run = example_run(results=(*example_run().results[:1], trial(12, 0.9, 99.9, 49, of=nine)), test_accuracy={12: 0.88})
    lines = shown(front_table(run, intervals=()).rich(), 80)
    assert max(map(len, lines)) <= 80
    assert any("8444 2222 3  3333 AE33  g7s8" in line for line in lines)
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", [20, 40, 60])
def test_tables_survive_narrow_terminals(width):
    assert max(map(len, shown(front_table(example_run()).rich(), width))) <= width


def test_deep_forms_fold_between_groups():
    deep = config("4" * 36, " ".join(["3"] * 35))
    lines = shown(front_table(example_run(results=(trial(3, of=deep),))).rich(), 80)
    assert sum(line.count("4444") for line in lines) == 9


def test_markdown_has_equal_columns_and_escapes_bars():
    table = TextTable(title="t", header=("a|b", "c"), rows=(("x|y", "1\n2"),), total=("sum", "3"), notes=("n",))
    assert table.markdown().splitlines() == [
        "| a\\|b | c |",
        "| --: | --: |",
        "| x\\|y | 1 2 |",
        "| **sum** | **3** |",
        "",
        "- n",
    ]


def test_cost_table_by_hand():
    shapes = (
        # 2 * 4 * 9 = 72 weights, 16 positions: 1,152 MACs; 64 neurons
        convolution("conv1", 2, 4, 16, gate=False),
        readout(256, 10),
    )
    table = cost_table(cost_report(shapes, config("80", "3", time_steps=5)), title="Cost", energy_columns=False)
    assert table.header == ("layer", "weights", "neurons", "bits", "levels", "W KiB", "U KiB", "other", "MACs", "FLOPs")
    # readout: 2,560 float weights in 10 KiB
    assert table.rows == (
        ("conv1", "72", "64", "8", "3", "0.1", "0.0", "0.0", "1.15 k", "2.30 k"),
        ("readout", "2,560", "0", "float", "-", "10.0", "0.0", "0.0", "2.56 k", "5.12 k"),
    )
    assert table.total == ("total", "2,632", "64", "", "", "10.1", "0.0", "0.1", "3.71 k", "7.42 k")
    assert "18.6 kMAC = 37.1 kFLOPs" in table.notes[2]  # of all 5 steps
    assert "| **total** | **2,632** | **64** |  |  |" in table.markdown()


def test_layer_table_with_and_without_activity():
    precision = config("844", "3 16", mass=0.8, skip=0.0)
    activity = LayerActivity(effective_macs=1.25e6, synaptic_ops=0.0, density=0.1234, open_share=0.755)
    table = layer_table(trial(1, of=precision, layers=(("conv1", activity), ("readout", activity))))
    assert table.rows == (
        ("conv1", "8", "3", "-", "0", "75.5", "0.123", "2.5"),
        ("conv2", "4", "16", "0.8", "0", "-", "-", "-"),
        ("readout", "4", "-", "-", "-", "75.5", "-", "2.5"),
    )
    assert layer_table(trial(1, of=precision)).rows[0] == ("conv1", "8", "3", "-", "0")


def test_hypervolume_is_never_told_without_its_reference_point():
    point = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 102_400, "effective_flops": 100e6})
    text = hypervolume_text(0.5157, point)
    assert all(figure in text for figure in ("0.5157 of at most 0.9", "10.0 %", "100.0 KiB", "100 MFLOPs"))
    assert "baseline" in hypervolume_text(None, None)
