"""Weights to files and back, of networks in which a layer has two names."""

from __future__ import annotations

from pathlib import Path

import torch
from own_networks import SHAPE
from safetensors.torch import load_file
from torch import nn

from spquant_search.snn import Readout, SpikingConv2d
from spquant_search.space.schema import Training
from spquant_search.training.network import _copied_together, load_weights, write_tensors, write_weights
from spquant_search.training.optimizer import GATE_RATE, new_optimizer
from spquant_search.training.schedule import Schedule


class Listed(nn.Module):
    """Every layer has two names."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = SpikingConv2d(2, 4)
        self.layers = nn.ModuleList([self.stem, Readout(4, SHAPE.height * SHAPE.width, 3)])
        self.readout = self.layers[1]


def test_a_layer_of_two_names_is_written_and_read(tmp_path: Path) -> None:
    written, read = Listed(1), Listed(2)
    write_weights(written, tmp_path / "w.safetensors")
    load_weights(read, tmp_path / "w.safetensors")
    assert torch.equal(written.stem.weight, read.stem.weight)
    assert torch.equal(written.readout.linear.weight, read.readout.linear.weight)
    assert read.layers[0] is read.stem


def test_what_a_later_file_has_by_the_first_name_holds_for_both(tmp_path: Path) -> None:
    """As a subnet's statistics do, which are written by the first name alone."""
    written, read = Listed(1), Listed(2)
    write_weights(written, tmp_path / "w.safetensors")
    write_tensors({"stem.norm.running_mean": torch.full((4,), 7.0)}, tmp_path / "s.safetensors")
    load_weights(read, tmp_path / "w.safetensors", tmp_path / "s.safetensors")
    assert read.stem.norm is not None
    assert read.stem.norm.running_mean.tolist() == [7.0] * 4


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    tensor = torch.arange(6.0)
    write_tensors({"a": tensor, "b": tensor[:3], "c": tensor}, tmp_path / "t.safetensors")
    found = load_file(tmp_path / "t.safetensors")
    assert {name: values.tolist() for name, values in found.items()} == {
        "a": tensor.tolist(),
        "b": [0.0, 1.0, 2.0],
        "c": tensor.tolist(),
    }


def test_a_module_called_gate_learns_as_all_others_do() -> None:
    network = nn.ModuleDict({"features": nn.ModuleDict({"gate": SpikingConv2d(2, 4)})})
    layer = network["features"]["gate"]  # type: ignore[index]
    groups = new_optimizer(network, Training(), Schedule(epochs=1, learning_rate=1e-3)).param_groups
    by_rate = {group["rate"]: {id(parameter) for parameter in group["params"]} for group in groups[1:]}
    assert by_rate[GATE_RATE] == {id(parameter) for parameter in layer.gate.parameters()}
    assert id(layer.weight) in {id(parameter) for parameter in groups[0]["params"]}


def test_tensors_of_all_types_and_shapes_are_copied_together() -> None:
    tensors = {
        "scalar": torch.tensor(7),
        "flags": torch.tensor([True, False, True]),
        "kernel": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "none": torch.empty(0, 3),
        "half": torch.tensor([1.5], dtype=torch.float16),
        "exact": torch.randn(3, 2, dtype=torch.float64).T,
    }
    found = _copied_together(tensors)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)
        assert found[name].is_contiguous()
        assert found[name].data_ptr() != tensor.data_ptr() or name == "none"
