"""Count what a program asks of its GPU: launches, moments at which the host waits for it, and bytes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PACKAGE = "spquant_search"

# Operators that launch nothing, though they are no views.
NO_LAUNCH = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("lift_fresh", "detach", "_unsafe_view"),
}
# Operators that launch more than one kernel; roughly, as it depends on shapes and on torch's version.
LAUNCHES = {
    "convolution_backward": 2,
    "native_batch_norm": 2,
    "native_batch_norm_backward": 2,
    "sort": 3,
    "binary_cross_entropy_with_logits": 5,
}
# The tensors that one launch of an operator on lists takes, by the number of lists.
TENSORS_OF_A_LAUNCH = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
# The host must know the size of the outcome.
SIZED_BY_DATA = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"}
# No form for fake tensors: what comes out is like the first argument, or nothing.
LIKE_THE_FIRST, NOTHING = {"binomial"}, {"_fused_sgd_"}


@dataclass(slots=True)
class Counts:
    """What was counted between two moments."""

    launches: Counter[str] = field(default_factory=Counter)  # by operator
    compiled: Counter[str] = field(default_factory=Counter)  # calls of compiled functions, by function
    waits: Counter[str] = field(default_factory=Counter)  # by kind and place in the package
    places: Counter[str] = field(default_factory=Counter)  # launches by place

    def copy(self) -> Counts:
        return Counts(*(Counter(one) for one in self._counters()))

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(*(now - then for now, then in zip(self._counters(), earlier._counters(), strict=True)))

    def _counters(self) -> tuple[Counter[str], ...]:
        return self.launches, self.compiled, self.waits, self.places


class Traffic(TorchDispatchMode):
    """A mode in which every operator on a GPU is counted.

    A function of the package that is compiled counts as one call: its operators are fused. A number that is read is
    1.0, 1 or True.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self._is_fused = False
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self._pinned: list[StorageWeakRef] = []
        self.bytes = self.most_bytes = 0

    def begin(self) -> None:
        """Count from here on; what lies on the device remains there."""
        self.counts = Counts()
        self._forget_freed()
        self.most_bytes = self.bytes

    # ---------------------------------------------------------------- operators

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        library, _, name = function._schema.name.partition("::")
        kwargs = dict(kwargs or {})
        if library == "prim":  # FakeTensorMode's own questions
            return function(*args, **kwargs)
        if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"):
            with self:  # nothing has taken it apart where there is no gradient
                return function.decompose(*args, **kwargs)
        given = _tensors((args, kwargs))
        is_on_gpu = any(tensor.is_cuda for tensor in given)
        if name in ("_local_scalar_dense", "equal"):
            if is_on_gpu:
                self.wait("a number is read")
            return True if name == "equal" else _one(args[0].dtype)
        if name in LIKE_THE_FIRST:
            function, args, kwargs = torch.ops.aten.empty_like.default, args[:1], {}
        out = None if name in NOTHING else function(*args, **kwargs)
        made = _tensors(out)
        self._note_waits(name, args, kwargs, made)
        if not self._is_fused and any(tensor.is_cuda for tensor in (*made, *given)):
            self._note_launches(name, function, args)
            self.hold(made)
        return out

    def _note_launches(self, name: str, function: Any, args: tuple[Any, ...]) -> None:
        is_view = any(one.alias_info and not one.alias_info.is_write for one in function._schema.returns)
        lists = [one for one in args if isinstance(one, list | tuple) and one and isinstance(one[0], Tensor)]
        count = LAUNCHES.get(name, 1)
        if lists and name.startswith(("_foreach_", "_fused_", "_amp_foreach_")):
            count = -(-len(lists[0]) // TENSORS_OF_A_LAUNCH[min(len(lists), 5)])
        if not is_view and name not in NO_LAUNCH:
            self.counts.launches[name] += count
            self.counts.places[place()] += count

    def _note_waits(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], made: list[Tensor]) -> None:
        if name in ("_to_copy", "copy_"):
            source, target = (args[1], args[0]) if name == "copy_" else (args[0], made[0])
            asked = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            on_host = target if source.is_cuda else source
            # Only from and to page-locked memory is a copy made later.
            if source.is_cuda != target.is_cuda and not (asked and self._is_pinned(on_host)):
                self.wait(f"copy from {source.device.type} to {target.device.type}")
            return
        given = _tensors((args, kwargs))
        if not any(tensor.is_cuda for tensor in given):
            return
        if name in SIZED_BY_DATA:
            self.wait(f"{name} has a size that the GPU knows")
        elif any(not tensor.is_cuda and tensor.dim() > 0 for tensor in given):
            self.wait(f"{name} takes a tensor of the host")

    def wait(self, kind: str) -> None:
        """Count a moment at which the host waits for the GPU."""
        self.counts.waits[f"{kind} @ {place()}"] += 1

    def call_compiled(self, compiled: Any, *arguments: Any) -> Any:
        """Call a function that the package compiles: one call, whose operators are not counted."""
        plain, was_fused = compiled._plain, self._is_fused
        if not was_fused:
            self.counts.compiled[f"{plain.__module__.removeprefix(f'{PACKAGE}.')}.{plain.__name__}"] += 1
        self._is_fused = True
        try:
            out = plain(*arguments)
        finally:
            self._is_fused = was_fused
        if not was_fused:
            self.hold(_tensors(out))
        return out

    # ---------------------------------------------------------------- memory

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count the memory of tensors on a GPU until it is freed."""
        for storage in (tensor.untyped_storage() for tensor in tensors if tensor.is_cuda):
            known = self._storages.get(storage._cdata)
            if known is None or known[0].expired():
                self.bytes += storage.nbytes() - (0 if known is None else known[1])
                self._storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                if self.bytes > self.most_bytes:  # if nothing has been freed meanwhile
                    self._forget_freed()
                    self.most_bytes = max(self.most_bytes, self.bytes)

    def pin(self, tensor: Tensor) -> Tensor:
        """Return the tensor, whose memory counts as page-locked from now on."""
        self._pinned = [storage for storage in self._pinned if not storage.expired()]
        self._pinned.append(StorageWeakRef(tensor.untyped_storage()))
        return tensor

    def _is_pinned(self, tensor: Tensor) -> bool:
        number = tensor.untyped_storage()._cdata
        return any(storage.cdata == number and not storage.expired() for storage in self._pinned)

    def _forget_freed(self) -> None:
        for number in [number for number, (storage, _) in self._storages.items() if storage.expired()]:
            self.bytes -= self._storages.pop(number)[1]


def place() -> str:
    """Return the line of the package that runs now: ``training/loop.py:97 epoch_losses``."""
    frame = sys._getframe(1)
    while frame is not None:
        _, is_inside, file = frame.f_code.co_filename.rpartition(f"/{PACKAGE}/")
        if is_inside and file != "snn/kernels/compile.py":
            return f"{file}:{frame.f_lineno} {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "in a backward pass or an optimizer"


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _one(dtype: torch.dtype) -> Any:
    kinds: dict[bool, Callable[[int], Any]] = {True: float, False: int}
    return True if dtype is torch.bool else kinds[dtype.is_floating_point](1)
