"""Trainer processes: how they begin, end and die, and what they do while they wait."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spquant_search.runs.files import cache_folder
from spquant_search.training.compilation import compile_ahead
from spquant_search.training.prepare import prepare
from spquant_search.workers import process, serving
from spquant_search.workers.messages import Failed, TrainerConfig
from spquant_search.workers.process import TrainerProcess, TrainerProcesses
from spquant_search.workers.serving import Server

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"


@pytest.fixture
def trainer():
    space = prepare(TINY).space
    made = TrainerProcess(TrainerConfig(space=space, device="cpu", cache=Path("unused")))
    yield made
    made.close()


def test_a_dead_trainer_is_a_message_and_no_exception(trainer):
    trainer._process.kill()
    trainer._process.join()
    trainer.give("a task")
    trainer.answer(None)
    assert TrainerProcesses().wait([trainer], timeout=60) == [trainer]
    assert trainer.receive() == Failed(reason="the trainer process ended with exit code -9", died=True)
    trainer.task = None


def test_a_trainer_outlives_ctrl_c_and_what_the_user_must_change():
    space = prepare(TINY, ["data.train_samples=999999"]).space
    trainer = TrainerProcess(TrainerConfig(space=space, device="cpu", cache=Path("unused")))
    try:
        for _ in range(2):
            trainer.give("a task")
            message = trainer.receive()
            trainer.task = None
            assert isinstance(message, Failed)
            assert not message.died
            assert message.detail == ""
            assert message.reason.startswith("data.train_samples: must be 1 to ")
            os.kill(trainer._process.pid, signal.SIGINT)
    finally:
        trainer.close()
    assert trainer._process.exitcode == 0


def new_config(*overrides: str) -> TrainerConfig:
    return TrainerConfig(space=prepare(TINY, overrides).space, device="cpu", cache=cache_folder())


def test_a_trainer_that_waits_long_is_ready_then(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    # As in a process of its own: nothing was found in the cache yet, which what ran before in this one may have.
    monkeypatch.setattr("spquant_search.snn.kernels.compile.counters", {"inductor": Counter()})
    ours, theirs = multiprocessing.Pipe()
    loaded: list[Any] = []
    pieces: list[None] = []

    class Counted(Server):
        def __init__(self, *given: Any) -> None:
            loaded.append(given)
            super().__init__(*given)

    def watched(*given: Any, **more: Any) -> Iterator[None]:
        for piece in compile_ahead(*given, **more):
            pieces.append(piece)
            yield
        ours.send("a task")
        ours.send(None)

    monkeypatch.setattr(serving, "Server", Counted)
    monkeypatch.setattr(serving, "compile_ahead", watched)
    serving.serve(theirs, new_config(), is_needed=False)
    assert (len(loaded), len(pieces)) == (1, 4)
    assert ours.recv().reason == "KeyError: <class 'str'>"


def test_a_trainer_stops_preparing_when_it_has_a_task(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    ours, theirs = multiprocessing.Pipe()
    pieces: list[None] = []

    def watched(*_given: Any, **_more: Any) -> Iterator[None]:
        while True:
            pieces.append(ours.send("a task"))
            yield

    monkeypatch.setattr(serving, "compile_ahead", watched)
    assert serving.prepare_ahead(theirs, new_config()) is not None
    assert len(pieces) == 1


def test_a_trainer_that_cannot_prepare_says_so_when_it_has_a_task() -> None:
    ours, theirs = multiprocessing.Pipe()
    broken = new_config("data.train_samples=999999")
    assert serving.prepare_ahead(theirs, broken) is None
    ours.send("a task")
    ours.send(None)
    serving.serve(theirs, broken, is_needed=False)
    assert ours.recv().reason.startswith("data.train_samples: must be 1 to ")


def test_an_idle_trainer_ends_by_its_own_will(trainer, monkeypatch):
    monkeypatch.setattr(process, "SECONDS_TO_END", 120.0)  # a busy machine may take long to import torch
    trainer.close()
    assert trainer._process.exitcode == 0
