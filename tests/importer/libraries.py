"""The two libraries and nir, where installed; and torchvision, which SpikingJelly's networks import, as a stub."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType
from typing import Any

import pytest


def spikingjelly(name: str) -> Any:
    """Import a module of SpikingJelly's activation_based, or skip the test."""
    return _imported(f"spikingjelly.activation_based.{name}", "spikingjelly")


def snntorch(name: str = "") -> Any:
    """Import snnTorch or a module of it, or skip the test."""
    return _imported(f"snntorch.{name}" if name else "snntorch", "snntorch")


def nir(name: str = "") -> Any:
    """Import nir or a module of it, or skip the test."""
    return _imported(f"nir.{name}" if name else "nir", "nir")


def zoo(name: str) -> Any:
    """Import a module of SpikingJelly's own networks, or skip the test.

    Some import torchvision for weights to download, which does not load beside a torch for processors: a stub takes its
    place while they are imported.
    """
    stubs = {key: ModuleType(key) for key in ("torchvision", "torchvision._internally_replaced_utils")}
    stubs["torchvision._internally_replaced_utils"].load_state_dict_from_url = None  # type: ignore[attr-defined]
    before = {key: sys.modules.get(key) for key in stubs}
    sys.modules.update(stubs)
    try:
        return _imported(f"spikingjelly.activation_based.model.{name}", "spikingjelly")
    finally:
        for key, was in before.items():
            if was is None:
                del sys.modules[key]
            else:
                sys.modules[key] = was


def _imported(name: str, package: str) -> Any:
    pytest.importorskip(package, reason=f"{package} is not installed: the extra [dev] brings it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
