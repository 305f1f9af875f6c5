"""A real search in this process: the samples that it sends through its networks are those that were announced."""

from __future__ import annotations

import io
import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from searches import TINY

from spquant_search.driver.coordinator import run_search
from spquant_search.driver.limits import Limits
from spquant_search.report.plain_log import PlainLog
from spquant_search.runs.files import cache_folder
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import RunFacts
from spquant_search.runs.results import Origin, TrialResult
from spquant_search.runs.work import TRAINED, Part, PartWork, SampleCounts, search_work
from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.spikes import Spikes
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.tasks import AccuraciesTask, JudgeTask, SubnetTask, SupernetTask, TestTask
from spquant_search.workers.messages import Message, TrainerConfig
from spquant_search.workers.serving import Server

SMALL = (
    *("data.train_samples=20", "data.validation_samples=10", "data.test_samples=5", "time_steps=1"),
    *("train.batch_size=8", "train.baseline_epochs=2", "train.epochs=1", "supernet.epochs=1", "train.precision=fp32"),
    *("supernet.validation_samples=6", "search.workers=1", "search.stopping.enabled=false", "search.references=[]"),
    *("layers={all: {weight_bits: 4}, conv1: {weight_bits: [2, 4]}, conv2: {weight_bits: [2, 4]}}",),
)


class Here:
    """A trainer in a thread of this process, and the source that makes it."""

    def __init__(self, prepared: Prepared) -> None:
        self.task: Any = None
        self.begun_again = False
        self._config = TrainerConfig(space=prepared.space, device="cpu", cache=cache_folder())
        self._told, self._answers = queue.Queue[Message](), queue.Queue[str | None]()
        self._server = Server(self, self._config)  # type: ignore[arg-type]

    def make_trainer(self, _config: TrainerConfig) -> Here:
        return self

    def wait(self, trainers: Sequence[Any], *, timeout: float | None) -> list[Any]:
        return list(trainers)

    def give(self, task: Any) -> None:
        self.task = task
        threading.Thread(target=lambda: self._told.put(self._server.do(task)), daemon=True).start()

    def receive(self) -> Message:
        return self._told.get(timeout=20)

    def answer(self, stop_because: str | None) -> None:
        self._answers.put(stop_because)

    def close(self) -> None: ...

    # What the server sees of it.

    def send(self, message: Message) -> None:
        self._told.put(message)

    def recv(self) -> str | None:
        return self._answers.get(timeout=20)


def part_of(task: Any) -> Part:
    kinds = {
        SupernetTask: Part.SUPERNET,
        AccuraciesTask: Part.LADDER,
        SubnetTask: Part.TRIALS,
        JudgeTask: Part.JUDGED,
        TestTask: Part.TESTS,
    }
    if type(task) in kinds:
        return kinds[type(task)]
    origins = {Origin.BASELINE: Part.BASELINE, Origin.FINE_TUNED: Part.FINALISTS}
    return origins.get(task.result.origin, Part.TRIALS)


@pytest.mark.parametrize(
    "overrides",
    [
        ("search.budget_ladder=1", "final.members=1"),
        ("search.strategy=warm-start", "train.augment.roll=1"),
        ("search.budget_ladder=1", "final.members=1", "time_steps=[1,2]"),
    ],
    ids=["supernet", "warm-start", "time steps"],
)
def test_the_samples_of_every_part_are_those_announced(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(TINY, (*SMALL, *overrides))
    trainer, folder = Here(prepared), RunFolder(path=tmp_path / "run")
    facts = RunFacts(
        source="", command="", data="", classes=tuple(map(str, range(10))), validation_samples=10, test_samples=5
    )
    open_run(folder, prepared.space.file, facts)
    trained, evaluated, sample_steps = Counter[Part](), Counter[Part](), Counter[Part]()
    spikes: Callable[[DeviceSplit, torch.dtype], Spikes] = DeviceSplit.spikes

    def counting(batch: DeviceSplit, dtype: torch.dtype) -> Spikes:
        part, learns = part_of(trainer.task), torch.is_grad_enabled()
        (trained if learns else evaluated)[part] += len(batch)
        sample_steps[part] += len(batch) * batch.time_steps * (TRAINED if learns else 1)
        return spikes(batch, dtype)

    monkeypatch.setattr(DeviceSplit, "spikes", counting)
    monkeypatch.setattr(Compiled, "enabled", False)
    results = run_search(
        prepared,
        folder,
        trainer_config=trainer._config,
        limits=Limits(trials=2),
        watcher=PlainLog(io.StringIO()),
        trainer_source=trainer,  # type: ignore[arg-type]
    )
    works = {
        work.part: work for work in search_work(prepared.space, SampleCounts(train=20, validation=10, test=5), trials=2)
    }
    assert sum(result.is_candidate for result in results) == works[Part.TRIALS].tasks
    for part in {Part.JUDGED, Part.TESTS} & works.keys():
        # Where every subnet of the front was fine-tuned, none is left to judge.
        assert (part is Part.TESTS) <= evaluated.pop(part, 0) <= works.pop(part).evaluated_samples
    for tuned in (
        result for result in results if result.parent is not None
    ):  # a single one, of as much work as announced
        for counted in (trained, evaluated):
            counted[Part.FINALISTS] = (
                counted[Part.FINALISTS] * tuned.config.time_steps // prepared.space.file.most_time_steps
            )
    assert trained == Counter({part: work.trained_samples for part, work in works.items() if work.epochs})
    assert evaluated == Counter({part: work.evaluated_samples for part, work in works.items()})
    for part, work in works.items():
        _require_steps(work, sample_steps[part], prepared, results)


def _require_steps(work: PartWork, counted: int, prepared: Prepared, results: Sequence[TrialResult]) -> None:
    """Compare the time steps that the samples of a part were shown with its passes."""
    steps = prepared.space.file.time_steps
    if part_results := [one for one in results if work.part is Part.TRIALS and one.is_candidate]:
        own = work.passes_of_step - work.taught
        of_each = [one.config.time_steps * own / work.share * max(1, work.epochs) for one in part_results]
        taught = steps[-1] * (work.taught * work.steps + work.once)
        assert counted == round(sum(of_each)) + taught
    elif work.part is Part.SUPERNET:  # draws the steps of its batches
        assert steps[0] * work.passes / steps[-1] <= counted <= steps[-1] * work.passes / work.share
    else:
        assert counted == steps[-1] * work.passes
