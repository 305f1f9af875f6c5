"""The tests that need a GPU, and whether all of them ran."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
MARKS = r"pytest\.mark\.gpu|NEEDS_A_GPU"  # as tests write that they need one


def marked_files() -> list[str]:
    """Find the files of tests that need a GPU: collecting all others would take longer than these."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if re.search(MARKS, file.read_text())]


def outcome(report: Path) -> dict[str, Any]:
    """Read what pytest reported as JUnit XML."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    kinds = {kind: [case for case in cases if case.find(kind) is not None] for kind in ("failure", "error", "skipped")}
    failed = [f"{case.get('classname')}::{case.get('name')}" for case in (*kinds["failure"], *kinds["error"])]
    passed = len(cases) - len({id(case) for found in kinds.values() for case in found})
    found = {"passed": passed, "failed": failed, "skipped": len(kinds["skipped"])}
    # A test that is skipped has shown nothing.
    return found | {"checks": {"all_pass": passed > 0 and not failed, "none_skipped": not kinds["skipped"]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", f"--junit-xml={report}"]
        done = subprocess.run([*command, *marked_files()], cwd=ROOT, capture_output=True, text=True, check=False)
        if not report.exists():
            raise SystemExit(done.stdout[-300:] + done.stderr[-300:])
        print(json.dumps(outcome(report)), flush=True)


if __name__ == "__main__":
    main()
