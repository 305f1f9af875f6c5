"""Boards and what memory they have, to say on which of them a network has room."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A board's memory as its makers' documents say it, in KiB.

    ``ram``: the largest block of it in one piece, in which a linker puts a program's memory if it is told nothing else.
    """

    name: str
    flash: int
    ram: int
    further: str  # what else is to know
    source: str


BOARDS = (
    Board(
        name="STM32L476RG",
        flash=1024,
        ram=96,
        further="128 KiB of RAM in all: SRAM2 has 32 more, at another address",
        source="datasheet STM32L476xx, DS10198",
    ),
    Board(
        name="STM32F405RG",
        flash=1024,
        ram=128,
        further="192 KiB of RAM in all: 64 more are core-coupled memory, at another address",
        source="datasheet STM32F405xx STM32F407xx, DS8626",
    ),
    Board(
        name="nRF52840",
        flash=1024,
        ram=256,
        further="a radio stack takes its part of both",
        source="nRF52840 Product Specification",
    ),
    Board(
        name="RP2040 (Raspberry Pi Pico)",
        flash=2048,
        ram=264,
        further="flash is a chip beside it, of other sizes on other boards",
        source="RP2040 Datasheet; Raspberry Pi Pico Datasheet",
    ),
    Board(
        name="ESP32-S3 (WROOM-1-N8)",
        flash=8192,
        ram=512,
        further="caches and system take their part of the RAM; flash is a chip beside it, of other sizes elsewhere",
        source="ESP32-S3 Series Datasheet; ESP32-S3-WROOM-1 Datasheet",
    ),
)


def shares(board: Board, flash_bytes: int, ram_bytes: int) -> tuple[float, float]:
    """Return the shares of a board's flash and RAM that a network takes; above 1 it has no room."""
    return flash_bytes / (KIB * board.flash), ram_bytes / (KIB * board.ram)


def has_room(board: Board, flash_bytes: int, ram_bytes: int) -> bool:
    """Tell whether a network fits a board on which nothing else is."""
    return max(shares(board, flash_bytes, ram_bytes)) <= 1.0


def boards_line(flash_bytes: int, ram_bytes: int) -> str:
    """Say in one line on which boards a network has room, and on which it has none."""
    room = [board.name for board in BOARDS if has_room(board, flash_bytes, ram_bytes)]
    none = [board.name for board in BOARDS if board.name not in room]
    parts = [f"fits {', '.join(room)}"] if room else []
    parts += [f"does not fit {', '.join(none)}"] if none else []
    return f"{'; '.join(parts)}, not counting your own program, stack, radio and bootloader"


def boards_table(flash_bytes: int, ram_bytes: int) -> str:
    """Write a table of the boards in Markdown: what a network takes of each, and where their sizes stand."""
    rows = ["| chip | flash | of it | RAM | of it | | sizes from |", "|---|--:|--:|--:|--:|---|---|"]
    for board in BOARDS:
        flash, ram = (f"{100 * share:.1f} %" for share in shares(board, flash_bytes, ram_bytes))
        fits = "fits" if has_room(board, flash_bytes, ram_bytes) else "**does not fit**"
        cells = (board.name, f"{board.flash:,} KiB", flash, f"{board.ram:,} KiB", ram, f"{fits}; {board.further}")
        rows.append(f"| {' | '.join((*cells, board.source))} |")
    return "\n".join(rows)
