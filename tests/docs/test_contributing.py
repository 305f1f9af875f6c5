"""The pages for contributors name modules and functions that exist, and the changes that they promise to explain."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRIBUTING = ROOT / "docs" / "contributing.md"
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("README.md", "runs/README.md"))])

CHANGES = (
    "a weight quantizer",
    "an objective",
    "a reader for a file format",
    "a network",
    "a column of the front's table",
    "a flag of `pick`",
    "a stopping rule",
    "a storage of the study",
    "a chip's limits",
    "a chart of the report's page",
)

NOT_THERE_YET = {"flash_bytes", "ram_bytes"}  # what the change itself adds
KEYS = {"model.build"}


def words_in_code(text: str) -> list[str]:
    """Return what stands between backticks, outside blocks of code."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = [
        word
        for word in words_in_code(page.read_text(encoding="utf-8"))
        if word.startswith(("spquant_search/", "tests/", "benchmarks/", "tools/", ".ci/")) and " " not in word
    ]
    assert [word for word in named if not (ROOT / word).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith(("http:", "https:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def rows_of_changes() -> dict[str, str]:
    """Return what to touch, by the change."""
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## Where a change goes")[2]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return {row[0].strip(): row[2].strip() for row in rows[1:]}


def test_the_ten_changes_are_there() -> None:
    assert tuple(rows_of_changes()) == CHANGES


def test_every_name_that_is_to_be_touched_is_defined_where_the_page_says() -> None:
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## Where a change goes")[2]
    modules = "\n".join(
        (ROOT / word).read_text(encoding="utf-8") for word in words_in_code(section) if word.endswith(".py")
    )
    defined = set(re.findall(r"^ *(?:def |class )?(\w+)(?:\(|:| = )", modules, flags=re.MULTILINE))
    names = [word for word in words_in_code(section) if re.fullmatch(r"_?[A-Za-z]\w*(\.\w+)?", word)]
    missing = {name for name in names if not set(name.split(".")) <= defined}
    assert missing <= NOT_THERE_YET | KEYS
    assert len(names) > 30


def test_the_targets_of_make_are_those_of_the_makefile() -> None:
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("| target of make |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `([\w-]+)` \|", section, flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert sorted(named) == sorted(phony.split())
    for target in named:
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)
