"""The study: what Optuna is told, equal proposals however often a search is interrupted, and the traps of Optuna 5."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from examples import trial
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from shapes import convolution, readout

from spquant_search.costs.memory import cost_report
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.distribution_axes import axis_of
from spquant_search.driver.grey_box.observations import FULL, Observation
from spquant_search.driver.known_costs import known_costs
from spquant_search.driver.optuna_samplers import distributions
from spquant_search.driver.seeds import trial_seed
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import PendingTrial, Study, _observations_of, study_in, trial_in
from spquant_search.runs.pareto import OBJECTIVES
from spquant_search.runs.results import Outcome, TrialResult
from spquant_search.space.address import Address
from spquant_search.space.binding import bind
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.reading import parse_space
from spquant_search.space.search_space import SearchSpace

SPACE = """\
data: {name: fashion-events}
time_steps: 3
model: {network: vgg9}
layers:
  all:
    weight_bits: [1, 2, 4, 8]
    membrane_levels: [3, 4, 16]
    channel_mass: {from: 0.5, to: 1, step: 0.05}
    skip_below: [none, 0]
search:
  sampler: tpe
  startup_trials: 4
  references:
    - {weight_bits: 4, membrane_levels: 3}
    - {weight_bits: 2, membrane_levels: 3, channel_mass: 0.65, skip_below: 0}
"""
SHAPES = (convolution("conv1", 2, 8, 64, gate=False), convolution("conv2", 8, 16, 64), readout(256, 10))


def a_space(*overrides: str) -> SearchSpace:
    return bind(parse_space(SPACE, source="s.yaml", overrides=overrides), SHAPES, source="s.yaml")


def study_at(journal: Path, space: SearchSpace, **options: Any) -> Study:
    return Study(Journal(journal), space, SHAPES, chance=0.1, **options)


def stored_in(journal: Path) -> optuna.Study:
    return study_in(Journal(journal))


def outcome_of(asked: PendingTrial, *, stop_every: int = 0) -> TrialResult:
    """A result made from the configuration alone, so that two searches see the same."""
    bits = [layer.weight_bits for _, layer in asked.config.layers]
    levels = [layer.membrane_levels or 0 for _, layer in asked.config.layers]
    stops = stop_every and asked.number > 2 and asked.number % stop_every == 0
    accuracy = 0.5 + 0.05 * float(np.log2(bits).mean()) + 0.001 * float(np.mean(levels))
    return trial(
        asked.number,
        accuracy,
        kib=float(np.sum(bits)),
        mega_macs=10 * asked.config["conv2"].channel_mass,
        outcome=Outcome.STOPPED if stops else Outcome.COMPLETE,
        of=asked.config,
    )


def proceed(study: Study, count: int, *, stop_every: int = 3) -> list[PendingTrial]:
    asked = []
    for _ in range(count):
        asked.append(study.ask())
        result = outcome_of(asked[-1], stop_every=stop_every)
        for epoch in result.epochs:
            study.report(asked[-1], epoch=epoch.epoch, accuracy=epoch.accuracy)
        study.tell(asked[-1], result, {})
    return asked


# ---------------------------------------------------------------- what is asked first


def test_baseline_then_references_then_the_sampler(tmp_path):
    space = a_space()
    asked = proceed(study_at(tmp_path / "study.journal", space), 5)
    assert [one.number for one in asked] == [0, 1, 2, 3, 4]
    assert [one.origin for one in asked] == ["baseline", "reference", "reference", "tpe", "tpe"]
    assert asked[0].config == space.baseline()
    assert asked[1].config == space.references[0]
    assert asked[2].config == space.references[1]
    assert asked[2].config["conv2"].channel_mass == 0.65


@pytest.mark.parametrize("told", [0, 1, 2, 4])
def test_first_trials_come_once_however_often_the_study_is_opened(tmp_path, told):
    space = a_space()
    proceed(study_at(tmp_path / "study.journal", space), told)
    for _ in range(2):
        study = study_at(tmp_path / "study.journal", space)
    assert not study.has_queued()  # what a limit leaves no room for must not wait in the queue
    origins = [one.origin for one in proceed(study, 4)]
    assert origins.count("reference") == max(0, min(2, 3 - told))
    assert origins.count("baseline") == (told == 0)


def test_killed_between_queueing_and_asking_a_first_trial_it_is_tried_once(tmp_path):
    journal = tmp_path / "study.journal"
    for _ in range(2):
        study = study_at(journal, a_space())
        study.ask()
        lines = journal.read_bytes().splitlines(keepends=True)
        *_, creation = [index for index, line in enumerate(lines) if b"origin" in line]
        journal.write_bytes(b"".join(lines[: creation + 1]))
        assert study_at(journal, a_space()).has_queued()
        proceed(study_at(journal, a_space()), 1)
    assert [one.origin for one in proceed(study_at(journal, a_space()), 2)] == ["reference", "tpe"]


# ---------------------------------------------------------------- what Optuna is told


def test_directions_and_names(tmp_path):
    study_at(tmp_path / "study.journal", a_space())
    study = study_in(Journal(tmp_path / "study.journal"))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert study.metric_names == list(OBJECTIVES) == ["accuracy", "memory_bytes", "effective_macs"]


def test_a_completed_trial_is_told_with_its_values_curve_and_attributes(tmp_path):
    study = study_at(tmp_path / "study.journal", a_space())
    asked = study.ask()
    for epoch, accuracy in ((1, 0.5), (2, 0.75)):
        study.report(asked, epoch=epoch, accuracy=accuracy)
    study.tell(asked, trial(0, 0.75, 10, 3), {"memory_kib": 10.0})
    (stored, *_) = stored_in(tmp_path / "study.journal").trials
    assert stored.state is TrialState.COMPLETE
    assert stored.values == [0.75, 10240.0, 3e6]
    assert stored.intermediate_values == {1: 0.5, 2: 0.75}
    assert stored.user_attrs == {"origin": "baseline", "outcome": "COMPLETE", "memory_kib": 10.0}
    assert stored.constraints == {}


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.DUPLICATE, Outcome.DIVERGED])
def test_what_did_not_complete_is_pruned_and_infeasible_in_both_formats(tmp_path, outcome):
    study = study_at(tmp_path / "study.journal", a_space())
    proceed(study, 1)
    asked = study.ask()
    study.report(asked, epoch=1, accuracy=0.9)
    study.tell(asked, trial(1, 0.9, 1, 1, outcome=outcome, epochs=1), {})
    stored = stored_in(tmp_path / "study.journal").trials[1]
    assert stored.state is TrialState.PRUNED
    assert stored.values is None
    assert stored.intermediate_values == {1: 0.9}
    assert stored.constraints["not_completed"] == 1.0
    # Optuna 4's form, which the dashboard reads.
    assert stored.system_attrs["constraints"] == [1.0]
    assert [best.number for best in stored_in(tmp_path / "study.journal").best_trials] == [0]


def test_a_failed_trial_is_no_evidence(tmp_path):
    study = study_at(tmp_path / "study.journal", a_space())
    asked = study.ask()
    study.tell(asked, trial(0, outcome=Outcome.FAILED, epochs=0), {})
    assert stored_in(tmp_path / "study.journal").trials[0].state is TrialState.FAIL
    assert stored_in(tmp_path / "study.journal").trials[0].constraints == {}


# ---------------------------------------------------------------- Optuna's traps


def stopped_trials(*, constrained: bool) -> optuna.Study:
    """A study of three objectives as it would be without us: every second trial stopped after its first epoch."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=4)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)
    for number in range(8):
        asked = study.ask({"conv1.weight_bits": CategoricalDistribution((1, 2, 4, 8))})
        study._storage.set_trial_intermediate_value(asked._trial_id, 1, 0.1 * number)
        if number % 2:
            if constrained:
                asked.set_constraint("not_completed", 1.0)
            study.tell(asked, state=TrialState.PRUNED)
        else:
            study.tell(asked, [0.1 * number, 10.0 - number, 1.0])
    return study


def ask_once_more(study: optuna.Study) -> None:
    study.ask({"conv1.weight_bits": CategoricalDistribution((1, 2, 4, 8))})


def test_trap_tpe_still_fails_on_stopped_trials_without_a_constraint():
    """Should this fail, Optuna has fixed it, and the constraint in study.py is needed for the dashboard alone."""
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="A single direction cannot be retrieved"):
        ask_once_more(stopped_trials(constrained=False))


def test_trap_a_constraint_keeps_tpe_going():
    with warnings.catch_warnings():
        ask_once_more(stopped_trials(constrained=True))


def test_trap_optuna_still_refuses_to_prune_several_objectives():
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(NotImplementedError):
        study.ask().report(0.5, 1)
    with pytest.raises(NotImplementedError):
        study.ask().should_prune()


def test_our_tpe_goes_on_after_stopped_trials(tmp_path):
    study = study_at(tmp_path / "study.journal", a_space())
    asked = proceed(study, 12, stop_every=2)
    states = [one.state for one in stored_in(tmp_path / "study.journal").trials]
    assert states.count(TrialState.PRUNED) == 4
    assert len({one.config for one in asked}) > 8


# ---------------------------------------------------------------- equal seeds, equal proposals


def proposals(journal: Path, space: SearchSpace, *starts: int, stop_every: int = 3) -> list[dict[str, object]]:
    return [
        one.config.flat() for count in starts for one in proceed(study_at(journal, space), count, stop_every=stop_every)
    ]


@pytest.mark.parametrize("sampler", ["grey-box", "tpe", "nsga2", "random"])
def test_equal_seeds_give_equal_proposals_and_others_do_not(tmp_path, sampler):
    space = a_space(f"search.sampler={sampler}")
    first = proposals(tmp_path / "a.journal", space, 12)
    assert proposals(tmp_path / "b.journal", space, 12) == first
    other = proposals(tmp_path / "c.journal", a_space(f"search.sampler={sampler}", "search.seed=1"), 12)
    assert other[:3] == first[:3]
    assert all(one != another for one, another in zip(other[3:], first[3:], strict=True))


@pytest.mark.parametrize("sampler", ["grey-box", "tpe"])
def test_a_resumed_study_proposes_what_an_uninterrupted_one_does(tmp_path, sampler):
    space = a_space(f"search.sampler={sampler}")
    whole = proposals(tmp_path / "a.journal", space, 12)
    assert proposals(tmp_path / "b.journal", space, 5, 7) == whole
    assert proposals(tmp_path / "c.journal", space, *[1] * 12) == whole
    # The last seven were chosen by the model and not at random.
    random = proposals(tmp_path / "d.journal", a_space("search.sampler=random"), 12)
    assert random[8:] != whole[8:]


def test_nsga2_makes_children_of_the_trials_so_far_however_often_it_is_interrupted(tmp_path):
    """Its population is 50 trials, references among them; the baseline, which samples nothing, is nobody's parent."""
    space = a_space("search.sampler=nsga2")
    whole = proposals(tmp_path / "a.journal", space, 130, stop_every=0)
    assert proposals(tmp_path / "b.journal", space, 40, 50, 40, stop_every=0) == whole
    trials = stored_in(tmp_path / "a.journal").trials
    generations = [value for one in trials for name, value in one.system_attrs.items() if name.endswith(":generation")]
    assert max(generations) == 2


def test_nsga2_moves_to_what_is_better(tmp_path):
    """Where more bits are better in every objective, later generations have more of them than the first."""
    study = study_at(tmp_path / "study.journal", a_space("search.sampler=nsga2"))
    bits = []
    for _ in range(200):
        asked = study.ask()
        bits.append(float(np.mean([np.log2(layer.weight_bits) for _, layer in asked.config.layers])))
        told = trial(asked.number, 0.1 * bits[-1], kib=10 - bits[-1], mega_macs=10 - bits[-1], of=asked.config)
        study.tell(asked, told, {})
    assert np.mean(bits[3:53]) < 1.8  # 0 to 3 at random
    assert np.mean(bits[150:]) > 2.3


def test_tpe_learns_in_the_whole_space_although_the_baseline_samples_nothing(tmp_path):
    space = a_space()
    study = study_at(tmp_path / "study.journal", space)
    proceed(study, 6)
    # Proposals depend on what was told: by the intersection with the empty baseline they would all be random.
    (tmp_path / "other.journal").write_bytes((tmp_path / "study.journal").read_bytes())
    other = study_at(tmp_path / "other.journal", space)
    one = study.ask()
    study.tell(one, trial(one.number, 0.99, 1, 1, of=one.config), {})
    another = other.ask()
    assert one.config == another.config
    other.tell(another, trial(another.number, 0.01, 999, 999, of=another.config), {})
    assert study.ask().config != other.ask().config


def test_unfinished_trials_come_back_under_their_number(tmp_path):
    journal = tmp_path / "study.journal"
    study = study_at(journal, a_space())
    proceed(study, 4)
    left = [study.ask(), study.ask()]
    assert study.take_over() is None, "what is begun here is not abandoned"
    again = study_at(journal, a_space())
    assert [again.take_over(), again.take_over(), again.take_over()] == [*left, None]
    again.tell(left[0], outcome_of(left[0]), {})
    third = study_at(journal, a_space())
    assert third.take_over() == left[1]
    assert third.take_over() is None
    assert again.ask().number == 6


def test_a_seed_for_every_trial():
    seeds = {trial_seed(seed, number) for seed in range(20) for number in range(50)}
    assert len(seeds) == 1000
    assert trial_seed(0, 1) == trial_seed(0, 1)


# ---------------------------------------------------------------- the journal


def test_a_torn_last_line_is_dropped(tmp_path):
    journal = tmp_path / "study.journal"
    whole = proposals(tmp_path / "whole.journal", a_space(), 8)
    done = proposals(journal, a_space(), 5)
    content = journal.read_bytes()
    journal.write_bytes(content + b'{"op_code": 8, "worker_id": "x", "trial_id')
    Journal(journal)
    assert journal.read_bytes() == content
    assert done + proposals(journal, a_space(), 3) == whole


def test_an_untorn_journal_is_left_alone(tmp_path):
    journal = tmp_path / "study.journal"
    proposals(journal, a_space(), 2)
    content = journal.read_bytes()
    Journal(journal)
    assert journal.read_bytes() == content
    Journal(tmp_path / "none.journal")
    for line in content.splitlines():
        json.loads(line)


def test_a_lock_left_by_a_killed_process_delays_nothing(tmp_path):
    """Optuna's own file lock would wait 30 s for a file that a dead process left."""
    journal = tmp_path / "study.journal"
    proposals(journal, a_space(), 1)
    assert journal.with_suffix(".lock").exists()
    proposals(journal, a_space(), 1)


def test_study_and_trials_are_found_for_notes(tmp_path):
    study = study_at(tmp_path / "study.journal", a_space())
    proceed(study, 2)
    found = study_in(Journal(tmp_path / "study.journal"))
    assert len(found.trials) == 2
    assert trial_in(found, 1).number == 1
    assert trial_in(found, 1).user_attrs["origin"] == "reference"


def test_a_journal_is_read_as_optuna_reads_it_and_on_from_where_it_was_read(tmp_path):
    file = tmp_path / "study.journal"
    proposals(file, a_space(), 3)
    own, optunas = Journal(file), optuna.storages.journal.JournalFileBackend(str(file))
    read = list(own.optuna._backend.read_logs(0))
    assert read == list(optunas.read_logs(0))
    content = file.read_bytes()
    file.write_bytes(content + b'{"op_code": 8, "wor')  # another process is in the middle of a line
    assert list(own.optuna._backend.read_logs(len(read))) == []
    file.write_bytes(content + b'{"op_code": 8, "worker_id": "x"}\n')
    assert list(own.optuna._backend.read_logs(len(read))) == [{"op_code": 8, "worker_id": "x"}]
    assert list(own.optuna._backend.read_logs(2)) == [*read[2:], {"op_code": 8, "worker_id": "x"}]


def test_what_is_equal_in_all_trials_that_have_ended_is_kept_once(tmp_path):
    """A coordinator's memory grows by what differs between trials; and what Optuna says of them stays the same."""
    file = tmp_path / "study.journal"
    journal = Journal(file)
    proceed(Study(journal, a_space(), SHAPES, chance=0.1), 6)
    reopened = Journal(file)
    Study(reopened, a_space(), SHAPES, chance=0.1)
    for storage in (journal, reopened):
        stored = study_in(storage).get_trials(deepcopy=False)
        ended = [trial for trial in stored if trial.state.is_finished()]
        assert len({id(trial.distributions) for trial in ended[1:]}) == 1
        for name in ended[1].params:
            assert all(any(name is other for other in trial.params) for trial in ended[1:])
    plain = JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    assert optuna.load_study(study_name="search", storage=plain).trials == study_in(journal).trials


# ---------------------------------------------------------------- distributions


def test_only_what_has_a_choice_is_sampled():
    found = distributions(a_space())
    assert "conv1.channel_mass" not in found
    assert "readout.membrane_levels" not in found
    assert found["conv1.weight_bits"] == CategoricalDistribution((1, 2, 4, 8))
    assert found["conv2.skip_below"] == CategoricalDistribution((None, 0.0))
    assert found["conv2.channel_mass"] == FloatDistribution(0.5, 1.0, step=0.05)


@pytest.mark.parametrize(
    ("choices", "stepped"),
    [
        ("[0.8, 0.9, 1.0]", True),
        ("[1.0, 0.8, 0.9]", True),
        ("[0.8, 1.0]", False),  # two values have no order to learn
        ("[0.5, 0.9, 1.0]", False),
        ("[0.333333, 0.666667, 1.0]", False),  # Optuna would cut off 1.0
        ("[0.123456789012, 0.223456789012, 0.323456789012]", False),
    ],
)
def test_evenly_spaced_fractions_are_a_range_that_holds_every_choice(tmp_path, choices, stepped):
    space = a_space(f"layers.all.channel_mass={choices}", "search.references=[]", "search.sampler=random")
    found = distributions(space)["conv2.channel_mass"]
    assert isinstance(found, FloatDistribution) is stepped
    if isinstance(found, FloatDistribution):
        assert all(found._contains(option) for option in space.choices()[Address("conv2", "channel_mass")])


def test_stepped_values_come_back_as_the_space_writes_them(tmp_path):
    """Optuna gives 0.65 as 0.6500000000000001."""
    space = a_space("search.sampler=random")
    study = study_at(tmp_path / "study.journal", space)
    masses = {one.config["conv2"].channel_mass for one in proceed(study, 40)}
    assert masses <= set(space.choices()[Address("conv2", "channel_mass")])
    assert len(masses) > 5


# ---------------------------------------------------------------- the grey-box sampler


def rows_of(space: SearchSpace, count: int) -> tuple[Grid, Any, list[NetworkConfig]]:
    """Draw random rows of a space's grid; return the grid, the rows and their configurations."""
    grid = Grid(axes=tuple(axis_of(name, one) for name, one in sorted(distributions(space).items())))
    rows = grid.uniform(np.random.default_rng(0), count)
    fixed = {address: options[0] for address, options in space.choices().items() if len(options) == 1}
    values = [{Address.parse(name): value for name, value in one.items()} for one in grid.parameters(rows)]
    return grid, rows, [space.config({**fixed, **one}) for one in values]


@pytest.mark.parametrize("mask", ["[none, 0]", "none", "0"])
def test_the_costs_that_the_sampler_knows_are_those_of_the_configuration(mask):
    """Ranges and fixed parameters are included."""
    space = a_space(
        "layers.all.weight_bits=[1, 2, 4, 8]",
        "layers.all.membrane_levels=[3, 16, 256]",
        "layers.all.channel_mass=1",
        "layers.conv1.weight_bits=8",
        "layers.conv2.channel_mass={from: 0.5, to: 1.0, step: 0.05}",
        "layers.all.skip_below=none",
        f"layers.conv2.skip_below={mask}",
        "search.references=[]",
    )
    costs = known_costs(space, SHAPES)
    grid, rows, configs = rows_of(space, 300)
    expected = [cost_report(SHAPES, config, time_steps=3) for config in configs]
    assert costs.memory_bytes(grid)(rows).tolist() == [report.memory_bytes for report in expected]
    assert costs.dense_macs == expected[0].dense_macs_all_steps
    dense = [all(one.channel_mass == 1 and one.skip_below is None for _, one in config.layers) for config in configs]
    assert costs.are_dense(grid)(rows).tolist() == dense
    assert any(dense) == (mask != "0")


def test_a_layer_whose_gate_is_fixed_has_no_dense_macs():
    space = a_space("layers.conv2={channel_mass: 0.8}", "layers.all.skip_below=none", "search.references=[]")
    grid, rows, _ = rows_of(space, 20)
    assert not known_costs(space, SHAPES).are_dense(grid)(rows).any()


def test_read_outs_and_what_was_fine_tuned_are_readings_at_two_fidelities(tmp_path):
    study = study_at(tmp_path / "study.journal", a_space("search.sampler=grey-box"))
    (baseline,) = proceed(study, 1)
    read = study.ask()
    first = replace(outcome_of(read), outcome=Outcome.SUBNET)
    study.tell(read, first, {})
    study.enqueue_finalists([first, first])
    study.enqueue_finalists([first])
    asked = [study.ask() for _ in range(2)]
    assert [(one.origin, one.parent) for one in asked] == [("fine-tuned", read.number), ("reference", None)]
    assert asked[0].config == read.config
    study.report(asked[0], epoch=0, accuracy=0.4)
    study.report(asked[0], epoch=1, accuracy=0.6)
    study.tell(asked[0], trial(asked[0].number, 0.7, of=read.config), {})
    trials = stored_in(tmp_path / "study.journal").trials
    assert baseline.number == 0
    assert _observations_of(trials[read.number]) == (Observation(fidelity=0, accuracy=first.accuracy),)
    assert [(one.fidelity, one.accuracy) for one in _observations_of(trials[asked[0].number])] == [
        (0, 0.4),
        (1, 0.6),
        (FULL, 0.7),
    ]


def test_who_proposed_is_the_origin_and_a_sampler_without_skill_says_so_once(tmp_path):
    said: list[str] = []
    study = study_at(tmp_path / "study.journal", a_space("search.sampler=grey-box"), note=said.append)
    generator = np.random.default_rng(1)
    origins = []
    for _ in range(20):
        asked = study.ask()
        origins.append(asked.origin)
        noise = trial(asked.number, generator.uniform(0.2, 0.9), 10, 10, of=asked.config)
        study.tell(asked, noise, {})
    assert origins[:3] == ["baseline", "reference", "reference"]
    assert {"random", "tpe"} <= set(origins[3:])
    assert len(said) == 1
    assert said[0].startswith("the grey-box sampler cannot rank the trials so far")


def test_a_decision_is_on_disk_once_it_is_made(tmp_path, monkeypatch):
    """Not after every line of it; and whoever reads the journal meanwhile sees whole lines."""
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    storage = Journal(tmp_path / "study.journal")
    study = Study(storage, a_space(), SHAPES, chance=0.1)
    synced.clear()
    with storage.decision_lock(), storage.decision_lock():
        study.ask()
        assert synced == []
    assert len(synced) == 1
    study.report(study.ask(), epoch=1, accuracy=0.5)
    assert len(synced) > 1, "outside of decisions every line is on disk at once"
    for line in (tmp_path / "study.journal").read_text().splitlines():
        json.loads(line)
