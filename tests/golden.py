"""Golden files: the whole text of a report, kept beside its tests, so that no other test need repeat its sentences.

``SPQUANT_WRITE_GOLDEN=1 pytest tests/report/test_golden.py`` writes them anew; the difference is read before a commit.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "report" / "golden"


def check_golden(name: str, text: str) -> None:
    """Compare ``text`` with the golden file ``name``, or write the file where the environment asks for it."""
    file = FOLDER / name
    if os.environ.get("SPQUANT_WRITE_GOLDEN") == "1":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"{file} differs; see tests/golden.py"
