"""What Optuna Dashboard shows."""

from __future__ import annotations

import json

from examples import config, example_run, trial

from spquant_search.report import dashboard_notes as dashboard


def test_attributes_are_flat_readable_and_finite():
    run = example_run()
    assert dashboard.trial_attributes(run.results[2], run.baseline) == {
        "memory_kib": 10.0,
        "memory_reduction": 10.0,
        "flops_m": 25.0,
        "flops_reduction": 4.0,
        "synaptic_ops_m": 3.125,
        "energy_uj": 1.25,
        "flash_kib": 10.93,  # 8 KiB of weights and overhead, and 3,000 bytes of code
        "ram_kib": 2.4883,
        "spikes_per_neuron_and_step": 0.125,
        "weight_bits_mean_over_layers": 5.3333,  # (8 + 4 + 4) / 3
        "membrane_bits_mean_over_layers": 3.0,  # 3 levels in 2 bits, 16 in 4
        "seconds": 4.5,
        "time_steps": 4,
        "epochs": 2,
        "seed": 102,
        "origin": "tpe",
        "outcome": "COMPLETE",
        "trained": "yes",
        "ending": "trained to its last epoch",
        "reason": "trained to its last epoch",
        "bits": "844",
        "levels": "3A",
        "gates_and_skips": "g1s2",
    }
    diverged = dashboard.trial_attributes(run.results[5], None)
    assert not {"flops_m", "memory_reduction", "flops_reduction"} & set(diverged)
    json.dumps(diverged, allow_nan=False)


def test_long_reasons_stay_below_the_dashboards_limit():
    attributes = dashboard.trial_attributes(trial(1, reason="x" * 5000, of=config()), None)
    assert len(json.dumps(attributes["reason"])) <= 1024


def test_trial_note_tells_the_reason_and_the_layers():
    note = dashboard.trial_note(example_run().results[4])
    assert "trial 2 is better in every objective" in note.splitlines()[0]
    assert "| readout | 4 | - | - | - |" in note


def test_study_note_holds_the_deployable_set_and_the_commands():
    note = dashboard.study_note(example_run())
    assert "| 2* | 86.4 | 84.8..87.9 | 10.0 | 1/10.0 | 25.0 M | 1/4.00 | 844 | 3A | g1s2 |" in note
    assert "    spquant-search --space spaces/tiny.yaml --run tiny\n\n    spquant-search pick tiny --knee" in note
    assert "hypervolume 0.5370" in note
