"""Every form in which values travel between layers, read by everything that reads values: right or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deploy.agreement import assert_all_agree, assert_runs_clean, exported
from deploy.networks import TIME, Choices, drawn_config, lively, needs_compiler
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.deploy.integer_form import integer_network
from spquant_search.deploy.segments import NoIntegerForm
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import configure
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, added, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape

Part = Callable[..., Any]  # makes the next layer, a class and its arguments

# Each makes, of the network's input, the values that are read.
FORMS: dict[str, Callable[[Spikes, Part], Spikes]] = {
    "the input": lambda spikes, part: spikes,
    "the input, of zeros and ones": lambda spikes, part: spikes,
    "bits": lambda spikes, part: part(SpikingConv2d, 2, 6, can_gate=False)(spikes),
    "bits that fill bytes": lambda spikes, part: part(SpikingConv2d, 2, 8, can_gate=False)(spikes),
    "sums of 2x2 bits": lambda spikes, part: part(SpikingConv2d, 2, 8, pool="after")(spikes),
    "the largest of 2x2 bits": lambda spikes, part: part(SpikingConv2d, 2, 8, pool="max")(spikes),
    "bits of attention": lambda spikes, part: part(SpikingSelfAttention, 6, 2)(
        *(part(SpikingConv2d, 2, 6, kernel_size=1)(spikes) for _ in range(3))
    ),
    "the sum of two maps": lambda spikes, part: added(
        part(SpikingConv2d, 2, 6)(spikes), part(SpikingConv2d, 2, 6, kernel_size=5)(spikes)
    ),
    "the sum of a map and itself": lambda spikes, part: (lambda once: added(once, once))(
        part(SpikingConv2d, 2, 8, pool="max")(spikes)
    ),
    "the sum of a sum and the input": lambda spikes, part: added(
        added(spikes, part(SpikingConv2d, 2, 2)(spikes)), spikes
    ),
    "the average": lambda spikes, part: global_average(part(SpikingConv2d, 2, 6)(spikes)),
    "the average of pooled sums": lambda spikes, part: global_average(part(SpikingConv2d, 2, 6, pool="after")(spikes)),
    "the average of the input": lambda spikes, part: global_average(spikes),
    "the average of one pixel": lambda spikes, part: global_average(
        part(SpikingConv2d, 8, 8, pool="before")(part(SpikingConv2d, 2, 8, pool="before", stride=2)(spikes))
    ),
}


def _attention(spikes: Spikes, part: Part, channels: int) -> Spikes:
    return part(SpikingSelfAttention, channels, 2)(spikes, spikes, spikes)  # type: ignore[no-any-return]


# Each reads the values; what it gives ends in the readout.
READERS: dict[str, Callable[[Spikes, Part, int], Spikes]] = {
    "a convolution": lambda spikes, part, c: part(SpikingConv2d, c, 5, can_gate=False)(spikes),
    "a gate": lambda spikes, part, c: part(SpikingConv2d, c, 8)(spikes),
    "a convolution that pools first": lambda spikes, part, c: part(SpikingConv2d, c, 8, pool="before")(spikes),
    "a convolution with a stride": lambda spikes, part, c: part(SpikingConv2d, c, 8, stride=2, kernel_size=1)(spikes),
    "a depthwise convolution": lambda spikes, part, c: part(SpikingConv2d, c, c, groups=c, kernel_size=5)(spikes),
    "a grouped convolution": lambda spikes, part, c: part(SpikingConv2d, c, 4, groups=2, stride=2)(spikes),
    "attention": _attention,
    "the keys of attention": lambda spikes, part, c: part(SpikingSelfAttention, c, 1)(
        (other := part(SpikingConv2d, c, c)(spikes)), spikes, other
    ),
    "a shortcut": lambda spikes, part, c: part(SpikingConv2d, c, 8)(spikes, part(Shortcut, c, 8)(spikes)),
    "two readers of one shortcut": lambda spikes, part, c: (
        lambda current: part(SpikingConv2d, 8, 8)(part(SpikingConv2d, c, 8)(spikes, current), current)
    )(part(Shortcut, c, 8)(spikes)),
    "an identity": lambda spikes, part, c: part(SpikingConv2d, c, c)(spikes, spikes.current()),
    "the global average": lambda spikes, part, c: global_average(spikes),
    "a sum": lambda spikes, part, c: added(spikes, part(SpikingConv2d, c, c)(spikes)),
}


class AllReaders(nn.Module):
    """A form and all its readers; what each gives is averaged, and read by a convolution; the readout reads their sum.

    Parts are made by a first run; ``refused`` says which readers do not take the form, and why.
    """

    def __init__(self, form: str, readers: Sequence[str], shape: InputShape) -> None:
        super().__init__()
        self.form, self.shape = form, shape
        self.refused: dict[str, str] = {}
        self.eval()
        frame = Spikes(
            values=torch.zeros(1, shape.channels, shape.height, shape.width), time_steps=1, largest=shape.largest
        )
        values = self._values(frame)
        self.readers = [reader for reader in readers if self._takes(reader, values)]
        self(frame)

    def _takes(self, reader: str, values: Spikes) -> bool:
        before = dict(self.named_children())
        try:
            self._read(reader, values)
        except Exception as error:
            self.refused[reader] = str(error)
        for name in set(dict(self.named_children())) - set(before):
            delattr(self, name)
        return reader not in self.refused

    def forward(self, spikes: Spikes) -> Tensor:
        values = self._values(spikes)
        ends = [self._read(reader, values) for reader in self.readers]
        total = reduce(added, ends) if ends else values
        channels, height, width = total.values.shape[1:]
        logits: Tensor = self._maker("readout")(Readout, channels, height * width, self.shape.classes)(total)
        return logits

    def _values(self, spikes: Spikes) -> Spikes:
        return FORMS[self.form](spikes, self._maker("form"))

    def _read(self, reader: str, values: Spikes) -> Spikes:
        part = self._maker(reader.replace(" ", "_"))
        out = global_average(READERS[reader](values, part, values.values.shape[1]))
        end: Spikes = part(SpikingConv2d, out.values.shape[1], 4, kernel_size=1, can_gate=False)(out)
        return end

    def _maker(self, prefix: str) -> Part:
        """Return what makes, or finds from the run before, the parts of one branch, one after another."""
        numbers = count()

        def part(kind: type[nn.Module], *arguments: Any, **options: Any) -> nn.Module:
            name = f"{prefix}_{next(numbers)}"
            if name not in dict(self.named_children()):
                self.add_module(name, kind(*arguments, **options).train(self.training))
            return self.get_submodule(name)

        return part


ONES = "the input, of zeros and ones"
BINARY = {ONES, "bits", "bits that fill bytes", "the largest of 2x2 bits", "bits of attention"}
BINARY |= {"the average of one pixel"}
WHOLE = BINARY | {"the input", "the sum of two maps", "the sum of a map and itself", "the sum of a sum and the input"}
AVERAGES = {form for form in FORMS if form.startswith("the average")}
WITHOUT_CONVOLUTION = {"the input", ONES, "the average of the input"}


def expected_refusals(form: str) -> dict[str, str]:
    """Say what of the readers a form is refused by: the beginnings of their sentences."""
    refused = {}
    if form not in BINARY:
        refused |= dict.fromkeys(("attention", "the keys of attention"), "attention takes binary spikes")
    if form not in WHOLE:
        refused["a sum"] = "only whole numbers of the same time steps can be added"
    if form in AVERAGES:
        refused["a convolution that pools first"] = ""  # there is nothing to pool
    return refused


def network_of(form: str, readers: Sequence[str], seed: int) -> tuple[AllReaders, InputShape, NDArray[np.uint8]]:
    """A network in random precisions, with what makes its neurons spike."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    shape = InputShape(channels=2, height=8, width=8, classes=3, largest=1 if form == ONES else 15)
    network = AllReaders(form, readers, shape)
    learn = seed % 2 == 1
    configure(network, drawn_config(network, generator, Choices()), NeuronSpace(learn_threshold=learn))
    frames = generator.poisson(1.0, (4, 1 if seed % 4 == 2 else TIME, 2, 8, 8)).astype(np.uint8)
    lively(network, frames, shape.largest)
    return network, shape, frames


def check(form: str, readers: Sequence[str], seed: int, tmp_path: Path) -> None:
    network, shape, frames = network_of(form, readers, seed)
    expected = {reader: words for reader, words in expected_refusals(form).items() if reader in readers}
    assert network.refused.keys() == expected.keys()
    for reader, words in expected.items():
        assert network.refused[reader].startswith(words)
    rate = assert_all_agree(network, shape, frames, tmp_path)
    # Networks of one or two layers may be silent.
    assert len(readers) < 2 or 0.01 < rate < 0.9, "a network that is silent shows nothing"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_rightly_by_everything_or_refused(form: str, tmp_path: Path, plain_neurons: None) -> None:
    check(form, list(READERS), 1, tmp_path)


@needs_compiler
@pytest.mark.parametrize(
    "form",
    [form if form == "the largest of 2x2 bits" else pytest.param(form, marks=pytest.mark.slow) for form in FORMS],
)
def test_all_readers_of_a_form_keep_to_their_memory(form: str, tmp_path: Path, plain_neurons: None) -> None:
    network, shape, frames = network_of(form, list(READERS), 3)
    assert_runs_clean(exported(network, shape, frames), frames, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_form_and_reader_alone(form: str, tmp_path: Path, plain_neurons: None) -> None:
    for seed in range(3, 5):
        for reader in READERS:
            work = tmp_path / f"{seed} {reader}"
            work.mkdir()
            if reader not in expected_refusals(form):
                check(form, [reader], seed, work)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in WITHOUT_CONVOLUTION])
def test_every_form_is_read_rightly_by_the_readout(form: str, tmp_path: Path, plain_neurons: None) -> None:
    check(form, [], 6, tmp_path)


@pytest.mark.parametrize("form", sorted(WITHOUT_CONVOLUTION))
def test_a_network_without_neurons_is_refused(form: str, plain_neurons: None) -> None:
    network, shape, _ = network_of(form, [], 1)
    with pytest.raises(NoIntegerForm, match="no layer is a SpikingConv2d"):
        integer_network(network, shape, time_steps=TIME)
