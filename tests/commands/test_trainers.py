"""How many trainers a command starts and on which devices, and what it says of it before they begin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spquant_search.commands import searching
from spquant_search.commands.trainers import AUTO, Hired, _demand, hire
from spquant_search.errors import UserError
from spquant_search.runs.trainers import GpuUse, Trainers
from spquant_search.training.demand import IMPORTED_BYTES
from spquant_search.training.device_memory import trainer_bytes
from spquant_search.training.prepare import prepare
from spquant_search.workers.devices import Devices
from spquant_search.workers.placement import Gpu

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
PREPARED = prepare(TINY)
TRAINER_BYTES = trainer_bytes(PREPARED, split_bytes=0)
ON_PROCESSOR, SPLITS = _demand(PREPARED)[0].trainer_bytes, _demand(PREPARED)[1]


def gpu(name: str, *, room_for: float, capability: tuple[int, int] = (9, 0), model: str = "NVIDIA H200") -> Gpu:
    """A GPU on which so many trainers, each with its splits, find room in nine tenths of what is free."""
    free = round(room_for * (TRAINER_BYTES + SPLITS) / 0.9) + 1
    return Gpu(visible_as=name, name=model, capability=capability, free_bytes=free, total_bytes=2 * free)


Hire = Callable[..., Hired]


@pytest.fixture
def hired(monkeypatch: pytest.MonkeyPatch) -> Hire:
    """Hires for the tiny space, whose workers are 2, on a machine of 16 cores with these GPUs."""

    def new(
        *gpus: Gpu, workers: int | None = None, cores: int = 16, notes: tuple[str, ...] = (), prepared: Any = PREPARED
    ) -> Hired:
        devices = Devices(kind="cuda" if gpus else "cpu", gpus=gpus, notes=notes)
        monkeypatch.setattr("spquant_search.workers.devices.choose_devices", lambda _name: devices)
        monkeypatch.setattr("spquant_search.processes.available_cores", lambda: cores)

        def makes_a_context() -> None:
            raise AssertionError("the command touches a GPU")

        monkeypatch.setattr(torch.cuda, "_lazy_init", makes_a_context)
        return hire(prepared, device="auto", workers=workers)

    return new


def test_on_a_processor_nothing_is_chosen_or_said_unless_it_is_asked_for(
    hired: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = hired()
    assert (plain.lines, plain.used, plain.prepared) == ((), Trainers(device="cpu", count=2), PREPARED)
    assert (plain.config.device, plain.config.gpus) == ("cpu", ())
    for available, cores, expected in ((5.1, 16, 5), (99, 3, 3), (0.2, 16, 1)):
        free = IMPORTED_BYTES + round(available * ON_PROCESSOR / 0.9)
        monkeypatch.setattr("spquant_search.training.demand.available_memory", lambda free=free: free)
        auto = hired(workers=AUTO, cores=cores)
        plural = "s" if expected > 1 else ""
        assert auto.lines == (
            f"trainers: {expected} trainer{plural} on the processor, by {cores} cores and the memory",
        )
        assert auto.prepared.space.file.search.workers == expected == auto.used.count
        assert auto.config.space is auto.prepared.space


def test_trainers_go_around_the_gpus_and_the_command_says_so_once(hired: Hire) -> None:
    found = hired(gpu("0", room_for=4), gpu("GPU-8932", room_for=4))
    (line,) = found.lines
    assert line.startswith("trainers: 2 trainers on 2 GPUs (NVIDIA H200), 1 on each; each takes about ")
    assert line.endswith("; training in bf16")
    assert found.used == Trainers(
        device="cuda",
        count=2,
        gpus=(
            GpuUse(visible_as="0", name="NVIDIA H200", trainers=1),
            GpuUse(visible_as="GPU-8932", name="NVIDIA H200", trainers=1),
        ),
    )
    assert [one.visible_as for one in found.config.gpus] == ["0", "GPU-8932"]


def test_auto_takes_what_memory_and_cores_allow(hired: Hire) -> None:
    found = hired(gpu("0", room_for=3), gpu("1", room_for=2), workers=AUTO)
    assert found.lines[0].startswith(
        "trainers: 5 trainers on 2 GPUs (NVIDIA H200), 2 or 3 on each, by 16 cores and the GPUs' memory; each takes "
    )
    assert [one.visible_as for one in found.config.gpus] == ["0", "1", "0", "1", "0"]
    assert found.prepared.space.file.search.workers == 5
    assert hired(gpu("0", room_for=3), gpu("1", room_for=2), workers=AUTO, cores=3).used.count == 3


def test_precision_is_that_of_the_gpus_that_are_used(hired: Hire) -> None:
    old, new = gpu("0", room_for=4, capability=(7, 5), model="NVIDIA T4"), gpu("1", room_for=4)
    both = hired(old, new).lines[0]
    assert both.startswith("trainers: 2 trainers on 2 GPUs (NVIDIA T4, NVIDIA H200), 1 on each; ")
    assert both.endswith("training in bf16 or fp16")
    assert hired(old).lines[0].startswith("trainers: 2 trainers on GPU 0 (NVIDIA T4); ")
    assert hired(old).lines[0].endswith("training in fp16")
    asked = prepare(TINY, ["train.precision=fp32"])
    assert hired(new, prepared=asked).lines[0].endswith("training in fp32")


def test_what_may_not_fit_and_what_is_left_out_is_said(hired: Hire) -> None:
    found = hired(gpu("3", room_for=1.5), notes=("GPU 4 is left out: why",))
    assert found.used.count == 2, "what is asked for is done"
    note, head, warning = found.lines
    assert note == "note: GPU 4 is left out: why"
    assert head.startswith("trainers: 2 trainers on GPU 3")
    assert warning.startswith("warning: GPU 3 (NVIDIA H200) may run out of memory: 2 trainers of about ")
    assert warning.endswith(
        " are free; take fewer trainers (--workers), a smaller train.batch_size or fewer time_steps"
    )
    tight = hired(gpu("3", room_for=0.5), workers=AUTO)
    assert tight.used.count == 1
    assert tight.lines[1].endswith(" are free; take a smaller train.batch_size or fewer time_steps")


def test_a_split_that_stays_in_host_memory_takes_nothing_of_a_gpu(hired: Hire, monkeypatch: pytest.MonkeyPatch) -> None:
    demand = _demand(PREPARED)[0]
    monkeypatch.setattr("spquant_search.commands.trainers._demand", lambda _prepared: (demand, 2**50))
    assert hired(gpu("0", room_for=5), workers=AUTO).used.count >= 5
    monkeypatch.setattr("spquant_search.commands.trainers._demand", lambda _prepared: (demand, 2 * TRAINER_BYTES))
    one = gpu("0", room_for=6.2 * TRAINER_BYTES / (TRAINER_BYTES + SPLITS))
    assert hired(one, workers=AUTO).used.count == 2, "each keeps its own copy"


def test_data_that_is_not_there_is_an_error_where_it_counts(hired: Hire, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_prepared: Any) -> Any:
        raise UserError("data.root: no such folder")

    monkeypatch.setattr("spquant_search.commands.trainers._demand", gone)
    assert hired(gpu("0", room_for=1)).lines == ("trainers: 2 trainers on GPU 0 (NVIDIA H200); training in bf16",)
    for gpus in ((), (gpu("0", room_for=1),)):
        with pytest.raises(UserError, match=r"data\.root"):
            hired(*gpus, workers=AUTO)


@pytest.mark.parametrize(
    ("words", "expected"), [((), (None, 2)), (("--workers", "3"), (3, 3)), (("--workers", "auto"), (AUTO, 2))]
)
def test_the_option_gives_a_number_or_auto(
    command: Any,
    words: tuple[str, ...],
    expected: tuple[int | None, int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []

    def stands_in(prepared: Any, *, device: str, workers: int | None) -> Any:
        seen.append((workers, prepared.space.file.search.workers))
        raise UserError(f"that is enough of {device}")

    monkeypatch.setattr(searching, "hire", stands_in)
    answer = command("--space", str(TINY), *words)
    assert answer.err == "error: that is enough of auto\n"
    assert seen == [expected]


@pytest.mark.parametrize("value", ["0", "-1", "x", "1025", "2.5", "AUTO", "\u0662", ""])
def test_workers_that_are_no_number(command: Any, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    answer = command("--space", str(TINY), f"--workers={value}")
    assert answer.code == 2
    assert "must be auto, or a whole number from 1 to 1024" in answer.err
    assert list(tmp_path.iterdir()) == []
