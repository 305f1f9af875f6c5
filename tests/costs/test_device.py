"""Flash and RAM of a device, as far as no compiler is needed to check them."""

from __future__ import annotations

import pytest
from shapes import attention, convolution, readout

from spquant_search.costs import device
from spquant_search.costs.device import Architecture, Footprint, footprint
from spquant_search.costs.memory import cost_report
from spquant_search.space.configuration import LayerPrecision, NetworkConfig

PARTS = ("GATES", "REST", "ATTENTION", "SUMS", "AVERAGE")


def engine_flash() -> int:
    """Return the code's bytes of a network that needs every optional part of the engine."""
    return of_a_network().engine_flash


def ram(*, frame_bytes: int) -> int:
    return of_a_network(frame_bytes=frame_bytes).ram


def of_a_network(*, frame_bytes: int = 50) -> Footprint:
    shapes = (convolution("conv1", 2, 8, 25), attention("mix", 8, 25), readout(8, 5))
    layers = (
        ("conv1", LayerPrecision(weight_bits=4, membrane_levels=5, channel_mass=0.8)),
        ("mix", LayerPrecision(membrane_levels=3)),
        ("readout", LayerPrecision(weight_bits=4, membrane_levels=None)),
    )
    network = Architecture(
        map_bytes=100,
        average_bytes=8,
        sums=1,
        averages=1,
        inputs=8,
        largest={"conv1": 15, "mix": 1, "readout": 1},
        heads=2,
        classes=5,
        frame_bytes=frame_bytes,
    )
    found = footprint(network, cost_report(shapes, NetworkConfig(time_steps=3, layers=layers)))
    assert found is not None
    return found


def test_the_input_frame_is_counted_once() -> None:
    """A network's RAM is larger by each byte of its frame, and by nothing else."""
    small, large = ram(frame_bytes=50), ram(frame_bytes=4096)
    assert large - small == 4096 - 50


def test_parts_of_the_engine_that_take_equal_bytes_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in PARTS:
        monkeypatch.setattr(device, f"{part}_CODE_BYTES", 0)
    without = engine_flash()
    for part in PARTS:
        monkeypatch.setattr(device, f"{part}_CODE_BYTES", 70)
    assert engine_flash() == without + 70 * len(PARTS)
