"""What a process sets once, before its first tensor."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from spquant_search.errors import UserError

# glibc's mallopt parameters (malloc.h) and their values here: never map or give back a large block. The time-first
# layout allocates and frees tens of megabytes a layer; returning them to the system costs a page fault for every 4 KiB
# at each step, half of a training step's time. The price is a few hundred MiB that stay with the process.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP_EVERYTHING = 2**31 - 1
_TOP_PAD_BYTES = 256 * 2**20


def tune_allocator() -> bool:
    """Keep freed memory in the process; False where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP_EVERYTHING), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)


def available_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_compiled_code(folder: Path) -> None:
    """Let torch keep what it compiles below ``folder``, for the next run and for every trainer."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))


def choose_device(name: str) -> str:
    """The device that ``--device`` means: ``auto`` is CUDA where there is one, otherwise the processor.

    Raises:
        UserError: CUDA is asked for where there is none, or the name is no device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise UserError(f"--device {name}: must be auto, cpu, cuda or cuda:K with K a device number")
    if not torch.cuda.is_available():
        raise UserError(f"--device {name}: this machine has no CUDA device that torch can use; take --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(f"--device {name}: there are {found} CUDA devices, numbered from 0")
    return name
