"""CHANGELOG.md is of the version that the package has."""

from __future__ import annotations

import re
from pathlib import Path

from spquant_search import __version__

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def test_the_newest_version_is_that_of_the_package() -> None:
    versions = re.findall(r"^## \[(.+?)\] - (?:unreleased|\d{4}-\d{2}-\d{2})$", CHANGELOG.read_text("utf-8"), re.M)
    assert versions[0] == __version__
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(numbers, reverse=True)
