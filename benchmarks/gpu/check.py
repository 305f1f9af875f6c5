"""Check on a GPU what can be checked nowhere else: ``make gpu PYTHON=...``. docs/gpu.md says how to read it.

    python benchmarks/gpu/check.py                                # all parts, on the device cuda
    python benchmarks/gpu/check.py --only waits exact             # some of them
    python benchmarks/gpu/check.py --device cpu --only waits      # what of them runs without a GPU

It takes eight minutes at most, uses the torch of the Python that runs it, installs nothing and needs no network. Every
part is a process with a limit of its own, and prints one line of JSON as soon as it ends, so that a run that is cut
still tells. Exits with 0 if every check holds, with 1 if one does not, and with 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 480.0
LAST_WORDS = 300  # characters of what a part that failed said last


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the check: a command whose last line of JSON is what it found."""

    name: str
    command: tuple[str, ...]
    seconds: float  # after which it is ended


LIMITS = {
    "machine": 30.0,
    "tests": 95.0,
    "kernels": 85.0,
    "waits": 75.0,
    "exact": 35.0,
    "repeatable": 35.0,
    "step": 70.0,
    "search": 55.0,
}
FIRST = "machine"  # without which no other part begins
MODULES = {
    "machine": "gpu.machine",
    "tests": "gpu.device_tests",
    "kernels": "gpu.kernels",
    "waits": "gpu.waiting",
    "exact": "gpu.exactness",
    "repeatable": "gpu.repeatability",
    "step": "gpu.steps",
    "search": "gpu.searches",
}


def parts(device: str) -> list[Part]:
    """Return all parts, the first of which says what machine it is."""
    return [
        Part(name=name, command=(sys.executable, "-m", MODULES[name], "--device", device), seconds=seconds)
        for name, seconds in LIMITS.items()
    ]


def run_part(part: Part, environment: Mapping[str, str], *, seconds: float) -> dict[str, Any]:
    """Run a part for so long at most; return what it found, with ``checks`` that say whether it came to its end."""
    started, was_cut = time.monotonic(), False
    # Files and not pipes: a process that outlives its part would keep a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            part.command, stdout=out, stderr=err, cwd=ROOT, env=dict(environment), start_new_session=True
        )
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            was_cut = True
        finally:
            _end_group(process)
        out.seek(0)
        err.seek(0)
        found, said = _last_document(out.read()), err.read().strip()
    checks = dict(found.get("checks", {}))
    if was_cut:
        checks["in_time"] = False
        found["cut_after_seconds"] = round(seconds, 1)
    elif process.returncode:
        checks["ran"] = False
        found["exit_code"], found["said"] = process.returncode, said[-LAST_WORDS:]
    elif not found:
        checks["ran"] = False
        found["said"] = said[-LAST_WORDS:]
    return found | {"checks": checks, "seconds": round(time.monotonic() - started, 1)}


def _end_group(process: subprocess.Popen[Any]) -> None:
    """End a part and whatever it has started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_document(printed: str) -> dict[str, Any]:
    for line in reversed(printed.splitlines()):
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            return document
    return {}


def run_parts(chosen: Sequence[Part], environment: Mapping[str, str], *, most_seconds: float = MOST_SECONDS) -> int:
    """Run the parts in turn, print a line of JSON for each and one for all, and return the exit code."""
    started = time.monotonic()
    checks: dict[str, bool] = {}
    for part in chosen:
        left = most_seconds - (time.monotonic() - started)
        if left <= 0:
            found: dict[str, Any] = {"checks": {"in_time": False}, "said": "no time was left"}
        else:
            found = run_part(part, environment, seconds=min(part.seconds, left))
        print(json.dumps({part.name: found}), flush=True)
        if "reason" in found:
            print(f"gpu: {found['reason']}", file=sys.stderr)
            return 2
        if part.name == FIRST and not all(found["checks"].values()):
            print(f"gpu: what machine this is could not be found out: {found.get('said', 'no time')}", file=sys.stderr)
            return 1
        checks |= {f"{part.name}.{name}": value for name, value in found["checks"].items()}
    bad = [name for name, holds in checks.items() if not holds]
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"checks": checks, "false": bad, "seconds": seconds}), flush=True)
    return 1 if bad else 0


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment of all parts: this checkout before what is installed, and a cache of their own."""
    given = os.environ.get("PYTHONPATH")
    path = [str(ROOT), str(ROOT / "benchmarks"), *([given] if given else [])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SPQUANT_CACHE": str(folder),
        # One for all parts, so that none compiles what an earlier one has.
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Check on a GPU what can be checked nowhere else.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:K, or cpu for parts that need no GPU")
    parser.add_argument("--only", nargs="+", choices=list(LIMITS), metavar="PART", help=", ".join(LIMITS))
    options = parser.parse_args()
    chosen = [
        part
        for part in parts(options.device)
        if options.only is None or part.name == FIRST or part.name in options.only
    ]
    with tempfile.TemporaryDirectory(prefix="spquant-gpu-", ignore_cleanup_errors=True) as folder:
        raise SystemExit(run_parts(chosen, environment_of(Path(folder))))


if __name__ == "__main__":
    main()
