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
