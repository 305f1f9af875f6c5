"""The command `verify --emulate`: what is printed, and with which exit code it ends."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from cli.test_deployment import reseal
from deploy.emulated import needs_emulator

from spquant_search.cli.completion import complete_target
from spquant_search.deploy.emulator.emulation_report import NO_TIME
from spquant_search.deploy.emulator.targets import TARGETS

DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.fixture
def picked(run_folder, command, tmp_path, monkeypatch):
    """What pick wrote, in the folder picked here."""
    assert command("pick", "tiny", "--out", tmp_path / "picked").code == 0
    monkeypatch.chdir(tmp_path)
    return Path("picked")


def words_of_the_page() -> list[str]:
    """Return the command that the page begins the section with."""
    section = DEPLOYMENT.read_text(encoding="utf-8").partition("## On an emulated Cortex-M\n")[2]
    line = re.findall(r"^```sh\n(.*?)\n```", section, flags=re.MULTILINE)[0]
    return shlex.split(line)[1:]


@needs_emulator
@pytest.mark.slow
def test_the_command_of_the_page_and_its_json(picked, command):
    answer = command(*words_of_the_page())
    assert (answer.code, answer.err) == (0, "")
    assert re.search(r"^trial \d+ of tiny: its C on an emulated Cortex-M4$", answer.out, flags=re.MULTILINE)
    assert "on 8 stored test vectors in 2 time steps\n" in answer.out
    assert re.search(r"^checksums of spikes +0 of 128$", answer.out, flags=re.MULTILINE)
    assert re.search(
        r"^instructions a sample: [\d,]+ on average, from [\d,]+ to [\d,]+$", answer.out, flags=re.MULTILINE
    )
    assert len(re.findall(r"^conv\d +[\d,]+ +[\d.]+ %$", answer.out, flags=re.MULTILINE)) == 8
    assert re.search(r"^stack, .* +\d{3}$", answer.out, flags=re.MULTILINE)
    assert f"note: {NO_TIME}\n" in answer.out
    assert not re.search(r"\d+ (ms|milliseconds|seconds|µs)\b", answer.out), "instructions are no time"
    found = json.loads(command(*words_of_the_page(), "--samples", "3", "--json").out)
    assert (found["holds"], found["failure"], found["samples"], found["of_test_split"]) == (True, None, 3, True)
    assert set(found["mismatches"].values()) == {0}
    assert found["accuracy"] in (0, 1 / 3, 2 / 3, 1)
    measured = found["measured"]
    layers = sum(measured["layers"].values()) + measured["after_layers"]
    assert measured["instructions"]["mean"] == pytest.approx(layers, rel=0.05)
    assert measured["instructions"]["least"] <= measured["instructions"]["mean"] <= measured["instructions"]["most"]
    assert measured["flash_bytes"] > 10_000


@needs_emulator
def test_what_differs_ends_with_3_and_shows_no_figures(picked, command):
    source = (picked / "model.c").read_text()
    wrong = re.sub(r"(?<=\bspq_class\(void\)\n\{)", "\n    if (SPQ_CLASSES) return SPQ_CLASSES - 1;", source)
    assert wrong != source
    (picked / "model.c").write_text(wrong)
    changed = command("verify", picked, "--emulate", "cortex-m4")
    assert (changed.code, changed.out) == (2, "")
    assert changed.err.startswith("error: picked/model.c: was changed")
    reseal(picked)
    answer = command("verify", picked, "--emulate", "cortex-m4", "--samples", "2")
    assert (answer.code, answer.err) == (3, "")
    assert re.search(
        r"first difference between numpy and an emulated Cortex-M4: classes, sample \d, class 9", answer.out
    )
    assert "instructions a sample" not in answer.out
    (picked / "model.c").write_text("int main(void) { return nothing; }")
    reseal(picked)
    refused = json.loads(command("verify", picked, "--emulate", "cortex-m4", "--json").out)
    assert not refused["holds"]
    assert "nothing" in refused["failure"]
    assert refused["measured"] is None
    assert command("verify", picked, "--emulate", "cortex-m4").code == 3


def test_nothing_is_run_without_the_tools_or_a_target(picked, command, monkeypatch):
    answer = command("verify", picked, "--emulate", "cortex-m5")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: --emulate cortex-m5: is no target; did you mean cortex-m")
    monkeypatch.setenv("PATH", str(picked))
    missing = command("verify", picked, "--emulate", "cortex-m4")
    assert (missing.code, missing.out) == (2, "")
    assert missing.err.startswith("error: --emulate cortex-m4 needs qemu-system-arm, arm-none-eabi-gcc, ")
    shutil.rmtree(picked)
    assert "there is no such folder" in command("verify", picked, "--emulate", "cortex-m4").err


def test_the_targets_are_those_of_the_page_and_of_the_help(command):
    rows = re.findall(r"^\| `([\w+-]+)` \| .* \| (\S+) \| (.*) \| (.*) \| (.*) \|$", DEPLOYMENT.read_text(), flags=re.M)
    units = {"KiB": 2**10, "MiB": 2**20}

    def size(text: str) -> int:
        number, unit = text.split()
        return int(number) * units[unit]

    assert [(name, machine, size(flash), size(ram), float(tick)) for name, machine, flash, ram, tick in rows] == [
        (one.name, one.machine, one.flash.bytes, one.ram.bytes, one.timer.instructions_per_tick)
        for one in TARGETS.values()
    ]
    text = " ".join(command("verify", "--help").out.replace("│", " ").split())
    assert all(name in text for name in TARGETS)
    assert complete_target("cortex-m3") == ["cortex-m33"]
