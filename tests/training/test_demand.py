"""What training takes at least, against the memory of the machine."""

from __future__ import annotations

import pytest
from searches import TINY

from spquant_search.errors import SpaceError
from spquant_search.training import demand
from spquant_search.training.demand import require_memory
from spquant_search.training.prepare import prepare


def test_a_network_that_no_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(TINY, ["model.width=64", "time_steps=10000", "train.batch_size=1000000"])
    weights, neurons = (sum(getattr(shape, kind) for shape in prepared.shapes) for kind in ("weights", "neurons"))
    monkeypatch.setattr(demand, "_memory_bytes", lambda: 8 * 2**30)
    with pytest.raises(SpaceError) as caught:
        require_memory(prepared, samples=512)
    of_weights, of_samples = caught.value.problems
    assert of_weights.key == "model.width"
    assert f"take {weights * 16 / 2**30:,.1f} GiB in training, where this machine has 8.0 GiB" in of_weights.sentence
    assert of_samples.key == "train.batch_size"
    assert f"512 samples of 10,000 time steps take {512 * 10_000 * neurons * 4 / 2**30:,.1f} GiB" in of_samples.sentence


def test_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(TINY)
    require_memory(prepared, samples=512)  # on any machine that runs these tests
    monkeypatch.setattr(demand, "_memory_bytes", lambda: None)  # a system that does not say
    require_memory(prepare(TINY, ["model.width=64"]), samples=512)
