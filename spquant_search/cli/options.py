"""Options and arguments that several commands share, and the values that people write for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spquant_search.cli.completion import complete_run, complete_space
from spquant_search.commands.trainers import AUTO

MOST_WORKERS = 1024  # as search.workers of a space file

RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's name below runs/, or its path.", autocompletion=complete_run),
]
RunsArgument = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Runs' names below runs/, or their paths.", autocompletion=complete_run),
]
SpaceOption = Annotated[
    Path,
    typer.Option(
        "--space",
        metavar="FILE",
        help="The space file: what to search, on what; or a name that the command spaces lists.",
        autocompletion=complete_space,
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option(help="The run's name or path (default: the space file's name).", autocompletion=complete_run),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a value of the space file; repeatable."),
]


def _read_workers(text: str) -> int:
    """Read a number of trainers; AUTO stands for ``auto``."""
    if text == "auto":
        return AUTO
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MOST_WORKERS:
        raise typer.BadParameter(f"must be auto, or a whole number from 1 to {MOST_WORKERS}")
    return int(text)


WorkersOption = Annotated[
    int | None,
    typer.Option(
        parser=_read_workers,
        metavar="N|auto",
        help="Trainer processes, of one thread each, in turn on each GPU; auto: as many as cores and memory allow.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda (every GPU of CUDA_VISIBLE_DEVICES) or cuda:K (of these the one).")
]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Seed of the whole run.")]
StorageOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar="SPQUANT_STORAGE", help="postgresql://...: where the study of many machines lies."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def as_overrides(**values: int | None) -> list[str]:
    """Write options as overrides of the section ``search`` of a space file, those that are given."""
    return [f"search.{name}={value}" for name, value in values.items() if value is not None]
