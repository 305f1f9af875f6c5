"""A small space and the facts of a run, for tests that need a run's folder and no search."""

from __future__ import annotations

from spquant_search.runs.records import RunFacts
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import SpaceFile

TEXT = """\
data: {name: fashion-events}
time_steps: 3
model: {network: vgg9}
layers: {all: {weight_bits: [2, 4]}}
"""
FACTS = RunFacts(
    source="spaces/tiny.yaml",
    command="spquant-search --space spaces/tiny.yaml",
    data="simulated",
    classes=tuple("0123456789"),
    validation_samples=128,
    test_samples=128,
)


def a_space(*overrides: str) -> SpaceFile:
    return parse_space(TEXT, source="s.yaml", overrides=overrides)
