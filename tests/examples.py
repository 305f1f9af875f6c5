"""Small configurations, results and a small run, for tests that need some."""

from __future__ import annotations

from spquant_search.report.run_summary import RunSummary
from spquant_search.runs.results import EpochMetrics, LayerActivity, Origin, Outcome, TrialResult
from spquant_search.space.configuration import LayerPrecision, NetworkConfig


def config(
    bits: str = "844", levels: str = "3 16", mass: float = 1.0, skip: float | None = None, *, time_steps: int = 4
) -> NetworkConfig:
    """conv1, conv2, ... with one digit of weight bits each (0: float), the last one the readout.

    With one time step there are neither levels nor cuts, whatever is given.
    """
    numbers = [int(digit) or 32 for digit in bits]
    membranes: list[int | None] = [*map(int, levels.split()), None]
    layers = []
    for index, (bit, membrane) in enumerate(zip(numbers, membranes, strict=True), 1):
        readout = membrane is None
        gate = mass if index > 1 and not readout else 1.0
        stored = None if time_steps == 1 else membrane
        cut = None if readout or time_steps == 1 else skip
        precision = LayerPrecision(weight_bits=bit, membrane_levels=stored, channel_mass=gate, skip_below=cut)
        layers.append(("readout" if readout else f"conv{index}", precision))
    return NetworkConfig(time_steps=time_steps, layers=tuple(layers))


def epoch(number: int, accuracy: float, macs: float) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        loss=0.5123,
        accuracy=accuracy,
        effective_macs=macs,
        synaptic_ops=macs / 4,
        density=0.125,
        energy_uj=macs / 1e7,
        seconds=2.0,
    )


def trial(  # noqa: PLR0913 - a result has that many sides, and tests name those they are about
    number: int,
    accuracy: float = 0.8,
    kib: float = 10,
    mega_macs: float = 12.5,
    *,
    origin: str = "tpe",
    outcome: Outcome = Outcome.COMPLETE,
    reason: str = "",
    epochs: int = 2,
    of: NetworkConfig | None = None,
    layers: tuple[tuple[str, LayerActivity], ...] = (),
) -> TrialResult:
    """A result whose last epoch has these figures; its bytes are 7 parts weights, 2 membranes, 1 overhead."""
    tenth = round(kib * 1024) // 10
    made_of = of or config()
    keeps_floats = any(layer.weight_bits == 32 or layer.membrane_levels == 0 for _, layer in made_of.layers)
    return TrialResult(
        number=number,
        origin=Origin(origin),
        config=made_of,
        seed=number + 100,
        outcome=outcome,
        reason=reason or outcome.value,
        epochs=tuple(epoch(index, accuracy, mega_macs * 1e6) for index in range(1, epochs + 1)),
        weight_bytes=7 * tenth,
        membrane_bytes=2 * tenth,
        overhead_bytes=round(kib * 1024) - 9 * tenth,
        paper_total_bytes=12 * tenth,
        dense_macs=50_000_000,
        engine_flash_bytes=None if keeps_floats else 3_000,
        engine_ram_bytes=None if keeps_floats else 500,
        layers=layers,
        seconds=4.5,
    )


def example_run(**changes: object) -> RunSummary:
    """A baseline of 100 KiB and 100 MFLOPs; trial 2 at a tenth and a quarter of it; one dominated, two not finished."""
    values: dict[str, object] = {
        "run": "tiny",
        "source": "spaces/tiny.yaml",
        "network": "vgg9",
        "data": "fashion-events (simulated)",
        "classes": tuple("0123456789"),
        "time_steps": (4,),
        "validation_samples": 2000,
        "searched": ("weight bits", "membrane levels", "channel gates", "skip masks"),
        "seconds": 65.0,
        "results": (
            trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0"), epochs=3),
            trial(1, 0.85, 20, 50, origin="reference", of=config("444", "3 3")),
            trial(2, 0.864, 10, 12.5, of=config("844", "3 16", mass=0.8, skip=0.0)),
            trial(3, 0.8, 12, 25),
            trial(4, 0.3, 8, 25, outcome=Outcome.STOPPED, reason="trial 2 is better in every objective", epochs=1),
            trial(5, outcome=Outcome.DIVERGED, epochs=0),
        ),
    }
    return RunSummary(**(values | changes))  # type: ignore[arg-type]
