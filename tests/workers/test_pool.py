"""The pool: where the seconds of its trainers went, whatever becomes of their processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from spquant_search.training.prepare import prepare
from spquant_search.workers import messages
from spquant_search.workers import pool as pools
from spquant_search.workers.placement import Gpu
from spquant_search.workers.pool import LOST, TrainerPool

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"


class ScriptedTrainer:
    """A trainer that says what it is told to say."""

    def __init__(self) -> None:
        self.task: Any = None
        self.begun_again = False
        self.says: list[messages.Message] = []

    def give(self, task: Any) -> None:
        self.task, self.begun_again = task, False

    def answer(self, stop_because: str | None) -> None: ...

    def receive(self) -> messages.Message:
        return self.says.pop(0)

    def restart(self) -> None:
        self.task = None

    def begin_again(self) -> None:
        self.begun_again = True

    def close(self) -> None: ...


class Script:
    """The source of scripted trainers."""

    def make_trainer(self, config: messages.TrainerConfig) -> ScriptedTrainer:
        return ScriptedTrainer()

    def wait(self, trainers: Sequence[Any], *, timeout: float | None) -> list[Any]:
        return [trainer for trainer in trainers if trainer.says]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pool's time, in the one place of a list."""
    now = [100.0]
    monkeypatch.setattr(pools.time, "monotonic", lambda: now[0])
    return now


def new_pool(count: int) -> TrainerPool:
    config = messages.TrainerConfig(space=prepare(TINY).space, device="cpu", cache=Path("unused"))
    return TrainerPool(config, count, warn=lambda _text: None, source=Script())


def done(training: float) -> messages.Tested:
    return messages.Tested(number=1, accuracy=0.5, seconds={"training": training})


def test_seconds_of_processes_that_were_replaced_are_kept(clock: list[float]) -> None:
    pool = new_pool(2)
    first, second = pool.idle()
    first.give("a task")
    clock[0] += 10
    pool.mark_done(first, {"training": 7.0, "loading": 3.0})
    second.give("a task")
    pool.mark_done(second, {"training": 8.0})
    # It dies in the middle of its second task; the process that follows it counts from 0.
    first.give("another")
    clock[0] += 5
    first.says = [messages.Failed(reason="died", died=True), done(4.0)]
    assert list(pool.messages()) == []
    ((trainer, message),) = pool.messages()
    clock[0] += 4
    pool.mark_done(trainer, message.seconds)
    assert pool.seconds() == {
        "trainer 1": {"training": 11.0, "loading": 3.0, LOST: 5.0},
        "trainer 2": {"training": 8.0},
    }
    # A bug replaces the process, too.
    first.give("a third")
    clock[0] += 2
    pool.mark_failed(first, messages.Failed(reason="KeyError", detail="Traceback"))
    assert pool.seconds()["trainer 1"] == {"training": 11.0, "loading": 3.0, LOST: 7.0}


def test_a_task_that_failed_alone_replaces_nothing(clock: list[float]) -> None:
    pool = new_pool(1)
    (trainer,) = pool.idle()
    trainer.give("a task")
    clock[0] += 5
    pool.mark_failed(trainer, messages.Failed(reason="data.root: no such folder"))
    assert pool.seconds() == {}
    assert time.monotonic() == 105.0


def test_trainers_are_spread_over_the_gpus_and_each_knows_who_shares_its_own() -> None:
    given: list[messages.TrainerConfig] = []

    class Notes(Script):
        def make_trainer(self, config: messages.TrainerConfig) -> ScriptedTrainer:
            given.append(config)
            return super().make_trainer(config)

    gpus = tuple(
        Gpu(visible_as=name, name="NVIDIA T4", capability=(7, 5), free_bytes=1, total_bytes=1)
        for name in ("3", "MIG-a")
    )
    space = prepare(TINY).space
    config = messages.TrainerConfig(space=space, device="cuda", cache=Path("unused"), gpus=gpus)
    TrainerPool(config, 3, warn=lambda _text: None, source=Notes())
    assert [(one.gpus[0].visible_as, one.sharers) for one in given] == [("3", 2), ("MIG-a", 1), ("3", 2)]
    assert all((one.space, one.device, one.cache) == (space, "cuda", Path("unused")) for one in given)
    assert {one.compilers for one in given} == {max(1, pools.available_cores() // 3)}
