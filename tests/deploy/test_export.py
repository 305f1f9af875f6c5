"""An exported network gives the same spikes and logits in PyTorch, numpy and C, and always the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy.networks import ABOUT, TIME, a_network, loaded, mixed, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.export import Export, export
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.space.shapes import InputShape

SANITIZED = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=undefined")


def assert_all_agree(network: nn.Module, shape: InputShape, frames: NDArray[np.uint8], tmp_path: Path) -> float:
    """Compare PyTorch, numpy and C; return the share of neurons that spiked."""
    deployed = export(network, shape, frames, time_steps=TIME, about=ABOUT)
    model = loaded(deployed)
    form = model.manifest["network"]
    outcome = model.run(frames)
    seen = run_in_pytorch(network, frames, form)
    assert outcome.spikes.keys() == seen.spikes.keys()
    for layer, fired in outcome.spikes.items():
        np.testing.assert_array_equal(fired, seen.spikes[layer], err_msg=layer)
    np.testing.assert_array_equal(outcome.predictions, seen.logits.argmax(axis=1))
    np.testing.assert_array_equal(seen.logits / form["steps"][-1]["unit"], outcome.logits)
    cc = compiler()
    if cc is not None:
        folder = written(deployed, tmp_path / "deployed")
        library = CLibrary(folder, form, cc=cc, work=tmp_path, flags=SANITIZED)
        in_c = library.run(frames)
        for layer, fired in outcome.spikes.items():
            np.testing.assert_array_equal(in_c.spikes[layer], fired, err_msg=layer)
        np.testing.assert_array_equal(in_c.logits, outcome.logits)
    return float(np.mean([fired.mean() for fired in outcome.spikes.values()]))


NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("vgg9", {"pool": "before"}),
    ("vgg9", {"pool": "after", "learn": True, "size": 17}),
    ("resnet19", {"width": 1 / 32}),
    ("resnet19", {"width": 1 / 32, "learn": True}),
    ("resnet34", {"width": 1 / 32, "size": 32, "pool": "after"}),
    ("spikformer4-256", {"size": 8}),
    ("spikformer4-256", {"size": 8, "learn": True}),
    ("mobilenet", {"width": 1 / 8}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=[f"{name} {options}" for name, options in NETWORKS])
def test_every_network_spikes_alike_in_pytorch_numpy_and_c(
    name: str, options: dict[str, Any], tmp_path: Path, plain_neurons: None
) -> None:
    rate = assert_all_agree(*a_network(name, seed=len(options), **options), tmp_path)
    assert 0.01 < rate < 0.9, "a network that is silent shows nothing"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    pool=st.sampled_from(["before", "after"]),
    learn=st.booleans(),
    largest=st.sampled_from([1, 15]),
)
def test_random_small_networks_spike_alike(
    tmp_path_factory: pytest.TempPathFactory, plain_neurons: None, seed: int, pool: str, learn: bool, largest: int
) -> None:
    made = a_network("vgg9", seed=seed, width=1 / 32, pool=pool, learn=learn, largest=largest)
    assert_all_agree(*made, tmp_path_factory.mktemp("random"))


@pytest.mark.parametrize("seed", range(4))
def test_a_users_network_spikes_alike(seed: int, tmp_path: Path, plain_neurons: None) -> None:
    assert assert_all_agree(*mixed(seed), tmp_path) > 0.01


def test_the_same_network_gives_the_same_bytes(deployed: Export, plain_neurons: None) -> None:
    network, shape, frames = a_network("vgg9", seed=3, width=1 / 32)
    again = export(network, shape, frames, time_steps=TIME, about=ABOUT)
    assert (again.manifest, again.files) == (deployed.manifest, deployed.files)
