"""Options and arguments that several commands share, and the values that people write for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from spquant_search.cli.completion import complete_run, complete_space
from spquant_search.errors import UserError
from spquant_search.space.objectives import ACCURACY, COSTS
from spquant_search.space.units import byte_count, flop_count, microjoule_count, operation_count

# Options of `pick` by the figure of a member that they bound.
BUDGET_OPTIONS = {**{name: cost.option for name, cost in COSTS.items()}, ACCURACY: "--min-accuracy"}
AUTO = 0  # workers, as many as cores and memory allow
MOST_WORKERS = 1024  # as search.workers of a space file
UNIT_READERS = {
    "bytes": byte_count,
    "FLOPs": flop_count,
    "operations": operation_count,
    "uJ": microjoule_count,
}

RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's name below runs/, or its path.", autocompletion=complete_run),
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


def parse_quantity(text: str, option: str) -> float:
    """Read what an option is given: bytes, such as ``64KiB``, or operations or microjoules where it bounds them.

    Raises:
        UserError: ``text`` is none; the message names ``option``.
    """
    units = {cost.option: cost.unit for cost in COSTS.values()}
    try:
        return UNIT_READERS[units.get(option, "bytes")](text)
    except ValueError as error:
        raise UserError(f"{option} {text}: {error}") from None


def parse_bound(text: str | None, option: str) -> float | None:
    """Read a bound as :func:`parse_quantity` does; None where the option is not given."""
    return None if text is None else parse_quantity(text, option)


def as_overrides(**values: int | None) -> list[str]:
    """Write options as overrides of the section ``search`` of a space file, those that are given."""
    return [f"search.{name}={value}" for name, value in values.items() if value is not None]


def parse_share(text: str | None, option: str) -> float | None:
    """Read a fraction such as ``0.95``, also written as ``95%``; None where the option is not given.

    Raises:
        UserError: ``text`` is neither, or no share; the message names ``option``.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)\s*(%?)", text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else None
    if value is not None and value <= 1:
        return value
    rule = "must be a fraction from 0 to 1 such as 0.95, or a percentage such as 95%"
    is_percent = match is not None and not match[2] and value is not None and value <= 100
    meant = f"; did you mean {text.strip()}%?" if is_percent else ""
    raise UserError(f"{option} {text}: {rule}{meant}")
