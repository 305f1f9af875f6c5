"""Types of a space file's fields, each with the rule that its value must follow.

Every number has a largest value, far above what is of use, so that none is taken in that nothing can be made of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from spquant_search.errors import nearest
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE
from spquant_search.space.neuron_form import LEAK_STEPS
from spquant_search.space.objectives import ACCURACY, COSTS, MOST_COSTS, in_order
from spquant_search.space.units import byte_count, flop_count, microjoule_count, operation_count

QUANTIZED_BITS = (1, 2, 3, 4, 8)
WEIGHT_BITS = (*QUANTIZED_BITS, FLOAT_BITS)
LARGEST_LEVELS = 256
LOWEST_LEVEL = -128.0  # of a membrane, in thresholds
MOST_REFERENCES = 500
MOST_CHOICES = 101  # of one parameter of a layer: all hundredths from 0 to 1
# How weights become integers (spquant_search.snn.quantize), and the bits that each way is defined for.
Quantizer = Literal["statistics", "sawb", "mean", "ternary-mean"]
QUANTIZER_BITS: dict[Quantizer, tuple[int, ...]] = {
    "statistics": QUANTIZED_BITS,
    "sawb": (4, 8),
    "mean": (3, 4, 8),
    "ternary-mean": (2,),
}
RANGE_RULE = "a range is written {from: 0.5, to: 1, step: 0.05}"


def refuse_bool(value: object) -> object:
    # YAML 1.1 reads yes, no, on and off as booleans, and pydantic would take them for 1 and 0.
    if isinstance(value, bool):
        raise ValueError("must be a number, not yes/no (YAML reads yes, no, on and off as true and false)")
    return value


def refuse_many(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) > MOST_REFERENCES:
        raise ValueError(f"may have at most {MOST_REFERENCES} entries, not {len(value)}")
    return value


def _none_word(value: object) -> object:
    return None if value == "none" else refuse_bool(value)


def _counted(count: Callable[[str], float]) -> BeforeValidator:
    """Return the number that ``64KiB`` or ``60M`` means, and a plain number as it is."""

    def check(value: object) -> object:
        return count(value) if isinstance(value, str) and value != "none" else _none_word(value)

    return BeforeValidator(check)


def _whole(value: float | None) -> int | None:
    return None if value is None else math.floor(value)


def one_of(allowed: Sequence[float]) -> AfterValidator:
    words = ", ".join(f"{value:g}" for value in allowed)

    def check(value: float) -> float:
        if value not in allowed:
            raise ValueError(f"must be one of {words}")
        return value

    return AfterValidator(check)


def _leak(value: float) -> float:
    if not 1 / LEAK_STEPS <= value <= 1:
        raise ValueError(f"must be from 1/{LEAK_STEPS} to 1, the share of a potential that a step keeps")
    return value


def _levels(value: int) -> int:
    if value != FLOAT_MEMBRANE and not 2 <= value <= LARGEST_LEVELS:
        raise ValueError(f"must be 0 (float) or from 2 to {LARGEST_LEVELS} levels")
    return value


def expand_range(value: object) -> object:
    """Expand ``{from: 0.5, to: 1, step: 0.05}`` to the list of its values."""
    if not isinstance(value, Mapping):
        return value
    if set(value) != {"from", "to", "step"}:
        raise ValueError(RANGE_RULE)
    low, high, step = (_range_number(value[key]) for key in ("from", "to", "step"))
    if step <= 0 or high < low:
        raise ValueError("a range needs from <= to and a step above 0")
    steps = (high - low) / step + 1e-9
    if steps >= MOST_CHOICES:  # infinite, perhaps
        raise ValueError(f"a range may have at most {MOST_CHOICES} values; take a larger step")
    return [round(low + i * step, 10) for i in range(math.floor(steps) + 1)]


def _range_number(value: object) -> float:
    refuse_bool(value)
    try:
        number = float(value)  # type: ignore[arg-type] # 5e-2 is text to YAML
    except (TypeError, ValueError):
        raise ValueError(RANGE_RULE) from None
    if not math.isfinite(number):
        raise ValueError("a range needs finite numbers")
    return number


def _distinct(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("must name at least one choice")
    if len(set(value)) != len(value):
        raise ValueError("names a choice twice")
    return value


def _listed(value: object) -> object:
    # A single value is a choice of one: `weight_bits: 8` fixes the layer.
    if isinstance(value, list | tuple) and len(value) > MOST_CHOICES:
        raise ValueError(f"may have at most {MOST_CHOICES} choices, not {len(value)}")
    return value if isinstance(value, list | tuple | Mapping) or value is None else [value]


def _divisors(value: tuple[int, ...]) -> tuple[int, ...]:
    """Sort numbers of time steps; each must divide the largest, as it sums equally many of its frames to a step."""
    most = max(value)
    others = [steps for steps in value if most % steps]
    if others:
        raise ValueError(
            f"every number must divide the largest, {most}, whose frames are summed to fewer steps; "
            f"{', '.join(map(str, others))} {'does' if len(others) == 1 else 'do'} not"
        )
    return tuple(sorted(value))


def _objective_list(value: object) -> object:
    example = f"[{ACCURACY}, {', '.join(list(COSTS)[1:3])}]"
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, such as {example}")
    if len(value) > len(COSTS) + 1:
        raise ValueError(f"must be a list of at most {1 + MOST_COSTS}, such as {example}")
    return value


def _objectives(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the accuracy, and the costs in the order of their table."""
    known = (ACCURACY, *COSTS)
    rule = f"must be {ACCURACY} and one or two of {', '.join(COSTS)}"
    for name in value:
        if name not in known:
            near = nearest(name[:60], known, cutoff=0.4)
            raise ValueError(f"{rule}; {name[:60]!r} is none of them{f'; did you mean {near!r}?' if near else ''}")
        if value.count(name) > 1:
            raise ValueError(f"{rule}; {name} is named twice")
    costs = in_order(value)
    if ACCURACY not in value:
        raise ValueError(f"{rule}; {ACCURACY} is missing")
    if not 1 <= len(costs) <= MOST_COSTS:
        raise ValueError(f"{rule}, not {len(costs)}; what is no objective may be bounded under constraints")
    return (ACCURACY, *costs)


Positive = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=10**6)]
BaselineEpochs = Annotated[int, BeforeValidator(refuse_bool), Field(ge=0, le=10**6)]
Samples = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=10**9)]
Pixels = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=2**14)]
Classes = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=2**16 - 1)]
TimeSteps = Annotated[
    tuple[Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=10_000)], ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    AfterValidator(_divisors),
    PlainSerializer(lambda steps: steps[0] if len(steps) == 1 else list(steps)),
]
Microseconds = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=10**12)]
Minutes = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, le=10**6)]
Workers = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=1024)]
LadderPoints = Annotated[int, BeforeValidator(refuse_bool), Field(ge=0, le=1000)]
Margin = Annotated[int, BeforeValidator(refuse_bool), Field(ge=0, le=2**14)]  # in pixels
Seed = Annotated[int, BeforeValidator(refuse_bool), Field(ge=0, le=2**63 - 1)]
Number = Annotated[float, BeforeValidator(refuse_bool)]
Rate = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0)]
Width = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, le=64)]
NotNegative = Annotated[float, BeforeValidator(refuse_bool), Field(ge=0)]
Share = Annotated[float, BeforeValidator(refuse_bool), Field(ge=0, le=1)]
ProperShare = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, lt=1)]
ShareBelowOne = Annotated[float, BeforeValidator(refuse_bool), Field(ge=0, lt=1)]
WeightBits = Annotated[int, BeforeValidator(refuse_bool), one_of(WEIGHT_BITS)]
MembraneLevels = Annotated[int, BeforeValidator(refuse_bool), AfterValidator(_levels)]
GridLevels = Annotated[int, Field(ge=2, le=LARGEST_LEVELS)]
LowestLevel = Annotated[float, BeforeValidator(refuse_bool), Field(ge=LOWEST_LEVEL)]
Leak = Annotated[float, BeforeValidator(refuse_bool), AfterValidator(_leak)]
ChannelMass = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, le=1)]
SkipBelow = Annotated[Annotated[float, Field(le=0)] | None, BeforeValidator(_none_word)]
# Bytes are whole, so that a bound between two numbers of them is the lower one.
MaxBytes = Annotated[Annotated[float, Field(ge=1)] | None, _counted(byte_count), AfterValidator(_whole)]
MaxFlops = Annotated[Annotated[float, Field(gt=0)] | None, _counted(flop_count)]
MaxOperations = Annotated[Annotated[float, Field(gt=0)] | None, _counted(operation_count)]
MaxMicrojoules = Annotated[Annotated[float, Field(gt=0)] | None, _counted(microjoule_count)]
Objectives = Annotated[tuple[str, ...], BeforeValidator(_objective_list), AfterValidator(_objectives)]
MinAccuracy = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_none_word)]
MaxNorm = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_none_word)]
CHOICES = (BeforeValidator(_listed), AfterValidator(_distinct))


def _square(value: object) -> object:
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


def _for_all_bits(value: object) -> object:
    """Expand ``sawb`` to ``{1: sawb, 2: sawb, ...}``; bits that are not searched do not matter."""
    return dict.fromkeys(QUANTIZED_BITS, value) if isinstance(value, str) else value


QuantizerByBits = Annotated[
    dict[Annotated[int, BeforeValidator(refuse_bool), one_of(QUANTIZED_BITS)], Quantizer],
    BeforeValidator(_for_all_bits),
]


def check_columns(value: str) -> str:
    if sorted(value) != sorted("xytp"):
        raise ValueError("must name the four columns x, y, t (time) and p (polarity) in their order, such as xytp")
    return value


def check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression, such as ^(user[0-9]+); {error}") from None
    return value


Size = Annotated[tuple[Pixels, Pixels] | None, BeforeValidator(_square)]
