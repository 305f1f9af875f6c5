"""The columns that estimate the energy of a sample, and the notes that say what is estimated."""

from __future__ import annotations

from spquant_search.report.numbers import microjoules
from spquant_search.runs.energy import Energy

# At two prices: see spquant_search.runs.energy.
ENERGY_COLUMNS = ("uJ fp32", "uJ int")
ENERGY_NOTES = (
    "uJ: an estimate and no measurement, of the synaptic operations at 45 nm prices (Horowitz, ISSCC 2014) and of "
    "reading and writing every stored membrane once a step (10 pJ for 64 bits of SRAM)",
    "uJ fp32: an operation is an fp32 addition of 0.9 pJ, in the first layer an fp32 MAC of 4.6 pJ; uJ int: a 32-bit "
    "integer addition of 0.1 pJ, in the first layer with an 8-bit product 0.3 pJ; float weights as fp32",
    "extrapolated: membranes in proportion to their bits, products of weights below 8 bits at the price of 8; not "
    "counted: reading weights; a sum of spikes, behind pooling or a residual, counts as one addition",
)


def energy_cells(energy: Energy) -> tuple[str, str]:
    return microjoules(energy.at_fp32_price), microjoules(energy.at_integer_price)
