"""Every report to the letter, against the files in golden/."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from examples import config, epoch, example_run, trial
from golden import FOLDER, check_golden
from rich.console import Console
from searching import Clock, a_plan, busy_progress
from several_steps import several_progress, several_run
from shapes import convolution, readout

from spquant_search.costs.memory import cost_report
from spquant_search.data.statistics import DataStatistics, SplitStatistics, Summary
from spquant_search.data.windows import Windows
from spquant_search.deploy.c_library import ObjectSize
from spquant_search.deploy.verification_report import verification_lines
from spquant_search.deploy.verify import Mismatch, Verification
from spquant_search.report.cost_table import cost_table
from spquant_search.report.dashboard_notes import study_note, trial_note
from spquant_search.report.data_report import class_table, split_table
from spquant_search.report.front_table import front_table
from spquant_search.report.live import frame
from spquant_search.report.paper import paper_comparison, paper_table
from spquant_search.report.plain_log import PlainLog
from spquant_search.report.profile_table import profile_table
from spquant_search.report.run_report import report_markdown
from spquant_search.report.sensitivity_report import ladder_table, sensitivity_tables
from spquant_search.runs.budget_ladder import BudgetPoint
from spquant_search.runs.finals import TestUse
from spquant_search.runs.results import FineTuning, LayerActivity
from spquant_search.runs.selection import Budget
from spquant_search.runs.sensitivity import Choice, Sensitivity
from spquant_search.space.presets import Preset
from spquant_search.space.schema import ModelSpace

ACTIVITY = LayerActivity(effective_macs=1.25e6, synaptic_ops=0.8e6, density=0.1234, open_share=0.755)
SEEDS = {
    "epochs": 9,
    "seeds": 3,
    "validation_mean": 0.861,
    "validation_std": 0.0042,
    "test_mean": 0.849,
    "test_std": 0.0031,
}
SHAPES = (
    convolution("conv1", 2, 4, 16, gate=False),
    readout(256, 10),
)


def finished_run(**changes: object):
    """A run whose front was tested and partly fine-tuned with several seeds, with measured layers."""
    layers = (("conv1", ACTIVITY), ("conv2", ACTIVITY), ("readout", ACTIVITY))
    results = list(example_run().results)
    tuned = trial(2, 0.864, 10, 12.5, of=results[2].config, layers=layers)
    results[0] = replace(results[0], final=FineTuning(**SEEDS, improved=False))
    results[2] = replace(tuned, final=FineTuning(**SEEDS, improved=True))
    values: dict[str, object] = {
        "results": tuple(results),
        "test_accuracy": {0: 0.894, 2: 0.851},
        "test_samples": 10_000,
        "test_use": TestUse(baseline=1, members=1, seeds=6),
        "command": "spquant-search --space spaces/tiny.yaml --seed 3",
        "environment": {"processor": "two|cores", "torch": "2.13.0"},
    }
    return example_run(**(values | changes))


def front_text() -> str:
    return front_table(finished_run(), with_energy=True).plain()


def constraints_text() -> str:
    kept = Budget(max_memory_bytes=20 * 1024, max_effective_flops=50e6)
    missed = Budget(max_memory_bytes=9 * 1024, min_accuracy=0.88)
    return "\n".join(front_table(example_run(budget=budget)).plain() for budget in (kept, missed))


def cost_text() -> str:
    report = cost_report(SHAPES, config("80", "3", time_steps=5))
    tables = (cost_table(report, title="Cost of vgg9", energy_columns=columns) for columns in (True, False))
    return "\n".join(table.plain() for table in tables)


def paper_text() -> str:
    report = cost_report(SHAPES, config("00", "0"))
    comparison = paper_comparison(report, Preset.SNN_BL, model=ModelSpace(network="vgg9"), height=48, width=48)
    assert comparison is not None
    return paper_table(comparison).plain()


def sensitivity_text() -> str:
    lower = [("conv1", "weight_bits", 4, 0.89, 30_000), ("conv1", "weight_bits", 2, 0.84, 25_000)]
    lower += [("conv1", "membrane_levels", 3, 0.885, 35_000), ("readout", "weight_bits", 4, 0.9005, 38_000)]
    names = ("layer", "parameter", "value", "accuracy", "memory_bytes")
    choices = tuple(Choice(**dict(zip(names, cells, strict=True))) for cells in lower)
    found = Sensitivity(reference=config("88", "16"), accuracy=0.9, memory_bytes=40_000, samples=2000, choices=choices)
    point = BudgetPoint(budget_bytes=20_480, memory_bytes=19_900, loss=0.012, config=config("48", "16"))
    tables = (*sensitivity_tables(found, run="tiny"), ladder_table([point]))
    return "\n".join(table.plain() for table in tables)


def data_text() -> str:
    events = Summary(mean=1234.5, deviation=321.0, min=90, max=4000)
    split = SplitStatistics(
        samples=3,
        samples_by_class=(2, 1),
        events=events,
        pixels=None,
        fullest=Summary(mean=0.31, deviation=0.02, min=0.26, max=0.5),
        crowded=(),
        left_out=Summary(mean=0.123, deviation=0.1, min=0.0, max=0.71),
        cut_short=("ant/3.npy",),
        ended_early=1,
        density=0.071,
        clamped=0.0025,
        file="cache/x.npy",
        bytes=3 << 20,
    )
    facts = DataStatistics(
        name="event-folder",
        description="event-camera recordings, a folder for each class",
        classes=("ant", "bee"),
        time_steps=4,
        steps_shown=(4,),
        channels=2,
        height=34,
        width=34,
        static=False,
        largest=15,
        windows=Windows(count=8, us=2500),
        splits=(("train", split), ("validation", split), ("test", split)),
    )
    return f"{class_table(facts).plain()}\n{split_table(facts).plain()}"


def log_text() -> str:
    clock, file = Clock(), io.StringIO()
    log = PlainLog(file, clock=clock)
    log.plan(a_plan(trials=2))
    log.stage("recordings ready", 0, 9000)
    clock.now += 60
    log.started(trial(0, kib=100, origin="baseline", of=config("000", "0 0")), 3)
    log.epoch(0, epoch(2, 0.9, 50e6))
    for number in (0, 2, 4):
        log.finished(example_run().results[number])
    log.warning("no compiler found;\nusing the plain step")
    log.close()
    return file.getvalue()


def live_text() -> str:
    file = io.StringIO()
    console = Console(file=file, width=100, height=30, color_system=None)
    console.print(frame(busy_progress(), width=100, height=30))
    return file.getvalue()


def time_steps_text() -> str:
    """A space of several numbers of time steps: the front as wide as it may be, and the live view of 80 columns."""
    run = several_run()
    tables = [
        front_table(run).plain(),
        front_table(run, intervals=(), grouped=False).plain(),
    ]
    file = io.StringIO()
    Console(file=file, width=80, height=24, color_system=None).print(frame(several_progress(), width=80, height=24))
    return "\n".join([*tables, file.getvalue()])


def profile_text() -> str:
    profile = {
        "coordinator": {"sampler": 1.0, "waiting": 9.0},
        "trainer 1": {"training": 6.0, "compilation": 1.0, "other": 1.0},
        "trainer 2": {"training": 3.0, "waiting": 5.0},
    }
    return profile_table(profile).plain()


def verification_text() -> str:
    artifact = SimpleNamespace(
        trial=2,
        run="tiny",
        flash_bytes=20_000,
        ram_bytes=4_500,
        frame_bytes=500,
        effective_macs=12.5e6,
        time_steps=2,
        most_time_steps=4,
    )
    found = Verification(
        samples=1000,
        spikes=31_568_000,
        mismatches={"PyTorch": 0, "C": 3},
        first=Mismatch(between="numpy and C", layer="conv1", sample=4, where="time step 2, channel 7, row 3, column 9"),
        correct={"PyTorch": 851, "numpy": 851, "C": 850},
        synaptic_ops=731_009,
        executed_ops=740_000,
        sizes=[ObjectSize(compiler="cc", text=20_500, data=0, bss=4_100)],
        notes=["no compiler for a Cortex-M4 was found"],
    )
    file = io.StringIO()
    console = Console(file=file, width=100, color_system=None, soft_wrap=True)
    for line in verification_lines(found, artifact):
        console.print(line)
    return file.getvalue()


REPORTS: dict[str, Callable[[], str]] = {
    "report.md": lambda: report_markdown(finished_run()),
    "report-of-nothing.md": lambda: report_markdown(example_run(results=())),
    "front.txt": front_text,
    "front-constraints.txt": constraints_text,
    "cost.txt": cost_text,
    "paper.txt": paper_text,
    "sensitivity.txt": sensitivity_text,
    "data.txt": data_text,
    "study-note.md": lambda: study_note(finished_run()),
    "trial-note.md": lambda: trial_note(example_run().results[4]),
    "log.txt": log_text,
    "live.txt": live_text,
    "time-steps.txt": time_steps_text,
    "time-steps.md": lambda: report_markdown(several_run()),
    "profile.txt": profile_text,
    "verification.txt": verification_text,
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_its_golden_file(name):
    check_golden(name, REPORTS[name]())


def test_every_golden_file_has_a_report():
    assert {file.name for file in FOLDER.iterdir()} == set(REPORTS)
