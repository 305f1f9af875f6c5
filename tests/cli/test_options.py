"""Options: help without heavy imports, quantities, completion by a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from searches import PROGRAM

from spquant_search import __version__
from spquant_search.cli.options import parse_quantity, parse_share
from spquant_search.errors import UserError


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
        ("2GiB", 2**31),
        ("1000", 1000),
        ("10B", 10),
        (" 7 ", 7),
    ],
)
@pytest.mark.parametrize("option", ["--max-memory", "--max-flash", "--max-ram"])
def test_bytes(text, value, option):
    assert parse_quantity(text, option) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("60M", 60e6), ("60MFLOPs", 60e6), ("1.5 GFLOPs", 1.5e9), ("1k", 1000), ("7 flops", 7), ("60000000", 60e6)],
)
def test_flops(text, value):
    assert parse_quantity(text, "--max-flops") == value


NO_QUANTITIES = ["", "KiB", "-1K", "1,5M", "64 apples", "1e6", "64KiKi", "nan", "inf", "M", "1.M", "9" * 400, "\u0663K"]


@pytest.mark.parametrize("text", [*NO_QUANTITIES, "64FLOPs", "64MFLOPs", "64KFLOP"])
@pytest.mark.parametrize("option", ["--max-memory", "--max-flash", "--max-ram"])
def test_words_that_are_no_bytes(text, option):
    with pytest.raises(UserError, match=rf"^{option} .*: must be bytes, such as 64KiB"):
        parse_quantity(text, option)


@pytest.mark.parametrize("text", [*NO_QUANTITIES, "64KiB", "64B", "1.5MB", "64Ki", "2GiFLOPs"])
def test_words_that_are_no_flops(text):
    with pytest.raises(UserError, match=r"^--max-flops .*: must be FLOPs, such as 60M"):
        parse_quantity(text, "--max-flops")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.95", 0.95),
        (".95", 0.95),
        ("95%", 0.95),
        ("95 %", 0.95),
        ("1", 1.0),
        ("100%", 1.0),
        ("0", 0.0),
        (" 1% ", 0.01),
    ],
)
def test_shares(text, value):
    assert parse_share(text, "--min-accuracy") == pytest.approx(value)


@pytest.mark.parametrize("text", ["95", "1.5", "101", "101%", "-1", "-1%", "x", "", "%", "nan", "inf", "0,95", "1e-1"])
def test_words_that_are_no_share(text):
    with pytest.raises(UserError) as caught:
        parse_share(text, "--min-accuracy")
    assert str(caught.value).startswith(f"--min-accuracy {text}: must be a fraction from 0 to 1 such as 0.95")
    assert ("did you mean" in str(caught.value)) == (text in ("95", "1.5"))


def test_an_option_that_is_not_given_bounds_nothing():
    assert parse_share(None, "--min-accuracy") is None


def test_version(command):
    assert command("--version") == (0, f"spquant-search {__version__}\n", "")


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


EVERY_HELP = f"""
import contextlib, io, sys
from spquant_search.cli.app import app, main
for command in app.registered_commands:
    sys.argv[:] = ["spquant-search", command.callback.__name__, "--help"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main()
    print(command.callback.__name__, [name for name in {HEAVY!r} if name in sys.modules])
"""  # but for pydantic, which typer itself takes values in by


def test_help_of_a_command_needs_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 8
    assert all(line.endswith((" []", " ['pydantic']")) for line in lines), lines


def test_help_lists_every_command_and_option(command):
    text = command("--help").out
    for word in ("--space", "--run", "--trials", "--minutes", "--workers", "--device", "--seed", "--preset", "--set"):
        assert word in text
    for word in ("cost", "front", "finalize", "pick", "report"):
        assert re.search(rf"^  {word} ", text, flags=re.MULTILINE)


# ---------------------------------------------------------------- completion by a shell


def ask(place: Path, instruction: str, *words: str) -> str:
    """Ask the program for completion, as bash does; the last word may be incomplete."""
    asking = {"_SPQUANT_SEARCH_COMPLETE": instruction, "COMP_CWORD": str(len(words))}
    asking["COMP_WORDS"] = " ".join(["spquant-search", *words])
    done = subprocess.run(
        PROGRAM, cwd=place, env=os.environ | asking, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


def completed(place: Path, *words: str) -> list[str]:
    return ask(place, "complete_bash", *words).split()


def test_a_shell_completes_commands_runs_and_space_files(tmp_path):
    for path in (
        "runs/first/space.yaml",
        "runs/second/space.yaml",
        "runs/no-run/x.yaml",
        "my.yaml",
        "spaces/tiny.yaml",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    assert completed(tmp_path, "fin") == ["finalize"]
    assert completed(tmp_path, "front", "") == ["first", "second"]
    assert completed(tmp_path, "pick", "sec") == ["second"]
    assert completed(tmp_path, "--run", "f") == ["first"]
    assert completed(tmp_path, "--space", "my") == ["my.yaml"]
    assert completed(tmp_path, "cost", "--space", "spa") == ["spaces/tiny.yaml"]
    assert completed(tmp_path, "cost", "--space", "spaces/t") == ["spaces/tiny.yaml"]


def test_completion_can_be_installed(command, tmp_path):
    assert "_SPQUANT_SEARCH_COMPLETE=complete_bash" in ask(tmp_path, "source_bash")
    text = command("--help").out
    assert "--install-completion" in text
    assert "--show-completion" in text
