"""A run as a value, and what its reports import."""

from __future__ import annotations

import subprocess
import sys

import pytest
from examples import example_run, trial

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
