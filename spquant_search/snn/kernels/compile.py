"""Compile functions at their first call, by torch's compiler and its C++ or Triton back end."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
import torch._inductor

from spquant_search.profile import PROCESS
from spquant_search.snn.kernels.device_errors import is_compiler_error

# A rounding to bf16 that is written down happens: without this the compiler decides on the unrounded value and stores
# the rounded one, so that forward and backward pass disagree on spikes near the threshold.
# Threads are counted at each call: the baseline is trained on all of a search's cores, candidates on one each, by the
# same compiled code.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "emulate_precision_casts": True,
    "cpp.dynamic_threads": True,
}


def _known(options: dict[str, int]) -> dict[str, Any]:
    """Return the options that this version of torch has."""
    names = set(torch._inductor.list_options())
    return {name: value for name, value in options.items() if name in names}


# On a GPU the compiler would join a few parts, as the time steps of a loop are, by computing each number of the whole
# where it is stored: the loop is split in two, and what lies between them is written out, up to three times the
# traffic. A sum over pixels it would take in two passes.
OPTIONS |= _known(
    {"max_pointwise_cat_inputs": 0, "max_complex_pointwise_cat_inputs": 0, "split_reductions": False},
)
# On a processor, what a later time step reads of an earlier one is named once it takes so many operations. Otherwise
# the compiler writes all that leads to it anew wherever it is read, twice as much with every step, and then looks for
# what it has written twice: minutes for the backward pass of four steps. The loop that comes out is one either way.
PROCESSOR_OPTIONS = _known({"realize_opcount_threshold": 20})
VECTOR = 16  # numbers in fp32 that the widest processors take at once
# Numbers for which a GPU's code is compiled before there are any: the compiler chooses blocks and warps by how many it
# sees at first, and every layer then runs in them.
LARGE_LAYER = 2**20

# Private names of torch, which another version may lack: then the profile shows no compilation, and trainers that wait
# compile ahead although all may be in the cache.
try:
    from torch._dynamo.callback import callback_handler

    callback_handler.register_start_callback(lambda _arguments: PROCESS.begin("compilation"))
    callback_handler.register_end_callback(lambda _arguments: PROCESS.end())
except (ImportError, AttributeError):  # pragma: no cover - of another version of torch
    pass
try:
    from torch._dynamo.utils import counters
except ImportError:  # pragma: no cover - of another version of torch
    counters = defaultdict(Counter)


class Compiled:
    """A function that is compiled at its first call, and run as it is where that is off ($SPQUANT_COMPILE 0) or
    fails. Whatever else happens in a call, such as a device without memory, is raised and turns nothing off."""

    enabled = os.environ.get("SPQUANT_COMPILE") != "0"
    failed = False

    @classmethod
    def works(cls) -> bool:
        """Tell whether functions are compiled here, as far as is known."""
        return cls.enabled and not cls.failed

    def __init__(self, function: Callable[..., Any], *, unrolled: bool = False) -> None:
        """Take a function of tensors; ``unrolled``: it has a loop over the first dimension of its first argument.

        Every length of the loop is another graph. Of one function torch makes only a few graphs, and then runs it
        uncompiled without a word; so each length has a copy of its own.
        """
        self._plain, self._is_unrolled = function, unrolled
        self._compiled: dict[int, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        if not Compiled.works() or arguments[0].device.type not in ("cpu", "cuda"):
            return self._plain(*arguments)
        length = len(arguments[0]) if self._is_unrolled else 0
        try:
            compiled = self._at_length(length, arguments[0].device.type)
        except Exception as error:  # of an option, say, or a Python that this torch does not know: nothing is computed
            return self._give_up(error, arguments)
        try:
            return compiled(*arguments)
        except Exception as error:
            if not is_compiler_error(error):
                raise
            return self._give_up(error, arguments)

    def _at_length(self, length: int, device: str) -> Callable[..., Any]:
        """Return the function that torch compiles at its first call; ``length``: of its loop, 0 without one."""
        if length not in self._compiled:
            function = _copied(self._plain, length) if self._is_unrolled else self._plain
            options = OPTIONS | PROCESSOR_OPTIONS if device == "cpu" else OPTIONS
            self._compiled[length] = torch.compile(function, dynamic=True, fullgraph=True, options=options)
        return self._compiled[length]

    def _give_up(self, error: Exception, arguments: tuple[Any, ...]) -> Any:
        """Return what the plain function gives, and from now on compile nothing; arguments that it refuses too are to
        blame themselves."""
        found = self._plain(*arguments)
        Compiled.failed = True
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"neurons run uncompiled, 2 to 3 times slower: {first_line}", stacklevel=3)
        return found


def _copied(function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Return a copy of a function with code of its own, by which torch tells functions apart."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{number}")
    copy = FunctionType(code, function.__globals__, code.co_name, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def all_was_cached() -> bool:
    """Tell whether everything that this process has compiled so far was in the cache folder already."""
    counted = counters["inductor"]
    return counted["fxgraph_cache_hit"] > 0 and counted["fxgraph_cache_miss"] == 0


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run functions as they are in this context: for a few samples, compiling takes longer than it saves."""
    before, Compiled.enabled = Compiled.enabled, False
    try:
        yield
    finally:
        Compiled.enabled = before
