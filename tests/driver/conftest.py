"""The laboratory of tests of whole searches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from driver.lab import Lab, Proposes
from optuna.samplers import BaseSampler

from spquant_search.driver.study import Study


@pytest.fixture
def new_lab(tmp_path: Path) -> Callable[..., Lab]:
    """Make a laboratory with a run of its own."""

    def make(*overrides: str, name: str = "run") -> Lab:
        return Lab(tmp_path / name, *overrides)

    return make


@pytest.fixture
def repeats_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial 2 of every search is proposed with the configuration of trial 1, its only reference."""
    sampler_of = Study._sampler

    def sampler(study: Study, number: int) -> BaseSampler:
        return Proposes(study._study.trials[1].params) if number == 2 else sampler_of(study, number)

    monkeypatch.setattr(Study, "_sampler", sampler)
