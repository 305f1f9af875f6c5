"""Nothing is left on another device than the network's: proved on the meta device, and on a GPU where there is one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from on_a_gpu import NEEDS_A_GPU
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import Augmentation, ModelSpace, NeuronSpace, Training
from spquant_search.space.shapes import InputShape
from spquant_search.training.augmentation import Moves, augmented, draw_moves, moved
from spquant_search.training.evaluation import evaluate
from spquant_search.training.loader import DeviceSplit, HostSplit
from spquant_search.training.loop import TrainingRun, train, train_step
from spquant_search.training.optimizer import new_optimizer
from spquant_search.training.schedule import Schedule

SHAPE = InputShape(channels=2, height=16, width=16, classes=3)
MODEL = ModelSpace(network="vgg9", width=1 / 32, pool="after")
RECIPE = Training(precision="bf16", batch_size=4)
NEURON = NeuronSpace()

gpu = NEEDS_A_GPU[1]


def sparse(network: nn.Module) -> nn.Module:
    """Quantized, with every gate and every skip mask on."""
    layers = {}
    for name, layer in searchable_layers(network).items():
        if not isinstance(layer, SpikingConv2d):
            layers[name] = LayerPrecision(weight_bits=4, membrane_levels=None)
            continue
        mass = 1.0 if layer.gate is None else 0.8
        layers[name] = LayerPrecision(weight_bits=4, membrane_levels=3, channel_mass=mass, skip_below=0.0)
    configure(network, NetworkConfig(time_steps=3, layers=tuple(layers.items())), NEURON)
    return network


class Devices(TorchDispatchMode):
    """Collects the devices of everything that is computed, single numbers aside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        self.seen |= {leaf.device.type for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.dim() > 0}
        return out


def test_a_training_step_leaves_nothing_on_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_options: nullcontext())  # it does not know this device
    with torch.device("meta"):
        network = sparse(build(MODEL, SHAPE, source="test")).train()
        frames = torch.empty(4, 3, 2, 16, 16, dtype=torch.uint8)
        labels = torch.empty(4, dtype=torch.int64)
    batch = DeviceSplit(frames=frames, labels=labels, time_steps=3, largest=15)
    optimizer = new_optimizer(network, RECIPE, Schedule(epochs=1, learning_rate=1e-3))
    with Devices() as devices:
        loss = train_step(network, batch, RECIPE, optimizer)
    assert devices.seen == {"meta"}
    assert loss.is_meta
    tensors = [*network.parameters(), *network.buffers(), *(parameter.grad for parameter in network.parameters())]
    assert {tensor.device.type for tensor in tensors if tensor is not None} == {"meta"}


def recordings(device: str) -> DeviceSplit:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 4, (16, 3, 2, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (16,), generator=generator)
    return DeviceSplit(frames=frames.to(device), labels=labels.to(device), time_steps=3, largest=15)


@pytest.mark.gpu
@gpu
def test_a_gpu_is_sent_the_batches_that_it_would_hold() -> None:
    held, host = recordings("cuda"), recordings("cpu")
    sent = HostSplit(frames=host.frames, labels=host.labels, time_steps=3, largest=15, device=torch.device("cuda"))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    pairs = list(zip(sent.batches(3, order=order), held.batches(3, order=order), strict=True))
    assert len(pairs) == 6
    for batch, expected in pairs:
        assert batch.frames.is_cuda
        assert torch.equal(batch.frames, expected.frames)
        assert torch.equal(batch.labels, expected.labels)


@pytest.mark.gpu
@gpu
def test_augmentation_on_a_gpu_waits_for_nothing_and_repeats() -> None:
    frames = recordings("cuda").frames
    options = Augmentation(flip=True, roll=3, crop=2, event_drop=1.0)
    found = []
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [augmented(frames, options, seed=5) for _ in range(2)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found[0], found[1])
    assert (found[0].sum(dim=(1, 2, 3, 4)) <= frames.sum(dim=(1, 2, 3, 4))).all()
    moves = draw_moves(16, options, torch.Generator("cuda").manual_seed(0))
    on_processor = moved(frames.cpu(), Moves(*(one.cpu() for one in moves)))
    assert torch.equal(moved(frames, moves).cpu(), on_processor)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_fp16_trains_with_a_scaled_loss_and_clipped_gradients(optimizer: str) -> None:
    torch.manual_seed(0)
    network = sparse(build(MODEL, SHAPE, source="test")).cuda()
    before = {name: value.clone() for name, value in network.named_parameters()}
    recipe = replace(RECIPE, precision="fp16", optimizer=optimizer, max_grad_norm=1.0)
    data = recordings("cuda")
    schedule = Schedule(epochs=2, learning_rate=1e-3)
    epochs = list(train(TrainingRun(network=network, training=data, recipe=recipe, schedule=schedule, seed=0), data))
    assert all(math.isfinite(metrics.loss) for metrics, _ in epochs)
    assert not all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


@pytest.mark.gpu
@gpu
def test_a_network_trains_on_a_gpu_and_evaluates_there_as_on_the_processor() -> None:
    torch.manual_seed(0)
    network = sparse(build(MODEL, SHAPE, source="test")).cuda()
    data = recordings("cuda")
    schedule = Schedule(epochs=2, learning_rate=1e-3)
    epochs = list(train(TrainingRun(network=network, training=data, recipe=RECIPE, schedule=schedule, seed=0), data))
    assert all(torch.isfinite(torch.tensor(metrics.loss)) for metrics, _ in epochs)
    on_gpu, on_processor = evaluate(network, data), evaluate(network.cpu(), recordings("cpu"))
    # Sums of integers are exact on both, and no product in double precision is rounded; the readout's weights are.
    assert on_gpu.accuracy == pytest.approx(on_processor.accuracy, abs=1 / 16)
    assert on_gpu.effective_macs == pytest.approx(on_processor.effective_macs, rel=1e-3)
