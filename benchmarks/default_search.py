"""Figures of a finished run of the default search: how long it took and what its front holds.

    make search
    .venv/bin/python benchmarks/default_search.py            # or --run NAME, --json

Reads the run's own files; nothing is trained. Accuracies are validation accuracies, reductions are against the float
baseline of the same run. ``help_ms`` is measured here, the median of several starts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from spquant_search.runs.finals import read_searched_results
from spquant_search.runs.folder import RunFolder, find_run
from spquant_search.runs.records import read_environment, read_facts
from spquant_search.runs.results import TrialResult
from spquant_search.runs.selection import front
from spquant_search.space.objectives import DEFAULT_COSTS

STARTS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of a finished run of the default search.")
    parser.add_argument("--run", default="vgg9", help="a run's name or path")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    document = measure(find_run(arguments.run))
    if arguments.json:
        print(json.dumps(document, indent=1))
        return
    for name, value in document["figures"].items():
        print(f"{name:32} {value:.4g}")


def measure(folder: RunFolder) -> dict[str, Any]:
    """Return the document that every benchmark prints."""
    results, facts = read_searched_results(folder), read_facts(folder)
    baseline, members = results[0], front(results, DEFAULT_COSTS)
    figures = {
        "minutes": facts.seconds / 60,
        "trials_subnet": sum(result.outcome.name == "SUBNET" for result in results[1:]),
        "trials_trained_one_epoch": sum(result.trained_epochs > 0 for result in results[1:]),
        "trials_complete": sum(result.outcome.name == "COMPLETE" for result in results[1:]),
        "trials_stopped_early": sum(result.outcome.name == "STOPPED" for result in results[1:]),
        "baseline_accuracy": baseline.accuracy,
        "front_members": len(members),
        "memory_span": members[-1].memory_bytes / members[0].memory_bytes,
        **{
            f"points_lost_at_memory_1_{part}": _points_lost(
                baseline, [member for member in members if member.memory_bytes <= baseline.memory_bytes / part]
            )
            for part in (12, 14, 20)
        },
        **{
            f"points_lost_at_macs_{share}": _points_lost(
                baseline, [member for member in members if member.effective_macs <= share * baseline.effective_macs]
            )
            for share in (0.6, 0.5)
        },
        "subnet_seconds": statistics.median(
            [result.seconds for result in results if result.outcome.name == "SUBNET"] or [0.0]
        ),
        "help_ms": _help_ms(),
    }
    environment = read_environment(folder)
    machine = {name: environment[name] for name in ("processor", "cores", "system")}
    rows = [_row(member, baseline) for member in members]
    return {"machine": machine, "versions": environment, "rows": rows, "figures": figures}


def _points_lost(baseline: TrialResult, members: list[TrialResult]) -> float:
    """Return by how many points the best of these members is less accurate than the baseline; below 0: more."""
    best = max((member.accuracy for member in members), default=0.0)
    return 100 * (baseline.accuracy - best)


def _row(member: TrialResult, baseline: TrialResult) -> dict[str, float]:
    return {
        "number": member.number,
        "accuracy": member.accuracy,
        "memory_reduction": baseline.memory_bytes / member.memory_bytes,
        "flops_reduction": baseline.effective_macs / member.effective_macs,
    }


def _help_ms() -> float:
    program = Path(sys.executable).with_name("spquant-search")
    seconds = []
    for _ in range(STARTS):
        started = time.perf_counter()
        subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    main()
