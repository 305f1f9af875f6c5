"""On which boards a network has room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spquant_search.report.boards import BOARDS, KIB, boards_line, boards_table, has_room


def test_a_board_has_room_to_its_last_byte() -> None:
    for board in BOARDS:
        flash, ram = KIB * board.flash, KIB * board.ram
        assert has_room(board, flash, ram)
        assert not has_room(board, flash + 1, ram)
        assert not has_room(board, flash, ram + 1)


@given(st.integers(1, 10_000 * KIB), st.integers(1, 600 * KIB))
def test_line_and_table_name_every_board_once_and_agree(flash: int, ram: int) -> None:
    line, table = boards_line(flash, ram), boards_table(flash, ram).splitlines()[2:]
    assert len(table) == len(BOARDS)
    for board, row in zip(BOARDS, table, strict=True):
        assert line.count(board.name) == 1
        fits = has_room(board, flash, ram)
        assert ("**does not fit**" in row) != fits
        assert (line.find("fits ") <= line.find(board.name)) or not fits
        assert board.source in row


def test_the_words() -> None:
    assert boards_line(25_940, 12_938) == (
        "fits STM32L476RG, STM32F405RG, nRF52840, RP2040 (Raspberry Pi Pico), ESP32-S3 (WROOM-1-N8), not counting "
        "your own program, stack, radio and bootloader"
    )
    assert boards_line(25_940, 200 * KIB).startswith("fits nRF52840, RP2040 (Raspberry Pi Pico), ESP32-S3")
    assert "; does not fit STM32L476RG, STM32F405RG, not counting" in boards_line(25_940, 200 * KIB)
    assert boards_line(9000 * KIB, 1).startswith("does not fit STM32L476RG, ")
