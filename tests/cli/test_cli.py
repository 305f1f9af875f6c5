"""The command line: exit codes and messages, and one search from end to end, interrupted, killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from examples import trial
from processes import children_of, is_alive
from rich.console import Console

from spquant_search.cli import app as cli
from spquant_search.cli.app import main, parse_quantity
from spquant_search.deploy.artifact import read_artifact
from spquant_search.deploy.c_library import compiler
from spquant_search.deploy.export import sealed
from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFacts, RunFolder, exclusive, open_run
from spquant_search.runs.results import TrialResult
from spquant_search.runs.selection import front, knee
from spquant_search.snn.layer_shapes import layer_shapes
from spquant_search.snn.layers import configure
from spquant_search.space.binding import bind
from spquant_search.space.presets import Preset
from spquant_search.space.reading import read_space
from spquant_search.space.references import preset_config
from spquant_search.space.shapes import InputShape
from spquant_search.training import data_set, prepare, prepared
from spquant_search.training.data_set import input_shape, split_on_device
from spquant_search.training.evaluation import evaluate
from spquant_search.training.network import load_weights, new_network

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
PROGRAM = [sys.executable, "-c", "from spquant_search.cli.app import main; main()"]
SMALLER = {
    "data.train_samples": "64",
    "data.validation_samples": "40",
    "data.test_samples": "40",
    "time_steps": "2",
    "train.batch_size": "32",
    "train.baseline_epochs": "2",
}
SEARCH = [
    *("--space", str(TINY), "--trials", "3", "--workers", "1", "--device", "cpu"),
    *(word for path, value in SMALLER.items() for word in ("--set", f"{path}={value}")),
]
LIMIT_SECONDS = 240.0


def environment() -> dict[str, str]:
    return os.environ | {"SPQUANT_COMPILE": "0"}


def program(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program run in a folder of its own, whatever its exit code."""
    return subprocess.run(
        [*PROGRAM, *words],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


# ---------------------------------------------------------------- one search, from end to end


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A search that nothing disturbed: the folder it was started in and what it printed."""
    home = tmp_path_factory.mktemp("finished")
    done = program(home, *SEARCH)
    assert done.returncode == 0, done.stderr
    return home, done


@pytest.fixture
def run_folder(finished, monkeypatch) -> RunFolder:
    """The run of the finished search, from the folder it was started in."""
    monkeypatch.chdir(finished[0])
    return RunFolder(path=Path("runs/tiny"))


def test_a_search_leaves_every_file_and_nothing_else(finished):
    home, _ = finished
    assert [path.name for path in home.iterdir()] == ["runs"]
    assert [path.name for path in (home / "runs").iterdir()] == ["tiny"]
    run = home / "runs" / "tiny"
    assert {path.name for path in run.iterdir()} == {
        *("space.yaml", "environment.json", "run.json", "study.journal", "study.lock", "lock", "trials", "tests.json"),
        *("profile.json", "supernet.safetensors", "results.csv", "front.csv", "front.json", "front.png", "report.md"),
    }
    assert sorted(path.name for path in (run / "trials").iterdir()) == [
        "0000.logits",
        *(
            f"{result.number:04d}.{kind}"
            for result in RunFolder(path=run).results()
            for kind in ("json", "safetensors")
        ),
    ]
    assert (run / "front.png").read_bytes().startswith(b"\x89PNG")
    for file in (*run.glob("*.json"), *run.glob("trials/*.json")):
        json.loads(file.read_text(), parse_constant=pytest.fail)  # neither NaN nor Infinity


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_the_tables_agree_with_the_results(run_folder):
    results = run_folder.results()
    rows = table(run_folder.path / "results.csv")
    assert [int(row["number"]) for row in rows] == list(range(len(results)))
    assert [row["origin"] for row in rows[:4]] == ["baseline", "reference", "reference", "random"]
    assert {row["origin"] for row in rows[4:]} == {"fine-tuned"}
    for row, result in zip(rows, results, strict=True):
        assert float(row["accuracy"]) == result.accuracy
        assert int(row["memory_bytes"]) == result.memory_bytes
        assert float(row["effective_flops"]) == 2 * result.effective_macs
        assert int(row["conv3.weight_bits"]) == result.config["conv3"].weight_bits
    members = table(run_folder.path / "front.csv")
    assert [int(row["number"]) for row in members] == [member.number for member in front(results)]
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in members)


def test_the_run_remembers_what_made_it(run_folder):
    facts = run_folder.facts()
    assert facts.source == str(TINY)
    assert facts.command.endswith(" ".join(SEARCH))
    assert "simulated" in facts.data
    assert (facts.classes, facts.validation_samples, facts.test_samples) == (10, 40, 40)
    assert facts.seconds > 0
    assert run_folder.space() == read_space(
        TINY,
        [f"{path}={value}" for path, value in SMALLER.items()]
        + [
            "search.trials=3",
            "search.workers=1",
        ],
    )


def test_what_is_piped_has_no_control_characters(finished):
    _, done = finished
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout) == []
    lines = done.stdout.splitlines()
    assert any(line.startswith("recordings ready") for line in lines)
    assert "trial 3  subnets  accuracy " in done.stdout
    assert "trial 4  epoch 1/1  loss " in done.stdout
    assert "Written to runs/tiny: front.png, front.csv, front.json, results.csv, report.md" in lines
    assert done.stderr == ""


def test_what_the_search_proposes_to_pick_can_be_picked(finished, run_folder, command, tmp_path):
    _, done = finished
    (words,) = re.findall(r"Pick from it: spquant-search (pick tiny --max-memory \d+KiB) --out picked", done.stdout)
    answer = command(*words.split(), "--out", str(tmp_path / "picked"))
    assert (answer.code, answer.err) == (0, "")
    within = 1024 * int(words.split()[-1].removesuffix("KiB"))
    assert knee(front(run_folder.results())).memory_bytes in range(within - 1023, within + 1)


MEMBER_KEYS = [
    *("number", "origin", "accuracy", "accuracy_split", "test_accuracy", "memory_bytes", "weight_bytes"),
    *("membrane_bytes", "overhead_bytes", "flash_bytes", "ram_bytes", "dense_macs", "effective_macs"),
    *("effective_flops", "synaptic_ops", "final", "config"),
]


def test_front_json_keeps_its_contract(run_folder, command):
    answer = command("front", "tiny", "--json")
    assert (answer.code, answer.err) == (0, "")
    document = json.loads(answer.out)
    assert document == json.loads((run_folder.path / "front.json").read_text())
    assert list(document) == [
        *("run", "objectives", "reference_point", "hypervolume", "seconds", "constraints", "trials", "baseline"),
        "members",
    ]
    assert document["run"] == "tiny"
    assert document["objectives"] == ["accuracy", "memory_bytes", "effective_macs"]
    baseline = document["baseline"]
    assert document["reference_point"] == pytest.approx(
        {
            "accuracy": 0.1,
            "memory_bytes": 1.1 * baseline["memory_bytes"],
            "effective_macs": 1.1 * baseline["effective_macs"],
        }
    )
    assert list(document["trials"]) == [
        *("total", "subnets", "trained_one_epoch", "last_rung", "stopped", "over_budget", "failed"),
    ]
    assert document["trials"]["subnets"] == 3
    for member in (baseline, *document["members"]):
        assert list(member) == MEMBER_KEYS
        assert member["accuracy_split"] == "validation"
        assert 0 <= member["accuracy"] <= 1
        assert 0 <= member["test_accuracy"] <= 1
        assert member["memory_bytes"] == sum(member[f"{part}_bytes"] for part in ("weight", "membrane", "overhead"))
        assert member["effective_flops"] == 2 * member["effective_macs"]
        assert list(member["config"]) == [*(f"conv{n}" for n in range(1, 9)), "readout"]
        for precision in member["config"].values():
            assert list(precision) == ["weight_bits", "membrane_levels", "channel_mass", "skip_below"]
    assert [member["number"] for member in document["members"]] == [m.number for m in front(run_folder.results())]


def test_front_is_a_table_for_people_by_name_and_by_path(run_folder, command):
    by_name, by_path = command("front", "tiny"), command("front", "runs/tiny")
    assert by_name == by_path
    assert by_name.code == 0
    assert by_name.out.startswith("tiny: the front of accuracy, memory and operations\n")


@pytest.mark.parametrize(("width", "shown"), [(99, False), (100, True)])
def test_energy_is_in_the_front_where_there_is_room(run_folder, width, shown):
    console = Console(width=width, force_terminal=True)
    table = cli._front_table(cli._summary(run_folder), run_folder, console)
    assert ("uJ int" in table.header) is shown


def test_report_writes_the_files_again(run_folder, command):
    before = {name: (run_folder.path / name).read_bytes() for name in ("front.json", "results.csv", "report.md")}
    for name in before:
        (run_folder.path / name).unlink()
    assert command("report", "tiny").code == 0
    assert {name: (run_folder.path / name).read_bytes() for name in before} == before


def test_the_same_command_again_trains_nothing(run_folder, command):
    def stamps() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (run_folder.path / "trials").iterdir()}

    before, tested = stamps(), run_folder.tests_file.read_bytes()
    answer = command(*SEARCH)
    assert (answer.code, answer.err) == (0, "")
    assert stamps() == before
    assert run_folder.tests_file.read_bytes() == tested
    assert "started" not in answer.out
    assert "3 of them done before" in answer.out


def test_pick_takes_a_network_that_evaluates_to_its_stored_accuracy(run_folder, command, tmp_path, plain_neurons):
    members = front(run_folder.results())
    small = members[0]
    out = tmp_path / "picked"
    answer = command("pick", "tiny", "--max-memory", f"{small.memory_bytes}B", "--out", out)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"trial {small.number} of {len(members)} members of the front: ")
    assert f"-> {out}" in answer.out
    artifact = read_artifact(out)
    assert artifact.config == small.config
    assert artifact.test_accuracy == run_folder.test_accuracies()[small.number]
    space = run_folder.space()
    data = data_set.load_data(space, cache=Path(os.environ["SPQUANT_CACHE"]))
    network = new_network(space, input_shape(data), seed=123, device=torch.device("cpu"))
    configure(network, artifact.config, artifact.neuron)
    load_weights(network, out / "weights.safetensors")
    evaluation = evaluate(network, split_on_device(data, "validation", torch.device("cpu")))
    assert evaluation.accuracy == artifact.accuracy == small.accuracy
    assert evaluation.effective_macs == artifact.effective_macs
    again = command("pick", "tiny", "--out", out)
    assert (again.code, again.err) == (2, f"error: {out}: exists already; give --out a new folder\n")


def test_pick_explains_what_is_next_to_its_choice_and_why_nothing_fits(run_folder, command, tmp_path):
    members = front(run_folder.results())
    quantized = [member for member in members if all(layer.weight_bits != 32 for _, layer in member.config.layers)]
    most_accurate, best = (max(of, key=lambda member: member.accuracy) for of in (members, quantized))
    answer = command("pick", "tiny", "--out", tmp_path / "best")
    assert answer.out.startswith(f"trial {best.number} of ")
    not_taken = f"  not taken: trial {most_accurate.number} ("
    assert (not_taken in answer.out) == (most_accurate is not best)
    assert most_accurate is best or "), which keeps float weights in conv1 and 8 more" in answer.out
    if most_accurate.accuracy > best.accuracy:
        high = command("pick", "tiny", "--min-accuracy", most_accurate.accuracy, "--out", tmp_path / "none")
        fits = f"Trial {most_accurate.number} fits, but keeps float weights in conv1 and 8 more\n"
        assert (high.code, high.err.endswith(fits)) == (2, True)
    assert ("  next smaller: trial " in answer.out) == (members[0] != best)
    nothing = command("pick", "tiny", "--max-memory", "1KiB", "--out", tmp_path / "none")
    assert nothing.code == 2
    assert re.fullmatch(
        r"error: no member of the front fits\. Nearest is trial \d+ \([\d.]+ %, [\d.]+ KiB, [\d.]+ MFLOPs\), "
        r"which misses --max-memory by \d+ %; relax that, or search longer\n",
        nothing.err,
    )
    assert not (tmp_path / "none").exists()
    wrong = command("pick", "tiny", "--max-memory", "64 apples", "--out", tmp_path / "none")
    assert wrong.err == "error: --max-memory 64 apples: must be a number with a unit such as 64KiB, 60M or 1.5MB\n"
    assert command("pick", "tiny", "--knee", "--out", tmp_path / "knee").code == 0


def test_pick_by_number(run_folder, command, tmp_path):
    members = front(run_folder.results())
    named = next(member for member in members if member.number)
    answer = command("pick", "tiny", "--trial", named.number, "--out", tmp_path / "named")
    assert answer.code == 0
    assert answer.out.startswith(f"trial {named.number} of {len(members)} members of the front: ")
    assert read_artifact(tmp_path / "named").config == named.config
    absent = command("pick", "tiny", "--trial", 999, "--out", tmp_path / "none")
    numbers = ", ".join(str(member.number) for member in members)
    assert absent.err == f"error: --trial: 999 is not on the front of {run_folder.path}; its members are {numbers}\n"
    both = command("pick", "tiny", "--trial", named.number, "--knee", "--out", tmp_path / "none")
    assert both.err == "error: --trial names the member to take; leave the budgets and --knee away\n"
    if members[-1].number == 0:
        baseline = command("pick", "tiny", "--trial", 0, "--out", tmp_path / "none")
        assert baseline.err == ("error: trial 0 cannot be written in integers: conv1: keeps float weights\n")


def test_pick_by_flash_and_ram(run_folder, command, tmp_path):
    members = [member for member in front(run_folder.results()) if member.number]
    members = [member for member in members if member.flash_bytes is not None]
    small = min(members, key=lambda member: member.flash_bytes)
    assert command("pick", "tiny", "--max-flash", f"{small.flash_bytes}", "--out", tmp_path / "flash").code == 0
    written = read_artifact(tmp_path / "flash")
    assert written.config == small.config
    assert (written.flash_bytes, written.ram_bytes) == (small.flash_bytes, small.ram_bytes)
    few = command("pick", "tiny", "--max-flash", "1KiB", "--out", tmp_path / "none")
    assert "which misses --max-flash by" in few.err
    tight = command("pick", "tiny", "--max-ram", "1KiB", "--out", tmp_path / "none")
    assert "which misses --max-ram by" in tight.err
    modest = min(members, key=lambda member: member.ram_bytes)
    assert command("pick", "tiny", "--max-ram", f"{modest.ram_bytes}", "--out", tmp_path / "ram").code == 0
    assert read_artifact(tmp_path / "ram").config == modest.config


def test_pick_by_flash_from_a_run_that_does_not_say_it(run_folder, command, tmp_path):
    """A run of an earlier version has no flash and RAM of its members."""
    old = tmp_path / "old"
    shutil.copytree(run_folder.path, old)
    for file in (old / "trials").glob("*.json"):
        values = json.loads(file.read_text())
        del values["engine_flash_bytes"], values["engine_ram_bytes"]
        file.write_text(json.dumps(values))
    answer = command("pick", old, "--max-flash", "64KiB", "--out", tmp_path / "none")
    assert answer.code == 2
    assert "which misses --max-flash (its run does not say); relax that, or search longer" in answer.err
    assert command("pick", old, "--max-memory", "1MiB", "--out", tmp_path / "picked").code == 0


def reseal(folder: Path) -> None:
    """Make a folder's manifest true again of what was changed in it."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
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
    assert changed.err == (
        f"error: {out / 'model.c'}: was changed after it was written; write the folder again with spquant-search pick\n"
    )
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

    monkeypatch.setattr(prepare, "load_data", gone)
    answer = command("verify", out)
    assert answer.code == 0
    assert "on 8 stored test vectors" in answer.out
    assert "note: compared on the stored test vectors alone: data.root: no such folder" in answer.out
    made = command("pick", "tiny", "--out", tmp_path / "made")
    assert made.code == 0
    assert (
        made.err == "note: the test vectors are made-up frames, as the data is not there: data.root: no such folder\n"
    )
    assert command("verify", tmp_path / "made").code == 0


def test_finalize_trains_on_and_pick_takes_what_it_kept(finished, command, tmp_path, monkeypatch, plain_neurons):
    shutil.copytree(finished[0] / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPQUANT_COMPILE", "0")
    run = RunFolder(path=Path("runs/tiny"))
    searched = {path.name: path.read_bytes() for path in (run.path / "trials").iterdir()}
    words = ("finalize", "tiny", "--epochs", "1", "--seeds", "2", "--members", "1", "--workers", "1")
    answer = command(*words)
    assert (answer.code, answer.err) == (0, "")
    assert {path.name: path.read_bytes() for path in (run.path / "trials").iterdir()} == searched
    ((number, final),) = run.finals("1-epochs").items()
    document = json.loads((run.path / "front.json").read_text())
    shown = {member["number"]: member for member in document["members"]} | {0: document["baseline"]}
    assert list(shown[number]["final"]) == [
        *("epochs", "seeds", "validation_mean", "validation_std", "test_mean", "test_std"),
    ]
    assert (shown[number]["final"]["epochs"], shown[number]["final"]["seeds"]) == (1, 2)
    assert shown[number]["accuracy"] == final.accuracy >= run.result(number).accuracy
    assert all(member["final"] is None for member in document["members"] if member["number"] != number)
    # What is said of the kept weights is what they evaluate to.
    space = run.space()
    data = data_set.load_data(space, cache=Path(os.environ["SPQUANT_CACHE"]))
    network = new_network(space, input_shape(data), seed=123, device=torch.device("cpu"))
    configure(network, final.config, space.neuron)
    load_weights(network, *run.weights_of(final))
    measured = {
        name: evaluate(network, split_on_device(data, name, torch.device("cpu"))) for name in ("validation", "test")
    }
    assert measured["validation"].accuracy == final.accuracy
    assert measured["test"].accuracy == run.latest_test_accuracies()[number]
    if number in {member["number"] for member in document["members"]}:
        out = ("--max-memory", f"{final.memory_bytes}", "--min-accuracy", str(final.accuracy), "--out", "picked")
        assert command("pick", "tiny", *out).code == 0
        assert read_artifact(Path("picked")).accuracy >= final.accuracy
    before = {path: path.stat().st_mtime_ns for path in (run.path / "final").rglob("*")}
    assert command(*words).code == 0
    assert {path: path.stat().st_mtime_ns for path in (run.path / "final").rglob("*")} == before


def test_another_space_under_the_same_name_is_refused(run_folder, command):
    before = run_folder.space_file.read_bytes()
    answer = command(*SEARCH, "--set", "train.epochs=9")
    assert answer.code == 2
    assert answer.err == (
        "error: runs/tiny: this run searches another space than the one given:\n"
        "  train.epochs: 2 in the run, 9 now\n"
        "Undo the change, or start a run of its own with --run NAME.\n"
    )
    assert run_folder.space_file.read_bytes() == before


def test_a_run_in_work_is_refused(run_folder, command):
    with exclusive(run_folder):
        answer = command(*SEARCH)
    assert answer.code == 2
    assert f"another search is working on this run (process {os.getpid()})" in answer.err


# ---------------------------------------------------------------- interrupted, killed, resumed


class Search:
    """A search in a process group of its own, as a shell starts it."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *SEARCH],
            cwd=home,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._watchdog = threading.Timer(LIMIT_SECONDS, self.process.kill)
        self._watchdog.start()
        self.lines: list[str] = []

    def until(self, words: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return
        pytest.fail(f"the search ended before {words!r}:\n{''.join(self.lines)}")

    def children(self) -> list[int]:
        return children_of(self.process.pid)

    def end(self) -> int:
        assert self.process.stdout is not None
        with self.process.stdout:
            self.lines.extend(self.process.stdout)
        code = self.process.wait()
        self._watchdog.cancel()
        return code


@pytest.fixture(scope="module")
def disturbed(finished, tmp_path_factory) -> dict[str, object]:
    """The same search, interrupted by Ctrl-C, then killed, then left alone."""
    home = tmp_path_factory.mktemp("disturbed")
    first = Search(home)
    first.until("trial 0  epoch 1")
    os.killpg(first.process.pid, signal.SIGINT)
    interrupted = first.end()
    second = Search(home)
    second.until("training the supernet")
    orphans = second.children()
    second.process.kill()
    killed = second.process.wait()
    third = Search(home)
    code = third.end()
    second.end()
    return {
        "home": home,
        "codes": (interrupted, killed, code),
        "lines": (first.lines, second.lines, third.lines),
        "orphans": orphans,
    }


def test_ctrl_c_says_that_nothing_is_lost(disturbed):
    assert disturbed["codes"] == (130, -signal.SIGKILL, 0), disturbed["lines"]
    words = "".join(disturbed["lines"][0])
    assert "Interrupted. Nothing finished is lost: the same command goes on with run tiny.\n" in words
    assert "Traceback" not in words


def test_what_was_finished_is_not_trained_again(disturbed):
    started = [
        [int(line.split()[1]) for line in lines if re.match(r"trial \d+  started", line)]
        for lines in disturbed["lines"]
    ]
    # The second is killed while it trains the supernet; the third's fourth trial is the first to be fine-tuned.
    assert started[:2] == [[0], [0]]
    assert started[2][:4] == [1, 2, 3, 4]


def test_trainers_of_a_killed_search_end_by_themselves(disturbed):
    assert disturbed["orphans"]
    deadline = time.monotonic() + 60
    while any(map(is_alive, disturbed["orphans"])):
        assert time.monotonic() < deadline
        time.sleep(0.1)


WALL_CLOCK = {"seconds"}


def rows_of(file: Path) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name not in WALL_CLOCK} for row in table(file)]


def test_equal_seeds_give_equal_results_disturbed_or_not(finished, disturbed):
    one, other = finished[0] / "runs" / "tiny", disturbed["home"] / "runs" / "tiny"
    for name in ("results.csv", "front.csv"):
        assert rows_of(one / name) == rows_of(other / name)
    documents = [json.loads((run / "front.json").read_text()) for run in (one, other)]
    assert documents[0] | {"seconds": 0} == documents[1] | {"seconds": 0}
    for file in ("supernet.safetensors", *(f"trials/{number:04d}.safetensors" for number in range(5))):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def test_seconds_add_up_over_all_starts_however_they_end(tmp_path):
    folder = unfinished_run(tmp_path / "run")
    with cli._counted(folder, time.monotonic() - 10):
        pass
    with pytest.raises(KeyboardInterrupt), cli._counted(folder, time.monotonic() - 20):
        raise KeyboardInterrupt
    assert folder.facts().seconds == pytest.approx(30, abs=1)


# ---------------------------------------------------------------- exit code 2, and nothing half made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "train.epoch=3"], ": train.epoch: unknown key; did you mean 'epochs'? Known here: epochs, "),
        (
            ["--set", "layers.all.weight_bits=[2, 5]"],
            ": layers.all.weight_bits.1: must be one of 1, 2, 3, 4, 8, 32; got 5",
        ),
        (
            ["--set", "layers.conv9.weight_bits=4"],
            ": layers.conv9: unknown layer; did you mean 'conv8'? vgg9 has conv1 .. readout: conv1, conv2,",
        ),
        (
            ["--set", "data.name=fashion-event"],
            "not 'fashion-event'; did you mean 'fashion-events'?",
        ),
        (["--set", "model.network=vgg8"], ": model.network: unknown network 'vgg8'; did you mean 'vgg9'? Known: vgg9"),
        (["--set", "data.train_samples=999999"], "error: data.train_samples: must be 1 to "),
        (["--set", "trials"], "error: --set trials: must be PATH=VALUE, for example --set train.epochs=3"),
        (["--device", "cuda"], "--device cuda: this machine has no CUDA device that torch can use; take --device cpu"),
        (["--device", "gpu"], "--device gpu: must be auto, cpu, cuda or cuda:K with K a device number"),
        (
            ["--set", "train.precision=fp16"],
            "train.precision: fp16 needs a GPU, and this training is on device cpu; take auto, bf16 or fp32",
        ),
        (
            ["--set", "train.augment={roll: 34}"],
            ": train.augment.roll: must be less than the frame's height and width, 34x34; got 34",
        ),
        (["--run", "a-file/run"], "a-file/run: cannot make this run's folder: "),
        (["--run", "a-file"], "runs/a-file"),
        (
            ["--run", "./a-file"],
            "a-file: exists and is no run (it holds no space.yaml); choose another name with --run",
        ),
    ],
)
def test_what_the_user_must_change(command, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "a-file").write_text("x")
    if words == ["--run", "a-file"]:
        (tmp_path / "runs").write_text("not a folder")
        message = "runs/a-file: cannot make this run's folder: "
    before = sorted(tmp_path.rglob("*"))
    answer = command(*SEARCH, *words)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words", [["--trials", "0"], ["--workers", "x"], ["--no-such-option"], ["no-such-command"]])
def test_options_out_of_range(command, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    answer = command(*SEARCH, *words)
    assert answer.code == 2
    assert answer.err.startswith("Usage: spquant-search")
    assert list(tmp_path.iterdir()) == []


def test_a_space_file_that_is_not_there(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["--space", "gone.yaml"], ["cost", "--space", "gone.yaml"]):
        answer = command(*words)
        assert (answer.code, answer.err) == (
            2,
            "error: gone.yaml: cannot read this space file: No such file or directory. Give the path of a YAML file.\n",
        )
    assert list(tmp_path.iterdir()) == []


def test_without_a_space_there_is_help_and_exit_code_2(command):
    answer = command()
    assert answer.code == 2
    assert "Usage: spquant-search [OPTIONS] COMMAND" in answer.out


def test_a_space_before_a_command(command):
    answer = command("--space", TINY, "cost")
    assert (answer.code, answer.err) == (
        2,
        "error: --space belongs behind the command: spquant-search cost --space FILE\n",
    )


@pytest.mark.parametrize("words", [["front"], ["report"], ["pick", "--out", "picked"], ["finalize"]])
def test_a_run_that_is_not_there(command, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    answer = command(*words[:1], "gone", *words[1:])
    assert (answer.code, answer.err) == (
        2,
        "error: runs/gone: is no run (it holds no space.yaml). "
        "Give the name of a folder below runs/, or the path of one.\n",
    )
    assert list(tmp_path.iterdir()) == []


def unfinished_run(path: Path, *results: TrialResult) -> RunFolder:
    folder = RunFolder(path=path)
    facts = RunFacts(source="tiny", command="", data="", classes=10, validation_samples=1, test_samples=1)
    open_run(folder, read_space(TINY), facts)
    for result in results:
        folder.write_result(result)
    return folder


def test_a_run_without_a_baseline_yet(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unfinished_run(tmp_path / "runs" / "young")
    for words in (["front"], ["report"]):
        answer = command(*words, "young")
        assert (answer.code, answer.err) == (
            2,
            "error: runs/young: the baseline of this run is not trained yet; start its search again\n",
        )
    for words in (["pick", "young", "--out", "picked"], ["finalize", "young"]):
        answer = command(*words)
        assert (answer.code, answer.err) == (
            2,
            "error: runs/young: no trial of this run is complete yet; start its search again\n",
        )


def test_the_front_of_an_unfinished_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unfinished_run(tmp_path / "runs" / "young", trial(0, 0.9, 100, 50, origin="baseline"))
    document = json.loads(command("front", "young", "--json").out)
    assert [member["number"] for member in document["members"]] == [0]
    assert document["members"][0]["test_accuracy"] is None
    assert document["trials"]["total"] == 0


def test_ctrl_c_before_a_search_has_begun(command, monkeypatch):
    def interrupts(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "prepare", interrupts)
    assert command("cost", "--space", TINY).code == 130
    assert command(*SEARCH).code == 130


def test_a_bug_is_no_user_error(command, monkeypatch):
    def fails(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(prepare, "prepare", fails)
    monkeypatch.setattr(sys, "argv", ["spquant-search", "cost", "--space", str(TINY)])
    with pytest.raises(ZeroDivisionError):  # of which the interpreter makes a traceback and exit code 1
        main()


# ---------------------------------------------------------------- cost


def test_cost_json_keeps_its_contract(command):
    answer = command("cost", "--space", TINY, "--json")
    assert (answer.code, answer.err) == (0, "")
    document = json.loads(answer.out)
    assert list(document) == ["space", "preset", "time_steps", "layers", "total"]
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
        *("dense_macs", "dense_macs_all_steps"),
    ]
    for name in ("weight_bytes", "membrane_bytes", "overhead_bytes", "dense_macs"):
        assert total[name] == sum(layer[name] for layer in document["layers"])
    assert total["memory_bytes"] == total["weight_bytes"] + total["membrane_bytes"] + total["overhead_bytes"]
    assert total["dense_macs_all_steps"] == 3 * total["dense_macs"]


def test_cost_agrees_with_the_trained_baseline(run_folder, command):
    overrides = [word for path, value in SMALLER.items() for word in ("--set", f"{path}={value}")]
    total = json.loads(command("cost", "--space", TINY, "--json", *overrides).out)["total"]
    baseline = run_folder.results()[0]
    assert total["memory_bytes"] == baseline.memory_bytes
    assert total["dense_macs_all_steps"] == baseline.dense_macs == baseline.effective_macs


def test_cost_is_a_table_for_people(command):
    answer = command("cost", "--space", TINY)
    assert answer.code == 0
    assert answer.out.startswith("Cost of vgg9 as snn-bl\n")
    assert "conv1" in answer.out
    assert "readout" in answer.out
    assert "uJ fp32" in answer.out
    assert "upper bound" in answer.out


@pytest.mark.parametrize("preset", ["snn-bl", "quant-snn", "spquant-snn"])
def test_cost_of_a_preset_whatever_the_space_has(command, preset):
    # tiny.yaml has no channel mass of 0.85.
    document = json.loads(command("cost", "--space", TINY, "--preset", preset, "--json").out)
    assert list(document) == ["space", "preset", "time_steps", "layers", "total"]
    assert document["preset"] == preset
    quantized, gated = preset != "snn-bl", preset == "spquant-snn"
    for layer in document["layers"]:
        assert layer["weight_bits"] == (2 if quantized else 32)
        assert layer["membrane_levels"] == (None if layer["layer"] == "readout" else 3 if quantized else 0)
    plain = json.loads(command("cost", "--space", TINY, "--preset", "quant-snn", "--json").out)["total"]
    assert (document["total"]["overhead_bytes"] > plain["overhead_bytes"]) == gated or not quantized
    assert command("cost", "--space", TINY, "--preset", preset).out.startswith(f"Cost of vgg9 as {preset}\n")


def test_cost_without_a_preset_is_that_of_the_float_network(command):
    plain, named = (command("cost", "--space", TINY, "--json", *words) for words in ((), ("--preset", "snn-bl")))
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
    assert list(document) == ["space", "preset", "time_steps", "layers", "total", "paper"]
    cells = {cell["cell"]: cell for cell in document["paper"]["cells"]}
    assert (cells["U"]["ours"], cells["U"]["paper"]) == (0.2304, 0.23)
    assert round(1e6 * cells["W + U + X"]["ours"]) == document["total"]["paper_total_bytes"]
    lines = command("cost", "--space", TINY, "--preset", "snn-bl").out.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("U ")]
    assert row == ["U", "3.6864", "3.68", "+0.2"]


# ---------------------------------------------------------------- one preset alone


def preset_run(home: Path, preset: str, *words: str) -> subprocess.CompletedProcess[str]:
    few = {**SMALLER, "train.baseline_epochs": "1", "train.epochs": "1"}
    options = [word for path, value in few.items() for word in ("--set", f"{path}={value}")]
    return program(home, "--space", str(TINY), "--preset", preset, "--device", "cpu", *options, *words)


def test_a_preset_is_trained_alone_after_the_baseline(tmp_path):
    done = preset_run(tmp_path, "spquant-snn")
    assert done.returncode == 0, done.stderr
    run = RunFolder(path=tmp_path / "runs" / "tiny-spquant-snn")
    baseline, only = run.results()
    assert (baseline.origin, only.origin) == ("baseline", "reference")
    shapes = prepare.prepare(TINY).shapes
    assert only.config == preset_config(Preset.SPQUANT_SNN, network="vgg9", shapes=shapes)
    assert len(only.epochs) == 1
    assert "uJ fp32" in done.stdout


def test_the_float_preset_is_the_baseline(tmp_path):
    done = preset_run(tmp_path, "snn-bl", "--run", "floats")
    assert done.returncode == 0, done.stderr
    (only,) = RunFolder(path=tmp_path / "runs" / "floats").results()
    assert only.origin == "baseline"


def test_a_preset_that_does_not_go_with_other_options(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = command("--space", TINY, "--preset", "quant-snn", "--trials", "4")
    assert (answer.code, answer.err) == (
        2,
        "error: --trials 4: --preset quant-snn trains one configuration; give one of the two\n",
    )
    answer = command("--preset", "quant-snn", "front", "tiny")
    assert (answer.code, answer.err) == (
        2,
        "error: --preset belongs behind the command, and only `cost` takes it: got quant-snn\n",
    )
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- small things


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64KiB", 65536),
        ("64kib", 65536),
        ("64 Ki", 65536),
        ("64K", 64000),
        ("64KB", 64000),
        ("1.5MB", 1.5e6),
        ("60M", 60e6),
        ("60MFLOPs", 60e6),
        ("2GiB", 2**31),
        ("1000", 1000),
        ("10B", 10),
        (" 7 ", 7),
    ],
)
def test_quantities(text, value):
    assert parse_quantity(text, "--max-memory") == value


@pytest.mark.parametrize("text", ["", "KiB", "-1K", "1,5M", "64 apples", "1e6", "64KiKi", "nan"])
def test_words_that_are_no_quantity(text):
    with pytest.raises(UserError, match=r"^--max-flops .*: must be a number with a unit such as 64KiB, 60M or 1\.5MB$"):
        parse_quantity(text, "--max-flops")


def test_version(command):
    assert command("--version") == (0, f"spquant-search {cli.__version__}\n", "")


HEAVY = ("torch", "optuna", "pydantic", "matplotlib")
NOTHING_HEAVY = f"""
import sys
from spquant_search.cli.app import main
sys.argv[0] = "spquant-search"
try:
    if len(sys.argv) > 1:
        main()
finally:
    print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["--version"]])
def test_help_needs_nothing_heavy(words):
    done = subprocess.run([sys.executable, "-c", NOTHING_HEAVY, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heavy: []\n")
    if "help" in "".join(words):
        assert "Usage: spquant-search" in done.stdout


def test_help_lists_every_command_and_option(command):
    text = command("--help").out
    for word in ("--space", "--run", "--trials", "--minutes", "--workers", "--device", "--seed", "--preset", "--set"):
        assert word in text
    for word in ("cost", "front", "finalize", "pick", "report"):
        assert re.search(rf"^  {word} ", text, flags=re.MULTILINE)


# ---------------------------------------------------------------- sensitivity


@pytest.fixture(scope="module")
def analysed(tmp_path_factory) -> tuple[Path, list[str], subprocess.CompletedProcess[str]]:
    place = tmp_path_factory.mktemp("sensitivity")
    words = ["sensitivity", *SEARCH[:2], *SEARCH[4:], "--set", "supernet.epochs=1"]
    words += ["--set", "supernet.statistics_samples=64"]
    done = program(place, *words)
    return place, words, done


def test_sensitivity_shows_what_every_lower_choice_costs(analysed):
    place, _, done = analysed
    assert done.returncode == 0, done.stderr
    folder = RunFolder(path=place / "runs" / "tiny")
    found = folder.sensitivity()
    assert [str(choice.address) for choice in found.choices][:3] == [
        "conv1.weight_bits",
        "conv1.membrane_levels",
        "conv2.weight_bits",
    ]
    assert len(found.choices) == 17  # two choices of bits in 9 layers, two of levels in 8
    assert all(0 < found.bytes_saved(choice) < found.memory_bytes for choice in found.choices)
    assert "what lower precisions of weights cost" in done.stdout
    assert "What should lose least within a memory" in done.stdout
    assert (folder.path / "sensitivity.png").read_bytes()[:4] == b"\x89PNG"
    assert [result.origin for result in folder.results()] == ["baseline"]


def test_sensitivity_asked_again_only_shows(analysed):
    place, words, _ = analysed
    kept = (place / "runs" / "tiny" / "sensitivity.json").read_bytes()
    done = program(place, *words, "--json")
    assert json.loads(done.stdout) == json.loads(kept)
    assert "epoch" not in done.stderr


def test_sensitivity_of_a_run_in_a_database_is_shown_and_not_made(analysed, tmp_path):
    place, words, _ = analysed
    shutil.copytree(place / "runs", tmp_path / "runs")
    folder = RunFolder(path=tmp_path / "runs" / "tiny")
    folder.shared_study_file.write_text('{"study": "tiny"}', encoding="utf-8")
    done = program(tmp_path, *words, "--json")
    assert json.loads(done.stdout) == json.loads(folder.sensitivity_file.read_text())
    other = program(tmp_path, *words, "--set", "supernet.epochs=2")
    assert other.returncode == 2
    assert "supernet.epochs: 1 in the run, 2 now" in other.stderr
    folder.sensitivity_file.unlink()
    missing = program(tmp_path, *words)
    assert missing.returncode == 2
    assert "only its search can make it" in re.sub(r"\s+", " ", missing.stderr)


def test_sensitivity_of_a_space_without_choices_is_refused(tmp_path):
    words = ["sensitivity", "--space", str(TINY), "--set", "layers={all: {}}"]
    done = program(tmp_path, *words)
    assert done.returncode == 2
    assert "nothing to compare" in done.stderr
    assert not (tmp_path / "runs").exists()
