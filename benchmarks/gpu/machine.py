"""Which GPU there is, and whether this Python can use it. Needs nothing but the standard library to say that not."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What the package and its tests import, and a torch that is there may come without.
NEEDED = ("numpy", "scipy", "yaml", "pydantic", "jaxtyping", "safetensors", "optuna", "typer", "rich")
NEEDED += ("threadpoolctl", "matplotlib", "PIL", "pytest", "beartype")


def machine(device: str) -> dict[str, Any]:
    """Describe the machine; ``reason`` says why nothing can be checked, if that is so."""
    found: dict[str, Any] = {"gpu": None, "python": platform.python_version(), "processors": os.cpu_count()}
    found["missing"] = [name for name in NEEDED if find_spec(name) is None]
    if find_spec("torch") is None:
        return found | {"reason": f"{sys.executable} has no torch; name a Python that has, as PYTHON=/path/to/python3"}
    import torch

    found |= {"torch": torch.__version__, "triton": _version("triton"), "cuda": torch.version.cuda}
    if device == "cpu":
        return found
    if torch.version.cuda is None:
        reason = f"torch {torch.__version__} of {sys.executable} is built without CUDA; docs/gpu.md says which is"
        return found | {"reason": reason}
    if not torch.cuda.is_available():
        return found | {"reason": f"torch {torch.__version__} of {sys.executable} finds no GPU, or no driver for one"}
    return found | _gpu(device)


def _gpu(device: str) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(device)
    major, minor = torch.cuda.get_device_capability(device)
    found = {
        "gpu": properties.name,
        "capability": [major, minor],
        "driver": _driver(),
        "cudnn": torch.backends.cudnn.version(),
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "devices": torch.cuda.device_count(),
        "mps": "CUDA_MPS_PIPE_DIRECTORY" in os.environ or Path("/tmp/nvidia-mps/control").exists(),
    }
    # Code for 8.0 runs on 8.6 as well, not on 9.0; "compute_90" is compiled by the driver for whatever comes later.
    built = torch.cuda.get_arch_list()
    runs = [one for one in built if one.startswith("sm_") and _runs(one, major, minor)]
    later = [one for one in built if one.startswith("compute_") and int(one.split("_")[1]) <= 10 * major + minor]
    if not runs and not later:
        built_for = " ".join(built)
        found["reason"] = (
            f"torch {torch.__version__} has no code for {properties.name} (sm_{major}{minor}), only {built_for}; "
            "docs/gpu.md says which build has"
        )
    return found


def _runs(architecture: str, major: int, minor: int) -> bool:
    number = int("".join(one for one in architecture.split("_")[1] if one.isdigit()))
    return number // 10 == major and number % 10 <= minor


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.split()
    return said[0] if said else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    print(json.dumps(machine(parser.parse_args().device)), flush=True)
