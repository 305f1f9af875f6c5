"""Optuna Dashboard on a run's study, with the notes that it shows."""

from __future__ import annotations

import sys

from spquant_search.driver.storage.protocol import Storage
from spquant_search.errors import UserError
from spquant_search.report.dashboard_notes import study_note, trial_note
from spquant_search.report.run_summary import RunSummary
from spquant_search.runs.folder import RunFolder

HOST = "127.0.0.1"


def serve(folder: RunFolder, summary: RunSummary, *, storage: Storage, port: int) -> None:
    """Write the notes of all finished trials and serve the dashboard until interrupted.

    The notes are written here and not during the search: the search then works without the dashboard installed.

    Raises:
        UserError: the dashboard is not installed, or the port is taken.
    """
    try:
        import optuna_dashboard
    except ImportError:
        raise UserError(
            "Optuna Dashboard is not installed; install it with: pip install 'spquant-search[dashboard]'"
        ) from None
    from spquant_search.driver.study import study_in, trial_in

    try:
        study = study_in(storage)
    except KeyError:
        raise UserError(f"{folder.path}: has no study yet, as its search has not begun; start it again") from None
    try:
        optuna_dashboard.save_note(study, study_note(summary))
        for result in summary.results:
            optuna_dashboard.save_note(trial_in(study, result.number), trial_note(result))
    except OSError as error:
        print(f"note: trials are shown without notes: {error.filename}: {error.strerror}", file=sys.stderr)
    print(f"Optuna Dashboard of run {folder.name}: http://{HOST}:{port}/  (Ctrl-C ends it)", flush=True)
    try:
        optuna_dashboard.run_server(storage.optuna, host=HOST, port=port)
    except OSError as error:
        raise UserError(f"--port {port}: cannot be used: {error.strerror}; take another") from error
