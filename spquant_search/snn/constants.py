"""Work out what depends on weights and precision alone once an evaluation, and not once a batch.

Integers of weights, a and d of their sums, decisions of gates: of a batch's operations these are most, and on a GPU
each is a launch. Layers therefore ask :func:`kept` for the value of a function. While a :class:`Constants` is in force
it gives the value that it has, as long as every argument is what it was: a number, or a tensor, the same object, that
nothing has changed in place since. Otherwise, and where none is in force, the function is called. So a value can only
be out of date where a function reads what is no argument of it: those that are handed over here are no methods.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

import torch
from torch import Tensor, nn

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


class _Made(NamedTuple):
    value: Any
    arguments: tuple[Any, ...]  # held, so that no other tensor gets the identity of one of them


class Constants:
    """The values of one evaluation, of a network in one configuration or in some that take turns."""

    def __init__(self, *, configurations: int = 1) -> None:
        """Keep, of each module and function, the values of as many arguments as there are configurations."""
        self._most = configurations
        self._made: defaultdict[tuple[nn.Module, Callable[..., Any]], OrderedDict[Hashable, _Made]]
        self._made = defaultdict(OrderedDict)

    def value(self, owner: nn.Module, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Return ``function(*arguments)``, as :func:`kept` describes."""
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        if any(tensor.is_inference() for tensor in tensors):  # nothing tells whether such a tensor was changed
            return function(*arguments)
        made, key = self._made[owner, function], tuple(map(_as_it_is, arguments))
        if key in made:
            made.move_to_end(key)
        else:
            # As ordinary tensors, whose changes are counted, whatever mode the evaluation is in.
            with torch.inference_mode(False), torch.no_grad():
                made[key] = _Made(function(*arguments), arguments)
            if len(made) > self._most:
                made.popitem(last=False)
        return made[key].value


def _as_it_is(argument: object) -> Hashable:
    return (id(argument), argument._version) if isinstance(argument, Tensor) else argument


_in_force: ContextVar[Constants | None] = ContextVar("constants", default=None)


@contextmanager
def constants_kept(constants: Constants | None = None) -> Iterator[None]:
    """Let layers take their constants from ``constants`` in this context; None: from new ones, gone at its end."""
    token = _in_force.set(constants or Constants())
    try:
        yield
    finally:
        _in_force.reset(token)


def kept(owner: nn.Module, function: Callable[[*Arguments], Value], *arguments: *Arguments) -> Value:
    """Return ``function(*arguments)`` for ``owner``; in :func:`constants_kept` it is worked out once.

    Arguments are tensors or hashable. What is returned must not be changed in place, and has no gradient there.
    """
    constants = _in_force.get()
    value: Value = function(*arguments) if constants is None else constants.value(owner, function, arguments)
    return value
