"""Fronts by the training that found them: the default search against searches as written with Optuna alone.

    .venv/bin/python benchmarks/search_efficiency.py              # hours; goes on where it was stopped
    .venv/bin/python benchmarks/search_efficiency.py --report     # of what there is so far; --json, --picture FILE
    .venv/bin/python benchmarks/search_efficiency.py --replay narrow     # minutes: a small space, from a table of
                                                                         # trainings; or wide

Every strategy is a search of the default space by the command line, on the same data. Those of one seed share the float
baseline that ours has trained, and the supernet, so that they differ in what they do with it.

Work is counted in samples times time steps: a sample that goes through a network once is as many as it is shown time
steps, one that is trained with (forward and backward) three times as many. Everything that a strategy needs is in it:
baseline, supernet, subnets, training, the evaluation after every epoch. The supernet draws its time steps, and is
charged for their mean. Strategies from scratch need no float baseline, and are not charged for it. Test splits are
charged to nobody.

What a search holds after so much work is the front of the figures that it has measured by then, and what that is worth
is the hypervolume of its members' accuracies on the test split, each with the weights that the search has left it, so
that no search gains by picking lucky measurements. The volume is counted from an accuracy that is worth deploying (as
the sampler and the fine-tuning do), and again from chance.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from efficiency import (
    FROM_CHANCE,
    LONGER,
    LOOKED_UP,
    OURS,
    TPE,
    WARM_TPE,
    WORTHWHILE,
    Curve,
    Prices,
    Strategy,
    curve_of,
    fronts,
    strategies,
)
from measurement import as_document, figure_lines, markdown_table
from replay import SPACES, of_every_configuration, prepared_space, replay
from scipy import stats

from spquant_search.processes import keep_compiled_code
from spquant_search.runs.files import cache_folder, write_bytes
from spquant_search.runs.finals import read_judged
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import read_facts, read_frozen_space, read_results, read_test_accuracies
from spquant_search.runs.results import BASELINE, TrialResult
from spquant_search.space.reading import read_space
from spquant_search.training.data_set import load_data
from spquant_search.training.prepare import bind_network
from spquant_search.training.tasks import TestTask
from spquant_search.workers.messages import Tested, TrainerConfig
from spquant_search.workers.pool import TrainerPool

SPACE = Path(__file__).parents[1] / "spaces" / "vgg9.yaml"
FOLDER = Path("runs") / "search-efficiency"
LIVE_TRIALS = {TPE: 140, WARM_TPE: 20}  # of strategies from scratch (20 times the work of ours), and warm-started
REPLAYED_TRIALS = {TPE: 190, WARM_TPE: 100}


# ---------------------------------------------------------------- searching


def run_of(strategy: Strategy, folder: Path, seed: int) -> RunFolder:
    slug = strategy.name.replace(",", "").replace(" ", "-")
    return RunFolder(path=folder / "runs" / f"{slug}-{seed}")


def search(strategy: Strategy, folder: Path, seed: int, workers: int) -> None:
    """Run a whole search, or the rest of one."""
    overrides = [*strategy.settings, f"search.seed={seed}"]
    run = run_of(strategy, folder, seed)
    if strategy.name != OURS:
        _begin_as_ours(
            run, run_of(Strategy(name=OURS, settings=()), folder, seed), [*overrides, f"search.workers={workers}"]
        )
    words = ["--space", str(SPACE), "--run", run.name, "--workers", str(workers)]
    words += [word for setting in overrides for word in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "spquant_search.cli", *words], cwd=folder, env=environment, check=True)


def _begin_as_ours(run: RunFolder, ours: RunFolder, overrides: Sequence[str]) -> None:
    """Begin a new run with the baseline and the supernet of ours."""
    if not run.exists():
        open_run(run, read_space(SPACE, overrides), read_facts(ours))
    for kept in (ours.supernet_file, ours.sensitivity_file, ours.weights_file(BASELINE), ours.result_file(BASELINE)):
        copy = run.path / kept.relative_to(ours.path)
        if not copy.is_file():
            write_bytes(copy, kept.read_bytes())


def test_accuracies(run: RunFolder, members: Sequence[TrialResult], workers: int) -> dict[int, float]:
    """Return the members' test accuracies; those that are not known yet are measured, and kept beside the run."""
    kept = run.path / "tests-of-earlier-fronts.json"
    known = read_test_accuracies(run)
    if kept.is_file():
        known |= {int(number): accuracy for number, accuracy in json.loads(kept.read_text(encoding="utf-8")).items()}
    missing = [one for one in members if one.number not in known]
    if not missing:
        return known
    trainer_config = TrainerConfig(
        space=bind_network(read_frozen_space(run), source=str(run.path)).space, device="cpu", cache=cache_folder()
    )
    pool = TrainerPool(trainer_config, workers, warn=lambda words: print(words, file=sys.stderr))
    try:
        tasks = [TestTask(number=one.number, config=one.config, weights=run.weights_of(one)) for one in missing]
        for task, message in pool.work_off(tasks):
            if not isinstance(message, Tested):
                raise SystemExit(f"{run.path}: trial {task.number} could not be tested: {message}")
            known[message.number] = message.accuracy
    finally:
        pool.close()
    kept.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def curve(strategy: Strategy, run: RunFolder, seed: int, workers: int) -> Curve:
    """Return the curve of a run, finished or not."""
    data = load_data(read_frozen_space(run), cache=cache_folder())
    space = bind_network(read_frozen_space(run), source=str(run.space_file)).space
    prices = Prices.of(space, strategy, samples=len(data.train.labels), judged=len(data.validation.labels))
    results = read_results(run)
    held = fronts(results, prices, judged=read_judged(run))
    members = {one.number: one for one in (results[BASELINE], *(one for each in held for one in each.members))}
    return curve_of(strategy, seed, results, held, test_accuracies(run, list(members.values()), workers))


# ---------------------------------------------------------------- figures

Curves = Mapping[str, Sequence[Curve]]


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and half of its 95 % interval (Student's t over the seeds), None for a single seed."""
    if len(values) < 2:
        return statistics.mean(values), None
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return statistics.mean(values), quantile * statistics.stdev(values) / math.sqrt(len(values))


def rows(curves: Curves, corner: str) -> list[dict[str, Any]]:
    """Return for every strategy its volume after as much work as ours, and at its end, and its work for our volume."""
    budget = {one.seed: one.work[-1] for one in curves[OURS]}
    goal = {one.seed: one.volumes[corner][-1] for one in curves[OURS]}
    found = []
    for name, runs in curves.items():
        needed = [one.work_for(goal[one.seed], corner) for one in runs]
        ratios = [
            (one.work[-1] if work is None else work) / budget[one.seed] for one, work in zip(runs, needed, strict=True)
        ]
        row: dict[str, Any] = {
            "strategy": name,
            "corner": corner,
            "trials": statistics.mean(one.trials for one in runs),
            "work_of_ours": statistics.mean(one.work[-1] / budget[one.seed] for one in runs),
            "got_there": sum(work is not None for work in needed),  # for others the ratio is a lower bound
            "seeds": len(runs),
        }
        values = {
            "at_equal_work": [one.at(budget[one.seed], corner) for one in runs],
            "at_its_end": [one.volumes[corner][-1] for one in runs],
            "work_ratio": ratios,
        }
        for what, of_seeds in values.items():
            row[what], row[f"{what}_95"] = interval(of_seeds)
        found.append(row)
    return found


def gain(curves: Curves, other: str, corner: str) -> tuple[float, float | None]:
    """Return the lead of ours over a strategy after equal work, seed by seed."""
    ours = {one.seed: one for one in curves[OURS]}
    return interval(
        [ours[one.seed].volumes[corner][-1] - one.at(ours[one.seed].work[-1], corner) for one in curves[other]]
    )


PARTS = {"grey_box": "ours, tpe proposes", "ladder": "ours, no ladder", "supernet": "ours, no supernet"}


def figures(curves: Curves) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for corner, suffix in ((WORTHWHILE, ""), (FROM_CHANCE, "_from_chance")):
        by_name = {row["strategy"]: row for row in rows(curves, corner)}
        found |= {
            f"{name}{suffix}{more}": by_name[strategy][f"{column}{more}"]
            for name, strategy, column in (
                ("work_ratio_vs_tpe", TPE, "work_ratio"),
                ("work_ratio_vs_warm_tpe", WARM_TPE, "work_ratio"),
                ("hv_ours", OURS, "at_its_end"),
            )
            if strategy in by_name
            for more in ("", "_95")
        }
        others = [row["at_equal_work"] for name, row in by_name.items() if not name.startswith(OURS)]
        if others:
            found[f"hv_best_other_at_equal_work{suffix}"] = max(others)
        for part, other in PARTS.items():
            if other in curves:
                found[f"hv_gain_{part}{suffix}"], found[f"hv_gain_{part}{suffix}_95"] = gain(curves, other, corner)
    return found | {"work_of_ours_sample_steps": statistics.mean(one.work[-1] for one in curves[OURS])}


def as_table(document: dict[str, Any]) -> str:
    headings = (
        *("strategy", "trials", "work, of ours", "hypervolume at equal work", "at its end"),
        "work for what ours has, of ours",
    )
    lines = markdown_table(headings, [_cells(row) for row in document["rows"] if row["corner"] == WORTHWHILE])
    configurations = [
        f"all {row['configurations']} {row['way']}: test accuracy {row['test_accuracy']:.4f} on the mean, "
        f"{row['least_macs']:.2f} of the operations at least, hypervolume of {row['members']} members "
        f"{row['hypervolume']:.5f}, explained by choices {row['hypervolume_explained']:.5f} and all but "
        f"{row['unexplained']:.4f} of the accuracies, rank correlation with fine-tuned {row['spearman']:.2f}"
        for row in document.get("every_configuration", ())
    ]
    return "\n".join([*lines, "", *figure_lines(document["figures"], ".5g"), *configurations])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    bound = "" if row["got_there"] == row["seeds"] else "more than "
    return (
        row["strategy"],
        f"{row['trials']:.0f}",
        f"{row['work_of_ours']:.2f}",
        _with_interval(row, "at_equal_work", 5),
        _with_interval(row, "at_its_end", 5),
        f"{bound}{_with_interval(row, 'work_ratio', 1)}",
    )


def _with_interval(row: Mapping[str, Any], what: str, digits: int) -> str:
    half = row[f"{what}_95"]
    return f"{row[what]:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def draw(curves: Curves, file: Path) -> None:
    """Draw the mean hypervolume by work: a colour for where training begins, a line style for who proposes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    of_ours = statistics.mean(one.work[-1] for one in curves[OURS])
    for name, runs in curves.items():
        # To where the first of them ends: a mean over fewer would jump.
        end = min(one.work[-1] for one in runs)
        work = np.unique([spent for one in runs for spent in one.work if spent <= end])
        values = [statistics.mean(one.at(spent, WORTHWHILE) for one in runs) for spent in work]
        colour, line = _style(name)
        width = 2.4 if name == OURS else 1.3
        axes.step(work / of_ours, values, where="post", label=name, linewidth=width, color=colour, linestyle=line)
    axes.set(
        xscale="log", xlabel="training work, as a multiple of ours", ylabel="hypervolume (test split)", xlim=(0.2, None)
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)


def _style(strategy: str) -> tuple[str, Any]:
    if strategy.startswith(OURS):
        others = ("ours, tpe proposes", "ours, random proposals", "ours, no ladder", "ours, no supernet")
        lines = dict(zip(others, ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1))), strict=True))
        return "tab:blue", lines.get(strategy, "-")
    lines = {"tpe": "-", "nsga2": "--", "random": ":", "uniform precision": "-."}
    if strategy == LONGER:
        return "tab:pink", lines["random"]
    return ("tab:red" if strategy.endswith("scratch") else "tab:orange"), lines[strategy.partition(",")[0]]


def search_live(wanted: Sequence[Strategy], options: argparse.Namespace) -> dict[str, list[Curve]]:
    keep_compiled_code(cache_folder())
    seeds = range(options.seeds)
    if not options.report:
        for seed in seeds:
            for one in wanted:
                search(one, options.folder, seed, options.workers)
    found = {
        one.name: [
            curve(one, run_of(one, options.folder, seed), seed, options.workers)
            for seed in seeds
            if run_of(one, options.folder, seed).exists()
        ]
        for one in wanted
    }
    return {name: runs for name, runs in found.items() if runs}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fronts by the work of training that found them.")
    parser.add_argument("--replay", choices=SPACES, help="search a small space, from the table of its trainings")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the runs lie; live")
    parser.add_argument("--seeds", type=int, help="1, and of a replay 10")
    parser.add_argument("--scratch-trials", type=int, help="of strategies from scratch: 140, about 20 times our work")
    parser.add_argument("--warm-trials", type=int, help="of strategies that train from the baseline: 20")
    parser.add_argument("--only", action="append", help="only this strategy, beside ours; may be given again")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="search nothing; live")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.seeds is None:
        options.seeds = 10 if options.replay else 1
    file = prepared_space(options.replay).space.file if options.replay else read_space(SPACE)
    trials = REPLAYED_TRIALS if options.replay else LIVE_TRIALS
    given = {TPE: options.scratch_trials, WARM_TPE: options.warm_trials}
    every = strategies(file, trials | {name: count for name, count in given.items() if count is not None})
    if not options.replay:
        every = [one for one in every if one.name not in LOOKED_UP]
    elif not SPACES[options.replay]:  # none was trained for longer
        every = [one for one in every if one.name != LONGER]
    unknown = set(options.only or ()) - {one.name for one in every}
    if unknown:
        parser.error(f"--only {unknown.pop()!r}: the strategies are {'; '.join(one.name for one in every)}")
    if options.only:
        wanted = [one for one in every if one.name in (OURS, *options.only)]
    else:
        wanted = [one for one in every if options.replay or not one.is_optional]
    if options.replay:
        curves = replay(options.replay, wanted, range(options.seeds), options.workers)
    else:
        curves = search_live(wanted, options)
    if OURS not in curves:
        parser.error(f"no run of ours lies in {options.folder}")
    if options.picture:
        draw(curves, options.picture)
    shown = [row for corner in (WORTHWHILE, FROM_CHANCE) for row in rows(curves, corner)]
    more = {"every_configuration": of_every_configuration(options.replay)} if options.replay else {}
    document = as_document(shown, figures(curves), seeds=options.seeds, **more)
    print(json.dumps(document, indent=1) if options.json else as_table(document))


if __name__ == "__main__":
    main()
