"""The number format that training multiplies in, and exact fp32 for evaluation."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch.amp.grad_scaler import GradScaler

from spquant_search.errors import UserError
from spquant_search.space.schema import Training

SMALLEST_LOSS_SCALE = 1.0  # below, gradients overflow fp16 though they were not enlarged


def training_dtype(recipe: Training, device: torch.device) -> torch.dtype:
    """Choose the number format of training: bf16 where the processor multiplies it, unless the recipe says otherwise.

    Raises:
        UserError: fp16 without a GPU.
    """
    if recipe.precision == "auto":
        gains = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bf16()
        return torch.bfloat16 if gains else torch.float32
    if recipe.precision == "fp16" and device.type != "cuda":
        raise UserError(
            f"train.precision: fp16 needs a GPU, and this training is on device {device}; take auto, bf16 or fp32"
        )
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[recipe.precision]


def loss_scaler(recipe: Training, device: torch.device) -> GradScaler | None:
    """Make the scaler that keeps small gradients from being 0 in fp16; None for other formats, which need none."""
    return GradScaler(device.type) if training_dtype(recipe, device) is torch.float16 else None


def _cpu_multiplies_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def exact_fp32() -> AbstractContextManager[None]:
    """Multiply in full fp32 within this context: TensorFloat-32 would round the sums of integers."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
