"""Settings of a process: its allocator, its cores, its compiled code, and its end with the parent."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

# glibc's mallopt parameters (malloc.h) and their values here: never map or give back a large block. The time-first
# layout allocates and frees tens of megabytes a layer; returning them to the system costs a page fault for every 4 KiB
# at each step, half of a training step's time. The price is a few hundred MiB that stay with the process.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP_EVERYTHING = 2**31 - 1
_TOP_PAD_BYTES = 256 * 2**20
_MAIN_LOCK = threading.Lock()


def tune_allocator() -> bool:
    """Keep freed memory in the process; False where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP_EVERYTHING), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)


def available_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Return the bytes that this machine can give to new processes, within the limit of its container, if it has one.

    None where the system does not say.
    """
    bounds = [_free_memory(), _free_in_container(Path("/sys/fs/cgroup"))]
    known = [bound for bound in bounds if bound is not None]
    return min(known, default=None)


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _free_in_container(folder: Path) -> int | None:
    """Return what is left of a control group's limit (version 2); cached files do not count, as they make room."""
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))  # "max" where there is none
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return max(0, limit - used + cached)


def keep_compiled_code(folder: Path) -> None:
    """Let torch keep what it compiles below ``folder``, for the next run and for every trainer."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))


def limit_compilers(count: int) -> None:
    """Let torch compile with so many processes at once, unless the user has set that; torch is not imported yet."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(count))


def show_gpu(name: str) -> None:
    """Let CUDA show this process one GPU alone, by a name as in CUDA_VISIBLE_DEVICES; torch is not imported yet.

    To everything in this process it is the only one, device 0. So what is compiled for it serves the others of its
    kind, and nothing can take memory of another by mistake.
    """
    assert "torch" not in sys.modules, "the GPU of a process is chosen before torch is imported"
    os.environ["CUDA_VISIBLE_DEVICES"] = name


@contextmanager
def main_left_out() -> Iterator[None]:
    """Let processes that are spawned in this context begin without the main program, whose file they otherwise run.

    They need nothing of it, and it may be a script that starts a search as it runs, or the standard input.
    """
    with _MAIN_LOCK:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def end_with_parent() -> None:
    """End this process when its parent ends, in whatever way: amid long work nobody looks at a connection."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
