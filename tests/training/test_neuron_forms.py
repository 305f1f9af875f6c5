"""What a space says of its neurons, and of what they cannot have."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn

from spquant_search.errors import SpaceError
from spquant_search.snn import InputShape, NeuronForm, Readout, Spikes, SpikingConv2d
from spquant_search.training.prepare import prepare

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
CUTS = "layers.all.skip_below=[none, 0]"


class Two(nn.Module):
    """A layer of the space's neurons, and one of neurons of its own."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        self.first = SpikingConv2d(shape.channels, 4, pool="before", can_gate=False)
        self.own = SpikingConv2d(4, 4, pool="before", neuron=NeuronForm(leak=0.9, reset="subtract"))
        positions = (shape.height // 4) * (shape.width // 4)
        self.readout = Readout(4, positions, shape.classes, membrane="last", leak=0.7)

    def forward(self, spikes: Spikes) -> Tensor:
        logits: Tensor = self.readout(self.own(self.first(spikes)))
        return logits


def problems(*overrides: str) -> list[str]:
    with pytest.raises(SpaceError) as error:
        prepare(TINY, overrides)
    return [str(problem) for problem in error.value.problems]


OWN = f"model.build={__name__}:Two"


def test_leaks_that_are_rounded_are_said() -> None:
    assert not [note for note in prepare(TINY).notes if "leak" in note]
    assert not [note for note in prepare(TINY, ["neuron.leak=1", "layers.all.skip_below=none"]).notes if "leak" in note]
    notes = prepare(TINY, ["neuron.leak=0.9", "layers.all.skip_below=none"]).notes
    assert "conv1, conv2, conv3, conv4, conv5 and 3 more: a leak of 0.9 is 3686/4096 = 0.899902 in integers" in notes
    notes = prepare(TINY, [OWN]).notes
    assert "own: a leak of 0.9 is 3686/4096 = 0.899902 in integers" in notes
    assert "readout: a leak of 0.7 is 2867/4096 = 0.699951 in integers" in notes


@pytest.mark.parametrize("key", ["neuron.leak=0.6", "neuron.learn_leak=true"])
def test_masks_that_might_skip_for_ever_are_refused(key: str) -> None:
    reason = (
        "with a leak above 1/2, or one that is learned, a potential may be stored below the cut for ever, and its "
        "neuron would be skipped for ever"
    )
    assert problems(key, CUTS) == [
        f"layers.all.skip_below: {reason}; remove the key, or take a fixed neuron.leak of at most 0.5"
    ]
    assert problems(key, "layers.all.skip_below=none", "layers.conv2.skip_below=[none, 0]") == [
        f"layers.conv2.skip_below: {reason}; remove the key"
    ]
    prepare(TINY, ["neuron.leak=0.125", CUTS])


def test_masks_are_left_out_in_layers_that_might_skip_for_ever() -> None:
    prepared = prepare(TINY, [OWN, CUTS])
    cuts = {layer.name: layer.skip_below for layer in prepared.space.layers}
    assert cuts == {"first": (None, 0.0), "own": (None,), "readout": (None,)}
    assert (
        "own: layers.all.skip_below is left out, as with a leak above 1/2 a neuron could be skipped for ever"
        in prepared.notes
    )
