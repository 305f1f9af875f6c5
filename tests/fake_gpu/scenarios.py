"""What a trainer does on a GPU, scenario by scenario, and what each asks of it."""

from __future__ import annotations

import random
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from fake_gpu.device import fake_gpu
from fake_gpu.spaces import prepared_space
from fake_gpu.traffic import Counts, Traffic

from spquant_search.costs.memory import cost_report
from spquant_search.runs.results import Origin, Outcome, unmeasured
from spquant_search.snn.layers import configure
from spquant_search.space.configuration import OFF, NetworkConfig
from spquant_search.space.schema import Augmentation, Training
from spquant_search.training import compilation, distillation, evaluation, loop, prefix_reuse, supernet, trial
from spquant_search.training.data_set import describe_data
from spquant_search.training.device_memory import batch_sizes
from spquant_search.training.loader import DeviceSplit, HostSplit, LoadedSplit
from spquant_search.training.network import new_network
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import SubnetTask

STEPS = 2  # of an epoch: the first one makes what the optimizer keeps
TURNS = 6  # configurations


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a scenario asked of the GPU."""

    launches: int = 0  # of one step or batch, compiled functions included
    compiled: int = 0  # calls of compiled functions among them
    waits: dict[str, int] = field(default_factory=dict)  # of one step or batch, by kind and place
    places: dict[str, int] = field(default_factory=dict)  # launches of one step or batch, by place
    launches_after: int = 0  # of what comes after the last step or batch
    waits_else: dict[str, int] = field(default_factory=dict)  # of the first one, what comes before it, and after all
    most_bytes: int = 0  # in all of the scenario, beyond the network
    failure: str | None = None


class Moments:
    """The counts at every end of a function, from which those of its last call are taken."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._ends: list[Counts] = []

    @contextmanager
    def after(self, place: str) -> Iterator[None]:
        """Note every end of the function ``place`` in this context."""
        module, _, name = place.rpartition(".")
        function = getattr(import_module(module), name)

        @wraps(function)
        def noted(*arguments: Any, **options: Any) -> Any:
            out = function(*arguments, **options)
            self._ends.append(self._traffic.counts.copy())
            return out

        with mock.patch(place, noted):
            yield

    def begin(self) -> None:
        """Count from here on; what lies on the GPU by now still counts as taken by the scenario."""
        self._traffic.begin()

    def found(self, *, held: int) -> Found:
        """Return what was counted, of a scenario that began with so many bytes; all of it where nothing was noted."""
        everything = self._traffic.counts.copy()
        first, before, last = (self._ends[0], *self._ends[-2:]) if self._ends else (Counts(), Counts(), everything)
        repeated, after = last - before, everything - last
        return Found(
            launches=repeated.launches.total() + repeated.compiled.total(),
            compiled=repeated.compiled.total(),
            waits=dict(repeated.waits),
            places=dict(repeated.places),
            launches_after=after.launches.total() + after.compiled.total(),
            waits_else=dict(everything.waits - (last - first).waits),
            most_bytes=self._traffic.most_bytes - held,
        )


class Stage:
    """A space with its network on a fake GPU, and made-up splits."""

    def __init__(self, prepared: Prepared, device: str, moments: Moments) -> None:
        self.prepared, self.device, self.moments = prepared, torch.device(device), moments
        self.space, self.file, self.shape = prepared.space, prepared.space.file, prepared.input
        self.is_static = describe_data(self.file, source="").static
        self.network = new_network(self.file, self.shape, seed=0, device=self.device)
        self.together = batch_sizes(prepared, on_gpu=True)
        self.schedule = Schedule(epochs=1, learning_rate=1e-3)

    def split(self, samples: int) -> DeviceSplit:
        """Return a split that lies on the GPU."""
        frames, labels = self._samples(samples, self.device)
        return DeviceSplit(frames=frames, labels=labels, **self._shown())

    def split_on_host(self, samples: int) -> HostSplit:
        """Return a split that the GPU has no room for."""
        frames, labels = self._samples(samples, torch.device("cpu"))
        return HostSplit(frames=frames, labels=labels, device=self.device, **self._shown())

    def _shown(self) -> dict[str, Any]:
        return {
            "time_steps": self.file.most_time_steps,
            "largest": self.shape.largest,
            "together": self.together,
        }

    def splits(self) -> dict[str, DeviceSplit]:
        """Return two batches to measure statistics on, and two to evaluate."""
        return {
            "training": self.split(2 * self.together.statistics),
            "validation": self.split(2 * self.together.evaluation),
        }

    def _samples(self, samples: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        steps = 1 if self.is_static else self.file.most_time_steps
        size = (samples, steps, self.shape.channels, self.shape.height, self.shape.width)
        frames = torch.empty(size, dtype=torch.uint8, device=device)
        return frames, torch.empty(samples, dtype=torch.int64, device=device)

    def sparse(self) -> NetworkConfig:
        """Return a configuration with all the gates and masks that the space has."""
        values = {}
        for address, options in self.space.layer_choices().items():
            on = [option for option in options if OFF.get(address.parameter, "") != option]
            values[address] = (on or options)[0]
        return self.space.config(values)

    def configure(self, config: NetworkConfig) -> None:
        configure(self.network, config, self.file.neuron)

    def train(self, recipe: Training, training: LoadedSplit, *, steps: int = STEPS) -> None:
        """Train for an epoch of so many steps; the last is looked at."""
        assert len(training) == steps * recipe.batch_size
        run = loop.TrainingRun(network=self.network, training=training, recipe=recipe, schedule=self.schedule, seed=0)
        with self.moments.after("spquant_search.training.loop.train_step"):
            assert len(list(loop.epoch_losses(run))) == 1


# ---------------------------------------------------------------- scenarios


def float_step(stage: Stage) -> None:
    """A step of the baseline's training, of augmented batches from host memory."""
    options = {"flip": True, "crop": 2} if stage.is_static else {"flip": True, "roll": 2, "crop": 2, "event_drop": 0.5}
    recipe = replace(stage.file.train, augment=Augmentation(**options))
    stage.configure(stage.space.baseline())
    stage.train(recipe, stage.split_on_host(STEPS * recipe.batch_size))


def bf16_step(stage: Stage) -> None:
    """A step of a candidate with all gates and masks, in the precision that the recipe has by itself."""
    stage.configure(stage.sparse())
    stage.train(stage.file.train, stage.split(STEPS * stage.file.train.batch_size))


def fp32_step(stage: Stage) -> None:
    stage.configure(stage.sparse())
    stage.train(replace(stage.file.train, precision="fp32"), stage.split(STEPS * stage.file.train.batch_size))


def fp16_step(stage: Stage) -> None:
    """A step in fp16, whose loss is scaled, with gradients that are clipped."""
    stage.configure(stage.sparse())
    recipe = replace(stage.file.train, precision="fp16", max_grad_norm=1.0)
    stage.train(recipe, stage.split(STEPS * recipe.batch_size))


def supernet_step(stage: Stage) -> None:
    """A step of the supernet, whose teacher's logits are known."""
    training = stage.split(STEPS * stage.file.train.batch_size)
    teacher_network = new_network(stage.file, stage.shape, seed=0, device=stage.device)
    teacher = distillation.FloatTeacher(teacher_network, training, varied=False)
    stage.moments.begin()
    with stage.moments.after("spquant_search.training.loop.train_step"):
        epochs = supernet.train_supernet(
            stage.network, stage.space, training=training, schedule=stage.schedule, seed=0, teacher=teacher
        )
        assert len(list(epochs)) == 1


def teacher_logits(stage: Stage) -> None:
    """What the float network says of all samples, and of a batch that was augmented."""
    stage.configure(stage.space.baseline())
    training = stage.split(max(2 * stage.together.evaluation, stage.file.train.batch_size))
    distillation.FloatTeacher(stage.network, training, varied=False)
    taught = distillation.FloatTeacher(stage.network, training, varied=True)
    taught(training.batch(slice(0, stage.file.train.batch_size)), torch.arange(stage.file.train.batch_size))


def evaluated_batch(stage: Stage) -> None:
    """A batch of an evaluation with all counts."""
    stage.configure(stage.sparse())
    with stage.moments.after("spquant_search.training.evaluation.correctly_classified"):
        evaluation.evaluate(stage.network, stage.split(2 * stage.together.evaluation))


def float_evaluated_batch(stage: Stage) -> None:
    stage.configure(stage.space.baseline())
    with stage.moments.after("spquant_search.training.evaluation.correctly_classified"):
        evaluation.evaluate(stage.network, stage.split(2 * stage.together.evaluation))


def accuracy_batch(stage: Stage) -> None:
    """A batch of an evaluation of the accuracy alone, from host memory."""
    stage.configure(stage.sparse())
    with stage.moments.after("spquant_search.training.evaluation.correctly_classified"):
        evaluation.accuracy(stage.network, stage.split_on_host(2 * stage.together.evaluation))


def subnet(stage: Stage) -> None:
    """A trial that evaluates a subnet: its statistics, its evaluation, and its file."""
    result = unmeasured(
        number=1,
        origin=Origin.RANDOM,
        config=stage.sparse(),
        seed=0,
        cost=cost_report(stage.prepared.shapes, stage.sparse()),
        device=None,
        outcome=Outcome.SUBNET,
        reason="",
    )
    task = SubnetTask(result=result, supernet_weights=Path("supernet"), weights_file=Path("subnet"))
    nothing_on_disk = {
        "spquant_search.training.trial._load_supernet": lambda *_, **_options: stage.network,
        "spquant_search.training.network.save": lambda _tensors: b"",
        "spquant_search.training.network.write_bytes": lambda *_, **_options: None,
    }
    with ExitStack() as stack:
        for place, instead in nothing_on_disk.items():
            stack.enter_context(mock.patch(place, instead))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        trial.run_subnet(task, stage.file, **stage.splits(), shape=stage.shape)


def turns(stage: Stage) -> None:
    """Configurations of equal time steps that take turns in the supernet."""
    generator = random.Random(0)
    most = stage.file.most_time_steps
    drawn = (supernet.random_configuration(stage.space, generator) for _ in range(100 * TURNS))
    configs = [config for config in drawn if config.time_steps == most][:TURNS]
    assert len(configs) == TURNS
    prefix_reuse.subnet_accuracies(
        stage.network,
        configs,
        stage.file.neuron,
        samples=stage.file.supernet.statistics_samples,
        **stage.splits(),
    )


def compiled_ahead(stage: Stage) -> None:
    """What a trainer without a task runs."""
    for _kernel in compilation.compile_ahead(stage.space, training=stage.split(3), shape=stage.shape):
        pass


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "float step": float_step,
    "bf16 step": bf16_step,
    "fp32 step": fp32_step,
    "fp16 step": fp16_step,
    "supernet step": supernet_step,
    "teacher": teacher_logits,
    "float evaluated batch": float_evaluated_batch,
    "evaluated batch": evaluated_batch,
    "accuracy batch": accuracy_batch,
    "subnet": subnet,
    f"{TURNS} subnets by turns": turns,
    "compiled ahead": compiled_ahead,
}


def measure(name: str, device: str, scenarios: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Return what every scenario of a space asks of a GPU, by its name; by default of all."""
    prepared = prepared_space(name)
    with fake_gpu() as traffic:
        return {
            scenario: asdict(_measured(SCENARIOS[scenario], prepared, device, traffic))
            for scenario in scenarios or SCENARIOS
        }


def _measured(scenario: Callable[[Stage], None], prepared: Prepared, device: str, traffic: Traffic) -> Found:
    moments = Moments(traffic)
    try:
        stage = Stage(prepared, device, moments)
        moments.begin()
        held = traffic.bytes
        scenario(stage)
    except Exception as error:  # whatever a mixture of devices raises
        lines = [line for line in traceback.extract_tb(error.__traceback__) if "/spquant_search/" in line.filename]
        where = f" @ {lines[-1].filename.rpartition('/spquant_search/')[2]}:{lines[-1].lineno}" if lines else ""
        return Found(failure=f"{type(error).__name__}: {error}".splitlines()[0][:200] + where)
    return moments.found(held=held)
