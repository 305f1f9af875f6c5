"""A search of spaces/tiny.yaml, with one trainer and with four."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from spquant_search.runs.results import Outcome

ROOT = Path(__file__).parents[2]
TRAINERS = (1, 4)
GOOD = {outcome.name for outcome in Outcome} - {Outcome.DIVERGED.name, Outcome.FAILED.name}
SHOWN = 5  # lines of warnings


def searched(device: str, workers: int, folder: Path, *more: str) -> dict[str, Any]:
    """Search, and return how long it took and what it said."""
    started = time.monotonic()
    run = folder / f"with-{workers}"
    command = [sys.executable, "-m", "spquant_search.cli", "--space", str(ROOT / "spaces/tiny.yaml"), "--run", str(run)]
    command += ["--device", device, "--workers", str(workers), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    return {
        "exit_code": done.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "outcomes": outcomes(run),
        "uncompiled": said.count("uncompiled"),
        "out_of_memory": len(re.findall("out of memory", said, re.I)),
        "warnings": [line for line in said.splitlines() if "warning" in line.lower()][:SHOWN],
        "said": [] if done.returncode == 0 else said.splitlines()[-SHOWN:],
    }


def outcomes(run: Path) -> dict[str, int]:
    """Count the trials of a run by how they ended."""
    files = sorted((run / "trials").glob("[0-9]*.json"))
    return dict(Counter(json.loads(file.read_text()).get("outcome", "?") for file in files))


def checks(found: dict[str, dict[str, Any]]) -> dict[str, bool]:
    searches = found.values()
    return {
        "searches_end": all(one["exit_code"] == 0 for one in searches),
        "none_fails": all(one["outcomes"] and set(one["outcomes"]) <= GOOD for one in searches),
        "no_fallback": all(one["uncompiled"] == 0 for one in searches),
        "enough_memory": all(one["out_of_memory"] == 0 for one in searches),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="spquant-gpu-") as folder:
        for workers in TRAINERS:
            found[f"trainers_{workers}"] = searched(device, workers, Path(folder))
            print(json.dumps(found | {"checks": checks(found)}), flush=True)


if __name__ == "__main__":
    main()
