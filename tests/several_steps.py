"""A run, and a search under way, of a space with several numbers of time steps."""

from __future__ import annotations

from dataclasses import replace

from examples import config, epoch, example_run, trial
from searching import Clock, a_plan

from spquant_search.report.run_summary import RunSummary
from spquant_search.report.search_progress import Progress, RunningTrial
from spquant_search.runs.results import LayerActivity, Outcome, TrialResult
from spquant_search.runs.work import Part, PartWork

NINE = "844422223"
ACTIVITY = LayerActivity(effective_macs=1.25e6, synaptic_ops=0.8e6, density=0.1234, open_share=0.755)


def at_steps(time_steps: int, *, bits: str = NINE, mass: float = 1.0):
    return config(bits, "3 3 3 3 16 256 3 3", mass=mass, time_steps=time_steps)


def several_results() -> tuple[TrialResult, ...]:
    """The float baseline of 4 steps and 100 MFLOPs, a reference, and members of 4, 2 and 1 steps, one a subnet."""
    one_step = trial(4, 0.842, 8, 6, of=at_steps(1, mass=0.8), layers=(("conv1", ACTIVITY), ("conv2", ACTIVITY)))
    subnet = replace(
        trial(5, 0.81, 7, 5, of=at_steps(1), outcome=Outcome.SUBNET), epochs=(epoch(0, 0.81, 5e6),), parent=None
    )
    return (
        trial(0, 0.9, 100, 50, origin="baseline", of=config("0" * 9, " ".join("0" * 8)), epochs=3),
        trial(1, 0.85, 20, 50, origin="reference", of=config("4" * 9, " ".join("3" * 8))),
        trial(2, 0.89, 22, 41, of=at_steps(4, mass=0.9)),
        trial(3, 0.88, 14, 18, of=at_steps(2, mass=0.8)),
        one_step,
        subnet,
        trial(6, 0.79, 9, 25, of=at_steps(2)),
    )


def several_run(**changes: object) -> RunSummary:
    return example_run(**({"time_steps": (1, 2, 4), "results": several_results()} | changes))


def several_progress() -> Progress:
    clock = Clock()
    progress = Progress(clock=clock)
    trials = PartWork(part=Part.TRIALS, tasks=50, epochs=3, trained=10, evaluated=5, at_most=True)
    progress.take_plan(a_plan(trials=50, parts=(trials,), time_steps=(1, 2, 4)))
    for result in several_results():
        progress.take_result(result)
    progress.take_start(RunningTrial(task=trial(7, of=at_steps(1, mass=0.8)), epochs=3))
    clock.now += 2
    progress.take_epoch(7, epoch(2, 0.777, 4e6))
    return progress
