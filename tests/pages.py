"""Runs of any size for tests of the page: trials at random, with and without everything that a page can show."""

from __future__ import annotations

import random
from dataclasses import replace

from examples import epoch, example_run, trial
from shapes import convolution, readout

from spquant_search.costs.memory import cost_report
from spquant_search.report.page_data import PageSource
from spquant_search.runs.finals import TestUse
from spquant_search.runs.results import FineTuning, LayerActivity, Origin, Outcome, TrialResult
from spquant_search.runs.sensitivity import Choice, Sensitivity
from spquant_search.space.configuration import LayerPrecision, NetworkConfig

LAYERS = (
    convolution("conv1", 2, 8, 1156, gate=False),
    *(convolution(f"conv{place}", 4 * place, 4 * (place + 1), 1156 // place**2) for place in range(2, 8)),
    convolution("fc1", 32, 64, 1),
    readout(64, 10),
)
# Ends elements, attributes, strings and comments where it is not escaped.
HOSTILE = "</script><img src=x onerror=alert(1)> \"quoted\" 'too' & {{script}} \u2028\u2029 <!--<script> `${1}` \\"
FLOAT = NetworkConfig(
    time_steps=4,
    layers=tuple((shape.name, LayerPrecision(membrane_levels=0 if shape.has_neurons else None)) for shape in LAYERS),
)


def random_config(chance: random.Random) -> NetworkConfig:
    """A configuration in which layers differ in all that a space may let them."""
    layers = []
    for shape in LAYERS:
        layers.append(
            (
                shape.name,
                LayerPrecision(
                    weight_bits=chance.choice([1, 2, 4, 8]),
                    membrane_levels=chance.choice([3, 4, 16]) if shape.has_neurons else None,
                    channel_mass=chance.choice([0.8, 0.9, 1.0]) if shape.can_gate else 1.0,
                    skip_below=chance.choice([None, 0.0]) if shape.has_neurons else None,
                ),
            )
        )
    return NetworkConfig(time_steps=4, layers=tuple(layers))


def random_trial(number: int, chance: random.Random) -> TrialResult:
    """A trial of a random configuration: mostly subnets and trained ones, some stopped, a few without any epoch."""
    config = random_config(chance)
    cost = cost_report(LAYERS, config)
    share = chance.uniform(0.3, 0.9)
    bits = sum(precision.weight_bits for _, precision in config.layers) / 40
    accuracy = round(min(0.93, 0.72 + 0.09 * bits + 0.08 * share + chance.gauss(0, 0.015)) * 2000) / 2000
    outcome = chance.choices(
        [Outcome.COMPLETE, Outcome.SUBNET, Outcome.STOPPED, Outcome.DIVERGED], [0.4, 0.4, 0.17, 0.03]
    )[0]
    made = trial(number, accuracy, 10, share * 40, outcome=outcome, of=config, layers=_activity(config, share))
    macs = share * cost.dense_macs_all_steps
    reached = {Outcome.COMPLETE: 6, Outcome.STOPPED: chance.randint(1, 5)}.get(outcome, 0)
    epochs = [replace(epoch(each, accuracy - 0.1 / (each + 1) ** 2, macs)) for each in range(1, reached)]
    last = [] if outcome is Outcome.DIVERGED else [epoch(reached, accuracy, macs)]
    return replace(
        made,
        epochs=(*epochs, *last),
        weight_bytes=cost.weight_bytes,
        membrane_bytes=cost.membrane_bytes,
        overhead_bytes=cost.overhead_bytes,
        dense_macs=cost.dense_macs_all_steps,
        reason=f"trial {number - 1} is better in every objective" if outcome is Outcome.STOPPED else "",
        seconds=chance.uniform(2, 30),
    )


def _activity(config: NetworkConfig, share: float) -> tuple[tuple[str, LayerActivity], ...]:
    return tuple(
        (
            shape.name,
            LayerActivity(
                effective_macs=share * shape.dense_macs * config.time_steps,
                synaptic_ops=0.3 * share * shape.dense_macs * config.time_steps,
                density=0.12,
                open_share=share if config[shape.name].channel_mass < 1 else 1.0,
            ),
        )
        for shape in LAYERS
    )


def random_page(trials: int, *, seed: int = 0, **changes: object) -> PageSource:
    """A page of a run with so many trials besides the float baseline, and all that a page can show."""
    chance = random.Random(seed)
    cost = cost_report(LAYERS, FLOAT)
    float_bytes = {"weight_bytes": cost.weight_bytes, "membrane_bytes": cost.membrane_bytes}
    baseline = trial(0, 0.915, 100, 40, origin="baseline", of=FLOAT, layers=_activity(FLOAT, 1.0))
    macs = cost.dense_macs_all_steps
    epochs = tuple(epoch(each, 0.915 - 0.3 / each**2 * (each < 8), macs) for each in range(1, 9))
    results = [replace(baseline, **float_bytes, dense_macs=macs, epochs=epochs)]
    results += [random_trial(number, chance) for number in range(1, trials + 1)]
    for number in range(1, min(3, trials + 1)):
        results[number] = replace(_uniform(results[number], 2 * number), origin=Origin.REFERENCE)
    seeds = {"epochs": 9, "seeds": 3, "validation_std": 0.006, "test_std": 0.004, "improved": True}
    for number in range(3, trials + 1, 4):
        mean = results[number].accuracy - 0.004
        final = FineTuning(**seeds, validation_mean=mean, test_mean=mean - 0.01)
        if results[number].outcome is Outcome.COMPLETE:
            results[number] = replace(results[number], final=final)
    values: dict[str, object] = {
        "run": "vgg9",
        "results": tuple(results),
        "test_accuracy": {result.number: result.accuracy - 0.012 for result in results[::5] if result.epochs},
        "test_samples": 10_000,
        "test_use": TestUse(baseline=1, members=9, seeds=6),
        "command": "spquant-search --space spaces/vgg9.yaml --seed 3",
        "environment": {"processor": "two cores", "torch": "2.13.0", "spquant-search": "0.6.0"},
    }
    profile = {
        "coordinator": {"sampler": 12.0, "waiting": 300.0},
        "trainer 0": {"training": 210.0, "evaluation": 80.0, "loading": 4.0, "waiting": 9.0},
    }
    return PageSource(
        summary=example_run(**(values | changes)), shapes=LAYERS, sensitivity=_sensitivity(chance), profile=profile
    )


def _uniform(result: TrialResult, bits: int) -> TrialResult:
    layers = tuple(
        (shape.name, LayerPrecision(weight_bits=bits, membrane_levels=3 if shape.has_neurons else None))
        for shape in LAYERS
    )
    config = NetworkConfig(time_steps=4, layers=layers)
    cost = cost_report(LAYERS, config)
    return replace(
        result,
        config=config,
        outcome=Outcome.COMPLETE,
        reason="",
        weight_bytes=cost.weight_bytes,
        membrane_bytes=cost.membrane_bytes,
        overhead_bytes=cost.overhead_bytes,
        epochs=tuple(epoch(each, 0.7 + 0.02 * each + 0.01 * bits, cost.dense_macs_all_steps) for each in range(1, 7)),
    )


def _sensitivity(chance: random.Random) -> Sensitivity:
    layers = tuple((name, replace(layer, weight_bits=8)) for name, layer in FLOAT.layers)
    choices = [
        Choice(
            layer=shape.name,
            parameter=parameter,
            value=value,
            accuracy=0.9 - max(-0.002, chance.gauss(0.03, 0.03)),
            memory_bytes=80_000 - chance.randint(100, 9000),
        )
        for shape in LAYERS
        for parameter, values in (("weight_bits", (4, 2, 1)), ("membrane_levels", (16, 4, 3)))
        for value in values
        if parameter == "weight_bits" or shape.has_neurons
    ]
    return Sensitivity(
        reference=NetworkConfig(time_steps=4, layers=layers),
        accuracy=0.9,
        memory_bytes=80_000,
        samples=2000,
        choices=tuple(choices),
    )


def hostile_page() -> PageSource:
    """A page of a run in which every text is hostile."""
    results = [replace(result, reason=HOSTILE) for result in random_page(5).summary.results]
    for place, result in enumerate(results):
        layers = tuple((f"{name}{HOSTILE}", layer) for name, layer in result.config.layers)
        results[place] = replace(result, config=replace(result.config, layers=layers), layers=())
    return PageSource(
        summary=example_run(
            results=tuple(results),
            run=HOSTILE,
            argument=HOSTILE,
            network=HOSTILE,
            data=HOSTILE,
            source=HOSTILE,
            command=HOSTILE,
            classes=(HOSTILE, "2"),
            environment={HOSTILE: HOSTILE},
            no_integer_form=HOSTILE,
        ),
        profile={HOSTILE: {HOSTILE: 1.0}},
    )
