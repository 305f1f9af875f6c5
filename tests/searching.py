"""Events of a search, for tests of what watches them."""

from __future__ import annotations

from examples import config, epoch, example_run, trial

from spquant_search.report.search_progress import Progress, RunningTrial
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.work import Part, PartWork


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_plan(**changes) -> SearchPlan:
    values = {
        "run": "tiny",
        "source": "spaces/tiny.yaml",
        "data": "fashion-events (simulated)",
        "network": "vgg9",
        "time_steps": (4,),
        "trials": 5,
        "work": "trials of 3 epochs after a float baseline of 4",
        "workers": 2,
        "chance": 0.1,
        "finished": (),
        "parts": (
            PartWork(part=Part.BASELINE, tasks=1, epochs=4, trained=10, evaluated=5),
            PartWork(part=Part.TRIALS, tasks=5, epochs=3, trained=10, evaluated=5, at_most=True),
        ),
    }
    return SearchPlan(**(values | changes))


def feed(watching, results) -> None:
    for result in results:
        watching.started(result, 3)
        for metrics in result.epochs:
            watching.epoch(result.number, metrics)
        watching.finished(result)


def start(progress: Progress, number: int, origin: str = "tpe", epochs: int = 3) -> None:
    progress.take_start(RunningTrial(task=trial(number, origin=origin), epochs=epochs))


def busy_progress() -> Progress:
    clock = Clock()
    progress = Progress(clock=clock)
    trials = PartWork(part=Part.TRIALS, tasks=50, epochs=3, trained=10, evaluated=5, at_most=True)
    progress.take_plan(a_plan(trials=50, parts=(trials,)))
    for result in example_run().results:
        progress.take_result(result)
    nine = config("844422223", "3 3 3 3 16 256 3 3")
    for number in range(6, 40):
        progress.take_result(trial(number, 0.5 + number / 200, 10 + number, 10 + number, of=nine))
    progress.take_start(RunningTrial(task=trial(40, of=nine), epochs=3))
    clock.now += 2
    progress.take_epoch(40, epoch(2, 0.777, 11e6))
    return progress
