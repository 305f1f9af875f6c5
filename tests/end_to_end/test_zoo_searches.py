"""Small networks of SpikingJelly's zoo, searched, picked and verified: PyTorch, numpy and C agree in everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from importer.livening import liven
from importer.zoo_networks import SMALL
from long_forms import LONG

from spquant_search import from_torch, search
from spquant_search.deploy.c_library import compiler

STEPS, CLASSES, LARGEST = 2, 10, 3
SHORT = ("nmnist", "sew-resnet18")
NAMES = tuple(name for name in SMALL if name != "dvs-gesture")  # which has eleven classes
SETTINGS = {"supernet.epochs": 1, "final.members": 1, "train.batch_size": 10, "search.budget_ladder": 0}
ASKED: dict[str, Any] = {"bits": [2, 4, 8], "levels": [3, 16, 256], "trials": 2, "workers": 1, "settings": SETTINGS}
ASKED |= {"device": "cpu", "progress": False}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES if LONG else SHORT)
def test_a_network_of_the_zoo_is_searched_picked_and_verified(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    monkeypatch.setenv("SPQUANT_COMPILE", "0")
    given, labels = SMALL[name], np.arange(2 * CLASSES) % CLASSES
    train, validation, test = np.random.default_rng(0).integers(
        0, LARGEST + 1, (3, len(labels), STEPS, *given.shape[1:]), dtype=np.uint8
    )
    example = torch.from_numpy(train[:2]).transpose(0, 1).float()
    network = from_torch(liven(given.made(), example, given.run), example, axes="TBCHW", run=given.run)
    splits = {"train": (train, labels), "validation": (validation, labels), "test": (test, labels)}
    run = search(network, out=tmp_path / "run", **splits, **ASKED)
    picked = run.pick()
    picked.export(tmp_path / "picked")
    found = picked.verify()
    implementations = {"PyTorch", "C"} if compiler() else {"PyTorch"}
    assert found.mismatches == dict.fromkeys(implementations, 0)
    assert found.samples == len(labels)
