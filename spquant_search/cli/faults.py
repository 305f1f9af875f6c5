"""Faults of a command line, each with a line that can be copied instead."""

from __future__ import annotations

import shlex

from spquant_search.cli import places
from spquant_search.cli.secrets import without_password
from spquant_search.errors import UserError, first_of

PROGRAM = "spquant-search"
# Values to begin with, by option; a space and a run are those that are there.
EXAMPLES = {
    "--trials": "24",
    "--minutes": "30",
    "--workers": "2",
    "--device": "cpu",
    "--seed": "0",
    "--preset": "quant-snn",
    "--target": "64KiB",
    "--storage": "postgresql://USER@HOST/DATABASE",
    "--set": "train.epochs=3",
    "--out": "picked",
    "--trial": "1",
    "--max-memory": "64KiB",
    "--max-flash": "64KiB",
    "--max-ram": "16KiB",
    "--max-flops": "60M",
    "--min-accuracy": "0.9",
    "--epochs": "3",
    "--seeds": "3",
    "--members": "4",
    "--samples": "100",
    "--emulate": "cortex-m4",
    "--port": "8080",
}


class UsageFault(UserError):
    """Words that the program does not understand, with a line that it does."""

    def __init__(self, why: str, *words: str) -> None:
        self.suggested = tuple(without_password(word) for word in words)
        line = f"\n  {shlex.join((PROGRAM, *self.suggested))}" if words else ""
        super().__init__(f"{why}{line}")


def example_of(option: str) -> str:
    if option == "--space":
        return next(iter(places.space_files()), "FILE")
    if option == "--run":
        return next(iter(places.run_names()), "NAME")
    return EXAMPLES.get(option, "VALUE")


def space_files_here() -> str:
    files = places.space_files()
    return f" Here: {first_of(files, places.MOST_NAMED)}." if files else ""
