"""Networks of layers that are drawn at random are imported exactly or refused; nothing else happens to them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from importer.libraries import snntorch, spikingjelly
from importer.livening import liven
from torch import Tensor, nn

from spquant_search.importer import NotImportable, from_torch
from spquant_search.importer.libraries import reset_states

Step = Callable[[list[Tensor]], Tensor]  # makes the next signal of all before it


class Drawn(nn.Module):
    """A program of random steps, each on the signal before it; some add an earlier one of the same shape."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance, self.parts = random.Random(seed), nn.ModuleList()
        self.program: list[Step] = []
        shapes = [(2, 8, 8)]
        for _ in range(self.chance.randint(4, 14)):
            shapes.append(self._extended(shapes))
        if len(shapes[-1]) == 3:
            shapes.append(self._take(nn.Flatten(), shapes))
        if self.chance.random() < 0.7:
            shapes.append(self._take(nn.Linear(shapes[-1][0], 4), shapes))
        if self.chance.random() < 0.5:
            self._take(self._neuron(), shapes)

    def _extended(self, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
        shape = shapes[-1]
        earlier = [place for place, other in enumerate(shapes[:-1]) if other == shape]
        draw = self.chance.random()
        weights = bool(self.parts) and isinstance(self.parts[-1], (nn.Conv2d, nn.Linear))
        if draw < (0.75 if weights else 0.1):
            return self._take(self._neuron(), shapes)
        if earlier and draw < (0.95 if weights else 0.2):
            place, sign = self.chance.choice(earlier), self.chance.choice((1, 1, 1, 1, 1, -0.5))
            self.program.append(lambda values: values[-1] + sign * values[place])
            return shape
        return self._take(self._layer(shape), shapes)

    def _neuron(self) -> nn.Module:
        neuron, chance = spikingjelly("neuron"), self.chance
        made: Any = chance.choice(
            (
                lambda: neuron.LIFNode(tau=chance.choice((2.0, 4.0)), v_reset=chance.choice((0.0, None, -0.1))),
                lambda: neuron.IFNode(v_threshold=0.7),
                lambda: snntorch().Leaky(chance.choice((0.5, 0.9)), threshold=1.2, init_hidden=True),
            )
        )
        return made()  # type: ignore[no-any-return]

    def _layer(self, shape: tuple[int, ...]) -> nn.Module:
        chance = self.chance
        if len(shape) == 1:
            return chance.choice((nn.Linear(shape[0], chance.choice((4, 8))), nn.Dropout(0.5)))
        channels, rows, _ = shape
        out, groups = chance.choice((2, 4)), chance.choice((1, 2))
        kernel = min(rows, chance.choice((1, 2, 3)))
        kinds: list[Callable[[], nn.Module]] = [
            lambda: nn.Conv2d(channels, out, kernel, chance.choice((1, 2)), chance.choice((0, 1)), groups=groups),
            lambda: nn.Conv2d(channels, channels, 3, padding=1, bias=chance.random() < 0.5),
            lambda: nn.BatchNorm2d(channels),
            lambda: nn.AvgPool2d(min(rows, 2)),
            lambda: nn.MaxPool2d(3, chance.choice((1, 2)), 1),
            lambda: nn.AdaptiveAvgPool2d(1),
            nn.Flatten,
        ]
        return chance.choice(kinds)()

    def _take(self, module: nn.Module, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
        place = len(self.parts)
        self.parts.append(module)
        self.program.append(lambda values: self.parts[place](values[-1]))
        with torch.no_grad():
            made = module.eval()(torch.zeros(1, *shapes[-1]))
        reset_states(module)
        return tuple(made.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for frame in x:
            values = [frame]
            for step in self.program:
                values.append(step(values))
            out.append(values[-1])
        return torch.stack(out).mean(0)


def is_imported(seed: int) -> bool:
    torch.manual_seed(seed)
    example = torch.randint(0, 4, (3, 2, 2, 8, 8)).float()
    network = liven(Drawn(seed), example)
    try:
        made = from_torch(network, example)
    except NotImportable as refused:
        reasons = [reason.why for reason in refused.reasons]
        wrong = (
            "not understood",
            "spikes otherwise",
            "spikes differ",
            "membranes differ",
            "does not run",
            "it differs",
        )
        assert not [why for why in reasons if any(words in why for words in wrong)], reasons
        return False
    assert all(layer.holds for proof in made.proofs.values() for layer in proof.layers)
    return True


@pytest.mark.parametrize("block", range(4))
def test_drawn_networks_are_exact_or_refused(block: int) -> None:
    imported = [seed for seed in range(10 * block, 10 * block + 10) if is_imported(seed)]
    assert len(imported) > 1
