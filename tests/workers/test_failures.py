"""A trainer that runs out of memory, or whose device fails: what it tries, and what it says."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import network, recordings

from spquant_search.training.device_memory import BatchSizes
from spquant_search.training.evaluation import evaluate
from spquant_search.training.shortage import Shortage, evaluated_at_once
from spquant_search.workers import messages, serving
from spquant_search.workers.messages import Failed, TrainerConfig
from spquant_search.workers.placement import Gpu

H200 = Gpu(visible_as="3", name="NVIDIA H200", capability=(9, 0), free_bytes=100, total_bytes=200)
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139 GiB.")
BROKEN = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")
NO_ROOM = "GPU 3 (NVIDIA H200), which 4 trainers share, has no memory left for another 2.50 GiB"
REMEDY = "take fewer trainers (--workers), a smaller train.batch_size or fewer time_steps"


@pytest.fixture(autouse=True)
def no_shortage() -> Iterator[None]:
    yield
    Shortage.met = False


def config(*, gpus: tuple[Gpu, ...] = (H200,), sharers: int = 4) -> TrainerConfig:
    device = "cuda" if gpus else "cpu"
    return TrainerConfig(space=None, device=device, cache=Path("unused"), gpus=gpus, sharers=sharers)  # type: ignore[arg-type]


class Conversation:
    """A trainer whose tasks are lists of errors: each try raises the next one, and without any the task is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: TrainerConfig, *, loading: list[Exception]) -> None:
        self.tries = 0
        talk = self

        class Scripted:
            def __init__(self, *_given: Any) -> None:
                if loading:
                    raise loading.pop(0)

            def do(self, errors: list[Exception]) -> messages.Tested:
                talk.tries += 1
                if errors:
                    raise errors.pop(0)
                return messages.Tested(number=talk.tries, accuracy=1.0, seconds={})

        monkeypatch.setattr(serving, "Server", Scripted)
        self._config = config

    def about(self, *tasks: list[Exception]) -> tuple[list[Any], list[str]]:
        """Return the messages, and what was warned of."""
        answers: list[Any] = []

        class Connection:
            """Hands out the tasks themselves, as their errors would change when pickled."""

            def recv(self) -> Any:
                return waiting.pop(0) if waiting else None

            def send(self, message: Any) -> None:
                answers.append(message)

        waiting = list(tasks)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            serving.serve(Connection(), self._config, is_needed=True)  # type: ignore[arg-type]
        return answers, [str(one.message) for one in said]


def test_the_first_shortage_of_a_process_makes_room_and_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    talk = Conversation(monkeypatch, config(), loading=[])
    answers, said = talk.about([FULL], [], [FULL], [])
    assert [type(answer) for answer in answers] == [messages.Tested, messages.Tested, Failed, messages.Tested]
    assert said == [f"{NO_ROOM}: what it was doing begins again, with half the batch of evaluation"]
    assert answers[2] == Failed(reason=f"{NO_ROOM}; {REMEDY}"), "no bug, and nothing that a new process would mend"
    assert (talk.tries, emptied) == (5, [True])


def test_a_trial_that_finds_no_room_twice_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, said = Conversation(monkeypatch, config(sharers=1), loading=[]).about([FULL, FULL], [])
    alone = NO_ROOM.replace("which 4 trainers share", "which one trainer uses")
    assert answers[0] == Failed(reason=f"{alone}; {REMEDY}")
    assert isinstance(answers[1], messages.Tested)
    assert len(said) == 1


def test_room_is_made_while_loading_too_and_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Conversation(monkeypatch, config(gpus=()), loading=[MemoryError()])
    answers, said = talk.about([], [MemoryError()])
    words = "this machine, which 4 trainers share, has no memory left"
    assert isinstance(answers[0], messages.Tested)
    assert answers[1] == Failed(reason=f"{words}; {REMEDY}")
    assert said == [f"{words}: what it was doing begins again, with half the batch of evaluation"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BROKEN, "GPU 3 (NVIDIA H200) failed: AcceleratorError: CUDA error: an illegal memory access was encountered"),
        (KeyError("conv9"), "KeyError: 'conv9'"),
        (RuntimeError("The size of tensor a (3) must match"), "RuntimeError: The size of tensor a (3) must match"),
    ],
)
def test_other_errors_are_not_tried_again_and_replace_the_process(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, said = Conversation(monkeypatch, config(), loading=[]).about([error], [FULL])
    assert answers[0].reason == reason
    assert answers[0].detail.startswith("Traceback"), "which replaces the process"
    assert isinstance(answers[1], messages.Tested), "it used up no try"
    assert len(said) == 1


def test_tensors_of_the_failed_try_are_gone_when_room_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Any]] = []
    left: list[Any] = []

    def work() -> messages.Tested:
        large = torch.zeros(3)
        if not kept:
            kept.append(weakref.ref(large))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        left.append(kept[0]())
        return messages.Tested(number=1, accuracy=1.0, seconds={})

    with pytest.warns(UserWarning, match="begins again"):
        serving.done_in_memory(work, config())
    assert left == [None]


def test_the_batch_of_evaluation_changes_no_result(plain_neurons: None) -> None:
    subject, split = network(), replace(recordings(21), together=BatchSizes(evaluation=8))
    before = evaluate(subject, split)
    sizes: list[int] = []
    subject.register_forward_pre_hook(lambda _module, inputs: sizes.append(inputs[0].values.shape[0] // 3))
    Shortage.make_room()
    assert evaluate(subject, split) == before
    assert sizes == [4, 4, 4, 4, 4, 1]
    assert [evaluated_at_once(samples) for samples in (250, 3, 2, 1)] == [125, 1, 1, 1]
