"""SpikingJelly's own networks at full width: imported and proved, or refused by name. Minutes long."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from importer.libraries import spikingjelly, zoo
from importer.livening import liven
from importer.zoo_networks import FULL, built
from long_forms import LONG

from spquant_search.importer import NotImportable, from_torch, read_network

pytestmark = pytest.mark.slow
LARGE = ("cifar10", "cifar10-dvs", "dvs-gesture", "vgg11")  # half a minute each, and like others


@pytest.mark.parametrize("name", [name for name in FULL if LONG or name not in LARGE])
def test_a_network_of_the_zoo_is_imported_and_proved(name: str) -> None:
    given = FULL[name]
    example = torch.randint(0, 4, (3, *given.shape), generator=torch.Generator().manual_seed(0)).float()
    made = from_torch(liven(given.made(), example, given.run), example, axes="TBCHW", run=given.run)
    for proof in made.proofs.values():
        # Of millions of potentials one may lie at its threshold, and what rounding decides there goes on from it.
        assert proof.differ < 1e-3 * proof.neuron_steps
        assert all(layer.holds and layer.forced_differ <= 2 for layer in proof.layers)
        assert all(layer.membrane_error is not None and layer.membrane_error < 2e-5 for layer in proof.layers)
    assert not any("spiked" in note for note in made.notes)


@pytest.mark.parametrize(
    ("module", "name", "given", "reason"),
    [
        ("sew_resnet", "sew_resnet18", {"cnf": "IAND"}, "layer1.0: mul: a product of two signals has no form"),
        ("spikformer", "spikformer_ti", {}, "blocks.0.attn"),
    ],
)
def test_a_network_without_a_form_is_refused_by_name(module: str, name: str, given: Any, reason: str) -> None:
    network = built(module, name, **given) if given else getattr(zoo(module), name)()
    spikingjelly("functional").set_step_mode(network, "m")
    size = 224 if module == "spikformer" else 32
    with pytest.raises(NotImportable, match=reason):
        read_network(network, torch.rand(2, 2, 3, size, size), axes="TBCHW")
