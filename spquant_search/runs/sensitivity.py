"""The cost of a lower precision in accuracy: one layer at a time, weights and membranes apart.

The reference has every layer at the most precise choice of the space (most bits, most levels, no gate, no mask), and
the most time steps. Every other choice of ``weight_bits`` and ``membrane_levels`` is measured alone, with all else as
in the reference, by the subnets of one supernet: what differs between two of them is the precision, and no training.
Fewer time steps are measured so as well, the whole network at once.

After the per-layer sensitivities of HAWQ (Dong et al., ICCV 2019), measured instead of derived from a Hessian.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from spquant_search.costs.memory import cost_report
from spquant_search.runs.intervals import wilson_interval
from spquant_search.space.address import Address
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, TIME_STEPS, NetworkConfig, precision
from spquant_search.space.search_space import LayerSpace, SearchSpace
from spquant_search.space.shapes import LayerShape

LOWERED = ("weight_bits", "membrane_levels")  # the parameters that are lowered, one at a time
REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One layer's parameter at one choice, everything else as in the reference."""

    layer: str  # empty where the choice is one of the whole network
    parameter: str  # weight_bits or membrane_levels; time_steps of the whole network
    value: int
    accuracy: float  # on the validation split, a fraction
    memory_bytes: int  # of the whole configuration

    @property
    def address(self) -> Address:
        return Address(self.layer, self.parameter)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """The reference, and every choice below it in the network's order, weights before membranes, precise ones first."""

    reference: NetworkConfig
    accuracy: float  # of the reference, on the validation split, a fraction
    memory_bytes: int  # of the reference
    samples: int  # of the validation split, that all of it was measured on
    choices: tuple[Choice, ...]
    fewer_steps: tuple[Choice, ...] = ()  # numbers of time steps below the reference's, the larger first

    def loss(self, choice: Choice) -> float:
        """Return the accuracy lost against the reference, a fraction; below 0 where the choice measured better."""
        return self.accuracy - choice.accuracy

    def bytes_saved(self, choice: Choice) -> int:
        return self.memory_bytes - choice.memory_bytes

    def as_dict(self) -> dict[str, Any]:
        """Return the analysis ready for JSON, with what people read beside it: interval, ``loss``, ``bytes_saved``."""
        interval = wilson_interval(self.accuracy, self.samples)

        def listed(choices: Iterable[Choice]) -> list[dict[str, Any]]:
            return [
                {**asdict(choice), "loss": round(self.loss(choice), 10), "bytes_saved": self.bytes_saved(choice)}
                for choice in choices
            ]

        return {
            "accuracy": self.accuracy,
            "accuracy_split": "validation",
            "accuracy_interval": None if interval is None else [interval.low, interval.high],
            "samples": self.samples,
            "memory_bytes": self.memory_bytes,
            "reference": self.reference.as_dict(),
            "choices": listed(self.choices),
            "fewer_steps": listed(self.fewer_steps),
        }


def reference_configuration(space: SearchSpace) -> NetworkConfig:
    """Return the configuration of every layer's most precise choice."""
    return space.config(
        {
            address: max(options, key=lambda option: precision(address.parameter, option))
            for address, options in space.choices().items()
        }
    )


def with_values(config: NetworkConfig, values: Mapping[Address, Any]) -> NetworkConfig:
    """Return ``config`` with other values at some addresses; with one time step it has no membranes."""
    time_steps, layers = values.get(TIME_STEPS, config.time_steps), dict(config.layers)
    for (name, parameter), value in values.items():
        if name:
            layers[name] = replace(layers[name], **{parameter: value})
    settled = tuple((name, layer.at(time_steps)) for name, layer in layers.items())
    return replace(config, time_steps=time_steps, layers=settled)


def lower_choices(layer: LayerSpace, parameter: str) -> tuple[int, ...]:
    """Return a layer's choices below its most precise one, precise ones first."""
    options = sorted(getattr(layer, parameter), key=lambda option: -precision(parameter, option))
    return tuple(options[1:])


def lowered_configurations(space: SearchSpace) -> dict[str, NetworkConfig]:
    """Return the configurations to measure, by name: the reference, ``time_steps=2``, ``conv3.weight_bits=2``, ..."""
    reference = reference_configuration(space)
    found = {REFERENCE: reference}
    for steps in reversed(space.file.time_steps[:-1]):
        found[f"{TIME_STEPS}={steps}"] = with_values(reference, {TIME_STEPS: steps})
    for layer in space.layers:
        for parameter in LOWERED:
            address = Address(layer.name, parameter)
            found |= {
                f"{address}={value}": with_values(reference, {address: value})
                for value in lower_choices(layer, parameter)
            }
    return found


def _named_choice(name: str) -> tuple[Address, int]:
    """Return the address and the value that a name of :func:`lowered_configurations` is made of."""
    address, _, value = name.rpartition("=")
    return Address.parse(address), int(value)


def by_layer(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Group names of :func:`lowered_configurations` by the layer that they lower: they share all layers before it.

    The reference and every number of time steps are groups of their own.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        layer = "" if name == REFERENCE else _named_choice(name)[0].layer
        groups.setdefault(layer or name, []).append(name)
    return [tuple(group) for group in groups.values()]


def sensitivity(
    space: SearchSpace, shapes: Sequence[LayerShape], accuracies: Mapping[str, float], *, samples: int
) -> Sensitivity:
    """Return the analysis from the accuracies of everything that :func:`lowered_configurations` names."""
    configs = lowered_configurations(space)

    def memory(name: str) -> int:
        return cost_report(shapes, configs[name]).memory_bytes

    choices = []
    for name in list(configs)[1:]:
        address, value = _named_choice(name)
        choices.append(
            Choice(
                layer=address.layer,
                parameter=address.parameter,
                value=value,
                accuracy=accuracies[name],
                memory_bytes=memory(name),
            )
        )
    return Sensitivity(
        reference=configs[REFERENCE],
        accuracy=accuracies[REFERENCE],
        memory_bytes=memory(REFERENCE),
        samples=samples,
        choices=tuple(choice for choice in choices if choice.layer),
        fewer_steps=tuple(choice for choice in choices if not choice.layer),
    )


def choice_words(parameter: str, value: int) -> str:
    """Return a choice in words, such as ``4 bits``, ``3 levels`` or ``float``."""
    if value == (FLOAT_BITS if parameter == "weight_bits" else FLOAT_MEMBRANE):
        return "float"
    unit = "bit" if parameter == "weight_bits" else "level"
    return f"{value} {unit}" + ("" if value == 1 else "s")
