"""Wrong command lines: each is answered with what was read, why it is not right, and a line that works."""

from __future__ import annotations

import json
import random
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from examples import trial
from searches import TINY, unfinished_run

from spquant_search.cli import deployment, describe, runs, search
from spquant_search.commands import verifying
from spquant_search.deploy import reference
from spquant_search.driver import dashboard_server
from spquant_search.runs.results import Origin
from spquant_search.training import prepare

# In the folder of these command lines: my.yaml, spaces/other.yaml, the runs digits and shoes, the folder picked that
# pick wrote, a folder of images, and a text.
SUGGESTED = [
    # a space file without --space
    ("my.yaml", "--space my.yaml"),
    ("my.yaml --trials 3", "--space my.yaml --trials 3"),
    ("--trials 3 my.yaml", "--space my.yaml --trials 3"),
    ("spaces/other.yaml --set train.epochs=3", "--space spaces/other.yaml --set train.epochs=3"),
    ("my.yaml cost", "cost --space my.yaml"),
    ("my.yaml --space", "--space my.yaml"),
    ("cost my.yaml", "cost --space my.yaml"),
    ("cost my.yaml --json", "cost --space my.yaml --json"),
    ("cost my.yaml --space", "cost --space my.yaml"),
    ("data my.yaml --out a.png", "data --space my.yaml --out a.png"),
    ("--space my.yaml spaces/other.yaml", "--space spaces/other.yaml"),
    # a word for the search, which has none
    ("search", "--space my.yaml"),
    ("search my.yaml", "--space my.yaml"),
    ("search my.yaml --trials 3", "--space my.yaml --trials 3"),
    ("search --space my.yaml", "--space my.yaml"),
    ("run --trials 3 --space my.yaml", "--trials 3 --space my.yaml"),
    ("train spaces/other.yaml", "--space spaces/other.yaml"),
    # another order of words
    ("digits front", "front digits"),
    ("digits front --json", "front digits --json"),
    ("digits pick --out out", "pick digits --out out"),
    ("digits", "front digits"),
    ("runs/digits", "front runs/digits"),
    ("picked", "verify picked"),
    ("help", "--help"),
    ("tiny", "--space tiny"),
    ("tiny cost", "cost --space tiny"),
    ("version", "--version"),
    ("picked verify", "verify picked"),
    ("--space my.yaml cost", "cost --space my.yaml"),
    ("--space=my.yaml cost", "cost --space=my.yaml"),
    ("--set train.epochs=3 --space my.yaml cost", "cost --set train.epochs=3 --space my.yaml"),
    ("--preset quant-snn --space my.yaml cost --json", "cost --json --preset quant-snn --space my.yaml"),
    ("--trials 3 front digits", "front digits"),
    ("--device cpu --trials 3 finalize digits", "finalize digits --device cpu"),
    # overrides in pieces
    ("--space my.yaml --set model.width 0.1", "--space my.yaml --set model.width=0.1"),
    ("--space my.yaml --set model.width 0.1 --trials 3", "--space my.yaml --set model.width=0.1 --trials 3"),
    ("--space my.yaml --set train.epochs = 3", "--space my.yaml --set train.epochs=3"),
    ("--space my.yaml --set train.epochs: 3", "--space my.yaml --set train.epochs=3"),
    ("--space my.yaml --set train.epochs= 3", "--space my.yaml --set train.epochs=3"),
    ("--space my.yaml --set train.epochs =3", "--space my.yaml --set train.epochs=3"),
    ("--space my.yaml --set train.epochs=3 time_steps=2", "--space my.yaml --set train.epochs=3 --set time_steps=2"),
    (
        "--space my.yaml --set layers.all.weight_bits=[2, 4] --trials 3",
        "--space my.yaml --set 'layers.all.weight_bits=[2, 4]' --trials 3",
    ),
    ("cost --space my.yaml --set model.width 0.1", "cost --space my.yaml --set model.width=0.1"),
    ("cost --set model.width 0.1 --space my.yaml", "cost --set model.width=0.1 --space my.yaml"),
    # words written wrong
    ("fornt digits", "front digits"),
    ("Front digits", "front digits"),
    ("reports digits", "report digits"),
    ("--space my.yaml --trails 3", "--space my.yaml --trials 3"),
    ("--Space my.yaml", "--space my.yaml"),
    ("-space my.yaml", "--space my.yaml"),
    ("\u2014space my.yaml", "--space my.yaml"),
    ("--spce=my.yaml", "--space=my.yaml"),
    ("front digits --jsno", "front digits --json"),
    ("pick digits --max_flash 24KiB --out out", "pick digits --max-flash 24KiB --out out"),
    ("--space my.yaml --preset quantsnn", "--space my.yaml --preset quant-snn"),
    # values that are missing or wrong
    ("--trials 3", "--space my.yaml --trials 3"),
    ("--space", "--space my.yaml"),
    ("--space my.yaml --trials", "--space my.yaml --trials 24"),
    ("--space my.yaml --trials x", "--space my.yaml --trials 24"),
    ("--space my.yaml --trials=0", "--space my.yaml --trials=24"),
    ("--space my.yaml --set", "--space my.yaml --set train.epochs=3"),
    ("dashboard digits --port 99999", "dashboard digits --port 8080"),
    ("front digits --json=yes", "front digits --json"),
    ("front", "front digits"),
    ("front --json", "front digits --json"),
    ("cost", "cost --space my.yaml"),
    ("pick digits", "pick digits --out picked"),
    ("pick digits out --out", "pick digits --out out"),
    ("verify", "verify picked"),
    # one thing where another is expected
    ("front --space my.yaml", "front my"),
    ("front --run digits", "front digits"),
    ("report digits shoes", "report digits"),
    ("report digits front", "report digits"),
    ("cost digits", "cost --space runs/digits/space.yaml"),
    ("cost --space runs/digits", "cost --space runs/digits/space.yaml"),
    ("cost --space digits", "cost --space runs/digits/space.yaml"),
    ("cost --space spaces", "cost --space spaces/other.yaml"),
    ("cost --space=", "cost --space=my.yaml"),
    ("cost --space=spaces", "cost --space=spaces/other.yaml"),
    ("cost --space my.yml", "cost --space my.yaml"),
    ("cost --space other", "cost --space spaces/other.yaml"),
    ("--space spaces --trials 3", "--space spaces/other.yaml --trials 3"),
]
TOLD = [
    ("no-such-thing", ["no-such-thing is no command", "front", "verify", "--space my.yaml"]),
    ("front gone", ["runs/gone: is no run", "digits, shoes"]),
    ("front digit", ["did you mean digits?"]),
    ("front my.yaml", ["my.yaml is a space file", "spquant-search --space my.yaml"]),
    ("front picked", ["picked is what `pick` wrote", "spquant-search verify picked"]),
    ("front notes.txt", ["notes.txt is a file"]),
    ("front runs/digits/run.json", ["runs/digits/run.json is a file of the run runs/digits"]),
    ("front digits/", ["Runs in", "digits, shoes; did you mean digits?"]),
    ("report images", ["images: is no run", "digits, shoes"]),
    ("verify digits", ["digits: is a run", "spquant-search pick digits --out picked", "spquant-search verify picked"]),
    ("verify runs/digits", ["spquant-search pick runs/digits --out picked"]),
    ("verify images", ["holds no manifest.json", "picked"]),
    ("verify gone", ["there is no such folder", "picked"]),
    ("verify notes.txt", ["is a file, and no folder"]),
    ("cost --space images", ["is a folder without YAML files"]),
    ("cost --space picked", ["is what pick wrote"]),
    ("cost --space zzz", ["there is no such file", "my.yaml, spaces/other.yaml"]),
    ("cost --space notes.txt", ["notes.txt: must hold a mapping"]),
    ("cost --space images/1.png", ["images/1.png: is no UTF-8 from line 1 on"]),
    ("cost --space my.yaml --trials 3", ["--trials is no option of spquant-search cost", "a search (spquant-search"]),
    ("--space my.yaml --max-memory 5K", ["it is an option of", "pick"]),
    ("front digits --zzzzzz", ["--zzzzzz is no option of spquant-search front", "--json"]),
    ("--space my.yaml --device cuda:", ["--device cuda:0"]),
    ("--space my.yaml --device cuda:\u00b2", ["--device cuda:0"]),
    ("--space my.yaml --minutes nan", ["--minutes nan", "--minutes 30"]),
    ("pick digits --out out --max-memory 60MFLOPs", ["must be bytes, such as 64KiB"]),
    ("pick digits --out out --max-flops 64KiB", ["must be FLOPs, such as 60M"]),
    ("--space my.yaml --storage postgresql://me:secret@host/db --trails 3", ["--trials 3", "me:***@host"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("words")
    for path in ("my.yaml", "spaces/other.yaml"):
        (home / path).parent.mkdir(exist_ok=True)
        shutil.copy(TINY, home / path)
    for name in ("digits", "shoes"):
        unfinished_run(home / "runs" / name, trial(0, origin=Origin.BASELINE.value))
    for path, content in (("picked/manifest.json", b"{}"), ("images/1.png", b"\x89PNG"), ("notes.txt", b"notes\n")):
        (home / path).parent.mkdir(exist_ok=True)
        (home / path).write_bytes(content)
    return home


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SPQUANT_STORAGE", raising=False)
    return folder


def start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command end where it has understood its words."""

    def ends(*_words: object, **_options: object) -> None:
        raise typer.Exit(0)

    for module, name in (
        (search, "_run"),
        (search, "_preset_alone"),
        (deployment, "pick_member"),
        (verifying, "_samples_of"),
        (describe, "load_shown"),
        (runs, "show_reports"),
        (runs, "_fine_tune"),
        (dashboard_server, "serve"),
        (prepare, "prepare"),
        (reference, "read_manifest"),
    ):
        monkeypatch.setattr(module, name, ends)


@pytest.mark.parametrize(("words", "line"), SUGGESTED)
def test_a_wrong_line_is_answered_by_one_that_works(command, place, monkeypatch, words, line):
    before = sorted(place.rglob("*"))
    answer = command(*words.split())
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert "Traceback" not in answer.err
    assert answer.err.splitlines()[-1] == f"  spquant-search {line}"
    assert sorted(place.rglob("*")) == before
    start_nothing(monkeypatch)
    again = command(*shlex.split(line))
    assert "\n  spquant-search" not in again.err, again.err


@pytest.mark.parametrize(("words", "told"), TOLD)
def test_a_wrong_line_is_told_what_to_do(command, place, monkeypatch, words, told):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    answer = command(*words.split())
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert "Traceback" not in answer.err
    assert "secret" not in answer.err
    for part in told:
        assert part in answer.err


WORDS = (
    *("search", "cost", "data", "front", "finalize", "pick", "verify", "report", "dashboard", "sensitivity", "help"),
    *("my.yaml", "spaces/other.yaml", "spaces", "digits", "runs/digits", "shoes", "picked", "images", "notes.txt"),
    *("--space", "--run", "--trials", "--minutes", "--workers", "--device", "--seed", "--preset", "--set", "--profile"),
    *("--json", "--out", "--trial", "--knee", "--max-memory", "--max-flops", "--min-accuracy", "--port", "--samples"),
    *("--epochs", "--space=my.yaml", "--set=train.epochs=3", "--json=1", "--trails", "-space", "-j", "-x", "--", "-"),
    *("", "---space", "--=", "=", "train.epochs=3", "train.epochs", "3", "-1", "0.5", "nan", "64KiB", "[1,", "2]"),
    *("{a:", "1}", "quant-snn", "cpu", "a b", "\u2014json", "\x1b[31m", "'", "fornt", "x" * 300, "--zzzz", "~", "/"),
    *(".", "..", "\udce9", "gone"),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_any_words_are_answered_and_the_answers_lead_to_an_end(command, place, monkeypatch, seed):
    start_nothing(monkeypatch)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    chance = random.Random(seed)
    for _ in range(25):
        words = [chance.choice(WORDS) for _ in range(chance.randrange(1, 7))]
        followed = []
        while words is not None:
            assert words not in followed, f"in a circle: {followed}"
            followed.append(words)
            assert len(followed) < 9, followed
            answer = command(*words)
            assert answer.code in (0, 2), followed
            assert answer.code == 0 or answer.err.startswith("error: ") or answer.out.startswith("Usage: "), followed
            lines = [line for line in answer.err.splitlines() if line.startswith("  spquant-search ")]
            words = shlex.split(lines[0])[1:] if lines else None


def test_a_folder_without_runs(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"There are no runs in {tmp_path / 'runs'}" in command("front", "gone").err
    assert f"There are no runs in {tmp_path / 'runs'}" in command("front").err
    assert "spquant-search --space FILE" in command("search").err


def test_a_run_of_a_space_that_was_searched(command, place, tmp_path, monkeypatch):
    shutil.copytree(place, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    shutil.copytree("runs/digits", "runs/my")
    assert "the run of its search is called my" in command("front", "my.yaml").err
    assert json.loads(command("front", "my", "--json").out)
