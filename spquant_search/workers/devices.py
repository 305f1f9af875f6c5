"""The choice of the device on which networks are trained."""

from __future__ import annotations

from spquant_search.errors import UserError


def choose_device(name: str) -> str:
    """Return the device that ``--device`` means: ``auto`` is CUDA where there is a GPU, otherwise the processor.

    Raises:
        UserError: CUDA is asked for where there is none, or the name is no device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    kind, colon, index = name.partition(":")
    if kind != "cuda" or (colon and not (index.isascii() and index.isdigit())):
        raise UserError(
            f"--device {name}: must be auto, cpu, cuda or cuda:K with K a device number, such as --device cuda:0"
        )
    if not torch.cuda.is_available():
        raise UserError(f"--device {name}: this machine has no CUDA device that torch can use; take --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(f"--device {name}: there are {found} CUDA devices, numbered from 0")
    return name
