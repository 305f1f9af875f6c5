"""The time after which a coordinator is taken for dead, as the environment says it."""

from __future__ import annotations

import pytest

from spquant_search.driver.storage import postgres
from spquant_search.errors import UserError


@pytest.mark.parametrize(("text", "seconds"), [(None, 90), ("30", 30), ("1000000", 1_000_000)])
def test_seconds(monkeypatch: pytest.MonkeyPatch, text: str | None, seconds: int) -> None:
    monkeypatch.delenv("SPQUANT_GRACE_SECONDS", raising=False)
    if text is not None:
        monkeypatch.setenv("SPQUANT_GRACE_SECONDS", text)
    assert postgres._grace_seconds() == seconds


@pytest.mark.parametrize("text", ["", "a minute", "0", "-5", "1.5", "\u0663", "9" * 5000, "1000001"])
def test_words_that_are_no_seconds(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SPQUANT_GRACE_SECONDS", text)
    with pytest.raises(UserError, match=r"^SPQUANT_GRACE_SECONDS=.*: must be a whole number of seconds, such as 90; "):
        postgres._grace_seconds()
