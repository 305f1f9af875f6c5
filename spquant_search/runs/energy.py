"""An estimate of the energy of one sample, from counted operations and published prices. Nothing here is measured.

    E = sum over layers of (operations x price) + 2 x membrane bits x time steps x price of a bit of SRAM

Prices are those of one operation in 45 nm at 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do about
it)", ISSCC 2014. Operations are synaptic ones (non-zero inputs that reach a computed output, gate predictors included)
where a trial has measured them, and all MACs before any training: an upper bound.

Two prices stand side by side, as the answer depends on them by an order of magnitude:

* ``fp32``: an addition of fp32 an operation and a MAC of fp32 in the first layer, as papers on spiking networks do.
* ``integer``: an addition at the width of the accumulator, whatever the width of the weight that is added to it. That
  is 32 bits: the sum of 4,608 weights of 8 bits needs 21, and the next width that processors have is 32. (The table has
  additions of 16 and 8 bits at 0.05 and 0.03 pJ.) In the first layer, whose inputs are event counts or pixels, an 8-bit
  multiplication comes on top. Layers with float weights keep their fp32 price.

The table has no price below 8 bits. Products of narrower weights take the 8-bit multiplier's; membranes, narrower than
the 64-bit word that is priced, take its price in proportion to their bits. Both are extrapolations.

Not counted: reading weights and spikes, batch norm, the neuron's own arithmetic, everything that a chip does besides.
Where spikes were averaged by pooling or added by a residual, the next layer's inputs are small integers such as 0 .. 4;
they are priced as one addition each, while NeuroBench would call them MACs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spquant_search.costs.memory import CostReport, LayerCost
from spquant_search.runs.results import LayerActivity, TrialResult
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision, NetworkConfig

# Horowitz, ISSCC 2014, 45 nm, picojoules an operation.
FP32_ADD, FP32_MULTIPLY = 0.9, 3.7
INT32_ADD, INT8_MULTIPLY = 0.1, 0.2
SRAM_8KIB_64_BITS = 10.0  # an access of 64 bits to a memory of 8 KiB

FP32_MAC = FP32_MULTIPLY + FP32_ADD
ACCUMULATE = INT32_ADD
SRAM_BIT = SRAM_8KIB_64_BITS / 64
PICOJOULES = 1e6  # of a microjoule
ACCESSES = 2  # a stored potential is read and written once a step


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """Picojoules a sample over all time steps: operations at either price, and the membranes' memory traffic."""

    fp32_operations: float
    integer_operations: float
    membranes: float

    @property
    def at_fp32_price(self) -> float:
        return self.fp32_operations + self.membranes

    @property
    def at_integer_price(self) -> float:
        return self.integer_operations + self.membranes

    @property
    def microjoules(self) -> float:
        """The ``energy_uj`` of a result, an objective or a constraint: at integer price, as a device computes."""
        return self.at_integer_price / PICOJOULES


def total_energy(energies: Iterable[Energy]) -> Energy:
    """Return the sum over layers."""
    energies = tuple(energies)
    return Energy(
        fp32_operations=sum(energy.fp32_operations for energy in energies),
        integer_operations=sum(energy.integer_operations for energy in energies),
        membranes=sum(energy.membranes for energy in energies),
    )


def upper_bounds(report: CostReport) -> tuple[Energy, ...]:
    """Return every layer's energy if all of its inputs were non-zero and no channel or neuron left out."""
    in_floats = all(layer.precision.weight_bits == FLOAT_BITS for layer in report.layers if layer.shape.has_weights)
    return tuple(
        _energy(
            (layer.shape.dense_macs + layer.predictor_macs) * report.time_steps,
            is_first=index == 0,
            is_float=_computes_in_floats(layer, others_do=in_floats),
            membrane_bytes=layer.membrane_bytes * report.time_steps,
        )
        for index, layer in enumerate(report.layers)
    )


def most_energy(layer: LayerCost, *, is_first: bool, time_steps: int) -> Energy:
    """Return the most that :func:`energy_of` can find for a layer: every operation is one that is dense.

    Other than in :func:`upper_bounds` the products of spikes in attention take the fp32 price, as they do there.
    """
    return _energy(
        (layer.shape.dense_macs + layer.predictor_macs) * time_steps,
        is_first=is_first,
        is_float=layer.precision.weight_bits == FLOAT_BITS,
        membrane_bytes=layer.membrane_bytes * time_steps,
    )


def membrane_microjoules(report: CostReport) -> float:
    """Return the microjoules that reading and writing a configuration's membranes takes: it has them in any case."""
    return _membrane_traffic(report.membrane_bytes * report.time_steps).microjoules


def most_energy_uj(report: CostReport) -> float:
    """Return the most microjoules that a configuration can take."""
    layers = enumerate(report.layers)
    most = [most_energy(layer, is_first=index == 0, time_steps=report.time_steps) for index, layer in layers]
    return total_energy(most).microjoules


def measured_energy(result: TrialResult) -> Energy | None:
    """Estimate from the synaptic operations of a trial's last epoch on validation; None before its first epoch."""
    return energy_of(result.config, dict(result.layers), membrane_bytes=result.membrane_bytes)


def energy_of(config: NetworkConfig, activities: Mapping[str, LayerActivity], *, membrane_bytes: int) -> Energy | None:
    """Estimate from the layers' synaptic operations; None where some layer's are not known.

    A configuration does not say which layers are attention, so the few products of spikes there take the fp32 price.
    """
    if not all(name in activities for name, _ in config.layers):
        return None
    operations = [
        _energy(
            activities[name].synaptic_ops,
            is_first=index == 0,
            is_float=precision.weight_bits == FLOAT_BITS,
            membrane_bytes=0,
        )
        for index, (name, precision) in enumerate(config.layers)
    ]
    return total_energy([*operations, _membrane_traffic(membrane_bytes * config.time_steps)])


def _energy(operations: float, *, is_first: bool, is_float: bool, membrane_bytes: float) -> Energy:
    fp32 = FP32_MAC if is_first else FP32_ADD
    integer = ACCUMULATE + (INT8_MULTIPLY if is_first else 0.0)
    return Energy(
        fp32_operations=operations * fp32,
        integer_operations=operations * (fp32 if is_float else integer),
        membranes=_membrane_traffic(membrane_bytes).membranes,
    )


def _membrane_traffic(size_bytes: float) -> Energy:
    return Energy(fp32_operations=0.0, integer_operations=0.0, membranes=ACCESSES * 8 * size_bytes * SRAM_BIT)


def _computes_in_floats(layer: LayerCost, *, others_do: bool) -> bool:
    """Return whether a layer computes in floats.

    Attention has no weights, so its membrane decides, and where a single time step leaves none, the other layers.
    """
    precision: LayerPrecision = layer.precision
    if layer.shape.has_weights:
        return precision.weight_bits == FLOAT_BITS
    return others_do if precision.membrane_levels is None else precision.is_float
