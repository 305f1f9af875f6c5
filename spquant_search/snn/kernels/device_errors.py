"""Errors of a device, which no other way of computing the same avoids, told from those of a compiler."""

from __future__ import annotations

from collections.abc import Iterator

import torch

# What libraries say that torch gives no class of its own: cuBLAS and cuDNN, Triton's launcher, a processor's allocator.
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
_OF_A_DEVICE = ("CUDA error", "CUDNN_STATUS_", "CUBLAS_STATUS_", "cuDNN error", "Triton Error [CUDA]")
# Of the driver, where it takes no code that was compiled for another one or another GPU.
_OF_COMPILED_CODE = ("kernel image", "PTX", "unsupported toolchain")
_COMPILERS = ("torch._dynamo", "torch._inductor", "triton")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether there was too little memory, on whatever device and whoever found out."""
    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError)
        or (isinstance(one, RuntimeError) and any(words in str(one) for words in _NO_MEMORY))
        for one in _with_causes(error)
    )


def is_device_error(error: BaseException) -> bool:
    """Tell whether a device failed, or had too little memory: not what was to be computed, nor the compiler."""
    return is_out_of_memory(error) or any(
        isinstance(one, torch.AcceleratorError)
        or (isinstance(one, RuntimeError) and str(one).startswith(_OF_A_DEVICE) and not _is_of_code(one))
        for one in _with_causes(error)
    )


def is_compiler_error(error: BaseException) -> bool:
    """Tell whether torch's compiler, or Triton, could not compile something, whatever the reason but the device."""
    if is_device_error(error):
        return False
    return _is_of_code(error) or any(kind.__module__.startswith(_COMPILERS) for kind in type(error).__mro__)


def _is_of_code(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OF_COMPILED_CODE)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it tells on: torch's compiler keeps what it met in an attribute."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [one.__cause__, getattr(one, "inner_exception", None)]
