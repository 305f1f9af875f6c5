"""Budgets as people write them: bytes, operations, shares."""

from __future__ import annotations

import pytest

from spquant_search.commands.budgets import PICK_OPTIONS, read_bound
from spquant_search.errors import UserError

NAMES = {option: name for name, option in PICK_OPTIONS.items()}


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
    assert read_bound(NAMES[option], text, option) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("60M", 60e6), ("60MFLOPs", 60e6), ("1.5 GFLOPs", 1.5e9), ("1k", 1000), ("7 flops", 7), ("60000000", 60e6)],
)
def test_flops(text, value):
    assert read_bound("effective_flops", text, "--max-flops") == value


NO_QUANTITIES = ["", "KiB", "-1K", "1,5M", "64 apples", "1e6", "64KiKi", "nan", "inf", "M", "1.M", "9" * 400, "\u0663K"]


@pytest.mark.parametrize("text", [*NO_QUANTITIES, "64FLOPs", "64MFLOPs", "64KFLOP"])
@pytest.mark.parametrize("option", ["--max-memory", "--max-flash", "--max-ram"])
def test_words_that_are_no_bytes(text, option):
    with pytest.raises(UserError, match=rf"^{option} .*: must be bytes, such as 64KiB"):
        read_bound(NAMES[option], text, option)


@pytest.mark.parametrize("text", [*NO_QUANTITIES, "64KiB", "64B", "1.5MB", "64Ki", "2GiFLOPs"])
def test_words_that_are_no_flops(text):
    with pytest.raises(UserError, match=r"^--max-flops .*: must be FLOPs, such as 60M"):
        read_bound("effective_flops", text, "--max-flops")


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
    assert read_bound("accuracy", text, "--min-accuracy") == pytest.approx(value)


@pytest.mark.parametrize("text", ["95", "1.5", "101", "101%", "-1", "-1%", "x", "", "%", "nan", "inf", "0,95", "1e-1"])
def test_words_that_are_no_share(text):
    with pytest.raises(UserError) as caught:
        read_bound("accuracy", text, "--min-accuracy")
    assert str(caught.value).startswith(f"--min-accuracy {text}: must be a fraction from 0 to 1 such as 0.95")
    assert ("did you mean" in str(caught.value)) == (text in ("95", "1.5"))
