"""The command `cost`: its document, its table, its presets, the paper beside them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from network_shapes import layer_shapes
from searches import SMALLER, TINY

from spquant_search.commands.needs import disk_warnings, memory_warnings
from spquant_search.costs.extremes import byte_figures
from spquant_search.data.loading import FrameFile
from spquant_search.runs.records import read_results
from spquant_search.runs.sensitivity import reference_configuration
from spquant_search.space.binding import bind
from spquant_search.space.reading import read_space
from spquant_search.space.shapes import InputShape
from spquant_search.training import prepare, prepared
from spquant_search.training.demand import DiskDemand, MemoryDemand

KEYS = [
    "space",
    "preset",
    "no_integer_form",
    "notes",
    "time_steps",
    "layers",
    "total",
    "by_time_steps",
    "range",
    "search",
]


def test_cost_json_keeps_its_contract(command):
    answer = command("cost", "--space", TINY, "--json")
    assert (answer.code, answer.err) == (0, "")
    document = json.loads(answer.out)
    assert list(document) == KEYS
    assert (document["space"], document["preset"], document["time_steps"]) == (str(TINY), "snn-bl", 3)
    for layer in document["layers"]:
        assert list(layer) == [
            *("layer", "weights", "neurons", "dense_macs", "weight_bits", "membrane_levels"),
            *("weight_bytes", "membrane_bytes", "overhead_bytes"),
        ]
        assert layer["weight_bytes"] == 4 * layer["weights"]
        assert layer["membrane_bytes"] == 4 * layer["neurons"]
    readout = document["layers"][-1]
    assert (readout["layer"], readout["neurons"], readout["membrane_levels"]) == ("readout", 0, None)
    total = document["total"]
    assert list(total) == [
        *("weight_bytes", "membrane_bytes", "overhead_bytes", "memory_bytes", "paper_total_bytes"),
        *("dense_macs", "dense_macs_all_steps", "flash_bytes", "ram_bytes"),
    ]
    for name in ("weight_bytes", "membrane_bytes", "overhead_bytes", "dense_macs"):
        assert total[name] == sum(layer[name] for layer in document["layers"])
    assert total["memory_bytes"] == total["weight_bytes"] + total["membrane_bytes"] + total["overhead_bytes"]
    assert total["dense_macs_all_steps"] == 3 * total["dense_macs"]


def test_cost_agrees_with_the_trained_baseline(run_folder, command):
    overrides = [word for path, value in SMALLER.items() for word in ("--set", f"{path}={value}")]
    total = json.loads(command("cost", "--space", TINY, "--json", *overrides).out)["total"]
    baseline = read_results(run_folder)[0]
    assert total["memory_bytes"] == baseline.memory_bytes
    assert total["dense_macs_all_steps"] == baseline.dense_macs == baseline.effective_macs


def test_cost_at_every_number_of_time_steps(command):
    several = ("--space", TINY, "--set", "time_steps=[1,2,4]")
    document = json.loads(command("cost", *several, "--preset", "quant-snn", "--json").out)
    assert document["time_steps"] == 4
    by_steps = {found.pop("time_steps"): found for found in document["by_time_steps"]}
    assert list(by_steps) == [1, 2, 4]
    assert by_steps[4] == document["total"]
    for steps, found in by_steps.items():
        alone = json.loads(
            command("cost", "--space", TINY, "--set", f"time_steps={steps}", "--preset", "quant-snn", "--json").out
        )
        assert alone["total"] == found
        assert [{"time_steps": steps, **found}] == alone["by_time_steps"]
        assert (found["membrane_bytes"] == 0) == (steps == 1)
    text = command("cost", *several, "--preset", "quant-snn").out
    assert text.startswith("Cost of vgg9 as quant-snn at 4 time steps\n")
    assert "The same at every number of time steps of the space; the table of layers is that at 4 time steps" in text
    rows = [line.split() for line in text.splitlines() if re.match(r"[124] +\d", line)]
    assert [(row[0], row[-1]) for row in rows] == [("1", "1/4.00"), ("2", "1/2.00"), ("4", "1")]
    assert "a sample in fewer than 4 time steps is that part of a pass; the supernet and the finalists take" in text
    assert "every number of time steps" not in command("cost", "--space", TINY).out


def test_cost_is_a_table_for_people(command):
    answer = command("cost", "--space", TINY)
    assert answer.code == 0
    assert answer.out.startswith("Cost of vgg9 as snn-bl\n")
    assert "conv1" in answer.out
    assert "readout" in answer.out
    assert "uJ fp32" in answer.out


@pytest.mark.parametrize("preset", ["snn-bl", "quant-snn", "spquant-snn"])
def test_cost_of_a_preset_whatever_the_space_has(command, preset):
    # tiny.yaml has no channel mass of 0.85.
    document = json.loads(command("cost", "--space", TINY, "--preset", preset, "--json").out)
    assert list(document) == KEYS
    assert document["preset"] == preset
    quantized, gated = preset != "snn-bl", preset == "spquant-snn"
    for layer in document["layers"]:
        assert layer["weight_bits"] == (2 if quantized else 32)
        assert layer["membrane_levels"] == (None if layer["layer"] == "readout" else 3 if quantized else 0)
    plain = json.loads(command("cost", "--space", TINY, "--preset", "quant-snn", "--json").out)["total"]
    assert (document["total"]["overhead_bytes"] > plain["overhead_bytes"]) == gated or not quantized
    assert command("cost", "--space", TINY, "--preset", preset).out.startswith(f"Cost of vgg9 as {preset}\n")


def test_cost_without_a_preset_is_that_of_the_float_network(command):
    answers = [command("cost", "--space", TINY, "--json", *words) for words in ((), ("--preset", "snn-bl"))]
    plain, named = (json.loads(answer.out) for answer in answers)
    for document in (plain, named):
        for changing in ("disk", "memory"):  # what is free
            del document["search"][changing]
    assert plain == named


def test_a_preset_that_is_not_there(command):
    answer = command("cost", "--space", TINY, "--preset", "quant")
    assert answer.code == 2
    assert "'quant' is not one of 'snn-bl', 'quant-snn', 'spquant-snn'" in answer.err


def prepare_at_48x48(path: Path, overrides: list[str]) -> prepared.Prepared:
    """A space on frames of the size of the paper's DVS-CIFAR10."""
    file = read_space(path, [*overrides, "model.width=1", "model.pool=after"])
    shape = InputShape(channels=3, height=48, width=48, classes=10)
    shapes = layer_shapes(file.model, shape, source=str(path))
    space = bind(file, shapes, source=str(path))
    return prepared.Prepared(space=space, shapes=shapes, input=shape, architecture=None)


def test_cost_beside_the_papers_table(command, monkeypatch):
    monkeypatch.setattr(prepare, "prepare", prepare_at_48x48)
    document = json.loads(command("cost", "--space", TINY, "--preset", "quant-snn", "--json").out)
    assert list(document) == [*KEYS, "paper"]
    cells = {cell["cell"]: cell for cell in document["paper"]["cells"]}
    assert (cells["U"]["ours"], cells["U"]["paper"]) == (0.2304, 0.23)
    assert round(1e6 * cells["W + U + X"]["ours"]) == document["total"]["paper_total_bytes"]
    lines = command("cost", "--space", TINY, "--preset", "snn-bl").out.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("U ")]
    assert row == ["U", "3.6864", "3.68", "+0.2"]


def test_cost_says_what_a_search_takes(command):
    search = json.loads(command("cost", "--space", TINY, "--json").out)["search"]
    assert list(search) == ["work", "disk", "memory"]
    assert [work["part"] for work in search["work"]] == ["baseline", "supernet", "trials", "finalists", "test split"]
    assert list(search["work"][0]) == [
        *("part", "tasks", "epochs", "at_most", "trained_samples", "evaluated_samples", "passes", "macs")
    ]
    macs = search["work"][0]["macs"] // search["work"][0]["passes"]
    assert macs == json.loads(command("cost", "--space", TINY, "--json").out)["total"]["dense_macs_all_steps"]
    frames = {file["split"]: (file["samples"], file["bytes"]) for file in search["disk"]["frames"]}
    for samples, size in frames.values():
        assert 0 <= size - samples * 3 * 2 * 34 * 34 < 256 + 64 * samples  # header, checksum, and what is counted
    assert {split: samples for split, (samples, _) in frames.items()} == {"train": 512, "validation": 128, "test": 128}
    assert search["memory"]["trainers"] == 2
    words = command("cost", "--space", TINY).out
    assert "What a search of this space does, at most" in words
    assert re.search(r"^disk: frames 5\.\d\d MiB, .* free\); the run at most 4\.\d\d MiB", words, re.M)
    assert "memory: about " in words


def test_cost_without_the_data_says_what_is_missing(command):
    overrides = ("--set", "data={name: n-caltech101, root: /nowhere}", "--set", "time_steps=3")
    answer = command("cost", "--space", TINY, *overrides)
    assert answer.code == 0
    assert "note: what a search takes is known once its data are there: " in answer.out
    assert "/nowhere" in answer.out
    document = json.loads(command("cost", "--space", TINY, "--json", *overrides).out)
    assert list(document["search"]) == ["not_known"]


def test_what_does_not_fit_is_warned_of_with_a_remedy():
    memory = MemoryDemand(trainers=4, training_bytes=3 * 2**30, evaluation_bytes=2**30, available_bytes=8 * 2**30)
    (words,) = memory_warnings(memory)
    assert words.startswith("memory may run out: about 12.4 GiB are needed, and 8.00 GiB are available; take a smaller")
    assert "train.batch_size, fewer time_steps, or fewer workers (--workers)" in words
    (words,) = memory_warnings(replace(memory, trainers=1, training_bytes=0, evaluation_bytes=9 * 2**30))
    assert words.endswith("take smaller frames, fewer time_steps")
    assert memory_warnings(replace(memory, available_bytes=13 * 2**30)) == ()
    assert memory_warnings(replace(memory, available_bytes=None)) == ()
    place = Path("runs/x")
    file = FrameFile(split="train", samples=1, path=place, bytes=3 * 2**30, is_there=False)
    disk = DiskDemand(
        frames=(file,),
        frames_folder=Path("cache"),
        frames_free_bytes=2**30,
        run_bytes=2 * 2**30,
        run_folder=place,
        run_free_bytes=2**30,
    )
    of_frames, of_run = disk_warnings(disk)
    assert of_frames.startswith("cache: the frames to be made take 3.00 GiB, and 1.00 GiB are free")
    assert of_run.startswith("runs/x: the run may take 2.00 GiB, and 1.00 GiB are free; ")
    there = replace(disk, frames=(replace(file, is_there=True),), run_free_bytes=None)
    assert disk_warnings(there) == ()


# ---------------------------------------------------------------- flash, RAM, and configurations of the space

SINGLE = ("--set", "layers.all.weight_bits=1", "--set", "layers.all.membrane_levels=3", "--set", "search.references=[]",
          "--set", "layers.all.channel_mass=1", "--set", "layers.all.skip_below=none")  # fmt: skip


def test_cost_of_what_a_space_with_single_choices_costs(command):
    document = json.loads(command("cost", "--space", TINY, "--json", *SINGLE).out)
    assert document["preset"] is None
    assert {layer["weight_bits"] for layer in document["layers"]} == {1}
    prepared = prepare.prepare(TINY, [word for word in SINGLE if word != "--set"])
    (only,) = {prepared.space.config({}), reference_configuration(prepared.space)}
    figures = byte_figures(prepared.shapes, prepared.architecture, only)
    assert {name: document["total"][name] for name in figures} == figures
    assert document["range"] == {name: [size, size] for name, size in figures.items()}
    words = command("cost", "--space", TINY, *SINGLE).out
    assert words.startswith("Cost of vgg9 in its one configuration\n")
    flash, ram = (f"{figures[name] / 1024:.1f} KiB" for name in ("flash_bytes", "ram_bytes"))
    assert f"on a device, with the program in C: flash {flash}, RAM {ram}" in words


def test_cost_of_a_space_whose_choices_are_set_in_part_says_which_are_shown(command):
    one = ("--set", "layers.all.weight_bits=2", "--set", "search.references=[]")
    answer = command("cost", "--space", TINY, *one)
    assert answer.out.startswith("Cost of vgg9 at its most precise choices\n")
    assert (
        "of membrane_levels, channel_mass, skip_below there are several choices: shown is the most precise one"
        in " ".join(answer.out.split())
    )
    document = json.loads(command("cost", "--space", TINY, "--json", *one).out)
    assert {layer["weight_bits"] for layer in document["layers"]} == {2}
    assert {layer["membrane_levels"] for layer in document["layers"]} == {16, None}
    low, high = document["range"]["flash_bytes"]
    assert low < high
    # A preset that is named is shown, whatever is set.
    named = json.loads(command("cost", "--space", TINY, "--json", "--preset", "quant-snn", *one).out)
    assert named["preset"] == "quant-snn"


def test_cost_shows_the_range_of_the_space_and_no_flash_of_floats(command):
    document = json.loads(command("cost", "--space", TINY, "--json").out)
    assert (document["total"]["flash_bytes"], document["total"]["ram_bytes"]) == (None, None)
    assert list(document["range"]) == ["memory_bytes", "flash_bytes", "ram_bytes"]
    words = " ".join(command("cost", "--space", TINY).out.split())
    assert "on a device: no flash and RAM, as it keeps floating-point numbers" in words
    low, high = document["range"]["ram_bytes"]
    assert f"{low / 1024:.1f} to {high / 1024:.1f} KiB of RAM" in words
