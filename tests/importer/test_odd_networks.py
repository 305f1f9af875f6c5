"""Networks that nobody listed are imported exactly, or refused by a sentence that says what to change."""

from __future__ import annotations

import pytest
import torch
from importer.libraries import snntorch, spikingjelly
from importer.livening import liven
from importer.odd_networks import IMAGES, NETWORKS, grouped, lif
from torch import Tensor, nn

from spquant_search.importer import NotImportable, from_torch

AXES = {5: "TBCHW", 4: "TBCL", 3: "TBC"}


def example_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_exact_or_refused_in_plain_words(name: str) -> None:
    torch.manual_seed(0)
    odd = NETWORKS[name]
    example = example_of(odd.shape)
    network = liven(odd.make(), example)
    if odd.refused:
        with pytest.raises(NotImportable, match=odd.refused):
            from_torch(network, example, axes=AXES[example.dim()])
        return
    made = from_torch(network, example, axes=AXES[example.dim()])
    assert all(proof.differ == 0 for proof in made.proofs.values())
    assert made.neurons


def weights_of(network: nn.Module) -> dict[str, list[float]]:
    """Return what an import sets; gates draw theirs."""
    return {name: values.tolist() for name, values in network.state_dict().items() if "gate" not in name}


def test_a_network_in_training_that_was_not_reset_is_imported_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    example = example_of(IMAGES)
    network = liven(grouped(), example)
    expected = weights_of(from_torch(network, example))
    network(example)
    network.train()
    assert weights_of(from_torch(network, example)) == expected
    assert all(module.training for module in network.modules())


def test_coarse_numbers_are_refused() -> None:
    network, example = grouped(), example_of(IMAGES)
    with pytest.raises(NotImportable, match=r"precision: layers.0.weight and \d+ more in torch.float16: membr"):
        from_torch(network.half(), example.half())
    with pytest.raises(NotImportable, match=r"layers.0.weight and \d+ more in torch.bfloat16.*give network.float\(\)"):
        from_torch(network.bfloat16(), example)


def test_weights_that_are_no_numbers_are_refused() -> None:
    network = grouped()
    network.layers[0].weight.data[0, 0, 0, 0] = float("nan")  # type: ignore[index, union-attr, operator]
    network.layers[3].running_var[1] = float("inf")  # type: ignore[index, union-attr]
    with pytest.raises(
        NotImportable, match=r"weights: layers[.]0[.]weight and 1 more with infinite numbers, or such that are"
    ):
        from_torch(network, example_of(IMAGES))


def test_float64_is_imported() -> None:
    torch.manual_seed(0)
    example = example_of(IMAGES)
    assert from_torch(liven(grouped(), example).double(), example.double()).neurons


def test_spikes_that_are_none_are_refused() -> None:
    surrogate = spikingjelly("surrogate")
    network = nn.Sequential(nn.Flatten(2), nn.Linear(72, 4), lif(surrogate_function=surrogate.Sigmoid(spiking=False)))
    spikingjelly("functional").set_step_mode(network, "m")
    with pytest.raises(NotImportable, match="LIFNode: what it gives are other numbers than spikes of 0 and 1; give"):
        from_torch(network, example_of(IMAGES))


def test_membranes_of_neurons_that_reset_are_refused_and_their_spikes_are_not() -> None:
    snn = snntorch()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(72, 4), snn.Leaky(0.9)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mem, spikes, membranes = self.lif.init_leaky(), [], []
            for frame in x.flatten(2):
                spk, mem = self.lif(self.fc(frame), mem)
                spikes.append(spk)
                membranes.append(mem)
            return torch.stack(spikes), torch.stack(membranes)

    torch.manual_seed(0)
    example = example_of(IMAGES)
    network = liven(Both(), example)
    assert from_torch(network, example).neurons
    with pytest.raises(NotImportable, match="have their spikes counted, with output=0 where it returns those first"):
        from_torch(network, example, output=1)
