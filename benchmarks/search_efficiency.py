"""How much training finds how good a front: the default search against what one would write with Optuna.

    .venv/bin/python benchmarks/search_efficiency.py              # hours; goes on where it was stopped
    .venv/bin/python benchmarks/search_efficiency.py --report     # of what there is so far; --json, --picture FILE

Every strategy is a search of the default space by the command line, on the same data. Those of one seed share the float
baseline that ours has trained, and the shared network, so that they differ in what they do with it.

Work is counted in sample passes, three for a sample trained with (forward and backward) and one for a sample that is
only run, with everything that a strategy needs in it: baseline, shared network, read-outs, training, the evaluation
after every epoch. Strategies from scratch need no float baseline, and are not charged for it. Test splits are charged
to nobody.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measurement import as_document
from scipy import stats

from spquant_search.crew import Crew
from spquant_search.pareto import ReferencePoint, front, hypervolume, reference_point, worthwhile
from spquant_search.prepare import bind_network, load_data, prepare
from spquant_search.results import BASELINE, Outcome, TrialResult
from spquant_search.runfolder import RunFolder, open_run, write_bytes
from spquant_search.runtime import cache_folder, keep_compiled_code
from spquant_search.sensitivity import to_read_out
from spquant_search.workers import Setup, Tested, TestTask

SPACE = Path(__file__).parents[1] / "spaces" / "vgg9.yaml"
FOLDER = Path("runs") / "search-efficiency"
TRAINED = 3  # passes of a sample: forward, and a backward that is twice as much
CHANCE = 0.1
WORTHWHILE, FROM_CHANCE = "worthwhile", "chance"  # corners that the volume is counted from
OURS, TPE, WARM_TPE = "ours", "tpe, from scratch", "tpe, warm-started"


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """A search: what it sets in the space. ``counts_baseline``: it needs a float network."""

    name: str
    settings: tuple[str, ...]
    counts_baseline: bool = True

    def run(self, folder: Path, seed: int) -> RunFolder:
        slug = self.name.replace(",", "").replace(" ", "-")
        return RunFolder(path=folder / "runs" / f"{slug}-{seed}")


def strategies(trials: Mapping[str, int]) -> list[Strategy]:
    """Ours; ours with one part replaced or switched off; what one would write with Optuna."""
    plain = ("search.references=[]", "search.ladder=0", "search.stopping.enabled=false", "search.sampler=tpe")
    warm = ("search.strategy=warm-start", f"search.trials={trials[WARM_TPE]}")
    # Candidates from scratch are trained as the float network is: with as many epochs, at its learning rate.
    scratch = ("search.strategy=scratch", "train.epochs=10", "train.learning_rate=4.0e-3")
    return [
        Strategy(name=OURS, settings=()),
        Strategy(name="ours, tpe proposes", settings=("search.sampler=tpe",)),
        Strategy(name="ours, random proposals", settings=("search.sampler=random",)),
        Strategy(name="ours, no ladder", settings=("search.ladder=0",)),
        Strategy(name="ours, no shared network", settings=(*warm, "search.ladder=0")),
        Strategy(name=WARM_TPE, settings=(*plain, *warm)),
        Strategy(name=TPE, settings=(*plain, *scratch, f"search.trials={trials[TPE]}"), counts_baseline=False),
    ]


# ---------------------------------------------------------------- searching


def search(strategy: Strategy, folder: Path, seed: int, workers: int) -> None:
    """A whole search, or the rest of one."""
    overrides = [*strategy.settings, f"search.seed={seed}"]
    run = strategy.run(folder, seed)
    if strategy.name != OURS:
        _begin_as_ours(
            run, Strategy(name=OURS, settings=()).run(folder, seed), [*overrides, f"search.workers={workers}"]
        )
    words = ["--space", str(SPACE), "--run", run.name, "--workers", str(workers)]
    words += [word for setting in overrides for word in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "spquant_search.cli", *words], cwd=folder, env=environment, check=True)


def _begin_as_ours(run: RunFolder, ours: RunFolder, overrides: Sequence[str]) -> None:
    """A new run with the baseline and the shared network of ours."""
    if not run.exists():
        open_run(run, prepare(SPACE, overrides).space.file, ours.facts())
    for kept in (ours.shared_file, ours.sensitivity_file, ours.weights_file(BASELINE), ours.result_file(BASELINE)):
        copy = run.path / kept.relative_to(ours.path)
        if not copy.is_file():
            write_bytes(copy, kept.read_bytes())


# ---------------------------------------------------------------- work, and what it found


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Sample passes."""

    epoch: int  # of training, with the evaluation after it
    read_out: int
    before: int  # the first candidate: what the strategy trains and reads out for all of them

    @classmethod
    def of(cls, run: RunFolder, strategy: Strategy, *, samples: int, judged: int) -> Prices:
        file = run.space()
        space = bind_network(file, source=str(run.space_file)).space
        epoch = TRAINED * samples + judged
        read_out = file.shared.statistics_samples + min(judged, file.shared.validation_samples or judged)
        before = epoch * file.train.baseline_epochs if strategy.counts_baseline else 0
        if file.search.strategy != "scratch" and file.train.distillation > 0:
            before += samples  # what the float network says of every sample, once
        if file.search.strategy == "shared":
            before += TRAINED * samples * file.shared.epochs
            before += read_out * len(to_read_out(space)) if file.search.rungs else 0
        return cls(epoch=epoch, read_out=read_out, before=before)

    def of_trial(self, result: TrialResult) -> int:
        if result.outcome is Outcome.READ_OUT:
            return self.read_out
        return self.epoch * result.trained_epochs


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A front, and the work after which the search held it."""

    work: int
    members: tuple[TrialResult, ...]


def fronts(run: RunFolder, prices: Prices) -> list[Held]:
    """Every front that the search has held, candidates alone, and the last one again with all of its work."""
    candidates = [result for result in run.results() if result.number != BASELINE]
    work, found = prices.before, [Held(work=0, members=())]
    for count, result in enumerate(candidates, start=1):
        work += prices.of_trial(result)
        members = front(candidates[:count])
        if members != found[-1].members:
            found.append(Held(work=work, members=members))
    return [*found, Held(work=work, members=found[-1].members)]


def test_accuracies(run: RunFolder, members: Sequence[TrialResult], workers: int) -> dict[int, float]:
    """Of all these; those that are not known yet are measured, and kept beside the run."""
    kept = run.path / "tests-of-earlier-fronts.json"
    known = run.test_accuracies()
    if kept.is_file():
        known |= {int(number): accuracy for number, accuracy in json.loads(kept.read_text(encoding="utf-8")).items()}
    missing = [one for one in members if one.number not in known]
    if not missing:
        return known
    setup = Setup(space=bind_network(run.space(), source=str(run.path)).space, device="cpu", cache=cache_folder())
    crew = Crew(setup, workers, warn=lambda words: print(words, file=sys.stderr))
    try:
        while missing or crew.busy():
            for trainer in crew.idle():
                if missing:
                    one = missing.pop()
                    trainer.give(TestTask(number=one.number, config=one.config, weights=run.weights_of(one)))
            for trainer, message in crew.messages():
                if not isinstance(message, Tested):
                    raise SystemExit(f"{run.path}: trial {trainer.task.number} could not be tested: {message}")
                known[message.number] = message.accuracy
                crew.ended(trainer, message.seconds)
    finally:
        crew.close()
    kept.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def corners(baseline: TrialResult, test_accuracy: float) -> dict[str, ReferencePoint]:
    """What volume is counted from; ``test_accuracy``: the baseline's."""
    point = reference_point(baseline, chance=CHANCE)
    return {WORTHWHILE: worthwhile(point, baseline_accuracy=test_accuracy), FROM_CHANCE: point}


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Hypervolume by work; it changes where a trial changes the front."""

    strategy: str
    seed: int
    trials: int
    work: tuple[int, ...]
    volumes: Mapping[str, tuple[float, ...]]  # by corner

    def at(self, work: float, corner: str) -> float:
        """What is held after so much work."""
        return self.volumes[corner][int(np.searchsorted(self.work, work, side="right")) - 1]

    def work_for(self, volume: float, corner: str) -> int | None:
        """The work after which it holds so much for the first time; None: never."""
        reached = (work for work, held in zip(self.work, self.volumes[corner], strict=True) if held >= volume)
        return next(reached, None)


def curve(strategy: Strategy, run: RunFolder, seed: int, workers: int) -> Curve:
    """A run's, finished or not."""
    data = load_data(run.space(), cache=cache_folder())
    prices = Prices.of(run, strategy, samples=len(data.train.labels), judged=len(data.validation.labels))
    held = fronts(run, prices)
    results = run.results()
    members = {one.number: one for one in (results[BASELINE], *(one for each in held for one in each.members))}
    tested = test_accuracies(run, list(members.values()), workers)
    judged = [
        np.array([[tested[one.number], one.memory_bytes, one.effective_macs] for one in each.members]).reshape(-1, 3)
        for each in held
    ]
    return Curve(
        strategy=strategy.name,
        seed=seed,
        trials=sum(result.is_candidate for result in results),
        work=tuple(each.work for each in held),
        volumes={
            corner: tuple(hypervolume(points, at) for points in judged)
            for corner, at in corners(results[BASELINE], tested[BASELINE]).items()
        },
    )


# ---------------------------------------------------------------- figures

Curves = Mapping[str, Sequence[Curve]]


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95 % interval (Student's t over the seeds); None for a single seed."""
    if len(values) < 2:
        return statistics.mean(values), None
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return statistics.mean(values), quantile * statistics.stdev(values) / math.sqrt(len(values))


def rows(curves: Curves, corner: str) -> list[dict[str, Any]]:
    """Of every strategy: what it holds after as much work as ours takes, and at its end; the work for what ours has."""
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
    """What ours has more than a strategy after equal work, seed by seed."""
    ours = {one.seed: one for one in curves[OURS]}
    return interval(
        [ours[one.seed].volumes[corner][-1] - one.at(ours[one.seed].work[-1], corner) for one in curves[other]]
    )


PARTS = {"grey_box": "ours, tpe proposes", "ladder": "ours, no ladder", "shared": "ours, no shared network"}


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
    return found | {"work_of_ours_passes": statistics.mean(one.work[-1] for one in curves[OURS])}


def as_table(document: dict[str, Any]) -> str:
    lines = [
        "| strategy | trials | work, of ours | hypervolume at equal work | at its end | work for what ours "
        "has, of ours |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for row in document["rows"]:
        if row["corner"] == WORTHWHILE:
            bound = "" if row["got_there"] == row["seeds"] else "more than "
            lines.append(
                f"| {row['strategy']} | {row['trials']:.0f} | {row['work_of_ours']:.2f} | "
                f"{_with_interval(row, 'at_equal_work', 5)} | {_with_interval(row, 'at_its_end', 5)} | "
                f"{bound}{_with_interval(row, 'work_ratio', 1)} |"
            )
    shown = (f"{name}: {value:.5g}" for name, value in document["figures"].items() if value is not None)
    return "\n".join([*lines, "", *shown])


def _with_interval(row: Mapping[str, Any], what: str, digits: int) -> str:
    half = row[f"{what}_95"]
    return f"{row[what]:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def draw(curves: Curves, file: Path) -> None:
    """Mean hypervolume by work."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    passes = statistics.mean(one.work[-1] for one in curves[OURS])
    for name, runs in curves.items():
        work = np.unique([spent for one in runs for spent in one.work])
        values = [statistics.mean(one.at(spent, WORTHWHILE) for one in runs) for spent in work]
        axes.step(work / passes, values, where="post", label=name, linewidth=2.2 if name == OURS else 1.3)
    axes.set(
        xscale="log", xlabel="training work, as a multiple of ours", ylabel="hypervolume (test split)", xlim=(0.2, None)
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(loc="upper left", frameon=False, fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fronts by the work of training that found them.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the runs lie")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--scratch-trials", type=int, default=80, help="of TPE from scratch: 20 times the work of ours")
    parser.add_argument("--warm-trials", type=int, default=20, help="of strategies that train from the baseline")
    parser.add_argument("--only", action="append", help="only this strategy, beside ours; may be given again")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="search nothing")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_compiled_code(cache_folder())
    every = strategies({TPE: options.scratch_trials, WARM_TPE: options.warm_trials})
    wanted = [one for one in every if not options.only or one.name in (OURS, *options.only)]
    seeds = range(options.seeds)
    if not options.report:
        for seed in seeds:
            for one in wanted:
                search(one, options.folder, seed, options.workers)
    found = {
        one.name: [
            curve(one, one.run(options.folder, seed), seed, options.workers)
            for seed in seeds
            if one.run(options.folder, seed).exists()
        ]
        for one in wanted
    }
    curves = {name: runs for name, runs in found.items() if runs}
    if OURS not in curves:
        parser.error(f"no run of ours lies in {options.folder}")
    if options.picture:
        draw(curves, options.picture)
    shown = [row for corner in (WORTHWHILE, FROM_CHANCE) for row in rows(curves, corner)]
    document = as_document(shown, figures(curves), seeds=options.seeds)
    print(json.dumps(document, indent=1) if options.json else as_table(document))


if __name__ == "__main__":
    main()
