"""Channels in another order: the same logits, spikes and operations in numpy, C and PyTorch, whatever the network is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deploy.agreement import SANITIZED, STRICT
from deploy.named_networks import BUILDERS as NAMED
from deploy.networks import ABOUT, TIME, Choices, a_network, loaded, mixed, needs_compiler, written
from deploy.odd_networks import an_odd_network
from deploy.test_combinations import FORMS, READERS, WITHOUT_CONVOLUTION, network_of
from deploy.test_export import NETWORKS
from deploy.test_layer_forms import CHOICES, Everything, drawn_network, prepared
from deploy.test_readouts import READOUTS, SHAPE, ending
from numpy.typing import NDArray
from torch import nn

from spquant_search.deploy import export as export_module
from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.c_source import c_source
from spquant_search.deploy.channel_order import Order
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.export import manifest_and_weights
from spquant_search.deploy.integer_form import IntegerNetwork, integer_network
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.deploy.reference import Model, ModelOutputs
from spquant_search.deploy.reordering import SharedOrder, reordered, shared_orders
from spquant_search.space.shapes import InputShape

Made = tuple[nn.Module, InputShape, NDArray[np.uint8]]


def everything(seed: int) -> Made:
    torch.manual_seed(seed)
    shape = InputShape(channels=2, height=13, width=20, classes=3)
    network, frames = prepared(Everything(shape), shape, seed, CHOICES)
    return network, shape, frames


def drawn_order(shared: SharedOrder, generator: np.random.Generator) -> Order:
    cell = np.searchsorted(np.array(shared.cells), np.arange(shared.channels), side="right")
    return np.lexsort((generator.random(shared.channels), cell))


def run(form: IntegerNetwork, frames: NDArray[np.uint8]) -> tuple[Model, bytes, ModelOutputs]:
    description, weights = manifest_and_weights(form)
    model = Model.of(description, weights)
    return model, weights, model.run(frames)


def assert_equal_in_any_order(made: Made, seed: int, tmp_path: Path | None = None) -> int:
    """Give every map a drawn order and compare; return how many layers' spikes have moved."""
    network, shape, frames = made
    form = integer_network(network, shape, time_steps=frames.shape[1])
    orders = {shared: drawn_order(shared, np.random.default_rng(seed)) for shared in shared_orders(form)}
    other = reordered(form, orders)
    _, _, expected = run(form, frames)
    model, weights, found = run(other, frames)
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.operations == expected.operations
    of_steps = {name: order for shared, order in orders.items() for name in shared.steps}
    moved = 0
    for name, fired in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], fired[..., of_steps[name]], err_msg=name)
        moved += bool((found.spikes[name] != fired).any())
    in_pytorch = run_in_pytorch(network, frames, model.manifest["network"])
    for name, fired in found.spikes.items():
        np.testing.assert_array_equal(in_pytorch.spikes[name], fired, err_msg=name)
    if tmp_path is not None and compiler() is not None:
        c = c_source(model, weights, DeviceFacts())
        for file, text in (("model.h", c.header), ("model.c", c.source)):
            (tmp_path / file).write_text(text)
        library = CLibrary(
            tmp_path, model.manifest["network"], cc=str(compiler()), work=tmp_path, flags=(*STRICT, *SANITIZED)
        )
        in_c = library.run(frames)
        np.testing.assert_array_equal(in_c.logits, found.logits)
        assert in_c.operations == sum(found.operations.values())
        for name, fired in found.spikes.items():
            np.testing.assert_array_equal(in_c.spikes[name], fired, err_msg=name)
    return moved
