"""A search in a laboratory: the real coordinator, with trainers that replay learning curves."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from examples import epoch
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from spquant_search.costs.memory import cost_report
from spquant_search.driver.coordinator import run_search, run_sensitivity
from spquant_search.driver.limits import Limits
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.storage.protocol import Storage
from spquant_search.driver.study import Study, study_in
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import RunFacts
from spquant_search.runs.results import EpochMetrics, Outcome, TrialResult
from spquant_search.runs.sensitivity import Sensitivity
from spquant_search.runs.work import Part
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.tasks import AccuraciesTask, JudgeTask, SubnetTask, SupernetTask, Task, TestTask
from spquant_search.workers.messages import (
    Accuracies,
    Epoch,
    Message,
    SupernetProgress,
    SupernetTrained,
    Tested,
    Trained,
    TrainerConfig,
)

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
FACTS = RunFacts(
    source="tiny", command="", data="", classes=tuple("0123456789"), validation_samples=1000, test_samples=1
)
Play = Generator[Message, str | None, None]


class Killed(BaseException):
    """The process ends here, as far as the search can tell."""


class Proposes(BaseSampler):
    """A sampler that proposes one configuration."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self.params[param_name]


class Watching:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.warnings: list[str] = []
        self.stages: list[tuple[str, int, int]] = []

    def plan(self, plan: SearchPlan) -> None: ...

    def stage(self, text: str, done: int = 0, total: int = 0, *, part: Part | None = None) -> None:
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
    yield Tested(number=task.number, accuracy=0.01 * task.number, seconds={})


def trains_supernet(task: SupernetTask) -> Play:
    for number in range(1, task.schedule.epochs + 1):
        yield SupernetProgress(epoch=number, seconds=1.0)
    task.weights_file.write_bytes(b"supernet")
    yield SupernetTrained(seconds={})


def evaluates(task: SubnetTask) -> Play:
    assert task.supernet_weights.is_file()
    task.weights_file.write_bytes(b"statistics")
    config = task.result.config
    metrics = replace(epoch(0, accuracy_of(config), 1e6 * config["conv2"].channel_mass), loss=None)
    result = replace(task.result, outcome=Outcome.SUBNET, reason=Outcome.SUBNET.value, epochs=(metrics,))
    yield Trained(result=result, seconds={})


def judges(task: JudgeTask) -> Play:
    """A trainer to which the whole split gives a little less than the part did."""
    assert all(file.is_file() for file in task.weights)
    (part,) = task.result.epochs
    whole = replace(part, accuracy=part.accuracy - 0.001, samples=None)
    yield Trained(result=replace(task.result, epochs=(whole,)), seconds={})


def evaluates_accuracies(task: AccuraciesTask) -> Play:
    assert task.supernet_weights.is_file()
    yield Accuracies(accuracies=tuple(map(accuracy_of, task.configs)), seconds={})


class Lab:
    """The source of a search's trainers, with what they were given, and how single trials are to go."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        # Most of what is tested here is of trials that are trained, whatever else they begin with.
        self.prepared: Prepared = prepare(TINY, ("search.strategy=warm-start", "search.sampler=tpe", *overrides))
        self.folder = RunFolder(path=folder)
        open_run(self.folder, self.prepared.space.file, FACTS)
        self.trainers: list[FakeTrainer] = []
        self.restarts = 0
        self.tasks: list[Task] = []
        self.supernets: list[SupernetTask] = []
        self.subnets: list[SubnetTask] = []
        self.lowered: list[AccuraciesTask] = []  # subnets that are no trials
        self.lower_plays: dict[int, Callable[[AccuraciesTask], Play]] = {}  # by how many there were
        self.supernet_play = trains_supernet
        self.judged: list[int] = []
        self.judge_plays: dict[int, Callable[[JudgeTask], Play]] = {}  # by trial
        self.tested: list[int] = []
        self.plays: dict[int, Callable[[Task], Play]] = {}
        self.test_plays: dict[int, Callable[[TestTask], Play]] = {}
        self.most_busy = 0
        self.watching = Watching()

    def make_trainer(self, config: TrainerConfig) -> FakeTrainer:
        self.trainers.append(FakeTrainer(self))
        return self.trainers[-1]

    def wait(self, trainers: Sequence[FakeTrainer], *, timeout: float | None) -> list[FakeTrainer]:
        assert trainers
        assert timeout is None
        self.most_busy = max(self.most_busy, len(trainers))
        return list(trainers[-1:])  # the trainer that began last, so that trials do not end in their order

    def run(
        self, trials: int, *, deadline: float | None = None, storage: Storage | None = None
    ) -> tuple[TrialResult, ...]:
        return run_search(
            self.prepared,
            self.folder,
            trainer_config=self.trainer_config(),
            limits=Limits(trials=trials, deadline=deadline),
            watcher=self.watching,
            storage=storage,
            trainer_source=self,
        )

    def run_sensitivity(self) -> Sensitivity:
        return run_sensitivity(
            self.prepared,
            self.folder,
            trainer_config=self.trainer_config(),
            watcher=self.watching,
            trainer_source=self,
        )

    def trainer_config(self) -> TrainerConfig:
        return TrainerConfig(space=self.prepared.space, device="cpu", cache=Path("unused"))

    def study(self) -> Study:
        return Study(Journal(self.folder.study_file), self.prepared.space, self.prepared.shapes, chance=0.1)

    def trials(self) -> list[FrozenTrial]:
        """Return the trials as Optuna stores them."""
        return study_in(Journal(self.folder.study_file)).get_trials()

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.trials()]

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
            self.lab.supernets.append(task)
            self._play = self.lab.supernet_play(task)
        elif isinstance(task, AccuraciesTask):
            self.lab.lowered.append(task)
            self._play = self.lab.lower_plays.get(len(self.lab.lowered), evaluates_accuracies)(task)
        elif isinstance(task, JudgeTask):
            self.lab.judged.append(task.result.number)
            self._play = self.lab.judge_plays.get(task.result.number, judges)(task)
        elif isinstance(task, SubnetTask):
            self.lab.subnets.append(task)
            self._play = self.lab.plays.get(task.result.number, evaluates)(task)
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


NO_STOPPING = "search.stopping.enabled=false"
ONE_WORKER = "search.workers=1"
# Two configurations: conv1 with 2 or 4 bits, all else fixed.
TWO_CONFIGURATIONS = (
    "layers={all: {weight_bits: 4, membrane_levels: 3}, conv1: {weight_bits: [2, 4]}}",
    "search.references=[]",
    "search.sampler=random",
)


def plain(result: TrialResult) -> TrialResult:
    return replace(result, seconds=0.0)


class Dead(Journal):
    """As a coordinator sees the study of one that is gone: what that was at work on is not its own."""

    is_shared = True

    def is_mine(self, trial: FrozenTrial) -> bool:
        return trial._trial_id in self._mine


def diverges(task: Task) -> Play:
    yield Trained(
        result=replace(task.result, outcome=Outcome.DIVERGED, reason="the mean loss of epoch 1 is nan"), seconds={}
    )


def dies_here(task: Task) -> Play:
    yield Epoch(metrics=epoch(1, 0.5, 1e6))
    raise Killed


SUPERNET = (
    "search.strategy=supernet",
    "final.members=2",
    "final.epochs=2",
    "search.stopping.enabled=false",
    ONE_WORKER,
)
LADDER = (*SUPERNET, "search.budget_ladder=3", "layers.all.weight_bits=[1, 2, 4, 8]")


def killed_here(_task: object) -> Play:
    raise Killed
    yield


def memory_of(*values: dict[str, object]) -> list[int]:
    """Bytes of uniform configurations."""
    prepared = prepare(TINY, (f"search.references={list(values)}",))
    return [cost_report(prepared.shapes, one).memory_bytes for one in prepared.space.references]
