"""Tell what CUDA shows of this machine's GPUs, as JSON: a process of its own, so that a command makes no context."""

from __future__ import annotations

import json
from typing import Any


def shown_gpus() -> dict[str, Any]:
    """Return the GPUs that torch can use, with their free memory, and the architectures that it has code for."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
        found.append({"name": name, "capability": capability, "free_bytes": free, "total_bytes": total})
    return {"gpus": found, "architectures": torch.cuda.get_arch_list(), "torch": torch.__version__}


if __name__ == "__main__":
    print(json.dumps(shown_gpus()))
