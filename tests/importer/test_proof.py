"""The proof refuses what is nearly right, with the layer and the time step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from importer.libraries import spikingjelly
from importer.livening import liven
from importer.spikingjelly_networks import MultiStep

from spquant_search.importer import NotImportable, read_network
from spquant_search.importer.description import Description
from spquant_search.importer.folding import folded
from spquant_search.importer.operations import Convolution, Pool, Spiking
from spquant_search.importer.proof import check, prove
from spquant_search.importer.recording import Recording, record


@pytest.fixture(scope="module")
def recording() -> Recording:
    torch.manual_seed(0)
    example = 2 * torch.rand(4, 3, 2, 16, 16)
    return record(liven(MultiStep(), example), example, "TBCHW")


def changed(description: Description, number: int, **values: Any) -> Description:
    """Return a description one of whose operations has other values."""
    node = description.layers[number]
    operation: Any = replace(node.operation, **values)  # type: ignore[type-var]
    return replace(description, layers={**description.layers, number: replace(node, operation=operation)})


def leak(description: Description) -> Description:
    number = description.neurons[0]
    form = description.layers[number].operation.form  # type: ignore[union-attr]
    return changed(description, number, form=replace(form, leak=0.99 * form.leak))


def reset(description: Description) -> Description:
    number = description.neurons[1]
    form = description.layers[number].operation.form  # type: ignore[union-attr]
    return changed(description, number, form=replace(form, reset="subtract"))


def weights(description: Description) -> Description:
    numbers = [n for n, node in description.layers.items() if isinstance(node.operation, Convolution)]
    operation = description.layers[numbers[1]].operation
    assert isinstance(operation, Convolution)
    return changed(description, numbers[1], weight=1.001 * operation.weight)


def pooling(description: Description) -> Description:
    (number,) = [n for n, node in description.layers.items() if getattr(node.operation, "kind", "") == "max"]
    assert isinstance(description.layers[number].operation, Pool)
    return changed(description, number, kind="average")


@pytest.mark.parametrize(("fault", "layer"), [(leak, "2"), (reset, "5"), (weights, "5"), (pooling, "5")])
def test_what_is_nearly_right_is_refused(
    recording: Recording, fault: Callable[[Description], Description], layer: str
) -> None:
    right = folded(recording)
    check({"the example": prove(recording, right)})
    with pytest.raises(NotImportable) as caught:
        check({"the example": prove(recording, fault(right))})
    (reason,) = caught.value.reasons
    assert reason.module == layer
    assert "its membranes differ by up to" in reason.why
    assert "in time step" in reason.why


def test_a_neuron_that_only_looks_like_its_class_is_refused_by_name() -> None:
    neuron = spikingjelly("neuron")

    class Noisy(neuron.LIFNode):  # type: ignore[misc, name-defined]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = super().forward(0.98 * x)
            return out

    torch.manual_seed(0)
    network = MultiStep()
    network[2] = Noisy(step_mode="m")
    with pytest.raises(NotImportable) as caught:
        read_network(network, 2 * torch.rand(4, 3, 2, 16, 16))
    assert {reason.module for reason in caught.value.reasons} == {"2"}
    assert "2: neuron: its membranes differ by up to" in str(caught.value)


def test_ties_are_rounding_and_are_told() -> None:
    torch.manual_seed(0)
    network = MultiStep()
    for parameter in network.parameters():
        parameter.data.copy_((parameter.data * 8).round() / 8)
    read = read_network(network, torch.randint(0, 4, (4, 3, 2, 16, 16)).float())
    assert all(layer.largest_margin <= 1e-5 for proof in read.proofs.values() for layer in proof.layers)


def test_an_output_alone_that_differs_is_refused(recording: Recording) -> None:
    wrong = replace(recording, logits=recording.logits + 0.01 * recording.logits.abs().max())
    with pytest.raises(NotImportable, match=r"output: it differs by 0\.0099 of its largest value on the example"):
        check({"the example": prove(wrong, folded(recording))})


def test_membranes_are_compared_in_every_layer(recording: Recording) -> None:
    description = folded(recording)
    assert len(description.neurons) == 3
    assert all(isinstance(description.layers[number].operation, Spiking) for number in description.neurons)
    assert all(layer.membrane_error is not None for layer in prove(recording, description).layers)
