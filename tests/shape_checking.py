"""Check the shapes in the package's annotations at run time, in every test.

``jaxtyping`` decorates the functions and dataclasses of a package when it is imported, and ``beartype`` then checks
what they are given and what they return. Here only those are decorated whose annotations have a shape: mypy knows the
other types, and a check of every call would make the tests slow.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

PACKAGE = "spquant_search"

# Functions that torch compiles, or that are called by one that is: torch's compiler would follow the check, too, and
# stop at it.
COMPILED = frozenset(
    f"{PACKAGE}.snn.{name}"
    for name in (
        "gate._positive_mean",
        "kernels.batch_norm._blend",
        "kernels.batch_norm._sums",
        "kernels.pooling._backward",
        "kernels.pooling._forward",
        "neuron.exact._fire_sums",
        "neuron.exact._run_exactly",
        "neuron.exact._skipped_exactly",
        "neuron.exact._step_exactly",
        "neuron.training._backward",
        "neuron.training._backward_of_pooled",
        "neuron.training._forward",
        "neuron.training._leaked",
        "neuron.training._pooled_spikes",
        "neuron.training._potentials",
        "neuron.training._run",
        "neuron.training._skipped",
        "quantize.fast_membrane_gradient",
        "quantize.grid_code",
        "quantize.quantize_membrane",
    )
)

# An int is a float where a float is asked for, as PEP 484 says and mypy does.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_decorate = jaxtyping.jaxtyped


def check_shapes() -> None:
    """Have the package's shapes checked from now on; to be called before any of its modules is imported."""
    jaxtyping.jaxtyped = _decorate_where_shapes_are  # what the import hook puts before every definition
    jaxtyping.install_import_hook(PACKAGE, f"{__name__}.check")


def _decorate_where_shapes_are(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    def decorate(definition: Any) -> Any:
        function = getattr(definition, "__func__", definition)  # of a class method or a static one
        name = f"{function.__module__}.{function.__qualname__}"
        if name in COMPILED or not _has_shapes(function):
            return definition
        return _decorate(definition, typechecker=typechecker)

    return decorate


def _has_shapes(definition: Any) -> bool:
    """Tell whether one of the annotations, which are strings, has a name in it that stands for arrays."""
    names = vars(sys.modules[definition.__module__])
    words = re.findall(r"\w+", " ".join(map(str, inspect.get_annotations(definition).values())))
    return any(_is_of_arrays(names.get(word)) for word in words)


def _is_of_arrays(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, jaxtyping.AbstractArray | jaxtyping.AbstractDtype)
