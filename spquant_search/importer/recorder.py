"""Follow the tensors of a running network: neurons are leaves, and between them every torch function is seen."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils.weak import WeakTensorKeyDictionary

from spquant_search.importer.axes import sizes_of
from spquant_search.importer.calls import Call, Clock
from spquant_search.importer.functions.table import FORMS, READ_OUT_OF_TORCH, hint
from spquant_search.importer.graph import Followed, Graph, Node, version_of
from spquant_search.importer.libraries import NeuronClass, library_neuron, neuron_class
from spquant_search.importer.neuron_calls import NeuronCall, follow_neuron
from spquant_search.importer.operations import Input, Opaque
from spquant_search.importer.refusals import Reason, Refused

_IN_PLACE = re.compile(r"(?!__)\w*[^_]_|__i(add|sub|mul|truediv|floordiv|mod|pow|matmul|and|or|xor|lshift|rshift)__")
_WRAPPED = re.compile(r"(^|\.)_orig_mod(?=\.|$)")  # what torch.compile puts into names


class Recorder(TorchFunctionMode):
    """In this context calls of torch functions on tensors that depend on the input become nodes of a graph.

    What has no form becomes an opaque tensor, and recording goes on, so that all reasons come together.
    """

    def __init__(self, network: nn.Module, clock: Clock) -> None:
        super().__init__()
        self.graph, self.clock = Graph(), clock
        self.reasons: list[Reason] = []
        self.read_out: list[Reason] = []  # what leaves torch: Python may decide something by it
        self.calls: dict[str, int] = defaultdict(int)  # of each neuron
        self.membranes: dict[str, int] = {}  # of each neuron, the node
        self._followed = WeakTensorKeyDictionary()  # with the version of the tensor
        self._running: list[str] = []
        self._closed = 0  # above 0 nothing is recorded: within neurons, and within this class
        self._hooks: list[Any] = []
        for name, module in network.named_modules():
            neuron, shown = neuron_class(module), _WRAPPED.sub("", name).lstrip(".")
            self._hooks.append(module.register_forward_pre_hook(self._entering(shown, neuron)))
            self._hooks.append(module.register_forward_hook(self._leaving(shown, neuron), with_kwargs=True))

    def remove_hooks(self) -> None:
        """Take away what was hung onto the network's modules."""
        for hook in self._hooks:
            hook.remove()

    def start(self, example: Tensor, followed: Followed, features: Sequence[int]) -> None:
        """Follow the network's input."""
        self.graph.add(Node(operation=Input(), inputs=(), seen=(), shape=tuple(features), name="input"))
        self.guarded("input", [], [example], lambda: [followed])
        self.graph.keep(followed, example)

    def followed(self, tensor: object) -> Followed | None:
        """Return what is known of a tensor; None where it does not depend on the input."""
        if not isinstance(tensor, Tensor) or tensor not in self._followed:
            return None
        followed: Followed = self._followed[tensor][0]
        return followed

    def follow(self, tensor: Tensor, followed: Followed) -> None:
        """Note what a tensor is."""
        self._followed[tensor] = (followed, version_of(tensor))

    def _current(self, tensor: Tensor, *, writes: bool) -> Followed | None:
        followed = self.followed(tensor)
        if followed is None:
            return None
        if self._followed[tensor][1] != version_of(tensor) and not self.graph.is_opaque(followed.node):
            raise Refused("what it reads was changed in place through another view of it", "write a new tensor instead")
        if followed.filled is not None and not writes:
            raise Refused("what it reads is a tensor into which not all time steps have been written yet")
        return followed

    # ---- modules

    def _entering(self, name: str, neuron: NeuronClass | None) -> Callable[..., None]:
        def enter(module: nn.Module, given: Any) -> None:
            del module, given
            self._running.append(name)
            self._closed += neuron is not None

        return enter

    def _leaving(self, name: str, neuron: NeuronClass | None) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given, made = list(_tensors((args, kwargs))), list(_tensors(output))
            if neuron is not None and self._closed == 1 and given:
                self._neuron(NeuronCall(name, module, neuron, args, kwargs, made))
            elif not self._closed and made and any(map(self.followed, given)) and not any(map(self.followed, made)):
                self._lost(module, given, made)
            self._closed -= neuron is not None
            self._running.pop()

        return leave

    def _neuron(self, call: NeuronCall) -> None:
        current = self.followed(call.current)
        if current is None:
            return
        kind = type(call.module).__name__
        try:  # said even behind what is refused already
            library_neuron(call.module, call.neuron)
        except Refused as refused:
            self._refuse(kind, refused)
        self.guarded(kind, [call.current], call.outputs, lambda: follow_neuron(self, call, current))

    def _lost(self, module: nn.Module, given: list[Tensor], made: list[Tensor]) -> None:
        def refuse() -> list[Followed | None]:
            raise Refused(
                "what comes out is not followed from what goes in: something in it is no function of torch",
                "an autograd.Function or a scripted function of its own, or numpy, has no form",
            )

        self.guarded(type(module).__name__, given, made, refuse)

    # ---- functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        tensors = list(_tensors((args, kwargs)))
        if self._closed or not any(self.followed(tensor) for tensor in tensors):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        given, stale = self._given(name, args, kwargs)
        output = func(*args, **kwargs)
        output = list(output) if name == "__iter__" else output
        outputs = [args[0]] if name == "__setitem__" else list(_tensors(output))
        if outputs:
            self._function(_called(func, name), given, stale, tensors, outputs)
        elif name.strip("_") in READ_OUT_OF_TORCH:
            self.read_out.append(Reason(module=self.where, what=name.strip("_"), why="reads a number out of a tensor"))
        return iter(output) if name == "__iter__" else output

    def _given(self, name: str, args: Any, kwargs: Any) -> tuple[Any, Refused | None]:
        """Return what a function is given, with what is followed in the places of tensors, before it changes any."""
        writes = name == "__setitem__"
        if _IN_PLACE.fullmatch(name):  # a constant that is added to becomes another
            args = tuple(arg.clone() if isinstance(arg, Tensor) and self.followed(arg) is None else arg for arg in args)
        try:
            return _mapped((args, kwargs), lambda tensor: self._current(tensor, writes=writes) or tensor), None
        except Refused as refused:
            return None, refused

    def _function(
        self, name: str, given: Any, stale: Refused | None, tensors: list[Tensor], outputs: list[Tensor]
    ) -> None:
        form, call = FORMS.get(name), Call(graph=self.graph, clock=self.clock, module=self.where, output=outputs[0])

        def make() -> Sequence[Followed | None]:
            if stale is not None:
                raise stale
            assert form is not None
            result = form(call, *given[0], **given[1])
            return result if isinstance(result, list) else [result]

        if form is None:  # said even behind what is refused already
            self._refuse(name, hint(name))
        self.guarded(name, tensors, outputs, make, known=form is not None)

    def guarded(
        self,
        what: str,
        sources: Sequence[Tensor],
        outputs: Sequence[Tensor],
        make: Callable[[], Sequence[Followed | None]],
        *,
        known: bool = True,
    ) -> None:
        """Follow what a call makes; where it cannot be followed, note why and go on with opaque tensors."""
        self._closed += 1
        try:
            found = [self.followed(source) for source in sources]
            if not known or any(one is not None and self.graph.is_opaque(one.node) for one in found):
                made: Sequence[Followed | None] = [self._opaque()] * len(outputs)
            else:
                made = self._checked(make(), outputs)
        except Refused as refused:
            self._refuse(what, refused)
            made = [self._opaque()] * len(outputs)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError) as error:
            self._refuse(what, Refused(f"this call of it is not understood ({error!r})"))
            made = [self._opaque()] * len(outputs)
        for output, followed in zip(outputs, made, strict=False):
            if followed is not None:
                self.follow(output, followed)
                self.graph.recorded[followed.node].times.add(followed.time)
        self._closed -= 1

    def _checked(self, made: Sequence[Followed | None], outputs: Sequence[Tensor]) -> Sequence[Followed | None]:
        for output, followed in zip(outputs, made, strict=False):
            if followed is None or self.graph.is_opaque(followed.node):
                continue
            if sizes_of(followed.dimensions) != tuple(output.shape):
                raise Refused(f"makes {tuple(output.shape)}, which was followed as {sizes_of(followed.dimensions)}")
        return made

    def _opaque(self) -> Followed:
        node = Node(operation=Opaque(), inputs=(), seen=(), shape=(), name=self.where)
        return Followed(self.graph.add(node), "still", ())

    def _refuse(self, what: str, refused: Refused) -> None:
        reason = Reason(module=self.where, what=what, why=refused.why, remedy=refused.remedy)
        if (reason.module, reason.what) not in {(known.module, known.what) for known in self.reasons}:
            self.reasons.append(reason)

    @property
    def where(self) -> str:
        return self._running[-1] if self._running else ""


def _called(func: Any, name: str) -> str:
    """Return the name under which a function's form is found: that of the function which is not in place."""
    if name == "__get__":  # an attribute of a tensor, such as its transpose
        return (resolve_name(func) or "attribute.__get__").split(".")[-2]
    return name.strip("_")


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return nested tuples, lists and mappings with other things in the places of their tensors."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(part, change) for key, part in value.items()}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(_mapped(part, change) for part in value)
    return value
