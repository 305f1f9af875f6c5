"""A run as a value, and what its reports import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from examples import config, example_run, trial
from small_run import FACTS, a_space

from spquant_search.report.run_summary import summarize_run
from spquant_search.runs.folder import RunFolder, find_run
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import write_result
from spquant_search.runs.results import Outcome


def test_summary_of_a_run_by_hand():
    run = example_run()
    assert run.baseline is run.results[0]
    assert [result.number for result in run.trials] == [1, 2, 3, 4, 5]
    assert [member.number for member in run.front] == [2, 0]
    # The baseline is the reference point's own corner; trial 2 spans (0.864 - 0.1) * (1 - 0.1) * (1 - 0.25).
    assert run.hypervolume == pytest.approx(0.764 * (100 / 110) * (85 / 110) + 0.036 * (10 / 110) ** 2)


def test_summary_without_a_trained_baseline():
    run = example_run(results=(trial(0, origin="baseline", outcome=Outcome.FAILED, epochs=0),))
    assert (run.baseline, run.reference_point, run.hypervolume, run.front) == (None, None, None, ())


def test_reports_import_neither_torch_nor_matplotlib():
    code = (
        "import importlib, pkgutil, sys\n"
        "from spquant_search import report\n"
        "for module in pkgutil.iter_modules(report.__path__):\n"
        "    importlib.import_module(f'{report.__name__}.{module.name}')\n"
        "print([name for name in ('torch', 'matplotlib', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def summary_of(path: Path, *overrides: str):
    """A run of a small space of which the baseline is trained."""
    folder = RunFolder(path=path)
    open_run(folder, a_space(*overrides), FACTS)
    write_result(folder, trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0")))
    return summarize_run(folder)


def test_the_word_for_a_run_is_one_that_commands_understand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (Path("runs/young"), tmp_path / "runs" / "absolute", Path("elsewhere/young")):
        word = summary_of(path).argument
        assert find_run(word).path == path
        assert (word == path.name) == (path == Path("runs/young"))
    # A folder of the same name here is what the name alone means from now on.
    summary_of(Path("young"))
    assert summarize_run(RunFolder(path=Path("runs/young"))).argument == "runs/young"


@pytest.mark.parametrize(
    ("overrides", "searched"),
    [
        ((), ("weight bits",)),
        (("layers={all: {weight_bits: 4}}",), ()),
        (("layers={all: {weight_bits: 4}, conv3: {membrane_levels: [3, 16]}}",), ("membrane levels",)),
        (("layers={all: {membrane_levels: [3, 16], channel_mass: [0.8, 1]}}", "time_steps=1"), ("channel gates",)),
    ],
)
def test_what_was_searched_is_what_had_choices(tmp_path, overrides, searched):
    assert summary_of(tmp_path / "run", *overrides).searched == searched


def test_a_summary_knows_how_its_search_went(tmp_path):
    summary = summary_of(tmp_path / "run", "search.workers=3", "search.trials=7")
    assert (summary.workers, summary.trials_wanted) == (3, 7)
    assert (summary.is_shared, summary.fixed, summary.test_use.total) == (False, ("effective_flops",), 0)
