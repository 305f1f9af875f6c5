"""The choice of the devices on which networks are trained. The command itself never touches a GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spquant_search.errors import UserError
from spquant_search.workers import gpu_query
from spquant_search.workers.placement import VISIBLE, Gpu, named_gpus

SECONDS_TO_ANSWER = 120.0  # of a machine's GPUs, each of which may first have to be woken
DRIVER = Path("/proc/driver/nvidia/version")  # is there where a driver for NVIDIA's GPUs is


@dataclass(frozen=True, kw_only=True, slots=True)
class Devices:
    """The devices that a command trains on."""

    kind: str  # cpu or cuda
    gpus: tuple[Gpu, ...] = ()  # on which trainers are spread; none where the kind is cpu
    notes: tuple[str, ...] = ()  # which GPUs are left out, and why


def choose_devices(name: str) -> Devices:
    """Return what ``--device`` means here: ``cuda`` is every GPU that CUDA_VISIBLE_DEVICES leaves to this command,
    ``cuda:K`` the one of them with this number, and ``auto`` is ``cuda`` where there is any, otherwise ``cpu``.

    Raises:
        UserError: CUDA is asked for where there is none, or the name is no device.
    """
    if name == "cpu":
        return Devices(kind="cpu")
    kind, colon, index = name.partition(":")
    if name != "auto" and (kind != "cuda" or (colon and not (index.isascii() and index.isdigit()))):
        raise UserError(
            f"--device {name}: must be auto, cpu, cuda or cuda:K with K a device number, such as --device cuda:0"
        )
    gpus, reasons = visible_gpus()
    if index:
        if gpus and int(index) >= len(gpus):
            raise UserError(f"--device {name}: there are {len(gpus)} CUDA devices, numbered from 0")
        gpus = gpus[int(index) : int(index) + 1]
    usable = tuple(gpu for gpu in gpus if isinstance(gpu, Gpu))
    notes = (*reasons, *(gpu for gpu in gpus if isinstance(gpu, str)))
    if usable:
        return Devices(kind="cuda", gpus=usable, notes=notes)
    if name == "auto":
        return Devices(kind="cpu", notes=tuple(f"{note}; training is on the processor" for note in notes))
    said = f" ({'; '.join(notes)})" if notes else ""
    raise UserError(f"--device {name}: this machine has no CUDA device that torch can use{said}; take --device cpu")


def visible_gpus() -> tuple[tuple[Gpu | str, ...], tuple[str, ...]]:
    """Return the GPUs that CUDA shows to this command, in its order, and why it shows none where there may be some.

    Of a GPU that torch has no code for there is a sentence instead.
    """
    import torch

    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        built = f"torch {torch.__version__} is a build without CUDA, and this machine has a driver for NVIDIA's GPUs"
        return (), ((built,) if DRIVER.exists() else ())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count()  # asks the driver, and makes no context
    if count == 0:
        return (), tuple(str(one.message).splitlines()[0] for one in said)
    names = named_gpus(os.environ.get(VISIBLE))
    if names is None or not any(name.startswith("MIG-") for name in names):
        return _gpus(names, ask_cuda(None)), ()
    # CUDA shows a process one MIG instance at most.
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = [_gpus((name,), answer) for name, answer in zip(names, pool.map(ask_cuda, names), strict=True)]
    valid = found.index(()) if () in found else len(found)
    return tuple(gpu for of_name in found[:valid] for gpu in of_name), ()


def ask_cuda(visible: str | None) -> dict[str, Any]:
    """Return what CUDA shows in a process of its own; ``visible``: of these GPUs, None: of those that it shows us.

    Raises:
        UserError: CUDA gives no answer.
    """
    environment = dict(os.environ) if visible is None else {**os.environ, VISIBLE: visible}
    line = [sys.executable, "-P", str(gpu_query.__file__)]
    try:
        done = subprocess.run(
            line, env=environment, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=False
        )
    except subprocess.TimeoutExpired:
        reason = f"CUDA has not answered for {SECONDS_TO_ANSWER:g} seconds"
    else:
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return answer
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise UserError(
        f"the GPUs of this machine cannot be used: {reason}; take --device cpu, or leave out what is broken by the "
        f"environment variable {VISIBLE}"
    )


def _gpus(names: Sequence[str] | None, answer: dict[str, Any]) -> tuple[Gpu | str, ...]:
    """Put together what CUDA shows with the names that it was shown by; it may show fewer than are named."""
    shown = answer["gpus"]
    if names is None:
        names = [str(index) for index in range(len(shown))]
    gpus = [
        Gpu(visible_as=name, **{**one, "capability": tuple(one["capability"])})
        for name, one in zip(names, shown, strict=False)
    ]
    words = f"torch {answer['torch']} has code for {', '.join(answer['architectures'])} alone"
    return tuple(
        gpu
        if has_code(gpu.capability, answer["architectures"])
        else f"GPU {gpu.visible_as} ({gpu.name}, sm_{gpu.capability[0]}{gpu.capability[1]}) is left out: {words}"
        for gpu in gpus
    )


def has_code(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Tell whether code for these architectures runs on a GPU: on its major version from that minor version on, or
    compiled by the driver from any earlier one that is kept as text (``compute_...``)."""
    found = [match for match in (re.match(r"(sm|compute)_([0-9]+)", name) for name in architectures) if match]
    return not found or any(
        divmod(int(match[2]), 10) <= capability and (match[1] == "compute" or int(match[2]) // 10 == capability[0])
        for match in found
    )
