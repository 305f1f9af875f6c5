"""One number in, a network out: `--target` searches, picks and verifies, and refuses what can be refused before."""

from __future__ import annotations

import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import Command
from deploy.networks import needs_compiler
from searches import SEARCH, SMALLER, TINY, program

from spquant_search.cli import search as search_module
from spquant_search.cli import target as target_module
from spquant_search.cli.reports import show_reports
from spquant_search.cli.target import Target, read_target, write_target
from spquant_search.commands import searching, session
from spquant_search.deploy import export as export_module
from spquant_search.deploy import verify as verify_module
from spquant_search.deploy.artifact import read_artifact
from spquant_search.deploy.verify import Verification
from spquant_search.driver import coordinator
from spquant_search.report.step_words import steps_words
from spquant_search.runs import records
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_frozen_space, read_results
from spquant_search.runs.selection import front, pickable
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.space.reading import read_space

SPACE = ["--space", str(TINY), *(word for path, value in SMALLER.items() for word in ("--set", f"{path}={value}"))]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder; whatever begins a search in it fails the test."""
    monkeypatch.chdir(tmp_path)

    def begun(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a search began")

    monkeypatch.setattr(searching, "open_session", begun)
    return tmp_path


@pytest.fixture
def searched(finished: tuple[Path, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A copy of the finished search's run, in a folder of its own, which has nothing left to do."""
    shutil.copytree(finished[0] / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(coordinator, "run_search", lambda *_arguments, **_options: None)
    monkeypatch.setattr(search_module, "show_reports", lambda *_arguments, **_options: None)
    return RunFolder(path=Path("runs/tiny"))


def bounded(run: RunFolder, size: int) -> int:
    """Let a run be that of a search within so many bytes."""
    space = yaml.safe_load(run.space_file.read_text())
    space.setdefault("constraints", {})["memory_bytes"] = size
    run.space_file.write_text(yaml.safe_dump(space))
    return size


def within(run: RunFolder) -> int:
    """Let a run be within a size that some members that can be picked keep, and others do not; return it."""
    sizes = sorted(member.memory_bytes for member in pickable(front(read_results(run), DEFAULT_COSTS)))
    assert len(set(sizes)) > 1
    return bounded(run, sizes[-2])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "64 apples"], "error: --target 64 apples: "),
        (["--target", "-1"], "error: --target -1: "),
        (["--out", "here"], "error: --out here: is where --target writes its network; give --target too, or pick "),
        (
            ["--target", "64KiB", "--preset", "quant-snn"],
            "error: --target 64KiB: --preset trains one configuration, whatever it takes; give one of the two",
        ),
        (
            ["--target", "64KiB", "--set", "constraints.memory_bytes=32KiB"],
            "error: --target 64KiB: is 65,536 bytes, and --set constraints.memory_bytes=32KiB says 32,768 for the same "
            "constraint; give one of the two",
        ),
        (
            ["--target", "64KiB", "--set", "constraints={memory_bytes: 1MiB}"],
            "error: --target 64KiB: is 65,536 bytes, and --set constraints={memory_bytes: 1MiB} says 1,048,576 for",
        ),
        (["--target", "64KiB", "--out", "runs/tiny"], "error: --out runs/tiny: belongs to the run, which takes the "),
        (["--target", "64KiB", "--out", "runs"], "error: --out runs: belongs to the run, which takes the folder runs/"),
        (["--target", "64KiB", "--out", "a/../runs/tiny/trials"], "error: --out a/../runs/tiny/trials: belongs to "),
        (["--target", "64KiB", "--run", "../x", "--out", "."], "error: .: is the folder in which this command runs, "),
        (["--target", "64KiB", "--run", "picked"], None),
        (["--target", "64KiB", "--out", "n" * 300], f"error: {'n' * 300}: cannot be written: File name too long; "),
        (
            ["--target", "1MiB", "--set", "layers.all.weight_bits=[32]"],
            "error: --target 1MiB: no configuration of this space could be written for a device, as ",
        ),
    ],
)
def test_what_can_be_refused_is_refused_before_the_search(
    here: Path, command: Command, words: list[str], said: str | None
) -> None:
    if said is None:
        with pytest.raises(AssertionError, match="a search began"):
            command(*SPACE, *words)
        return
    answer = command(*SPACE, *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(said)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link", "parent"])
def test_a_place_that_is_taken_is_refused_before_the_search(here: Path, command: Command, kind: str) -> None:
    if kind == "folder":
        (here / "picked").mkdir()
        (here / "picked" / "mine").touch()
    elif kind == "link":
        (here / "picked").symlink_to("nowhere")
    else:
        (here / "picked").touch()
    out = "picked/below" if kind == "parent" else "picked"
    answer = command(*SPACE, "--target", "64KiB", "--out", out)
    assert (answer.code, answer.out) == (2, "")
    why = f"cannot be written: {here / 'picked'} is no folder" if kind == "parent" else "exists already"
    assert answer.err.startswith(f"error: {out}: {why}; give --out ")
    assert not (here / "runs").exists()


def test_the_default_place_is_called_picked(here: Path, command: Command) -> None:
    (here / "picked").touch()
    assert command(*SPACE, "--target", "64KiB").err.startswith("error: picked: exists already")


@pytest.mark.parametrize(
    ("size", "meant"),
    [("1KiB", ""), ("64", ". Did you mean 64KiB?"), ("1", "")],
)
def test_a_size_below_the_smallest_configuration_is_refused_with_that(
    here: Path, command: Command, size: str, meant: str
) -> None:
    answer = command(*SPACE, "--target", size)
    assert (answer.code, answer.out) == (2, "")
    said = re.match(
        rf"error: --target {re.escape(size)}: must be at least ([\d,]+) bytes, what the smallest ", answer.err
    )
    assert said is not None
    assert answer.err.rstrip().endswith(meant)
    assert ("Did you mean" in answer.err) == bool(meant)
    assert list(here.iterdir()) == []
    enough = said[1].replace(",", "")
    with pytest.raises(AssertionError, match="a search began"):
        command(*SPACE, "--target", enough)


def test_other_problems_of_the_space_are_told_with_it(here: Path, command: Command) -> None:
    dense = ("--set", "layers.all.channel_mass=[1.0]", "--set", "layers.all.skip_below=[none]")
    answer = command(*SPACE, *dense, "--target", "1KiB", "--set", "constraints.effective_flops=1")
    assert (answer.code, answer.out) == (2, "")
    assert f"{TINY}: --target 1KiB: must be at least 14,364 bytes, " in answer.err
    assert f"\n{TINY}: constraints.effective_flops: must be at least " in answer.err


@pytest.mark.parametrize("words", ["constraints.memory_bytes=65536", "constraints={memory_bytes: 64KiB}"])
def test_the_same_bound_twice_is_no_contradiction(here: Path, words: str) -> None:
    target = read_target("64KiB", None, space=TINY, overrides=[words], is_preset=False)
    assert target == Target(text="64KiB", memory_bytes=65_536, out=Path("picked"))
    assert target.remarks == ()


def test_a_constraint_of_something_else_is_kept(here: Path, command: Command) -> None:
    with pytest.raises(AssertionError, match="a search began"):
        command(*SPACE, "--target", "64KiB", "--set", "constraints.accuracy=0.1")


@needs_compiler
@pytest.mark.slow
def test_a_searched_run_gives_its_best_network_within_the_target(
    searched: RunFolder, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "show_reports", show_reports)
    monkeypatch.setattr(export_module, "compiler", lambda: None)
    monkeypatch.setattr(verify_module, "_sizes", lambda *_: [])
    monkeypatch.setattr(verify_module, "verify", partial(verify_module.verify, flags=("-O0",)))
    size = within(searched)
    space = Path("tiny.yaml")
    space.write_text(f"{TINY.read_text()}\nconstraints: {{memory_bytes: 1MiB}}\n")
    search = ["--space", space, *SEARCH[2:]]
    answer = command(*search, "--target", str(size), "--out", "small")
    assert answer.code == 0, answer.err
    assert f"--target {size}: replaces the 1,048,576 bytes of constraints.memory_bytes in the space file" in answer.out
    assert read_frozen_space(searched).constraints.memory_bytes == size
    members = [
        member for member in pickable(front(read_results(searched), DEFAULT_COSTS)) if member.memory_bytes <= size
    ]
    best, artifact = max(members, key=lambda member: member.accuracy), read_artifact(Path("small"))
    assert (artifact.trial, artifact.config) == (best.number, best.config)
    *_, chosen, verified, following = answer.out.splitlines()
    assert chosen.startswith(f"chosen: trial {best.number} of tiny: {100 * best.accuracy:.1f} % on validation, ")
    assert f"; {best.memory_bytes:,} of {size:,} bytes; with the engine, flash {best.flash_bytes:,} and RAM " in chosen
    assert verified.startswith(
        "verified: PyTorch, numpy and C agree on every spike and logit of 40 samples of the test split"
    )
    assert following.startswith("next: small/README.md says how a device makes frames")
    assert "Pick from it" not in answer.out
    again = command(*search, "--target", str(size), "--out", "small")
    assert (again.code, again.out, again.err) == (2, "", "error: small: exists already; give --out a new folder\n")


def test_nothing_within_the_target_is_explained_in_its_words(
    searched: RunFolder, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = bounded(
        searched, min(member.memory_bytes for member in pickable(front(read_results(searched), DEFAULT_COSTS))) - 1
    )
    answer = command(*SEARCH, "--target", str(size))
    assert answer.code == 2
    assert f"--target {size}: it has " in answer.err
    assert not Path("picked").exists()


def stopped(*_arguments: object, **_options: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_in_the_search_picks_nothing(
    searched: RunFolder, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "run_search", stopped)
    monkeypatch.setattr(session, "report_interrupted", lambda *_arguments: None)
    answer = command(*SEARCH, "--target", str(within(searched)))
    assert answer.code == 130
    assert "the same command goes on with run tiny" in answer.out
    assert not Path("picked").exists()


@pytest.mark.parametrize(("during", "left"), [("pick_member", "pick"), ("compare_all", "verify")])
def test_ctrl_c_after_the_search_says_what_is_left(
    searched: RunFolder, command: Command, monkeypatch: pytest.MonkeyPatch, during: str, left: str
) -> None:
    monkeypatch.setenv("CC", "false")
    with monkeypatch.context() as patched:
        patched.setattr(target_module, during, stopped)
        answer = command(*SEARCH, "--target", f"{within(searched)} B", "--out", "my network")
    assert answer.code == 130
    _, told = answer.out.splitlines()[-1].split("go on with: spquant-search ")
    words = shlex.split(told)
    assert words[0] == left
    assert Path("my network").exists() == (left == "verify")
    assert command(*words).code == 0


def test_a_difference_is_told_and_the_network_is_not_called_verified(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"memory_bytes": 900, "flash_bytes": 9_000, "ram_bytes": 99, "effective_macs": 5.0}
    artifact = SimpleNamespace(
        trial=2, run="tiny", accuracy=0.5, test_accuracy=0.25, time_steps=2, most_time_steps=2, **sizes
    )
    found = Verification(samples=8, spikes=99, mismatches={"PyTorch": 0, "C": 3})
    monkeypatch.setattr(target_module, "pick_member", lambda *_arguments: None)
    monkeypatch.setattr(target_module, "compare_all", lambda _folder: (artifact, found))
    monkeypatch.setattr(records, "read_frozen_space", lambda _run: read_space(TINY))
    with pytest.raises(SystemExit, match="3"):
        write_target(Target(text="1KiB", memory_bytes=1024, out=Path("a b")), RunFolder(path=Path("runs/tiny")))
    *_, chosen, last = capsys.readouterr().out.splitlines()
    assert chosen == (
        "chosen: trial 2 of tiny: 50.0 % on validation, 25.0 % on test; 900 of 1,024 bytes; with the engine, flash "
        "9,000 and RAM 99 bytes"
    )
    assert last == (
        "NOT VERIFIED: PyTorch, numpy and C differ, or the C does not compile, as said above; do not deploy a b"
    )


@pytest.mark.slow
def test_one_number_in_a_network_out(tmp_path: Path) -> None:
    """From an empty folder, with time steps that are searched; and the same command is refused before it begins."""
    words = [*SEARCH, "--set", "time_steps=[1, 2, 4]", "--target", "24KiB"]
    done = program(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    artifact = read_artifact(tmp_path / "picked")
    assert artifact.memory_bytes <= 24 * 1024
    assert (artifact.most_time_steps, artifact.time_steps in (1, 2, 4)) == (4, True)
    assert "\nverified: " in done.stdout
    assert f", {steps_words(artifact.time_steps)} -> picked\n" in done.stdout
    assert all(result.memory_bytes <= 24 * 1024 for result in read_results(RunFolder(path=tmp_path / "runs/tiny"))[1:])
    again = program(tmp_path, *words)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "error: picked: exists already; give --out a new folder\n"
