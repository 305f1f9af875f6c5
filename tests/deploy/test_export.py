"""An exported network gives the same spikes and logits in PyTorch, numpy and C, and always the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deploy.agreement import assert_all_agree
from deploy.networks import ABOUT, TIME, a_network, mixed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spquant_search.deploy.export import Export, export
from spquant_search.snn.networks import catalog

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("vgg9", {"pool": "before"}),
    ("vgg9", {"pool": "after", "learn": True, "size": 17}),
    ("vgg5", {"pool": "before", "size": 8}),
    ("vgg5", {"pool": "after", "size": 13, "learn": True}),
    ("resnet19", {"width": 1 / 32}),
    ("resnet19", {"width": 1 / 32, "learn": True}),
    ("resnet34", {"width": 1 / 32, "size": 32, "pool": "after"}),
    ("spikformer4-256", {"size": 8}),
    ("spikformer4-256", {"size": 8, "learn": True}),
    ("mobilenet", {"width": 1 / 8}),
]


def test_every_network_is_among_them() -> None:
    assert {name for name, _ in NETWORKS} == set(catalog.NETWORKS)


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
