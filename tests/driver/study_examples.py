"""A small space and studies of it, with results made from configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
from examples import trial
from shapes import convolution, readout

from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import PendingTrial, Study, study_in
from spquant_search.runs.results import Outcome, TrialResult
from spquant_search.space.binding import bind
from spquant_search.space.reading import parse_space
from spquant_search.space.search_space import SearchSpace

SPACE = """\
data: {name: fashion-events}
time_steps: 3
model: {network: vgg9}
layers:
  all:
    weight_bits: [1, 2, 4, 8]
    membrane_levels: [3, 4, 16]
    channel_mass: {from: 0.5, to: 1, step: 0.05}
    skip_below: [none, 0]
search:
  sampler: tpe
  startup_trials: 4
  references:
    - {weight_bits: 4, membrane_levels: 3}
    - {weight_bits: 2, membrane_levels: 3, channel_mass: 0.65, skip_below: 0}
"""
SHAPES = (convolution("conv1", 2, 8, 64, gate=False), convolution("conv2", 8, 16, 64), readout(256, 10))


def a_space(*overrides: str) -> SearchSpace:
    return bind(parse_space(SPACE, source="s.yaml", overrides=overrides), SHAPES, source="s.yaml")


def study_at(journal: Path, space: SearchSpace, **options: Any) -> Study:
    return Study(Journal(journal), space, SHAPES, chance=0.1, **options)


def stored_in(journal: Path) -> optuna.Study:
    return study_in(Journal(journal))


def outcome_of(asked: PendingTrial, *, stop_every: int = 0) -> TrialResult:
    """A result made from the configuration alone, so that two searches see the same."""
    bits = [layer.weight_bits for _, layer in asked.config.layers]
    levels = [layer.membrane_levels or 0 for _, layer in asked.config.layers]
    stops = stop_every and asked.number > 2 and asked.number % stop_every == 0
    accuracy = 0.5 + 0.05 * float(np.log2(bits).mean()) + 0.001 * float(np.mean(levels))
    return trial(
        asked.number,
        accuracy,
        kib=float(np.sum(bits)),
        mega_macs=10 * asked.config["conv2"].channel_mass,
        outcome=Outcome.STOPPED if stops else Outcome.COMPLETE,
        of=asked.config,
    )


def proceed(study: Study, count: int, *, stop_every: int = 3) -> list[PendingTrial]:
    asked = []
    for _ in range(count):
        asked.append(study.ask())
        result = outcome_of(asked[-1], stop_every=stop_every)
        for epoch in result.epochs:
            study.report(asked[-1], epoch=epoch.epoch, accuracy=epoch.accuracy)
        study.tell(asked[-1], result, {})
    return asked


def proposals(journal: Path, space: SearchSpace, *starts: int, stop_every: int = 3) -> list[dict[str, object]]:
    return [
        one.config.flat() for count in starts for one in proceed(study_at(journal, space), count, stop_every=stop_every)
    ]
