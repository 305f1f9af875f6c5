"""The commands `pick` and `verify`: which member is written, and that it computes what it should."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from spquant_search.data.loading import DataSet
from spquant_search.deploy.artifact import read_artifact
from spquant_search.deploy.c_library import compiler
from spquant_search.deploy.export import sealed
from spquant_search.errors import UserError
from spquant_search.report.numbers import interval_text
from spquant_search.runs.intervals import wilson_interval
from spquant_search.runs.records import read_frozen_space, read_results, read_test_accuracies
from spquant_search.runs.selection import front, knee, pickable
from spquant_search.snn.layers import configure
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.training import data_set
from spquant_search.training.data_set import input_shape, split_on_device
from spquant_search.training.evaluation import evaluate
from spquant_search.training.network import load_weights, new_network


def test_what_the_search_proposes_to_pick_can_be_picked(finished, run_folder, command, tmp_path):
    _, done = finished
    (words,) = re.findall(r"Pick from it: spquant-search (pick tiny --max-memory \d+KiB) --out picked", done.stdout)
    members = pickable(front(read_results(run_folder), DEFAULT_COSTS))
    answer = command(*words.split(), "--out", str(tmp_path / "picked"))
    assert (answer.code, answer.err) == (0, "")
    within = 1024 * int(words.split()[-1].removesuffix("KiB"))
    assert knee(members, DEFAULT_COSTS).memory_bytes in range(within - 1023, within + 1)


def test_pick_takes_a_network_that_evaluates_to_its_stored_accuracy(run_folder, command, tmp_path, plain_neurons):
    members = front(read_results(run_folder), DEFAULT_COSTS)
    small = members[0]
    out = tmp_path / "picked"
    answer = command("pick", "tiny", "--max-memory", f"{small.memory_bytes}B", "--out", out)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"trial {small.number} of {len(members)} members of the front: ")
    assert f"-> {out}" in answer.out
    artifact = read_artifact(out)
    assert artifact.config == small.config
    assert artifact.test_accuracy == read_test_accuracies(run_folder)[small.number]
    assert (artifact.accuracy_samples, artifact.test_samples) == (40, 40)
    page = (out / "README.md").read_text()
    interval = wilson_interval(artifact.test_accuracy, 40)
    assert (
        f"{100 * artifact.test_accuracy:.2f} %; {interval_text(interval, ' to ')} (95 %, Wilson) of 40 samples" in page
    )
    space = read_frozen_space(run_folder)
    data = data_set.load_data(space, cache=Path(os.environ["SPQUANT_CACHE"]))
    network = new_network(space, input_shape(data), seed=123, device=torch.device("cpu"))
    configure(network, artifact.config, artifact.neuron)
    load_weights(network, out / "weights.safetensors")
    evaluation = evaluate(network, split_on_device(data, "validation", torch.device("cpu")))
    assert evaluation.accuracy == artifact.accuracy == small.accuracy
    assert evaluation.effective_macs == artifact.effective_macs
    again = command("pick", "tiny", "--out", out)
    assert again.code == 2
    assert again.err.startswith(f"error: {out}: exists already")


def test_pick_explains_what_is_next_to_its_choice_and_why_nothing_fits(run_folder, command, tmp_path):
    members = front(read_results(run_folder), DEFAULT_COSTS)
    quantized = [member for member in members if all(layer.weight_bits != 32 for _, layer in member.config.layers)]
    most_accurate, best = (max(of, key=lambda member: member.accuracy) for of in (members, quantized))
    answer = command("pick", "tiny", "--out", tmp_path / "best")
    assert answer.out.startswith(f"trial {best.number} of ")
    not_taken = f"  not taken: trial {most_accurate.number} ("
    assert (not_taken in answer.out) == (most_accurate is not best)
    assert most_accurate is best or "float weights in conv1 and 8 more" in answer.out
    if most_accurate.accuracy > best.accuracy:
        high = command("pick", "tiny", "--min-accuracy", most_accurate.accuracy, "--out", tmp_path / "none")
        assert high.code == 2
        assert re.search(rf"Trial {most_accurate.number} fits, .* float weights in conv1 and 8 more", high.err)
    assert ("  next cheaper: trial " in answer.out) == (min(quantized, key=lambda m: m.memory_bytes) != best)
    assert "  next better: trial " not in answer.out
    nothing = command("pick", "tiny", "--max-memory", "1KiB", "--out", tmp_path / "none")
    assert nothing.code == 2
    assert re.search(r"trial \d+ \([\d.]+ %, [\d.]+ KiB, [\d.]+ MFLOPs\)", nothing.err)
    assert re.search(r"--max-memory 1KiB: it has [\d,]+ bytes, [\d,]+ bytes more than 1,024 bytes", nothing.err)
    assert re.search(r"no search of this space can do it: its smallest configuration takes [\d,]+ bytes", nothing.err)
    assert not (tmp_path / "none").exists()
    wrong = command("pick", "tiny", "--max-memory", "64 apples", "--out", tmp_path / "none")
    assert wrong.code == 2
    assert wrong.err.startswith("error: --max-memory 64 apples: ")
    assert command("pick", "tiny", "--knee", "--out", tmp_path / "knee").code == 0


def test_pick_by_number(run_folder, command, tmp_path):
    members = front(read_results(run_folder), DEFAULT_COSTS)
    named = next(member for member in members if member.number)
    answer = command("pick", "tiny", "--trial", named.number, "--out", tmp_path / "named")
    assert answer.code == 0
    assert answer.out.startswith(f"trial {named.number} of {len(members)} members of the front: ")
    assert read_artifact(tmp_path / "named").config == named.config
    absent = command("pick", "tiny", "--trial", 999, "--out", tmp_path / "none")
    assert absent.err.startswith("error: --trial 999: is not on the front of runs/tiny: there is no trial 999")
    assert absent.err.rstrip().endswith(", ".join(str(member.number) for member in members))
    both = command("pick", "tiny", "--trial", named.number, "--knee", "--out", tmp_path / "none")
    assert both.code == 2
    assert "--knee" in both.err
    if members[-1].number == 0:
        baseline = command("pick", "tiny", "--trial", 0, "--out", tmp_path / "none")
        assert baseline.code == 2
        assert "trial 0 cannot be written in integers: it keeps float weights in conv1 and 8 more" in baseline.err


def test_pick_by_flash_and_ram(run_folder, command, tmp_path):
    members = [member for member in front(read_results(run_folder), DEFAULT_COSTS) if member.number]
    members = [member for member in members if member.flash_bytes is not None]
    small = min(members, key=lambda member: member.flash_bytes)
    assert command("pick", "tiny", "--max-flash", f"{small.flash_bytes}", "--out", tmp_path / "flash").code == 0
    written = read_artifact(tmp_path / "flash")
    assert written.config == small.config
    assert (written.flash_bytes, written.ram_bytes) == (small.flash_bytes, small.ram_bytes)
    few = command("pick", "tiny", "--max-flash", "1KiB", "--out", tmp_path / "none")
    assert re.search(r"--max-flash 1KiB: it has [\d,]+ bytes, ", few.err)
    tight = command("pick", "tiny", "--max-ram", "1KiB", "--out", tmp_path / "none")
    assert re.search(r"--max-ram 1KiB: it has [\d,]+ bytes, ", tight.err)
    modest = min(members, key=lambda member: member.ram_bytes)
    assert command("pick", "tiny", "--max-ram", f"{modest.ram_bytes}", "--out", tmp_path / "ram").code == 0
    assert read_artifact(tmp_path / "ram").config == modest.config


def test_a_number_without_a_unit_is_read_as_bytes_and_asked_about(run_folder, command, tmp_path):
    members = pickable(front(read_results(run_folder), DEFAULT_COSTS))
    kib = math.ceil(max(member.flash_bytes for member in members) / 1024)
    answer = command("pick", "tiny", "--max-flash", kib, "--out", tmp_path / "none")
    assert answer.code == 2
    assert f"more than {kib} bytes; did you mean {kib}KiB?" in answer.err
    assert "no search" not in answer.err
    assert command("pick", "tiny", "--max-flash", f"{kib}KiB", "--out", tmp_path / "some").code == 0
    millions = math.ceil(max(member.effective_flops for member in members) / 1e6)
    few = command("pick", "tiny", "--max-flops", millions, "--out", tmp_path / "none")
    assert f"did you mean {millions}M?" in few.err


def test_a_network_without_an_integer_form_is_named_and_no_budget_blamed(run_folder, command, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run_folder.path, other)
    for file in (other / "trials").glob("*.json"):
        values = json.loads(file.read_text())
        values["engine_flash_bytes"] = values["engine_ram_bytes"] = None
        file.write_text(json.dumps(values))
    for words in ((), ("--max-flash", "64KiB")):
        answer = command("pick", other, *words, "--out", tmp_path / "none")
        assert answer.code == 2
        assert answer.err.startswith("error: nothing on the front can be picked: ")
        assert "longer" not in answer.err
    shown = command("report", other)
    assert shown.code == 0
    assert "Nothing can be picked: " in shown.out
    assert "Pick from it" not in shown.out


def reseal(folder: Path) -> None:
    """Make a folder's manifest true again of what was changed in it."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    for name, content in sealed(manifest, files).items():
        (folder / name).write_bytes(content)


def test_verify_compares_all_three_and_names_the_first_difference(run_folder, command, tmp_path):
    out = tmp_path / "picked"
    assert command("pick", "tiny", "--out", out).code == 0
    answer = command("verify", out, "--samples", "20")
    assert (answer.code, answer.err) == (0, "")
    assert "on 20 samples of the test split" in answer.out
    assert len(re.findall(r" 0 of \d{3},\d{3} spikes and all logits", answer.out)) == (1 if compiler() is None else 2)
    whole = json.loads(command("verify", out, "--json").out)
    assert whole["samples"] == 40
    assert set(whole["mismatches"].values()) == {0}
    expected = read_artifact(out).test_accuracy
    assert all(accuracy == expected for accuracy in whole["accuracy"].values())

    source = (out / "model.c").read_text()
    (out / "model.c").write_text(source.replace("u > one", "u >= one"))
    changed = command("verify", out)
    assert (changed.code, changed.out) == (2, "")
    assert changed.err.startswith(f"error: {out / 'model.c'}: was changed")
    (out / "model.c").write_text(source.replace("u > one", "u > one + one"))
    reseal(out)
    wrong = command("verify", out, "--samples", "8")
    if compiler() is not None:
        assert wrong.code == 3
        where = r"sample \d+, time step \d+, channel \d+, row \d+, column \d+"
        assert re.search(rf"first difference between numpy and C: conv1, {where}", wrong.out)
    (out / "model.c").write_text("int main(void) { return nothing; }")
    reseal(out)
    refused = command("verify", out, "--samples", "8")
    assert compiler() is None or (refused.code == 3 and "note: C was not run: " in refused.out)
    (out / "manifest.json").unlink()
    assert command("verify", out).err.startswith(f"error: {out / 'manifest.json'}: is missing; ")


def test_verify_takes_the_stored_vectors_where_the_data_is_absent(run_folder, command, tmp_path, monkeypatch):
    out = tmp_path / "picked"
    assert command("pick", "tiny", "--out", out).code == 0

    def gone(*_arguments: object, **_options: object) -> None:
        raise UserError("data.root: no such folder")

    monkeypatch.setattr(data_set, "load_data", gone)
    answer = command("verify", out)
    assert answer.code == 0
    assert "on 8 stored test vectors" in answer.out
    assert re.search(r"note: .* stored test vectors .*: data.root: no such folder", answer.out)
    made = command("pick", "tiny", "--out", tmp_path / "made")
    assert made.code == 0
    assert re.fullmatch(r"note: .* made-up frames, .*: data.root: no such folder\n", made.err)
    assert command("verify", tmp_path / "made").code == 0
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    assert manifest["test_vectors"] == {"made_up": True, "samples": []}
    assert manifest["classes"][:2] == ["T-shirt/top", "trouser"]


def test_data_whose_classes_have_changed_is_not_compared_by_its_labels(finished, command, tmp_path, monkeypatch):
    shutil.copytree(finished[0] / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    assert command("pick", "tiny", "--out", tmp_path / "picked").code == 0
    as_it_was = data_set.load_data
    shuffled = ("trouser", "T-shirt/top")
    change = "label 0 was 'T-shirt/top', and is 'trouser' now"

    def renamed(*arguments: object, **options: object) -> DataSet:
        found = as_it_was(*arguments, **options)
        return replace(found, classes=(*shuffled, *found.classes[2:]))

    monkeypatch.setattr(data_set, "load_data", renamed)
    words = f"the classes of fashion-events are not those that the network was trained for: {change}"
    answer = command("verify", tmp_path / "picked")
    assert (answer.code, answer.err) == (0, "")
    assert f"note: compared on the stored test vectors alone: {words}" in answer.out
    made = command("pick", "tiny", "--out", tmp_path / "made")
    assert (made.code, made.err) == (0, f"note: the test vectors are made-up frames, not those of the data: {words}\n")
    assert "| 0 | T-shirt/top |" in (tmp_path / "made" / "README.md").read_text()
    before = Path("runs/tiny/front.json").read_bytes()
    refused = command("finalize", "tiny", "--epochs", "1", "--workers", "1")
    assert refused.code == 2
    assert f"the classes of this run's data have changed since it began: {change}. Undo the change" in refused.err
    assert Path("runs/tiny/front.json").read_bytes() == before


def test_pick_says_that_c_was_not_run(run_folder, command, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", str(shutil.which("false")))
    answer = command("pick", "tiny", "--out", tmp_path / "picked")
    assert answer.code == 0
    assert re.match(
        r"note: the C library was not run on the test vectors: the C compiler does not work here: ", answer.err
    )
    assert (tmp_path / "picked" / "model.c").is_file()


def test_pick_with_a_prefix_is_verified_and_a_wrong_prefix_refused(run_folder, command, tmp_path):
    out = tmp_path / "wake"
    assert command("pick", "tiny", "--prefix", "wake", "--out", out).code == 0
    assert (out / "wake_model.c").is_file()
    assert not (out / "model.c").exists()
    answer = command("verify", out, "--samples", "8")
    assert (answer.code, answer.err) == (0, "")
    assert len(re.findall(r" 0 of \d+,\d{3} spikes and all logits", answer.out)) == (1 if compiler() is None else 2)
    assert "`#include <wake_model.h>`" in (out / "README.md").read_text()
    wrong = command("pick", "tiny", "--prefix", "Wake", "--out", tmp_path / "none")
    assert wrong.code == 2
    assert wrong.err.startswith("error: --prefix Wake: must be at most 16 lower-case letters")
    assert not (tmp_path / "none").exists()


def test_flash_and_ram_are_those_of_what_is_written_whatever_version_searched(run_folder, command, tmp_path):
    """A run that did not count the input frame is picked from as one that did."""
    now = command("pick", "tiny", "--out", tmp_path / "now")
    artifact = read_artifact(tmp_path / "now")
    assert artifact.frame_bytes > 0
    assert f"({artifact.frame_bytes:,} of them the input frame)" in now.out
    earlier = tmp_path / "earlier"
    shutil.copytree(run_folder.path, earlier)
    for file in (earlier / "trials").glob("*.json"):
        values = json.loads(file.read_text())
        if values["engine_ram_bytes"] is not None:
            values["engine_ram_bytes"] -= artifact.frame_bytes
            values["engine_flash_bytes"] += 100
        file.write_text(json.dumps(values))
    for options in ((), ("--max-ram", artifact.ram_bytes)):
        assert command("pick", earlier, *options, "--out", tmp_path / f"again{len(options)}").code == 0
    again = read_artifact(tmp_path / "again0")
    assert (again.flash_bytes, again.ram_bytes) == (artifact.flash_bytes, artifact.ram_bytes)
    assert read_artifact(tmp_path / "again2").ram_bytes <= artifact.ram_bytes
