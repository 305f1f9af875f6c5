"""Trainer processes: how they begin, end and die, and what they do while they wait."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spquant_search.runs.files import cache_folder
from spquant_search.training.compilation import compile_ahead
from spquant_search.training.prepare import prepare
from spquant_search.workers import process, serving
from spquant_search.workers.messages import Failed, TrainerConfig
from spquant_search.workers.placement import Gpu
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


TELLS = """
import sys, types
from pathlib import Path
from spquant_search.workers import process
from spquant_search.workers.messages import TrainerConfig
from spquant_search.workers.placement import Gpu

def serve(connection, config, *, is_needed):
    import os
    print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TORCHINDUCTOR_COMPILE_THREADS"], "torch" in sys.modules)

class Silent:
    poll = staticmethod(lambda seconds: True)

sys.modules["spquant_search.workers.serving"] = types.SimpleNamespace(serve=serve)
gpus = [Gpu(visible_as=n, name="T4", capability=(7, 5), free_bytes=1, total_bytes=1) for n in ("2", "MIG-b")]
shared = TrainerConfig(space=None, device="cuda", cache=Path("unused"), gpus=tuple(gpus))
number = int(sys.argv[1])
process.run_trainer(Silent(), shared.of_trainer(number, trainers=3, cores=8))
"""


def test_a_trainer_sees_its_own_gpu_alone_from_before_torch_is_imported() -> None:
    """In processes of their own, which begin with what the command may see: GPUs 1, 2 and a part of another."""
    began = [
        subprocess.Popen(
            [sys.executable, "-c", TELLS, str(number)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "1,2,MIG-b"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    assert [one.communicate(timeout=120)[0] for one in began] == ["2 2 False\n", "MIG-b 2 False\n", "2 2 False\n"]


def test_a_trainer_that_is_started_anew_takes_the_same_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[TrainerConfig] = []

    class Context:
        def Pipe(self) -> Any:
            return multiprocessing.Pipe()

        def Process(self, *, target: Any, args: Any, daemon: bool) -> Any:
            started.append(args[1])
            return multiprocessing.get_context("fork").Process(target=int)

    made = Gpu(visible_as="1", name="NVIDIA T4", capability=(7, 5), free_bytes=1, total_bytes=1)
    config = replace(new_config(), device="cuda", gpus=(made,), sharers=2)
    real = multiprocessing.get_context
    monkeypatch.setattr(
        process.multiprocessing, "get_context", lambda kind: Context() if kind == "spawn" else real(kind)
    )
    trainer = TrainerProcess(config)
    trainer.give("a task")
    trainer.begin_again()
    trainer.restart()
    trainer.close()
    assert started == [config] * 3
