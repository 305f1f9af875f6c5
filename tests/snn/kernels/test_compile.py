"""What becomes of an error in a compiled function: the compiler's leaves the plain function, others are raised."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit, TorchRuntimeError, Unsupported
from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.kernels.device_errors import is_compiler_error, is_device_error, is_out_of_memory


class OutOfResources(Exception):
    """Triton's, which is not installed where torch was built without CUDA."""

    __module__ = "triton.runtime.errors"


def from_(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


GPU_IS_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
COMPILER_ERRORS = (
    Unsupported("Missing tp_iternext", "", []),
    TorchRuntimeError("failed running call_function"),
    BackendCompilerFailed("inductor", ValueError("no such lowering"), None),
    InductorError(InvalidCxxCompiler(), None),
    InductorError(PermissionError("/cache/compiled"), None),
    CppCompileError(["g++", "x.cpp"], "x.cpp:1: error"),
    FailOnRecompileLimitHit("recompile_limit reached with fullgraph=True"),
    OutOfResources("out of resource: shared memory, Required: 300000, Hardware limit: 232448"),
    RuntimeError("Triton Error [CUDA]: device kernel image is invalid"),
    RuntimeError("the provided PTX was compiled with an unsupported toolchain."),
)
FULL = (
    GPU_IS_FULL,
    InductorError(GPU_IS_FULL, None),
    from_(BackendCompilerFailed("inductor", RuntimeError("autotuning"), None), GPU_IS_FULL),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
)
BROKEN = (
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    InductorError(torch.AcceleratorError("CUDA error: unspecified launch failure"), None),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
)
OTHERS = (
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    ValueError("wrong"),
    AssertionError(),
    OSError("No space left on device"),
)


def names(errors: tuple[Exception, ...]) -> list[str]:
    return [f"{type(error).__name__} {error}".replace("\n", " ")[:50] for error in errors]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Compiled]:
    """Makes a function compiled by a compiler whose products raise what a list holds, one a call, until it is empty."""
    monkeypatch.setattr(Compiled, "enabled", True)
    monkeypatch.setattr(Compiled, "failed", False)

    def new(errors: list[Exception], plain: Callable[..., Any] = torch.neg) -> Compiled:
        def product(*arguments: Any) -> Any:
            if errors:
                raise errors.pop(0)
            return plain(*arguments)

        monkeypatch.setattr(torch, "compile", lambda _function, **_options: product)
        return Compiled(plain)

    return new


@pytest.mark.parametrize("error", COMPILER_ERRORS, ids=names(COMPILER_ERRORS))
def test_an_error_of_the_compiler_leaves_the_plain_function_and_is_said_once(
    error: Exception, compiled: Callable[..., Compiled]
) -> None:
    assert is_compiler_error(error)
    assert not is_device_error(error)
    function = compiled([error, error])
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            assert torch.equal(function(torch.ones(3)), -torch.ones(3))
    assert [str(one.message) for one in said] == [f"neurons run uncompiled, 2 to 3 times slower: {first_line}"]
    assert not Compiled.works()


@pytest.mark.parametrize("error", FULL + BROKEN + OTHERS, ids=names(FULL + BROKEN + OTHERS))
def test_any_other_error_is_raised_and_compilation_goes_on(error: Exception, compiled: Callable[..., Compiled]) -> None:
    assert (is_out_of_memory(error), is_device_error(error)) == (error in FULL, error in FULL + BROKEN)
    function = compiled([error])
    with pytest.raises(type(error)) as raised:
        function(torch.ones(3))
    assert raised.value is error
    assert Compiled.works()
    assert torch.equal(function(torch.ones(3)), -torch.ones(3))


def test_arguments_that_the_plain_function_refuses_too_are_to_blame_and_not_the_compiler(
    compiled: Callable[..., Compiled],
) -> None:
    def refuses(values: Tensor) -> Tensor:
        raise ValueError(f"{len(values)} values are too many")

    function = compiled([TorchRuntimeError("failed running call_function")], refuses)
    with pytest.raises(ValueError, match="3 values are too many"):
        function(torch.ones(3))
    assert Compiled.works()
