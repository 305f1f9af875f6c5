"""What --device means, asked of CUDA by another process: the command itself never makes a context."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spquant_search.errors import UserError
from spquant_search.workers import devices
from spquant_search.workers.devices import ask_cuda, choose_devices, has_code

GIB = 2**30
CODE = ["sm_75", "sm_80", "sm_90", "compute_90"]  # of torch's builds for CUDA 13, shortened


def shown(*capabilities: tuple[int, int], code: list[str] = CODE) -> dict[str, Any]:
    gpus = [
        {
            "name": f"GPU of {major}.{minor}",
            "capability": [major, minor],
            "free_bytes": 9 * GIB,
            "total_bytes": 10 * GIB,
        }
        for major, minor in capabilities
    ]
    return {"gpus": gpus, "architectures": code, "torch": "2.13.0+cu130"}


Machine = Callable[..., list[str | None]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Stands in for a machine: what CUDA shows by the GPUs that a process may see, and how many torch counts."""

    def new(*answers: Any, count: int = 1, visible: str | None = None, built: bool = True) -> list[str | None]:
        asked: list[str | None] = []

        def ask(names: str | None) -> Any:
            asked.append(names)
            return answers[0] if names is None or len(answers) == 1 else dict(answers)[names]

        def makes_a_context() -> None:
            raise AssertionError("the command touches a GPU")

        monkeypatch.setattr(torch.cuda, "_lazy_init", makes_a_context)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(devices, "ask_cuda", ask)
        monkeypatch.setattr(devices, "DRIVER", Path("/no/such/driver"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return asked

    return new


def chosen(name: str) -> list[str]:
    return [gpu.visible_as for gpu in choose_devices(name).gpus]


def test_without_a_gpu_auto_is_the_processor_and_cuda_an_error(machine: Machine) -> None:
    asked = machine(count=0)
    for name in ("auto", "cpu"):
        assert choose_devices(name) == devices.Devices(kind="cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UserError) as caught:
            choose_devices(name)
        assert str(caught.value) == (
            f"--device {name}: this machine has no CUDA device that torch can use; take --device cpu"
        )
    assert asked == [], "nobody is asked about what is not there"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda::", "cuda:x", "cuda:-1", "cuda:\u0661", "CPU", "mps"])
def test_words_that_are_no_device(name: str) -> None:
    with pytest.raises(UserError, match=r"must be auto, cpu, cuda or cuda:K with K a device number"):
        choose_devices(name)


def test_cuda_is_every_gpu_and_a_number_one_of_those_that_are_visible(machine: Machine) -> None:
    machine(shown((8, 0), (9, 0)), count=2)
    assert chosen("auto") == chosen("cuda") == ["0", "1"]
    assert chosen("cuda:1") == ["1"]
    assert chosen("cpu") == []
    assert choose_devices("cuda").gpus[1].capability == (9, 0)
    with pytest.raises(UserError, match=r"^--device cuda:2: there are 2 CUDA devices, numbered from 0$"):
        choose_devices("cuda:2")
    machine(shown((8, 0), (9, 0)), count=2, visible="5,GPU-8932f937")
    assert chosen("cuda") == ["5", "GPU-8932f937"]
    assert chosen("cuda:1") == ["GPU-8932f937"]


def test_of_what_is_named_cuda_says_what_there_is(machine: Machine) -> None:
    machine(shown((8, 0)), visible="3,99,4")  # 99 is not there, and what follows is ignored
    assert chosen("cuda") == ["3"]


def test_mig_instances_are_asked_one_by_one_as_cuda_shows_one_at_a_time(machine: Machine) -> None:
    answers = (("MIG-a", shown((9, 0))), ("MIG-b", shown((9, 0))), ("MIG-x", shown()), ("MIG-c", shown((9, 0))))
    asked = machine(*answers, visible="MIG-a,MIG-b")
    assert chosen("cuda") == ["MIG-a", "MIG-b"]
    assert sorted(map(str, asked)) == ["MIG-a", "MIG-b"]
    machine(*answers, visible="MIG-a,MIG-x,MIG-c")
    assert chosen("cuda") == ["MIG-a"], "what follows one that is not there is ignored"
    machine(*answers, visible="MIG-a,MIG-b")
    assert chosen("cuda:1") == ["MIG-b"]


def test_a_gpu_that_torch_has_no_code_for_is_left_out_with_the_reason(machine: Machine) -> None:
    reason = "GPU 0 (GPU of 7.0, sm_70) is left out: torch 2.13.0+cu130 has code for " + ", ".join(CODE) + " alone"
    machine(shown((7, 0), (8, 6)), count=2)
    found = choose_devices("auto")
    assert (found.kind, [gpu.visible_as for gpu in found.gpus], found.notes) == ("cuda", ["1"], (reason,))
    machine(shown((7, 0)))
    assert choose_devices("auto") == devices.Devices(kind="cpu", notes=(f"{reason}; training is on the processor",))
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UserError) as caught:
            choose_devices(name)
        assert str(caught.value).startswith(f"--device {name}: ")
        assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("capability", "code", "expected"),
    [
        ((7, 0), CODE, False),
        ((7, 5), CODE, True),
        ((8, 9), CODE, True),  # that of 8.0 runs on it
        ((8, 0), ["sm_86"], False),  # but not the other way round
        ((10, 0), CODE, True),  # compiled by the driver from compute_90
        ((12, 0), ["sm_90", "sm_100"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 0), [], True),  # another maker's names mean nothing here
        ((9, 0), ["gfx90a"], True),
    ],
)
def test_code_for_a_gpu(capability: tuple[int, int], code: list[str], expected: bool) -> None:
    assert has_code(capability, code) == expected


def test_what_keeps_torch_from_a_gpu_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine()

    def too_old() -> int:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old\nand more", stacklevel=1)
        return 0

    monkeypatch.setattr(torch.cuda, "device_count", too_old)
    reason = "CUDA initialization: The NVIDIA driver on your system is too old"
    assert choose_devices("auto").notes == (f"{reason}; training is on the processor",)
    with pytest.raises(UserError, match=f"can use \\({reason}\\); take --device cpu"):
        choose_devices("cuda")
    machine(built=False)
    assert choose_devices("auto").notes == ()
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    assert "is a build without CUDA, and this machine has a driver" in choose_devices("auto").notes[0]


FAKE_TORCH = """
import os
__version__ = "2.13.0+cu130"
class cuda:
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")
    device_count = staticmethod(lambda: len(cuda.names))
    mem_get_info = staticmethod(lambda index: (10 + index, 20))
    get_device_name = staticmethod(lambda index: "of " + cuda.names[index])
    get_device_capability = staticmethod(lambda index: (9, 0))
    get_arch_list = staticmethod(lambda: ["sm_90"])
print("a word of torch's own")
"""


def test_cuda_answers_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise SystemExit('a file of the user is no module of ours')")
    monkeypatch.chdir(tmp_path / "here")
    answer = ask_cuda(None)
    assert [(gpu["name"], gpu["free_bytes"], gpu["total_bytes"]) for gpu in answer["gpus"]] == [
        ("of 0", 10, 20),
        ("of 1", 11, 20),
    ]
    assert [gpu["name"] for gpu in ask_cuda("MIG-b")["gpus"]] == ["of MIG-b"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    (tmp_path / "torch.py").write_text("raise RuntimeError('CUDA error: unknown error')")
    with pytest.raises(UserError, match=r"cannot be used: RuntimeError: CUDA error: unknown error; take --device cpu"):
        ask_cuda(None)
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(devices, "SECONDS_TO_ANSWER", 0.3)
    with pytest.raises(UserError, match=r"CUDA has not answered for 0\.3 seconds"):
        ask_cuda(None)
