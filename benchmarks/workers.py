"""The gain of a second worker: the trial stage of one and the same search with one trainer and with two.

The default space with fewer samples and trials, from the same float baseline's recipe; neurons are compiled and
recordings made beforehand. The trial stage reaches from the start of the first candidate to the end of the last.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measurement import as_document

from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import study_in
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_facts, read_profile

SPACE = Path(__file__).parent.parent / "spaces" / "vgg9.yaml"
SETTING = (
    *("data.train_samples=1536", "data.validation_samples=512", "data.test_samples=128"),
    *("train.baseline_epochs=1", "train.epochs=2", "search.strategy=warm-start", "search.stopping.enabled=false"),
)
TRIALS = 12


def search(folder: Path, name: str, workers: int, trials: int) -> RunFolder:
    """Run a whole search by the command line, as users do."""
    words = ["--space", str(SPACE), "--run", name, "--trials", str(trials), "--workers", str(workers)]
    words += [word for setting in SETTING for word in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "spquant_search.cli", *words]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return RunFolder(path=folder / "runs" / name)


def trial_stage(run: RunFolder) -> float:
    """Return the seconds from the start of the first candidate to the end of the last."""
    trials = study_in(Journal(run.study_file)).trials[1:]
    begun = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    ended = [trial.datetime_complete for trial in trials if trial.datetime_complete is not None]
    return (max(ended) - min(begun)).total_seconds()


def row(run: RunFolder, workers: int) -> dict[str, Any]:
    coordinator = read_profile(run)["coordinator"]
    kept_busy = sum(seconds for what, seconds in coordinator.items() if what not in ("waiting", "total"))
    return {
        "workers": workers,
        "trial_stage_seconds": trial_stage(run),
        "wall_seconds": read_facts(run).seconds,
        "coordinator": coordinator,
        "bookkeeping_share": kept_busy / read_facts(run).seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        search(folder, "warm", 1, 1)
        for number in range(options.rounds):
            for workers in (1, 2):
                rows.append(row(search(folder, f"round{number}-{workers}", workers, options.trials), workers))
                print(f"{workers} workers: {rows[-1]['trial_stage_seconds']:.1f} s", file=sys.stderr)
    seconds = {
        workers: statistics.median(one["trial_stage_seconds"] for one in rows if one["workers"] == workers)
        for workers in (1, 2)
    }
    figures = {
        "speedup_2": seconds[1] / seconds[2],
        "seconds_2_over_1": seconds[2] / seconds[1],
        "bookkeeping_share": statistics.median(one["bookkeeping_share"] for one in rows),
    }
    if options.json:
        print(json.dumps(as_document(rows, figures), indent=1))
        return
    for name, value in figures.items():
        print(f"{name:20} {value:.3g}")


if __name__ == "__main__":
    main()
