"""The number format that training multiplies in, and exact fp32 for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler

from spquant_search.errors import UserError
from spquant_search.space.schema import Training

SMALLEST_LOSS_SCALE = 1.0  # below, gradients overflow fp16 though they were not enlarged
FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

# From which compute capability on a GPU multiplies a format in its tensor cores. Below, torch emulates bf16, several
# times slower than fp32, and its compiler refuses it.
MULTIPLIES_BF16, MULTIPLIES_FP16 = (8, 0), (7, 0)

# Everything by which torch lets a library multiply fp32 in another format. Each has its own value: one that is not set
# takes that of torch.backends, which anybody may have set.
_BACKENDS: Any = torch.backends  # not all of these names have types
_FP32_SWITCHES = (
    *(_BACKENDS.cudnn.conv, _BACKENDS.cudnn.rnn, _BACKENDS.cuda.matmul),
    *(_BACKENDS.mkldnn.conv, _BACKENDS.mkldnn.rnn, _BACKENDS.mkldnn.matmul),
)


def training_dtype(recipe: Training, device: torch.device) -> torch.dtype:
    """Choose the number format of training: bf16 where the device multiplies it, unless the recipe says otherwise.

    Raises:
        UserError: fp16 without a GPU.
    """
    if recipe.precision == "auto":
        if device.type == "cuda":
            return gpu_dtype(torch.cuda.get_device_capability(device))
        return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32
    if recipe.precision == "fp16" and device.type != "cuda":
        raise UserError(
            f"train.precision: fp16 needs a GPU, and this training is on device {device}; take auto, bf16 or fp32"
        )
    return FORMATS[recipe.precision]


def gpu_dtype(capability: tuple[int, int]) -> torch.dtype:
    """Choose the number format of training on a GPU of this compute capability: the widest range that it multiplies
    fast."""
    if capability >= MULTIPLIES_BF16:
        return torch.bfloat16
    return torch.float16 if capability >= MULTIPLIES_FP16 else torch.float32


def precision_words(recipe: Training, capabilities: Sequence[tuple[int, int]]) -> str:
    """Name the number formats of training on GPUs of these compute capabilities."""
    if recipe.precision != "auto":
        return recipe.precision
    found = {gpu_dtype(capability) for capability in capabilities}
    return " or ".join(name for name, dtype in FORMATS.items() if dtype in found)


def loss_scaler(recipe: Training, device: torch.device) -> GradScaler | None:
    """Make the scaler that keeps small gradients from being 0 in fp16; None for other formats, which need none."""
    return GradScaler(device.type) if training_dtype(recipe, device) is torch.float16 else None


def _cpu_multiplies_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Multiply fp32 as fp32 within this context: TensorFloat-32 and its like would round the sums of integers.

    cuDNN does not try out algorithms meanwhile: those that transform their input, as Winograd's, round too.
    """
    before = [switch.fp32_precision for switch in _FP32_SWITCHES]
    benchmark = torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = False
        for switch in _FP32_SWITCHES:
            switch.fp32_precision = "ieee"
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        for switch, precision in zip(_FP32_SWITCHES, before, strict=True):
            switch.fp32_precision = precision
