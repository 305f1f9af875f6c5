"""Searches with other objectives than memory and operations, and runs that go on with other constraints."""

from __future__ import annotations

import pytest
from driver.lab import NO_STOPPING, ONE_WORKER, TINY, Lab

from spquant_search.costs.extremes import byte_figures, smallest_figures
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import Study, study_in
from spquant_search.errors import UserError
from spquant_search.runs.results import Origin, Outcome
from spquant_search.runs.selection import Budget, front
from spquant_search.space.address import Address
from spquant_search.training.prepare import prepare

DEVICE = "search.objectives=[accuracy, flash_bytes, ram_bytes]"
GREY_BOX = (NO_STOPPING, ONE_WORKER, "search.sampler=grey-box", "search.startup_trials=4")
LARGE, SMALL = {"weight_bits": 4, "membrane_levels": 16}, {"weight_bits": 2, "membrane_levels": 3}


def named(trial) -> dict[str, float]:
    """A trial's constraints by name, without those of Optuna 4's list, whose names are numbers."""
    return {name: value for name, value in trial.constraints.items() if not name.isdecimal()}


def told(lab: Lab) -> list[tuple[str, object, list[float] | None]]:
    return [(trial.state.name, trial.params, trial.values) for trial in lab.trials()]


def test_the_study_is_one_of_flash_and_ram(new_lab):
    lab = new_lab(*GREY_BOX, DEVICE, "layers.conv2.weight_bits=[2, 4, 32]", "search.references=[]")
    results = lab.run(9)
    stored = study_in(Journal(lab.folder.study_file))
    assert stored.metric_names == ["accuracy", "flash_bytes", "ram_bytes"]
    assert [direction.name for direction in stored.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    baseline, *others = stored.trials
    # The float network is no point of this front: it has neither cost, and breaks a constraint for Optuna's samplers.
    assert baseline.values[1:] == [float("inf"), float("inf")]
    assert named(baseline) == {"keeps_floats": 1.0}
    assert baseline.number not in {best.number for best in stored.best_trials}
    for result, trial in zip(results[1:], others, strict=True):
        assert trial.values == [result.accuracy, result.flash_bytes, result.ram_bytes]
        assert trial.constraints == {}
    # What keeps floats is never proposed.
    assert all(result.has_integer_form for result in results[1:])


@pytest.mark.parametrize(
    ("sampler", "objectives"),
    [
        ("grey-box", "[accuracy, flash_bytes, ram_bytes]"),
        ("grey-box", "[accuracy, synaptic_ops]"),
        ("tpe", "[accuracy, flash_bytes, ram_bytes]"),
        ("nsga2", "[accuracy, synaptic_ops, energy_uj]"),
    ],
)
def test_an_interrupted_search_proposes_what_an_uninterrupted_one_would(new_lab, objectives, sampler):
    words = (*GREY_BOX, f"search.objectives={objectives}", f"search.sampler={sampler}")
    whole, parts = new_lab(*words, name="whole"), new_lab(*words, name="parts")
    whole.run(6)
    for trials in (1, 5, 6):
        parts.run(trials)
    assert told(parts) == told(whole)


@pytest.mark.parametrize(
    ("objectives", "bounded"),
    [
        ("[accuracy, memory_bytes, effective_flops]", [{"flash_bytes", "ram_bytes"}]),
        ("[accuracy, synaptic_ops]", [{"flash_bytes"}, {"ram_bytes"}]),
    ],
)
def test_nothing_over_budgets_of_bytes_is_proposed_alone_or_together(new_lab, objectives, bounded):
    """Budgets a little above the smallest, of costs that are no objectives."""
    prepared = prepare(TINY, ())
    least = smallest_figures(prepared.space, prepared.shapes, prepared.architecture)
    bounds = {"flash_bytes": least["flash_bytes"] * 1.05, "ram_bytes": least["ram_bytes"] * 1.05}
    for kept in bounded:
        limits = [f"constraints.{name}={bounds[name]:.0f}" for name in sorted(kept)]
        lab = new_lab(*GREY_BOX, *limits, f"search.objectives={objectives}", name="-".join(sorted(kept)))
        results = lab.run(7)
        proposed = [result for result in results if result.origin not in (Origin.BASELINE, Origin.REFERENCE)]
        assert {result.outcome for result in proposed} == {Outcome.COMPLETE}
        for name in kept:
            assert max(getattr(result, name) for result in proposed) <= round(bounds[name])
        over = [result for result in results if result.outcome is Outcome.OVER_BUDGET]
        assert all(result.origin is Origin.REFERENCE for result in over)
        assert all(" is over constraints." in result.reason for result in over)


def test_configurations_that_keep_floats_cannot_keep_a_budget_of_flash(new_lab):
    lab = new_lab(
        *GREY_BOX,
        "layers.all.weight_bits=[2, 32]",
        "search.references=[{weight_bits: 32, membrane_levels: 3}]",
        "constraints.flash_bytes=1MB",
    )
    results = lab.run(3)
    assert results[1].outcome is Outcome.OVER_BUDGET
    assert results[1].reason == (
        "it keeps floating-point numbers, and so cannot keep constraints.flash_bytes, 1,000,000"
    )
    assert all(result.has_integer_form for result in results[2:])


def reopened(lab: Lab, *overrides: str) -> Lab:
    """The same run with other words."""
    return Lab(lab.folder.path, *overrides)


def test_a_run_goes_on_with_other_constraints_as_if_it_always_had_them(new_lab):
    references = f"search.references={[LARGE, SMALL]}"
    prepared = prepare(TINY, (references,))
    large, _ = (byte_figures(prepared.shapes, prepared.architecture, one) for one in prepared.space.references)
    tight = f"constraints.memory_bytes={large['memory_bytes'] - 1}"
    first = new_lab(*GREY_BOX, references, tight)
    results = first.run(4)
    assert results[1].outcome is Outcome.OVER_BUDGET
    # Looser: what was over may be proposed, and every trial is a point of the front.
    looser = reopened(first, *GREY_BOX, references, "constraints.memory_bytes=1MB")
    study = study_of(looser, results)
    found = {trial.number: trial.constraints for trial in study._study.get_trials(deepcopy=False)}
    assert all(found[result.number]["memory_bytes"] < 0 for result in results if result.outcome is Outcome.COMPLETE)
    assert looser.run(5)[1] == results[1]
    # Tighter, and an accuracy: the study knows it of trials that have ended, though Optuna's storage does not.
    accuracy = sorted(result.accuracy for result in results if result.outcome is Outcome.COMPLETE)[2]
    bounds = (tight, f"constraints.accuracy={accuracy}")
    tighter = reopened(first, *GREY_BOX, references, *bounds)
    ended = tighter.run(5)
    found = {trial.number: trial for trial in study_of(tighter, ended)._study.get_trials(deepcopy=False)}
    budget = Budget.of(tighter.prepared.space.file.constraints)
    for result in ended:
        if result.outcome is Outcome.COMPLETE:
            expected = budget.violations(result)
            assert named(found[result.number]) == pytest.approx(expected)
            assert found[result.number].system_attrs["constraints"] == pytest.approx(list(expected.values()))
    members = front(ended, ("memory_bytes", "effective_flops"), budget)
    assert members
    assert all(not budget.excess(member) for member in members)


def study_of(lab: Lab, results) -> Study:
    prepared = lab.prepared
    return Study(
        Journal(lab.folder.study_file),
        prepared.space,
        prepared.shapes,
        chance=0.1,
        architecture=prepared.architecture,
        results=results,
    )


def test_a_configuration_that_was_over_a_budget_is_tried_once_it_is_not(new_lab):
    """In a space of two configurations, of which the first start refuses one."""
    space = (
        "layers={all: {weight_bits: 4, membrane_levels: 3}, conv2: {weight_bits: [2, 4]}}",
        "search.references=[]",
        NO_STOPPING,
        ONE_WORKER,
    )
    prepared = prepare(TINY, space)
    sizes = sorted(
        byte_figures(prepared.shapes, None, prepared.space.config({Address("conv2", "weight_bits"): bits}))[
            "memory_bytes"
        ]
        for bits in (2, 4)
    )
    for sampler in ("grey-box", "random"):
        words = (*space, f"search.sampler={sampler}")
        tight = new_lab(*words, f"constraints.memory_bytes={sizes[0]}", name=sampler)
        tried = [result.memory_bytes for result in tight.run(2) if result.outcome is Outcome.COMPLETE]
        assert tried[1:] == [sizes[0]]
        loose = reopened(tight, *words, f"constraints.memory_bytes={sizes[1]}")
        tried = [result.memory_bytes for result in loose.run(2) if result.outcome is Outcome.COMPLETE]
        assert sorted(tried[1:]) == sizes


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ("layers.all.weight_bits=32", DEVICE, "search.references=[]"),
            "search.objectives: flash_bytes and ram_bytes: no configuration has an integer form, and so none has any: "
            "conv1 has float weights in every configuration",
        ),
        (
            ("layers.all.weight_bits=32", "constraints.ram_bytes=64KiB", "search.references=[]"),
            "constraints.ram_bytes: ram_bytes: no configuration has an integer form",
        ),
        (("constraints.flash_bytes=1KiB",), "constraints.flash_bytes: must be at least "),
        (("constraints.ram_bytes=100",), "constraints.ram_bytes: must be at least "),
        (("constraints.energy_uj=0.0001",), "constraints.energy_uj: must be more than "),
    ],
)
def test_what_no_configuration_can_have_is_refused_at_the_start(overrides, words):
    with pytest.raises(UserError) as caught:
        prepare(TINY, overrides)
    assert words in str(caught.value)


def test_budgets_that_only_different_configurations_keep_are_refused_together():
    """Five levels take 3 bits: fewer bytes of RAM than 16, and code that those do without."""
    space = ("layers.all={weight_bits: 4, membrane_levels: [5, 16]}", "search.references=[]")
    prepared = prepare(TINY, space)
    least = smallest_figures(prepared.space, prepared.shapes, prepared.architecture)
    for name in ("flash_bytes", "ram_bytes"):
        assert prepare(TINY, (*space, f"constraints.{name}={least[name]:.0f}"))
    bounds = [f"constraints.{name}={least[name]:.0f}" for name in ("flash_bytes", "ram_bytes")]
    with pytest.raises(UserError) as caught:
        prepare(TINY, (*space, *bounds))
    assert "constraints: no configuration of this space keeps all of them: the smallest take " in str(caught.value)


def test_the_float_baselines_measured_operations_are_where_gains_begin(new_lab):
    lab = new_lab(*GREY_BOX, "search.objectives=[accuracy, synaptic_ops]")
    baseline = lab.run(1)[0]
    study = study_of(lab, ())
    assert study._reference_now().costs == pytest.approx({"synaptic_ops": 2 * baseline.synaptic_ops})
