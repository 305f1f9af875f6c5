"""A context in which ``cuda`` and ``cuda:1`` are devices of fake tensors, which hold shapes and no numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from fake_gpu.traffic import Traffic
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from spquant_search.snn.kernels.compile import Compiled

MEMORY_BYTES = 80 * 2**30
CAPABILITY = (9, 0)


class AtOnce(Executor):
    """Does in this thread what another would do: the modes are of one thread alone."""

    def __init__(self, **_options: Any) -> None:
        super().__init__()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(*arguments, **options))
        return done


@contextmanager
def fake_gpu() -> Iterator[Traffic]:
    """Let this process have its GPUs; :func:`fake_gpu.loading.load` must have been called before torch was imported.

    FakeTensorMode refuses every mixture of devices.
    """
    traffic = Traffic()
    with ExitStack() as stack:
        for name, value in {**_questions(), **_memory(traffic), **_waits(traffic)}.items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(mock.patch.object(Compiled, "__call__", lambda *all: traffic.call_compiled(*all)))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(traffic)
        yield traffic


def _questions() -> dict[str, Any]:
    """Return what Python's side of torch asks of CUDA, with the answers of a GPU."""
    properties = SimpleNamespace(
        name="fake", major=CAPABILITY[0], minor=CAPABILITY[1], total_memory=MEMORY_BYTES, multi_processor_count=132
    )
    return {
        # Otherwise autocast and GradScaler would switch themselves off.
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.cuda.device_count": lambda: 2,
        "torch.cuda.is_bf16_supported": lambda *_, **_options: True,
        "torch.cuda.get_device_capability": lambda *_: CAPABILITY,
        "torch.cuda.get_device_properties": lambda *_: properties,
        "torch.cuda.get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
        "torch.cuda.set_rng_state": lambda *_: None,
        # Every fake tensor has weak references, with which module.to() would refuse to exchange it.
        "torch.utils.weakref.getweakrefs": lambda _tensor: [],
    }


def _memory(traffic: Traffic) -> dict[str, Any]:
    empty = torch.empty

    def new(*size: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        made = empty(*size, **options)
        return traffic.pin(made) if pin_memory else made

    return {
        "torch.cuda.mem_get_info": lambda *_: (MEMORY_BYTES, MEMORY_BYTES),
        "torch.empty": new,
        "torch.Tensor.pin_memory": lambda tensor, *_: traffic.pin(tensor.clone()),
        "torch.Tensor.record_stream": lambda *_: None,
    }


def _waits(traffic: Traffic) -> dict[str, Any]:
    def stream(*_: Any) -> mock.Mock:
        made = mock.Mock()
        made.synchronize.side_effect = lambda: traffic.wait("a stream")
        made.record_event.return_value.synchronize.side_effect = lambda: traffic.wait("an event")
        return made

    return {
        "torch.cuda.Stream": stream,
        "torch.cuda.current_stream": stream,
        "torch.cuda.stream": lambda _: nullcontext(),
        "torch.cuda.synchronize": lambda *_: traffic.wait("synchronize"),
        "torch.cuda.empty_cache": lambda: traffic.wait("empty_cache"),
        "spquant_search.training.loader.ThreadPoolExecutor": AtOnce,
    }
