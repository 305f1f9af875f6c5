"""What training takes at least, against the memory of the machine."""

from __future__ import annotations

import pytest
import torch
from searches import TINY

from spquant_search.errors import SpaceError
from spquant_search.runs.work import SampleCounts, search_work
from spquant_search.training import demand
from spquant_search.training.demand import IMPORTED_BYTES, memory_demand, require_memory, run_bytes
from spquant_search.training.network import new_network, write_weights
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


# ---------------------------------------------------------------- what a search takes


SAMPLES = SampleCounts(train=512, validation=128, test=128)


def test_memory_grows_with_batches_steps_and_trainers():
    small = memory_demand(prepare(TINY), SAMPLES)
    assert small.total_bytes == 2 * small.trainer_bytes + IMPORTED_BYTES
    assert small.trainer_bytes == max(small.training_bytes, small.evaluation_bytes)
    large = memory_demand(prepare(TINY, ["train.batch_size=160", "time_steps=6"]), SAMPLES)
    fixed = IMPORTED_BYTES + 16 * sum(shape.weights for shape in prepare(TINY).shapes)
    assert large.training_bytes - fixed == pytest.approx(20 * (small.training_bytes - fixed), abs=20)
    assert large.evaluation_bytes - fixed == pytest.approx(2 * (small.evaluation_bytes - fixed), abs=2)
    # No batch is larger than the samples that there are.
    few = SampleCounts(train=16, validation=8, test=8)
    one = memory_demand(prepare(TINY, ["train.batch_size=160"]), few)
    assert one.training_bytes == memory_demand(prepare(TINY), few).training_bytes


def test_the_precision_of_training_counts():
    by_name = {
        name: memory_demand(prepare(TINY, [f"train.precision={name}"]), SAMPLES).training_bytes
        for name in ("fp32", "bf16")
    }
    assert by_name["bf16"] < by_name["fp32"]


def test_a_files_bytes_are_known_to_a_few_percent(tmp_path):
    prepared = prepare(TINY, ["neuron.learn_threshold=true"])
    network = new_network(prepared.space.file, prepared.input, seed=0, device=torch.device("cpu"))
    write_weights(network, tmp_path / "all")
    weights, _ = demand._file_bytes(prepared)
    size = (tmp_path / "all").stat().st_size
    assert size <= weights <= 1.1 * size


def test_a_run_takes_no_more_than_is_said():
    prepared = prepare(TINY)
    parts = search_work(prepared.space, SAMPLES, trials=4)
    weights, statistics = demand._file_bytes(prepared)
    # Baseline, supernet, two finalists; four subnets; two checkpoints; the logits; tables of 7 trials of 9 layers.
    kept = 4 * weights + 4 * statistics + 2 * 4 * weights + 4 * 10 * 512
    assert run_bytes(prepared, parts, classes=10, train_samples=512) == kept + 7 * 9 * 4096 + 2 * 2**20
