"""Build the fake devices and load them, before torch is imported: it looks for CUDA while it is."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_cuda.cpp")
COMPILER = "g++"


def build(library: Path) -> None:
    """Compile the fake devices into a library, which takes about two seconds."""
    torch = _torch_folder()
    found = (f"-I{torch}/include", f"-L{torch}/lib", "-lc10", "-ltorch_cpu")
    subprocess.run([COMPILER, SOURCE, "-o", library, "-O0", "-std=c++20", "-shared", "-fPIC", *found], check=True)


def load(library: Path) -> None:
    """Give this process two CUDA devices of fake tensors.

    Raises:
        RuntimeError: torch has been imported already.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported before the fake devices were loaded, and has found no CUDA")
    torch = _torch_folder()
    for file in (torch / "lib/libc10.so", torch / "lib/libtorch_cpu.so", library):
        ctypes.CDLL(str(file), ctypes.RTLD_GLOBAL)


def _torch_folder() -> Path:
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
