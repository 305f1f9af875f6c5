"""The coordinator, with trainers that replay learning curves: what is trained, stopped, resumed and tested."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from examples import epoch
from optuna.trial import FrozenTrial, TrialState

from spquant_search.costs.memory import cost_report
from spquant_search.driver import coordinator as search
from spquant_search.driver.coordinator import Limits, run_search
from spquant_search.driver.seeds import trial_seed
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.storage.protocol import Storage
from spquant_search.driver.study import Study
from spquant_search.errors import UserError
from spquant_search.runs.budget_ladder import plan_budget_ladder
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.folder import RunFacts, RunFolder, open_run
from spquant_search.runs.pareto import reference_point
from spquant_search.runs.results import EpochMetrics, Origin, Outcome, TrialResult
from spquant_search.runs.selection import Budget, front, greedy_hypervolume_subset, sampler_reference
from spquant_search.runs.sensitivity import Sensitivity, by_layer, lowered_configurations
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.tasks import AccuraciesTask, SubnetTask, SupernetTask, Task, TestTask
from spquant_search.workers import messages
from spquant_search.workers import pool as crew
from spquant_search.workers.messages import Epoch, Failed, Message, Trained, TrainerConfig, TrainerWarning

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
FACTS = RunFacts(source="tiny", command="", data="", classes=10, validation_samples=1000, test_samples=1)
Play = Generator[Message, str | None, None]


class Killed(BaseException):
    """The process ends here, as far as the search can tell."""


class Watching:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.warnings: list[str] = []
        self.stages: list[tuple[str, int, int]] = []

    def plan(self, plan: SearchPlan) -> None: ...

    def stage(self, text: str, done: int = 0, total: int = 0) -> None:
        self.stages.append((text, done, total))

    def started(self, task: TrialResult, epochs: int) -> None:
        self.begun.append(task.number)

    def epoch(self, number: int, metrics: EpochMetrics) -> None: ...

    def finished(self, result: TrialResult) -> None:
        self.ended.append(result.number)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def close(self) -> None: ...


def accuracy_of(config: NetworkConfig) -> float:
    """Made from the configuration, so that it does not depend on what was trained before."""
    bits = [min(layer.weight_bits, 8) for _, layer in config.layers]
    return 0.3 + 0.05 * sum(bits) / len(bits) + 0.1 * config["conv2"].channel_mass


def trains(task: Task, accuracies: list[float] | None = None) -> Play:
    """A trainer that goes through its epochs until it is told to stop."""
    result, count = task.result, task.schedule.epochs
    for index, accuracy in enumerate(accuracies or [accuracy_of(result.config)] * count, 1):
        metrics = epoch(index, accuracy, 1e6 * result.config["conv2"].channel_mass)
        result = replace(result, epochs=(*result.epochs, metrics))
        reason = yield Epoch(metrics=metrics)
        if reason is not None:
            yield Trained(result=replace(result, outcome=Outcome.STOPPED, reason=reason), seconds={})
            return
    task.weights_file.parent.mkdir(parents=True, exist_ok=True)
    task.weights_file.write_bytes(b"weights")
    yield Trained(result=replace(result, outcome=Outcome.COMPLETE, reason=Outcome.COMPLETE.value), seconds={})


def measures(task: TestTask) -> Play:
    assert all(file.is_file() for file in task.weights)
    yield messages.Tested(number=task.number, accuracy=0.01 * task.number, seconds={})


def shares(task: SupernetTask) -> Play:
    for number in range(1, task.schedule.epochs + 1):
        yield messages.Shared(epoch=number, seconds=1.0)
    task.weights_file.write_bytes(b"shared")
    yield messages.SupernetTrained(seconds={})


def reads(task: SubnetTask) -> Play:
    assert task.supernet_weights.is_file()
    task.weights_file.write_bytes(b"statistics")
    config = task.result.config
    metrics = replace(epoch(0, accuracy_of(config), 1e6 * config["conv2"].channel_mass), loss=None)
    result = replace(task.result, outcome=Outcome.SUBNET, reason=Outcome.SUBNET.value, epochs=(metrics,))
    yield Trained(result=result, seconds={})


def reads_accuracy(task: AccuraciesTask) -> Play:
    assert task.supernet_weights.is_file()
    yield messages.Reading(accuracies=tuple(map(accuracy_of, task.configs)), seconds={})


class Lab:
    """All trainers of a search, what they were given, and how single trials shall go."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        # Most of what is tested here is of trials that are trained, whatever else they begin with.
        self.prepared: Prepared = prepare(TINY, ("search.strategy=warm-start", "search.sampler=tpe", *overrides))
        self.folder = RunFolder(path=folder)
        open_run(self.folder, self.prepared.space.file, FACTS)
        self.trainers: list[FakeTrainer] = []
        self.restarts = 0
        self.tasks: list[Task] = []
        self.shared: list[SupernetTask] = []
        self.read: list[SubnetTask] = []
        self.lowered: list[AccuraciesTask] = []  # subnets that are no trials
        self.lower_plays: dict[int, Callable[[AccuraciesTask], Play]] = {}  # by how many there were
        self.share_play = shares
        self.tested: list[int] = []
        self.plays: dict[int, Callable[[Task], Play]] = {}
        self.test_plays: dict[int, Callable[[TestTask], Play]] = {}
        self.most_busy = 0
        self.watching = Watching()

    def make_trainer(self, _setup: TrainerConfig) -> FakeTrainer:
        self.trainers.append(FakeTrainer(self))
        return self.trainers[-1]

    def ready(self, trainers: list[FakeTrainer], *, timeout: float | None) -> list[FakeTrainer]:
        assert trainers
        assert timeout is None
        self.most_busy = max(self.most_busy, len(trainers))
        return trainers[-1:]  # the one that began last, so that trials do not end in their order

    def run(
        self, trials: int, *, deadline: float | None = None, storage: Storage | None = None
    ) -> tuple[TrialResult, ...]:
        setup = TrainerConfig(space=self.prepared.space, device="cpu", cache=Path("unused"))
        limits = Limits(trials=trials, deadline=deadline)
        return run_search(
            self.prepared, self.folder, setup=setup, limits=limits, watcher=self.watching, storage=storage
        )

    def run_sensitivity(self) -> Sensitivity:
        setup = TrainerConfig(space=self.prepared.space, device="cpu", cache=Path("unused"))
        return search.run_sensitivity(self.prepared, self.folder, setup=setup, watcher=self.watching)

    def study(self) -> Study:
        return Study(Journal(self.folder.study_file), self.prepared.space, self.prepared.shapes, chance=0.1)

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study().optuna_study.trials]

    @property
    def trained(self) -> list[int]:
        return [task.result.number for task in self.tasks]


DIED = "the trainer process ended with exit code -9"


class FakeTrainer:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.task: object = None
        self.begun_again = False
        self.closed = False
        self._play: Play | None = None
        self._answer: str | None = None

    def give(self, task: object) -> None:
        assert self.task is None
        assert not self.closed
        self.task, self.begun_again = task, False
        if isinstance(task, TestTask):
            self.lab.tested.append(task.number)
            self._play = self.lab.test_plays.get(task.number, measures)(task)
        elif isinstance(task, SupernetTask):
            self.lab.shared.append(task)
            self._play = self.lab.share_play(task)
        elif isinstance(task, AccuraciesTask):
            self.lab.lowered.append(task)
            self._play = self.lab.lower_plays.get(len(self.lab.lowered), reads_accuracy)(task)
        elif isinstance(task, SubnetTask):
            self.lab.read.append(task)
            self._play = self.lab.plays.get(task.result.number, reads)(task)
        else:
            self.lab.tasks.append(task)
            self._play = self.lab.plays.get(task.result.number, trains)(task)

    def restart(self) -> None:
        self.lab.restarts += 1
        self.task = None

    def begin_again(self) -> None:
        task = self.task
        self.restart()
        self.give(task)
        self.begun_again = True

    def answer(self, stop_because: str | None) -> None:
        self._answer = stop_because

    def receive(self) -> Message:
        assert self._play is not None
        answer, self._answer = self._answer, None
        return self._play.send(answer)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def new_lab(tmp_path, monkeypatch):
    def make(*overrides: str, name: str = "run") -> Lab:
        lab = Lab(tmp_path / name, *overrides)
        monkeypatch.setattr(crew, "Trainer", lab.make_trainer)
        monkeypatch.setattr(crew, "ready", lab.ready)
        return lab

    return make


NO_STOPPING = "search.stopping.enabled=false"
ONE = "search.workers=1"
# Two configurations: conv1 with 2 or 4 bits, all else fixed.
TWO_CONFIGURATIONS = (
    "layers={all: {weight_bits: 4, membrane_levels: 3}, conv1: {weight_bits: [2, 4]}}",
    "search.references=[]",
    "search.sampler=random",
)


def plain(result: TrialResult) -> TrialResult:
    return replace(result, seconds=0.0)


# ---------------------------------------------------------------- the whole


def test_baseline_alone_then_references_then_proposals(new_lab):
    lab = new_lab(NO_STOPPING)
    results = lab.run(6)
    assert [result.number for result in results] == list(range(7))
    assert [result.origin for result in results] == ["baseline", "reference", "reference", *["tpe"] * 4]
    assert all(result.outcome is Outcome.COMPLETE for result in results)
    assert lab.folder.results() == results
    assert lab.watching.begun[0] == lab.watching.ended[0] == 0
    assert sorted(lab.watching.ended) == list(range(7))
    assert lab.most_busy == 2
    assert lab.states() == ["COMPLETE"] * 7
    assert all(trainer.closed for trainer in lab.trainers)


def test_tasks_say_all_that_a_trainer_needs(new_lab):
    lab = new_lab(NO_STOPPING, "search.seed=5", "train.epochs=3", "train.baseline_epochs=4")
    lab.run(2)
    baseline, candidate, _ = lab.tasks
    recipe = lab.prepared.space.file.train
    assert baseline.initial_weights == ()
    assert (baseline.schedule.epochs, baseline.schedule.learning_rate) == (4, recipe.baseline_learning_rate)
    assert baseline.weights_file == lab.folder.weights_file(0)
    assert candidate.initial_weights == (lab.folder.weights_file(0),)
    assert (candidate.schedule.epochs, candidate.schedule.learning_rate) == (3, recipe.learning_rate)
    assert candidate.weights_file == lab.folder.weights_file(1)
    assert [task.result.seed for task in lab.tasks] == [trial_seed(5, number) for number in range(3)]
    # Costs are known before any training.
    assert candidate.result.memory_bytes > 0
    assert candidate.result.dense_macs == baseline.result.dense_macs > 0
    assert candidate.result.epochs == ()


def test_dashboard_attributes_are_told(new_lab):
    lab = new_lab(NO_STOPPING)
    lab.run(2)
    told = lab.study().optuna_study.trials[1].user_attrs
    assert told["origin"] == "reference"
    assert told["memory_reduction"] > 1
    assert told["outcome"] == "COMPLETE"


# ---------------------------------------------------------------- stopping early

HASTY = "search.stopping={min_peers: 2, margin: 0.01}"


def test_a_hopeless_candidate_is_stopped_and_the_better_trial_named(new_lab):
    lab = new_lab(HASTY, ONE, "search.sampler=random", "layers.all.channel_mass=1")
    lab.plays[3] = lambda task: trains(task, [0.01, 0.9])
    results = lab.run(3)
    stopped = results[3]
    assert stopped.outcome is Outcome.STOPPED
    assert len(stopped.epochs) == 1
    assert stopped.reason.startswith("after epoch 1 trial ")
    named = results[int(stopped.reason.partition("trial ")[2].split()[0])]
    assert named.memory_bytes <= stopped.memory_bytes
    assert named.accuracy > 0.01
    assert lab.states()[3] == "PRUNED"
    assert not lab.folder.weights_file(3).exists()
    assert 3 not in lab.tested


def test_the_same_candidate_goes_on_where_stopping_is_off(new_lab):
    lab = new_lab(NO_STOPPING, ONE, "search.sampler=random", "layers.all.channel_mass=1")
    lab.plays[3] = lambda task: trains(task, [0.01, 0.9])
    assert lab.run(3)[3].outcome is Outcome.COMPLETE


def test_baseline_and_references_are_never_stopped(new_lab):
    lab = new_lab(
        "search.stopping={min_peers: 1, margin: 0}",
        ONE,
        "search.references=[{weight_bits: 2, membrane_levels: 3}, {weight_bits: 4, membrane_levels: 3}]",
    )
    lab.plays[0] = lambda task: trains(task, [0.0] * task.schedule.epochs)
    lab.plays[2] = lambda task: trains(task, [0.0, 0.0])  # larger and worse than reference 1
    results = lab.run(2)
    assert [result.outcome for result in results] == [Outcome.COMPLETE] * 3


def test_the_last_epoch_is_paid_for_already(new_lab):
    lab = new_lab(HASTY, ONE, "search.sampler=random", "layers.all.channel_mass=1")
    lab.plays[3] = lambda task: trains(task, [0.9, 0.01])
    assert lab.run(3)[3].outcome is Outcome.COMPLETE


# ---------------------------------------------------------------- duplicates and small spaces


def test_a_duplicate_is_recorded_and_not_trained_and_does_not_count(new_lab):
    twice = "search.references=[{weight_bits: 4, membrane_levels: 3}, {weight_bits: 4, membrane_levels: 3}]"
    lab = new_lab(NO_STOPPING, ONE, twice)
    results = lab.run(2)
    assert [result.outcome.name for result in results] == ["COMPLETE", "COMPLETE", "DUPLICATE", "COMPLETE"]
    assert results[2].reason == "same configuration as trial 1"
    assert results[2].config == results[1].config
    assert results[2].memory_bytes == results[1].memory_bytes
    assert results[2].epochs == ()
    assert lab.trained == [0, 1, 3]
    assert lab.states()[2] == "PRUNED"
    assert lab.folder.result(2) == results[2]


@pytest.mark.parametrize("count", ["1", "3"])
def test_an_exhausted_space_ends_the_search(new_lab, count):
    lab = new_lab(*TWO_CONFIGURATIONS, f"search.workers={count}")
    results = lab.run(50)
    assert sum(result.outcome is Outcome.COMPLETE for result in results) == 3
    assert lab.run(50) == results


def test_a_space_of_the_float_network_alone_ends_too(new_lab):
    lab = new_lab("layers={all: {weight_bits: 32}}", "search.references=[]", ONE)
    assert len(lab.run(5)) == 1
    assert lab.trained == [0]


def test_a_space_that_has_the_float_network_is_exhausted_without_it(new_lab):
    layers = "layers={all: {weight_bits: 32}, conv1: {weight_bits: [4, 32]}}"
    lab = new_lab(layers, "search.references=[]", "search.sampler=random", ONE)
    results = lab.run(5)
    assert lab.trained == [0, results[-1].number]
    assert all(result.outcome is Outcome.DUPLICATE for result in results[1:-1]), "until the other one was drawn"
    assert lab.run(5) == results


@pytest.mark.parametrize("strategy", ["supernet", "warm-start"])
def test_a_search_that_gave_up_gives_up_again(new_lab, monkeypatch, strategy):
    """Also behind what it has fine-tuned since."""
    monkeypatch.setattr(search, "MAX_DUPLICATES_IN_A_ROW", 3)
    lab = new_lab(
        "layers={all: {weight_bits: 4, membrane_levels: 3}, conv1: {weight_bits: [2, 4, 8]}}",
        "search.references=[{weight_bits: 4, membrane_levels: 3}]",
        *("search.sampler=random", "search.budget_ladder=0", f"search.strategy={strategy}", "search.seed=4", ONE),
    )
    monkeypatch.setattr(search.Study, "_sampler", lambda self, _number: Repeats())
    results = lab.run(50)
    assert sum(result.outcome is Outcome.DUPLICATE for result in results) == 3
    assert any(result.origin is Origin.FINE_TUNED for result in results) is (strategy == "supernet")
    assert lab.run(50) == results


class Repeats(optuna.samplers.BaseSampler):
    """Proposes the same thing for ever."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.choices[1]


def test_a_duplicate_of_a_trial_in_work_is_seen(new_lab):
    lab = new_lab(
        NO_STOPPING, "search.references=[{weight_bits: 4, membrane_levels: 3}, {weight_bits: 4, membrane_levels: 3}]"
    )
    results = lab.run(2)
    assert results[2].outcome is Outcome.DUPLICATE
    assert results[2].reason == "same configuration as trial 1"


# ---------------------------------------------------------------- failures


def test_an_error_in_a_trial_is_kept_and_the_search_goes_on(new_lab):
    def fails(task: Task) -> Play:
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        yield Failed(reason="RuntimeError: out of memory", detail="Traceback ...\nRuntimeError: out of memory\n")

    lab = new_lab(NO_STOPPING, ONE)
    lab.plays[1] = fails
    results = lab.run(3)
    assert [result.outcome.name for result in results] == ["COMPLETE", "FAILED", "COMPLETE", "COMPLETE"]
    assert results[1].reason == "RuntimeError: out of memory"
    assert len(results[1].epochs) == 1
    assert lab.folder.error_file(1).read_text().endswith("out of memory\n")
    assert lab.watching.warnings == ["trial 1 failed: RuntimeError: out of memory"]
    assert lab.states()[1] == "FAIL"
    assert len(lab.trainers) == 1
    assert lab.restarts == 1, "what a process does after a bug is not to be trusted"
    assert 1 not in lab.tested


def test_a_search_of_which_everything_fails_ends(new_lab):
    """Before all its trials are spent, and goes on once the cause is fixed. Trials over their time do not count."""

    def fails(task: Task) -> Play:
        yield Failed(reason="RuntimeError: no memory", detail="Traceback ...")

    def late(task: Task) -> Play:
        yield Failed(reason="not done", died=True, late=True)

    lab = new_lab(NO_STOPPING, ONE, "search.references=[]")
    lab.plays = dict.fromkeys((1, 2, 4, 5, 6, 7, 8), fails)
    with pytest.raises(UserError) as caught:
        lab.run(12)
    assert str(caught.value) == (
        f"{lab.folder.path}: 5 trials in a row failed, the latest, 8, because RuntimeError: no memory. The search "
        "ends, as this seems to be no fault of the configurations; fix the cause (trials/*.error.txt say where), and "
        "start the same command again."
    )
    failed = [result.number for result in lab.folder.results() if result.outcome is Outcome.FAILED]
    assert failed == [1, 2, 4, 5, 6, 7, 8]
    lab.plays = dict.fromkeys((9, 10, 11, 12), fails)
    assert len(lab.run(13)) == 14

    slow = new_lab(NO_STOPPING, ONE, "search.references=[]", name="slow")
    slow.plays = dict.fromkeys(range(1, 8), late)
    slow_ones = [result.number for result in slow.run(8) if result.outcome is Outcome.FAILED]
    assert slow_ones == list(range(1, 8))


def test_a_trial_whose_trainer_dies_is_begun_again_once(new_lab):
    """By a new process, which tells the epochs that are done again; if that dies as well, the trial has failed."""
    begun: list[int] = []

    def dies(task: Task) -> Play:
        begun.append(task.result.number)
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        if begun.count(task.result.number) == 1 or task.result.number == 2:
            yield Failed(reason=DIED, died=True)
        else:
            yield from trains(task)

    lab = new_lab(NO_STOPPING)
    lab.plays[2] = lab.plays[3] = dies
    results = lab.run(5)
    assert [result.outcome is Outcome.FAILED for result in results] == [False, False, True, False, False, False]
    assert (begun.count(2), begun.count(3)) == (2, 2)
    assert results[2].reason == DIED
    assert len(results[2].epochs) == 1, "an epoch that was told twice is one"
    assert sorted(lab.watching.warnings) == sorted(
        [f"trial 2 failed: {DIED}", *[f"{DIED}; what it was doing begins again"] * 2]
    )
    assert lab.restarts == 3
    assert len(lab.trainers) == 2
    assert all(trainer.closed for trainer in lab.trainers)
    assert not lab.folder.error_file(2).exists()


def test_a_trial_over_its_time_is_given_up(new_lab, monkeypatch):
    """Its trainer is replaced, and the search goes on; the baseline has no limit."""
    lab = new_lab(NO_STOPPING, ONE, "search.minutes_per_trial=2")
    clock = [0.0]
    monkeypatch.setattr(crew.time, "monotonic", lambda: clock[0])
    patience = []

    def ready(trainers: list[FakeTrainer], *, timeout: float | None) -> list[FakeTrainer]:
        (trainer,) = trainers
        hangs = isinstance(trainer.task, Task) and trainer.task.result.number == 2
        if isinstance(trainer.task, Task):
            patience.append((trainer.task.result.number, timeout))
        clock[0] += 121 if hangs else 1
        return [] if hangs else trainers

    monkeypatch.setattr(crew, "ready", ready)
    lab.folder.checkpoint_file(2).write_bytes(b"where it stood")
    results = lab.run(3)
    assert [result.outcome.name for result in results] == ["COMPLETE", "COMPLETE", "FAILED", "COMPLETE"]
    assert results[2].reason == "not done after search.minutes_per_trial, 2 minutes"
    assert lab.restarts == 1
    assert not lab.folder.checkpoint_file(2).exists()
    assert {timeout for number, timeout in patience if number == 0} == {None}
    assert next(timeout for number, timeout in patience if number == 1) == 120


class Dead(Journal):
    """As a coordinator sees the study of one that is gone: what that was at work on is not its own."""

    is_shared = True

    def is_mine(self, trial: FrozenTrial) -> bool:
        return trial._trial_id in self._mine


@pytest.mark.parametrize("dying", [0, 2])
def test_what_a_dead_coordinator_was_at_work_on_is_taken_over(new_lab, dying):
    """The baseline as well; and a trial that is taken over is not a second one of its own configuration."""

    def dies(task: Task) -> Play:
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        raise KeyboardInterrupt

    lab = new_lab(NO_STOPPING, ONE)
    lab.plays[dying] = dies
    with pytest.raises(KeyboardInterrupt):
        lab.run(3, storage=Dead(lab.folder.study_file))
    del lab.plays[dying]
    results = lab.run(3, storage=Dead(lab.folder.study_file))
    assert [result.number for result in results] == [0, 1, 2, 3]
    assert all(result.outcome is Outcome.COMPLETE for result in results)
    assert lab.trained.count(dying) == 2


def test_a_coordinator_whose_trial_another_has_finished_leaves_it_as_it_is(new_lab):
    """It was not heard of for long. It goes on with others, and the weights stay those that were measured."""
    lab = new_lab(NO_STOPPING, ONE)
    taken: list[TrialResult] = []

    class Late(Dead):
        """A study in which trial 2 is another coordinator's after its first epoch, and over."""

        def is_mine(self, trial: FrozenTrial) -> bool:
            return super().is_mine(trial) and not (taken and trial.number == 2)

    def is_finished_by_another(task: Task) -> Play:
        play = trains(task)
        yield next(play)
        lab.folder.weights_file(2).write_bytes(b"another's")
        taken.append(replace(task.result, outcome=Outcome.COMPLETE, reason="complete", epochs=(epoch(1, 0.6, 1e6),)))
        lab.folder.write_result(taken[0])
        lab.study().optuna_study.tell(2, [0.6, 1.0, 1.0])
        yield from play

    lab.plays[2] = is_finished_by_another
    results = lab.run(3, storage=Late(lab.folder.study_file))
    assert results[2] == taken[0]
    assert [result.number for result in results] == [0, 1, 2, 3]
    assert any("trial 2: another coordinator took it over" in words for words in lab.watching.warnings)
    assert lab.folder.weights_file(2).read_bytes() == b"another's"
    assert lab.folder.weights_file(3).read_bytes() == b"weights"
    assert not list(lab.folder.path.rglob("*.tmp"))


@pytest.mark.parametrize("is_queued", [False, True])
def test_a_trial_whose_coordinator_died_asking_for_it_counts_as_begun(new_lab, is_queued):
    """It is taken over only once its coordinator is known to be dead; meanwhile no other is asked for in its place."""

    class Slow(Dead):
        """Takes a trial for abandoned only when it is seen for the third time."""

        seen = 0

        def is_abandoned(self, trial: FrozenTrial) -> bool:
            self.seen += super().is_abandoned(trial)
            return self.seen > 3 and super().is_abandoned(trial)

    lab = new_lab(NO_STOPPING, ONE)
    lab.run(2)
    study = lab.study().optuna_study
    if is_queued:
        study.enqueue_trial({}, user_attrs={"origin": "budget ladder"})
    study.ask()  # and nothing more: no value is suggested
    results = lab.run(3, storage=Slow(lab.folder.study_file))
    assert [result.number for result in results] == [0, 1, 2, 3]
    assert all(result.outcome is Outcome.COMPLETE for result in results)


def test_a_trial_whose_coordinator_died_before_telling_it_counts_as_done(new_lab):
    lab = new_lab(NO_STOPPING, ONE)
    first = lab.run(1)[1]
    asked = lab.study().ask()
    written = replace(first, number=asked.number, config=asked.config)

    class Writing(Dead):
        """The other coordinator gets as far as to write its result once this one has begun."""

        def is_abandoned(self, trial: FrozenTrial) -> bool:
            lab.folder.weights_file(asked.number).write_bytes(b"weights")
            lab.folder.write_result(written)
            return super().is_abandoned(trial)

    results = lab.run(2, storage=Writing(lab.folder.study_file))
    assert results[2:] == (written,), "no other is tried in its place"
    assert lab.trained.count(asked.number) == 0
    assert lab.study().finished() == (0, 1, 2)


def test_a_failed_configuration_may_be_tried_again(new_lab):
    def fails(task: Task) -> Play:
        yield Failed(reason="no luck")

    lab = new_lab(
        NO_STOPPING,
        ONE,
        "search.references=[{weight_bits: 4, membrane_levels: 3}, {weight_bits: 4, membrane_levels: 3}]",
    )
    lab.plays[1] = fails
    results = lab.run(2)
    assert results[2].config == results[1].config
    assert results[2].outcome is Outcome.COMPLETE


def diverges(task: Task) -> Play:
    yield Trained(
        result=replace(task.result, outcome=Outcome.DIVERGED, reason="the mean loss of epoch 1 is nan"), seconds={}
    )


def test_a_baseline_whose_trainer_failed_is_trained_again_by_the_same_command(new_lab):
    """What came from outside, as a process that was killed, may not come again; and no run is spoilt by it."""

    def dies(task: Task) -> Play:
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        yield Failed(reason=DIED, died=True)

    lab = new_lab()
    lab.plays[0] = dies
    with pytest.raises(UserError, match=r"could not be trained: the trainer process ended .* start the same command"):
        lab.run(2)
    assert lab.folder.results() == ()
    del lab.plays[0]
    results = lab.run(2)
    assert [result.outcome for result in results] == [Outcome.COMPLETE] * 3
    assert results[0].number == 0


def test_without_a_baseline_there_is_no_search(new_lab):
    lab = new_lab()
    lab.plays[0] = diverges
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            lab.run(5)
        assert str(caught.value) == (
            f"{lab.folder.path}: the float baseline could not be trained: the mean loss of epoch 1 is nan. "
            "Without it nothing can be compared; fix the cause (a smaller train.baseline_learning_rate where the "
            "loss diverged), and start a run of its own with --run NAME."
        )
        assert lab.trained == [0]
    assert all(trainer.closed for trainer in lab.trainers)


def test_a_diverged_candidate_is_one_trial_less(new_lab):
    lab = new_lab(NO_STOPPING, ONE)
    lab.plays[2] = diverges
    results = lab.run(3)
    assert len(results) == 4
    assert results[2].outcome is Outcome.DIVERGED
    assert lab.states()[2] == "PRUNED"


def test_notes_are_shown_once(new_lab):
    def notes(task: Task) -> Play:
        yield TrainerWarning(text="neurons run uncompiled")
        yield from trains(task)

    def tests_with_a_note(task: TestTask) -> Play:
        yield TrainerWarning(text="neurons run uncompiled")
        yield from measures(task)

    lab = new_lab(NO_STOPPING)
    lab.plays = {1: notes, 2: notes}
    lab.test_plays = {0: tests_with_a_note}
    assert [result.outcome for result in lab.run(2)] == [Outcome.COMPLETE] * 3
    assert lab.watching.warnings == ["neurons run uncompiled"]
    assert 0 in lab.folder.test_accuracies()


# ---------------------------------------------------------------- limits


def test_limits():
    assert not Limits(trials=3).reached(2)
    assert Limits(trials=3).reached(3)
    assert Limits(trials=3, deadline=time.monotonic() - 1).reached(0)
    assert not Limits(trials=3, deadline=time.monotonic() + 60).reached(0)


def test_after_the_deadline_no_trial_begins_but_the_baseline_does(new_lab):
    lab = new_lab()
    results = lab.run(5, deadline=0.0)
    assert [result.origin for result in results] == ["baseline"]
    assert lab.folder.test_accuracies() == {0: 0.0}


def test_trials_in_work_end_after_the_deadline(new_lab, monkeypatch):
    lab = new_lab(NO_STOPPING)
    now = [0.0]
    monkeypatch.setattr(search.time, "monotonic", lambda: now[0])

    def passes(task: Task) -> Play:
        now[0] = 100.0
        yield from trains(task)

    lab.plays[2] = passes
    assert [result.number for result in lab.run(9, deadline=50.0)] == [0, 1, 2]


def test_more_trials_may_follow_later(new_lab):
    lab = new_lab(NO_STOPPING, ONE)
    first = lab.run(2)
    assert lab.run(2) == first
    assert lab.trained == [0, 1, 2]
    assert lab.run(4)[:3] == first
    assert lab.trained == [0, 1, 2, 3, 4]
    whole = new_lab(NO_STOPPING, ONE, name="whole")
    assert whole.run(4) == lab.folder.results()


# ---------------------------------------------------------------- killed and resumed


def dies_here(task: Task) -> Play:
    yield Epoch(metrics=epoch(1, 0.5, 1e6))
    raise Killed


@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_a_killed_search_goes_on_under_the_same_numbers_to_the_same_results(new_lab, number):
    lab = new_lab(NO_STOPPING, ONE)
    lab.plays[number] = dies_here
    with pytest.raises(Killed):
        lab.run(5)
    assert all(trainer.closed for trainer in lab.trainers)
    done = {result.number for result in lab.folder.results()}
    assert number not in done
    lab.plays.clear()
    lab.tasks.clear()
    results = lab.run(5)
    assert lab.trained[0] == number
    assert not done & set(lab.trained)
    whole = new_lab(NO_STOPPING, ONE, name="whole")
    assert list(map(plain, whole.run(5))) == list(map(plain, results))
    assert lab.states() == whole.states() == ["COMPLETE"] * 6


def test_two_trials_in_work_when_killed_both_come_back(new_lab):
    lab = new_lab(NO_STOPPING)
    lab.plays[2] = dies_here
    with pytest.raises(Killed):
        lab.run(4)
    assert [result.number for result in lab.folder.results()] == [0]
    lab.plays.clear()
    lab.tasks.clear()
    lab.run(4)
    assert lab.trained == [1, 2, 3, 4]


def test_killed_between_result_and_study_is_told_and_not_trained_again(new_lab, monkeypatch):
    lab = new_lab(NO_STOPPING, ONE)
    real = Study.tell

    def dies_before_telling(study: Study, asked, result, attributes) -> None:
        if result.number == 2:
            raise Killed
        real(study, asked, result, attributes)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", dies_before_telling)
        with pytest.raises(Killed):
            lab.run(3)
    stored = lab.folder.result(2)
    assert stored is not None
    assert lab.study().optuna_study.trials[2].state is TrialState.RUNNING
    lab.tasks.clear()
    lab.watching.ended.clear()
    assert lab.run(3)[2] == stored
    assert lab.trained == [3]
    assert lab.states() == ["COMPLETE"] * 4
    # It is one of the run's earlier results, which the plan counts already.
    assert lab.watching.ended == [3]


def test_the_baseline_killed_between_result_and_study(new_lab, monkeypatch):
    lab = new_lab(NO_STOPPING, ONE)

    def dies_before_telling(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", dies_before_telling)
        with pytest.raises(Killed):
            lab.run(2)
    lab.tasks.clear()
    lab.run(2)
    assert lab.trained == [1, 2]
    assert lab.states() == ["COMPLETE"] * 3


# ---------------------------------------------------------------- the test split


def test_the_front_and_the_baseline_are_tested_once(new_lab):
    lab = new_lab(NO_STOPPING)
    results = lab.run(6)
    wanted = {0, *(member.number for member in front(results))}
    assert sorted(lab.tested) == sorted(wanted)
    assert lab.folder.test_accuracies() == {number: 0.01 * number for number in wanted}
    assert lab.watching.stages[-1] == ("testing the front on the test split", len(wanted), len(wanted))
    lab.tested.clear()
    lab.run(6)
    assert lab.tested == []
    more = lab.run(12)
    assert set(lab.tested) == {member.number for member in front(more)} - wanted


def test_a_search_killed_while_it_tests_keeps_what_was_tested(new_lab):
    def killed(_task: TestTask) -> Play:
        raise Killed
        yield

    last = max(member.number for member in front(new_lab(NO_STOPPING, ONE, name="whole").run(6)))
    lab = new_lab(NO_STOPPING, ONE)
    lab.test_plays[last] = killed
    with pytest.raises(Killed):
        lab.run(6)
    kept = lab.folder.test_accuracies()
    assert kept
    assert last not in kept
    lab.test_plays.clear()
    lab.tested.clear()
    lab.run(6)
    assert last in lab.tested
    assert not kept.keys() & set(lab.tested)


def test_a_test_that_fails_is_said_and_done_at_the_next_start(new_lab):
    def dies(task: TestTask) -> Play:
        yield Failed(reason="the trainer process ended with exit code -9", died=True)

    lab = new_lab(NO_STOPPING, ONE)
    lab.test_plays[0] = dies
    lab.run(2)
    assert lab.watching.warnings == [
        f"{DIED}; what it was doing begins again",
        f"a member of the front could not be tested: {DIED}",
    ]
    assert 0 not in lab.folder.test_accuracies()
    assert len(lab.folder.test_accuracies()) >= 1
    assert lab.restarts == 2
    lab.test_plays.clear()
    lab.tested.clear()
    lab.run(2)
    assert lab.tested == [0]
    assert 0 in lab.folder.test_accuracies()


# ---------------------------------------------------------------- one network for all, and its finalists

SHARED = ("search.strategy=supernet", "final.members=2", "final.epochs=2", "search.stopping.enabled=false", ONE)


def test_read_outs_then_the_best_of_them_fine_tuned(new_lab):
    lab = new_lab(*SHARED)
    results = lab.run(5)
    assert [len(lab.shared), len(lab.read), lab.trained] == [1, 5, [0, 6, 7]]
    (shared,) = lab.shared
    assert shared.initial_weights == lab.folder.weights_file(0)
    assert shared.schedule == search.Schedule(epochs=2, learning_rate=2e-3)
    assert [result.outcome.name for result in results] == ["COMPLETE", *["SUBNET"] * 5, "COMPLETE", "COMPLETE"]
    assert lab.states() == ["COMPLETE"] * 8
    assert ("training the supernet, epochs done:", 2, 2) in lab.watching.stages
    for task, result in zip(lab.tasks[1:], results[6:], strict=True):
        parent = results[result.parent]
        assert (result.origin, result.config) == ("fine-tuned", parent.config)
        assert task.initial_weights == (lab.folder.supernet_file, lab.folder.weights_file(parent.number))
        assert not task.schedule.trains_gates
        assert [metrics.epoch for metrics in result.epochs] == [0, 1, 2]
        assert result.epochs[0] == parent.epochs[0]
        assert result.trained_epochs == 2
    # What was fine-tuned stands for what was evaluated as a subnet.
    assert not {result.parent for result in results} & {member.number for member in front(results)}


def test_gates_of_finalists_are_trained_where_the_space_says_so(new_lab):
    lab = new_lab(*SHARED, "final.train_gates=true")
    lab.run(5)
    assert [task.schedule.trains_gates for task in lab.tasks[1:]] == [True, True]


def test_finalists_are_those_that_add_most_to_the_front(new_lab):
    lab = new_lab(*SHARED)
    results = lab.run(5)
    read = [result for result in results if result.outcome is Outcome.SUBNET]
    point = sampler_reference(
        reference_point(results[0], chance=0.1), Budget()
    )  # none is so accurate as to be worthwhile
    first, second = greedy_hypervolume_subset(read, point, limit=2, margin=0.01)
    assert [result.parent for result in results[6:]] == [first.number, second.number]


def test_limits_count_read_outs_and_no_finalists(new_lab):
    lab = new_lab(*SHARED)
    lab.run(3)
    results = lab.run(5)
    assert sum(result.outcome is Outcome.SUBNET for result in results) == 5
    assert len(lab.shared) == 1
    parents = [result.parent for result in results if result.parent is not None]
    assert len(parents) == len(set(parents)) >= 2


def test_a_search_killed_amid_its_finalists_ends_as_if_it_had_not_been(new_lab):
    whole = new_lab(*SHARED, name="whole").run(5)

    def killed(_task: Task) -> Play:
        raise Killed
        yield

    lab = new_lab(*SHARED, name="killed")
    lab.plays[7] = killed
    with pytest.raises(Killed):
        lab.run(5)
    del lab.plays[7]
    assert [plain(result) for result in lab.run(5)] == [plain(result) for result in whole]
    assert [len(lab.shared), len(lab.read), lab.trained] == [1, 5, [0, 6, 7, 7]]


def test_a_shared_network_that_cannot_be_trained_ends_the_search_with_the_remedy(new_lab):
    lab = new_lab(*SHARED)

    def fails(_task: SupernetTask) -> Play:
        yield Failed(reason="Diverged: the mean loss of epoch 1 is nan")

    lab.share_play = fails
    with pytest.raises(UserError, match=r"the supernet could not be trained: Diverged: .*shared\.learning_rate"):
        lab.run(5)
    assert not lab.read


def test_past_the_deadline_what_was_read_out_is_the_front(new_lab):
    lab = new_lab(*SHARED)
    results = lab.run(5, deadline=time.monotonic() - 1)
    assert [result.number for result in results] == [0]
    assert len(lab.shared) == 1


# ---------------------------------------------------------------- the plan_budget_ladder

LADDER = (*SHARED, "search.budget_ladder=3", "layers.all.weight_bits=[1, 2, 4, 8]")


def killed_here(_task: object) -> Play:
    raise Killed
    yield


def test_the_ladder_follows_the_references_and_counts_as_trials(new_lab):
    lab = new_lab(*LADDER)
    results = lab.run(7)
    origins = [result.origin for result in results if result.parent is None]
    assert origins == [
        "baseline",
        "reference",
        "reference",
        "budget ladder",
        "budget ladder",
        "budget ladder",
        "tpe",
        "tpe",
    ]
    found = lab.folder.sensitivity()
    assert found is not None
    assert [result.config for result in results[3:6]] == [rung.config for rung in plan_budget_ladder(found, 3)]
    assert {result.outcome for result in results[1:8]} == {Outcome.SUBNET}
    # Every lower choice was evaluated as a subnet once, and none of it is a trial.
    wanted = lowered_configurations(lab.prepared.space)
    assert [config for task in lab.lowered for config in task.configs] == list(wanted.values())
    assert [len(task.configs) for task in lab.lowered] == [len(names) for names in by_layer(wanted)]
    assert len(lab.read) == 7
    assert found.samples == 1000
    assert not lab.folder.readings_file.exists()
    before_the_last = len(wanted) - len(lab.lowered[-1].configs)
    assert (
        "evaluating one lower precision after the other, done:",
        before_the_last,
        len(wanted),
    ) in lab.watching.stages


def test_all_trainers_read_out_lower_precisions(new_lab):
    lab = new_lab(*LADDER, "search.workers=2")
    lab.run(5)
    assert lab.most_busy == 2
    alone = new_lab(*LADDER, name="alone")
    alone.run(5)
    assert lab.folder.sensitivity() == alone.folder.sensitivity()


def test_samples_are_those_that_judge_a_read_out(new_lab):
    lab = new_lab(*LADDER, "supernet.validation_samples=300")
    lab.run(3)
    assert lab.folder.sensitivity().samples == 300


@pytest.mark.parametrize("overrides", [("search.budget_ladder=0",), ()])
def test_without_a_ladder_or_room_for_one_no_lower_precision_is_read_out(new_lab, overrides):
    lab = new_lab(*LADDER, *overrides)
    results = lab.run(5 if overrides else 2)
    assert not lab.lowered
    assert "budget ladder" not in {result.origin for result in results}


def test_a_limit_amid_the_ladder_holds_and_more_trials_climb_on(new_lab):
    lab = new_lab(*LADDER)
    results = lab.run(3)
    assert [result.origin for result in results] == [
        *("baseline", "reference", "reference", "budget ladder", "fine-tuned", "fine-tuned"),
    ]
    count = len(lab.lowered)
    results = lab.run(6)
    tried = [result.origin for result in results if result.parent is None]
    assert tried[3:] == ["budget ladder", "budget ladder", "budget ladder", "tpe"]
    assert len({result.config for result in results if result.origin == "budget ladder"}) == 3
    assert len(lab.lowered) == count


def test_references_beyond_the_limit_are_not_tried_in_the_place_of_finalists(new_lab):
    lab = new_lab(*LADDER)
    assert [result.origin for result in lab.run(1)] == ["baseline", "reference", "fine-tuned"]
    assert lab.states() == ["COMPLETE"] * 3
    tried = [result.origin for result in lab.run(2) if result.parent is None]
    assert tried == ["baseline", "reference", "reference"]


@pytest.mark.parametrize("place", ["reference", "reading", "rung", "sampled"])
def test_a_search_killed_around_its_ladder_ends_as_if_it_had_not_been(new_lab, place):
    whole_lab = new_lab(*LADDER, name="whole")
    whole = whole_lab.run(7)
    lab = new_lab(*LADDER, name="killed")
    if place == "reading":
        lab.lower_plays[6] = killed_here
    else:
        lab.plays[{"reference": 2, "rung": 4, "sampled": 6}[place]] = killed_here
    with pytest.raises(Killed):
        lab.run(7)
    lab.plays.clear()
    lab.lower_plays.clear()
    assert list(map(plain, lab.run(7))) == list(map(plain, whole))
    assert lab.folder.sensitivity_file.read_bytes() == whole_lab.folder.sensitivity_file.read_bytes()
    assert len(lab.lowered) == len(whole_lab.lowered) + (place == "reading")
    assert lab.states() == whole_lab.states()


def test_killed_between_queueing_and_asking_a_rung_is_tried_once(new_lab, monkeypatch):
    whole = new_lab(*LADDER, name="whole").run(7)
    lab = new_lab(*LADDER, name="killed")
    real = Study._queue_planned

    def dies_after_queueing(study: Study) -> None:
        real(study)
        if study.ladder:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Study, "_queue_planned", dies_after_queueing)
        with pytest.raises(Killed):
            lab.run(7)
    assert list(map(plain, lab.run(7))) == list(map(plain, whole))


def test_a_read_out_that_fails_costs_the_ladder_and_not_the_search(new_lab):
    def dies(_task: SubnetTask) -> Play:
        yield Failed(reason=DIED, died=True)

    lab = new_lab(*LADDER)
    lab.lower_plays[2] = lab.lower_plays[3] = dies
    results = lab.run(4)
    assert [result.origin for result in results if result.parent is None][3:] == ["tpe", "tpe"]
    assert lab.watching.warnings == [
        f"{DIED}; what it was doing begins again",
        f"conv1.weight_bits=4 and 3 more of its layer could not be evaluated: {DIED}",
        "the search goes on without its plan_budget_ladder, as not every choice could be evaluated",
    ]
    assert lab.restarts == 2


# ---------------------------------------------------------------- sensitivity alone


@pytest.mark.parametrize("strategy", ["supernet", "warm-start"])
def test_sensitivity_alone_trains_what_it_needs_and_a_search_goes_on_from_it(new_lab, strategy):
    overrides = (*LADDER, f"search.budget_ladder={3 * (strategy == 'shared')}", f"search.strategy={strategy}")
    lab = new_lab(*overrides)
    found = lab.run_sensitivity()
    assert [len(lab.shared), lab.trained, lab.read] == [1, [0], []]
    assert [result.number for result in lab.folder.results()] == [0]
    assert all(trainer.closed for trainer in lab.trainers)
    count = len(lab.lowered)
    assert lab.run_sensitivity() == found
    results = lab.run(6)
    assert [len(lab.shared), len(lab.lowered)] == [1, count]
    assert list(map(plain, results)) == list(map(plain, new_lab(*overrides, name="whole").run(6)))


def test_sensitivity_goes_on_where_it_was_killed(new_lab):
    lab = new_lab(*LADDER)
    lab.lower_plays[4] = killed_here
    with pytest.raises(Killed):
        lab.run_sensitivity()
    assert len(lab.folder.readings()) == sum(len(task.configs) for task in lab.lowered[:3])
    lab.lower_plays.clear()
    found = lab.run_sensitivity()
    assert len(lab.lowered) == len(by_layer(lowered_configurations(lab.prepared.space))) + 1
    assert found == new_lab(*LADDER, name="whole").run_sensitivity()


def test_sensitivity_with_a_read_out_missing_is_refused_and_completed_later(new_lab):
    def fails(_task: AccuraciesTask) -> Play:
        yield Failed(reason="RuntimeError: out of memory")

    lab = new_lab(*LADDER)
    lab.lower_plays[1] = fails
    with pytest.raises(UserError, match="not every choice could be evaluated, for the reasons above; fix them"):
        lab.run_sensitivity()
    assert lab.watching.warnings == ["reference could not be evaluated: RuntimeError: out of memory"]
    lab.lower_plays.clear()
    lab.run_sensitivity()
    assert len(lab.lowered) == len(by_layer(lowered_configurations(lab.prepared.space))) + 1


def test_candidates_from_scratch_start_from_their_seed(new_lab):
    lab = new_lab(NO_STOPPING, ONE, "search.strategy=scratch")
    lab.run(2)
    assert [task.initial_weights for task in lab.tasks] == [(), (), ()]
    warm = new_lab(NO_STOPPING, ONE, name="warm")
    warm.run(2)
    baseline = (warm.folder.weights_file(0),)
    assert [task.initial_weights for task in warm.tasks] == [(), baseline, baseline]
    # Who starts from the baseline imitates it.
    assert [task.teacher_weights for task in lab.tasks] == [None] * 3
    assert [task.teacher_weights for task in warm.tasks] == [None, *baseline, *baseline]
    labels = new_lab(NO_STOPPING, ONE, "train.distillation=0", name="labels")
    labels.run(1)
    assert [task.teacher_weights for task in labels.tasks] == [None] * 2


# ---------------------------------------------------------------- budgets


def memory_of(*values: dict[str, object]) -> list[int]:
    """Bytes of uniform configurations."""
    prepared = prepare(TINY, (f"search.references={list(values)}",))
    return [cost_report(prepared.shapes, one, time_steps=3).memory_bytes for one in prepared.space.references]


def test_what_is_over_the_memory_budget_is_recorded_and_not_trained_and_does_not_count(new_lab):
    small, large = {"weight_bits": 2, "membrane_levels": 3}, {"weight_bits": 4, "membrane_levels": 16}
    references = f"search.references={[large, small]}"
    bytes_small, bytes_large = memory_of(small, large)
    lab = new_lab(
        NO_STOPPING, ONE, references, f"constraints.memory_bytes={bytes_large - 1}", "search.sampler=grey-box"
    )
    results = lab.run(5)
    assert results[1].outcome is Outcome.OVER_BUDGET
    assert results[1].reason == f"memory_bytes {bytes_large:,} is over constraints.memory_bytes, {bytes_large - 1:,}"
    assert results[1].epochs == ()
    assert [result.outcome.name for result in results[2:]] == ["COMPLETE"] * 5
    assert lab.trained == [0, *range(2, 7)]
    assert max(result.memory_bytes for result in results[2:]) < bytes_large
    assert bytes_small == results[2].memory_bytes
    stored = lab.study().optuna_study.trials
    assert stored[1].state is TrialState.PRUNED
    assert stored[1].constraints["not_completed"] == 1.0
    assert stored[0].constraints["memory_bytes"] > 0 > stored[2].constraints["memory_bytes"]
    assert 0 not in {member.number for member in front(results, search.Budget(max_memory_bytes=bytes_large - 1))}
    # Exactly as many bytes as the budget has are within it.
    exact = new_lab(NO_STOPPING, ONE, references, f"constraints.memory_bytes={bytes_large}", name="exact")
    assert exact.run(2)[1].outcome is Outcome.COMPLETE


def test_a_search_in_which_next_to_nothing_fits_ends_and_says_why_and_goes_on_no_further(new_lab, monkeypatch):
    monkeypatch.setattr(search, "MAX_UNTRIED_IN_A_ROW", 5)
    (smallest,) = memory_of({"weight_bits": 2, "membrane_levels": 3})
    lab = new_lab(
        NO_STOPPING, ONE, f"constraints.memory_bytes={smallest}", "search.sampler=random", "search.references=[]"
    )
    results = lab.run(3)
    assert [result.outcome.name for result in results] == ["COMPLETE", *["OVER_BUDGET"] * 5]
    (said,) = lab.watching.warnings
    assert said == (
        "the search ends after 0 of 3 trials: 5 proposals in a row were over budget or known already, 5 of those "
        "proposed are over budget; raise constraints, give layers smaller choices, or take search.sampler grey-box, "
        "which proposes nothing over the memory budget"
    )
    assert lab.run(3) == results
    assert lab.watching.warnings == [said, said]


def test_flops_are_known_beforehand_where_nothing_saves_any_and_judged_afterwards_elsewhere(new_lab):
    references = [
        {"weight_bits": 4, "membrane_levels": 3},
        {"weight_bits": 4, "membrane_levels": 3, "channel_mass": 0.8},
    ]
    dense = 2 * new_lab(name="measured").run(1)[0].dense_macs
    lab = new_lab(NO_STOPPING, ONE, f"search.references={references}", "constraints.effective_flops=1.7M")
    known, gated = lab.run(1)[1:]
    assert known.outcome is Outcome.OVER_BUDGET
    assert known.reason == f"effective_flops {dense:,} is over constraints.effective_flops, 1,700,000"
    # Its trainer measures 0.8 MMACs, 1.6 MFLOPs.
    assert gated.outcome is Outcome.COMPLETE
    assert lab.study().optuna_study.trials[2].constraints["effective_flops"] == pytest.approx(-0.1 / 1.7)
    tight = new_lab(
        *(NO_STOPPING, ONE, f"search.references={references}", "constraints={effective_flops: 1M, accuracy: 0.9}"),
        name="tight",
    )
    gated = tight.run(1)[2]
    assert gated.outcome is Outcome.COMPLETE
    violated = tight.study().optuna_study.trials[2].constraints
    assert violated["effective_flops"] == pytest.approx(0.6)
    assert violated["accuracy"] == pytest.approx((0.9 - gated.accuracy) / 0.9)


@pytest.mark.parametrize("sampler", ["tpe", "grey-box"])
def test_samplers_go_on_after_trials_that_broke_a_constraint(new_lab, sampler):
    lab = new_lab(
        *(NO_STOPPING, ONE, "search.startup_trials=4", f"search.sampler={sampler}"),
        "constraints={accuracy: 0.58, effective_flops: 1.8M, memory_bytes: 20KiB}",
    )
    results = lab.run(14)
    assert sum(result.outcome is Outcome.COMPLETE for result in results) == 15
    if sampler == "grey-box":
        assert not [r for r in results if r.outcome is Outcome.OVER_BUDGET and r.origin != "reference"]


def test_a_budget_that_no_configuration_can_keep_is_refused_before_anything():
    (smallest,) = memory_of({"weight_bits": 2, "membrane_levels": 3})
    assert prepare(TINY, (f"constraints.memory_bytes={smallest}",))
    with pytest.raises(UserError) as caught:
        prepare(TINY, (f"constraints.memory_bytes={smallest - 1}",))
    assert str(caught.value) == (
        f"{TINY}: constraints.memory_bytes: must be at least {smallest:,} bytes, what the smallest configuration of "
        f"this space takes; got {smallest - 1:,}; raise it, or give layers choices of fewer bits or levels"
    )
    prepare(TINY, ("constraints.effective_flops=1",))  # who can tell what gates save?
    with pytest.raises(UserError, match=r"constraints\.effective_flops: must be at least [\d,]+, what every"):
        prepare(TINY, ("constraints.effective_flops=1", "layers={all: {weight_bits: [2, 4], membrane_levels: 3}}"))
