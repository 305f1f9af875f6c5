"""What a search cannot do right with a user's network is refused at once, what cannot be picked is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from own_networks import SHAPE, inspected, known_as_build
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.deploy.integer_form import integer_network
from spquant_search.deploy.segments import NoIntegerForm
from spquant_search.errors import SpaceError
from spquant_search.snn import Readout, Shortcut, Spikes, SpikingConv2d, SpikingSelfAttention, added, global_average
from spquant_search.snn.foreign import COUNTED
from spquant_search.snn.inspection import inspect_network
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.networks.catalog import NETWORKS, build
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape


def quantized(network: nn.Module) -> nn.Module:
    """Give every layer a precision with an integer form."""
    layers = []
    for name, layer in searchable_layers(network).items():
        fires = isinstance(layer, SpikingConv2d | SpikingSelfAttention)
        layers.append((name, LayerPrecision(weight_bits=4, membrane_levels=3 if fires else None)))
    configure(network, NetworkConfig(time_steps=2, layers=tuple(layers)), NeuronSpace())
    return network.eval()


class Net(nn.Module):
    """A stem, a last layer and a readout; a case changes what lies between or behind them."""

    def __init__(self, shape: InputShape = SHAPE) -> None:
        super().__init__()
        self.stem = SpikingConv2d(shape.channels, 4, can_gate=False)
        self.last = SpikingConv2d(4, 4)
        self.readout = Readout(4, shape.height * shape.width, shape.classes)
        self.more(shape)

    def more(self, shape: InputShape) -> None:
        """Add what the case needs."""

    def forward(self, spikes: Spikes) -> Tensor:
        return self.end(self.readout(self.last(self.between(self.begin(spikes)))))

    def begin(self, spikes: Spikes) -> Spikes:
        return self.stem(spikes)

    def between(self, spikes: Spikes) -> Spikes:
        return spikes

    def end(self, logits: Tensor) -> Tensor:
        return logits


def with_values(spikes: Spikes, values: Tensor, **changes: int) -> Spikes:
    return replace(spikes, values=values, **changes)


# ---------------------------------------------------------------- refused: weights that nothing counts


class DirectCoding(Net):
    def more(self, shape):
        self.stem = SpikingConv2d(8, 4, can_gate=False)
        self.enc = nn.Sequential(nn.Conv2d(shape.channels, 8, 3, padding=1), nn.BatchNorm2d(8))

    def begin(self, spikes):
        return self.stem(with_values(spikes, self.enc(spikes.values)))


class LinearBehind(Net):
    def more(self, shape):
        self.head = nn.Linear(shape.classes, shape.classes)

    def end(self, logits):
        return self.head(logits)


class BareParameter(Net):
    def more(self, shape):
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def between(self, spikes):
        return with_values(spikes, spikes.values * self.scale)


class FunctionalParameter(Net):
    def more(self, shape):
        self.block = nn.Module()
        self.block.kernel = nn.Parameter(torch.ones(4, 4, 1, 1))

    def between(self, spikes):
        return with_values(spikes, F.conv2d(spikes.values, self.block.kernel), largest=4)


class FrozenParameter(Net):
    def more(self, shape):
        self.mask = nn.Parameter(torch.ones(4, 1, 1), requires_grad=False)

    def between(self, spikes):
        return with_values(spikes, torch.where(self.mask > 0, spikes.values, 0))


class Recurrent(Net):
    def more(self, shape):
        self.lstm = nn.LSTM(shape.width, shape.width, batch_first=True)

    def between(self, spikes):
        return with_values(spikes, self.lstm(spikes.values.flatten(0, 1))[0].view(spikes.values.shape))


class OneDimensional(Net):
    def more(self, shape):
        self.mix = nn.Conv1d(4, 4, 1)

    def between(self, spikes):
        return with_values(spikes, self.mix(spikes.values.flatten(2)).view(spikes.values.shape))


class Embedded(Net):
    def more(self, shape):
        self.table = nn.Embedding(3, shape.classes)

    def end(self, logits):
        return logits + self.table(logits.argmax(dim=2))


class OfASubclass(Net):
    def more(self, shape):
        class Scaled(SpikingConv2d):
            def __init__(self):
                super().__init__(4, 4)
                self.extra = nn.Conv2d(4, 4, 1)

            def forward(self, spikes, residual=None):
                return super().forward(with_values(spikes, self.extra(spikes.values)), residual)

        self.last = Scaled()


class OfALayer(Net):
    def more(self, shape):
        class Scaled(SpikingConv2d):
            def __init__(self):
                super().__init__(4, 4)
                self.scale = nn.Parameter(torch.ones(()))

        self.last = Scaled()


class Borrowed(Net):
    def between(self, spikes):
        return with_values(spikes, (F.conv2d(spikes.values, self.last.weight, padding=1) > 0).float())


FOREIGN = {
    DirectCoding: "enc.0 (Conv2d), enc.1 (BatchNorm2d): weights outside of this package's layers",
    LinearBehind: "head (Linear): weights outside",
    BareParameter: "scale (of BareParameter): weights outside",
    FunctionalParameter: "block (Module): weights outside",
    FrozenParameter: "mask (of FrozenParameter): weights outside",
    Recurrent: "lstm (LSTM): weights outside",
    OneDimensional: "mix (Conv1d): weights outside",
    Embedded: "table (Embedding): weights outside",
    OfASubclass: "last.extra (Conv2d): weights outside",
    OfALayer: "last (Scaled): weights outside",
    Borrowed: "uses the weight of last outside of that layer",
}

# ---------------------------------------------------------------- refused: layers that run twice or share


class Twice(Net):
    def between(self, spikes):
        return self.last(spikes)


class TwoNames(Net):
    def more(self, shape):
        self.again = self.last

    def between(self, spikes):
        return self.again(spikes)


class SharedParameter(Net):
    def more(self, shape):
        self.middle = SpikingConv2d(4, 4)
        self.middle.weight = self.last.weight

    def between(self, spikes):
        return self.middle(spikes)


class SharedNorm(SharedParameter):
    def more(self, shape):
        self.middle = SpikingConv2d(4, 4)
        self.middle.norm = self.last.norm


class SharedMemory(SharedParameter):
    def more(self, shape):
        self.middle = SpikingConv2d(4, 4)
        self.middle.weight.data = self.last.weight.data


class SharedSlice(SharedParameter):
    def more(self, shape):
        self.middle = SpikingConv2d(4, 4)
        self.middle.weight = nn.Parameter(self.last.weight.detach()[:])


class StepByStep(Net):
    def between(self, spikes):
        steps = spikes.values.chunk(spikes.time_steps)
        run = [self.last(Spikes(values=values, time_steps=1)).values for values in steps]
        return Spikes(values=torch.cat(run), time_steps=spikes.time_steps)


REPEATED = {
    Twice: "last runs 2 times in one pass",
    TwoNames: "last runs 2 times in one pass",
    SharedParameter: "middle and last share weight",
    SharedNorm: "middle and last share norm.weight",
    SharedMemory: "middle and last share weight",
    SharedSlice: "middle and last share weight",
    StepByStep: "reads a signal of 1 time steps where the network's input has 3",
}

# ---------------------------------------------------------------- refused: what is no whole number


class Normalized(Net):
    def more(self, shape):
        self.normal = nn.BatchNorm2d(4, affine=False)

    def between(self, spikes):
        return with_values(spikes, self.normal(spikes.values))


class Halved(Net):
    def between(self, spikes):
        return with_values(spikes, spikes.values * 0.5)


class Averaged(Net):
    def between(self, spikes):
        return with_values(spikes, F.avg_pool2d(spikes.values, 3, stride=1, padding=1))


class Negative(Net):
    def between(self, spikes):
        return with_values(spikes, spikes.values - spikes.values.flip(1))


class TooMany(Net):
    def between(self, spikes):
        return with_values(spikes, spikes.values + spikes.values.flip(1))


class Infinite(Net):
    def between(self, spikes):
        return with_values(spikes, spikes.values / spikes.values)


class Flipped(Net):
    def between(self, spikes):
        spikes = self.side(spikes)
        return with_values(spikes, spikes.values.flip(1))

    def more(self, shape):
        self.side = SpikingConv2d(4, 4)


class FlippedAnew(Flipped):
    def between(self, spikes):
        return Spikes(values=self.side(spikes).values.flip(1), time_steps=spikes.time_steps)


NUMBERS = {
    Normalized: "last reads what F.batch_norm in normal (BatchNorm2d) makes, which is no whole number",
    Halved: "last reads what Tensor.mul makes, which is no whole number, such as 0.5",
    Averaged: "which is no whole number",
    Negative: "and -1 is none of the numbers from 0 to 1, its Spikes.largest",
    TooMany: "and 2 is none of the numbers from 0 to 1",
    Infinite: "which is not finite",
    Flipped: "last reads what Tensor.flip makes, and Spikes.open does not say which of its channels are silent",
}

# ---------------------------------------------------------------- refused: what fails


class WrongPositions(Net):
    def more(self, shape):
        self.readout = Readout(4, 9, shape.classes)


class WrongChannels(Net):
    def more(self, shape):
        self.last = SpikingConv2d(8, 4)


class PooledAway(Net):
    def between(self, spikes):
        return global_average(spikes)

    def more(self, shape):
        self.last = SpikingConv2d(4, 4, pool="before")
        self.readout = Readout(4, 1, shape.classes)


class RawTensor(Net):
    def between(self, spikes):
        return spikes.values


class ResidualOfSpikes(Net):
    def forward(self, spikes):
        spikes = self.stem(spikes)
        return self.readout(self.last(spikes, spikes))


class WrongKeyword(Net):
    def forward(self, spikes):
        spikes = self.stem(spikes)
        return self.readout(self.last(spikes, skip=spikes.current()))


class DependsOnNumbers(Net):
    def between(self, spikes):
        return self.last(spikes) if spikes.values.sum() > 0 else spikes


class BrokenInTraining(Net):
    def between(self, spikes):
        return spikes.missing if self.training else spikes


class TwoOutputsInTraining(Net):
    def end(self, logits):
        return (logits, logits) if self.training else logits


class TimeBehindBatch(Net):
    def end(self, logits):
        return logits.transpose(0, 1)


class Whole(nn.Sequential):
    def __init__(self, shape=SHAPE):
        super().__init__(SpikingConv2d(2, 4), nn.ModuleDict({"x": Net(shape)})["x"])


class CalledAll(Net):
    def more(self, shape):
        self.all = SpikingConv2d(4, 4)

    def between(self, spikes):
        return self.all(spikes)


FAILING = {
    WrongPositions: "in readout (Readout): ValueError: the readout was made for 4 channels at 9 positions; it gets 4",
    WrongChannels: "in last (SpikingConv2d): ValueError: the layer was made for 8 channels; it gets",
    PooledAway: "in last (SpikingConv2d): ValueError: a map of 1x1 cannot be pooled by 2x2",
    RawTensor: "in last (SpikingConv2d): TypeError: a layer reads Spikes; got ['Tensor']",
    ResidualOfSpikes: "a residual is a current, not Spikes; pass spikes.current()",
    WrongKeyword: "SpikingConv2d.forward takes spikes, residual=None",
    DependsOnNumbers: "what is computed must not depend on the numbers in a signal",
    BrokenInTraining: "fails in training on an input of (6, 2, 12, 12): AttributeError: 'Spikes' object has no",
    TwoOutputsInTraining: "here (3, 2, 3) in training; got tuple",
    TimeBehindBatch: "must give logits of [time, batch, classes], here (3, 2, 3); got (2, 3, 3)",
    CalledAll: "a layer cannot be called 'all'",
}


@pytest.mark.parametrize(
    ("network", "words"),
    (FOREIGN | REPEATED | NUMBERS | FAILING).items(),
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_search_could_not_do_right_is_refused_at_once(network: type[Net], words: str) -> None:
    with pytest.raises(SpaceError) as error:
        inspected(network)
    assert words in str(error.value)
    assert str(error.value).startswith("s.yaml: model.build: networks_of_a_test:build")


def test_a_network_that_is_a_layer_is_refused() -> None:
    with pytest.raises(SpaceError, match="a layer cannot be called ''"):
        inspected(lambda shape: Readout(2, shape.height * shape.width, shape.classes))


def test_a_function_that_gives_the_same_network_again_is_refused() -> None:
    once, part = Net(), SpikingSelfAttention(4, 2)

    class WithPart(Net):
        def more(self, shape):
            self.attention = part

        def between(self, spikes):
            return self.attention(spikes, spikes, spikes)

    for make in (lambda _shape: once, WithPart):
        with pytest.raises(SpaceError, match="must make a new network at every call"):
            inspected(make)
    assert "forward" not in vars(once.stem), "it is left as it was"


# ---------------------------------------------------------------- no integer form


class Concatenated(Net):
    def more(self, shape):
        self.side = SpikingConv2d(4, 4)
        self.last = SpikingConv2d(8, 4)

    def between(self, spikes):
        return with_values(spikes, torch.cat([spikes.values, self.side(spikes).values], dim=1))


class OwnPooling(Net):
    def more(self, shape):
        self.shrink = nn.MaxPool2d(2)
        self.readout = Readout(4, shape.height * shape.width // 4, shape.classes)

    def between(self, spikes):
        return with_values(spikes, self.shrink(spikes.values))


class Upsampled(Net):
    def more(self, shape):
        self.readout = Readout(4, shape.height * shape.width * 4, shape.classes)

    def between(self, spikes):
        return with_values(spikes, F.interpolate(spikes.values, scale_factor=2, mode="nearest"))


class Flattened(Net):
    def more(self, shape):
        self.last = SpikingConv2d(4 * shape.height * shape.width, 4, kernel_size=1, norm=False)
        self.readout = Readout(4, 1, shape.classes)

    def between(self, spikes):
        return with_values(spikes, spikes.values.flatten(1)[:, :, None, None])


class OwnSum(Net):
    def more(self, shape):
        self.side = SpikingConv2d(4, 4)

    def between(self, spikes):
        return with_values(spikes, spikes.values + self.side(spikes).values, largest=2)


class ChangedInPlace(Net):
    def between(self, spikes):
        spikes.values[:, 0] = 0
        return spikes


class OtherDivisor(Net):
    def between(self, spikes):
        return replace(spikes, divisor=4)


class OtherLargest(Net):
    def between(self, spikes):
        return replace(spikes, largest=4)


class ResidualWithoutDivisor(Net):
    def more(self, shape):
        self.stem = SpikingConv2d(shape.channels, 4, pool="after", can_gate=False)
        self.readout = Readout(4, shape.height * shape.width // 4, shape.classes)

    def forward(self, spikes):
        spikes = self.stem(spikes)
        return self.readout(self.last(spikes, residual=spikes.values))


class OwnResidual(ResidualWithoutDivisor):
    def forward(self, spikes):
        spikes = self.stem(spikes)
        return self.readout(self.last(spikes, residual=spikes.values / spikes.divisor))


class OddAverage(Net):
    def more(self, shape):
        self.hidden = SpikingConv2d(4, 4, kernel_size=1)
        self.readout = Readout(4, 1, shape.classes)

    def forward(self, spikes):
        average = global_average(self.stem(spikes))
        return self.readout(self.hidden(average, average.current()))


class CurrentAsSpikes(Net):
    def more(self, shape):
        self.shortcut = Shortcut(4, 4)

    def between(self, spikes):
        return with_values(spikes, (self.shortcut(spikes) > 0).float())


class TwoReadouts(Net):
    def more(self, shape):
        self.other = Readout(4, shape.height * shape.width, shape.classes)

    def forward(self, spikes):
        spikes = self.stem(spikes)
        return self.readout(self.last(spikes)) + self.other(spikes)


class Softmax(Net):
    def end(self, logits):
        return logits.softmax(dim=2)


class OwnForward(Net):
    def more(self, shape):
        class Doubled(SpikingConv2d):
            def forward(self, spikes, residual=None):
                return super().forward(replace(spikes, largest=1), residual)

        self.last = Doubled(4, 4)


class Hooked(Net):
    def more(self, shape):
        self.last.register_forward_hook(lambda module, given, output: None)


class LateAverage(Net):
    """Counts of up to 15 at 4,900 positions: more than the engine's 65,535."""

    def more(self, shape):
        self.hidden = SpikingConv2d(shape.channels, 4, kernel_size=1)
        self.readout = Readout(4, 1, shape.classes)

    def forward(self, spikes):
        return self.readout(self.hidden(global_average(spikes)))


class NoNeurons(Net):
    def more(self, shape):
        self.readout = Readout(2, shape.height * shape.width, shape.classes)

    def forward(self, spikes):
        return self.readout(spikes)


class ManySums(Net):
    def between(self, spikes):
        for _ in range(8):
            spikes = added(spikes, spikes)
        return spikes


NO_FORM = {
    Concatenated: "last reads what torch.cat makes",
    OwnPooling: "last reads what F.max_pool2d in shrink (MaxPool2d) makes",
    Upsampled: "last reads what F.interpolate makes",
    Flattened: "last reads what Tensor.__getitem__ makes",
    OwnSum: "last reads what Tensor.add makes",
    FlippedAnew: "last reads what Tensor.flip makes",
    ChangedInPlace: "last reads the output of stem, which is changed in place",
    OtherDivisor: "last reads stem with largest 1 and divisor 4, where they are 1 and 1",
    OtherLargest: "last reads stem with largest 4 and divisor 1",
    OwnResidual: "last reads what Tensor.div makes",
    OddAverage: "hidden reads the current of an average over 144, which is no power of two",
    CurrentAsSpikes: "last reads what Tensor.float makes",
    TwoReadouts: "the network's output is what Tensor.add makes",
    Softmax: "the network's output is what Tensor.softmax makes",
    OwnForward: "last is a Doubled whose forward differs from that of SpikingConv2d",
    Hooked: "last has hooks, which may change what it does",
    NoNeurons: "no layer is a SpikingConv2d",
    ManySums: "sum8: sums of up to 256 are more than the C engine's 255",
}


@pytest.mark.parametrize(("network", "words"), NO_FORM.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_has_no_integer_form_is_said_before_any_training(network: type[Net], words: str) -> None:
    facts = inspected(network)
    assert facts.no_integer_form is not None
    assert words in facts.no_integer_form
    assert "\n" not in facts.no_integer_form
    assert facts.architecture is None
    assert facts.shapes, "it can be searched"


@pytest.mark.parametrize("network", [kind for kind in NO_FORM if kind is not ManySums], ids=lambda kind: kind.__name__)
def test_the_reason_is_that_of_pick(network: type[Net], plain_neurons: None) -> None:
    said = inspected(network).no_integer_form
    with pytest.raises(NoIntegerForm) as error:
        integer_network(quantized(network()), SHAPE, time_steps=3)
    assert str(error.value) == said


def test_a_large_average_is_said() -> None:
    large = replace(SHAPE, height=70, width=70)
    facts = inspected(LateAverage, large)
    assert facts.no_integer_form == "average1: sums of up to 73,500 are more than the C engine's 65,535"
    assert inspected(LateAverage, replace(large, largest=13)).no_integer_form is None


# ---------------------------------------------------------------- an integer form


class Plain(Net):
    def more(self, shape):
        self.drop, self.drop2, self.same = nn.Dropout(0.5), nn.Dropout2d(0.5), nn.Identity()

    def between(self, spikes):
        spikes = self.same(with_values(spikes, self.drop(self.drop2(spikes.values))))
        return with_values(spikes, spikes.values.to(spikes.values.dtype))


class Defaults(SpikingConv2d):
    """A subclass with defaults of its own alone."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=1)


class ByKeyword(Net):
    def more(self, shape):
        self.attention, self.narrow = SpikingSelfAttention(4, 2), Defaults(4)

    def forward(self, spikes):
        spikes = self.stem(spikes=spikes)
        spikes = self.narrow(spikes=self.attention(v=spikes, q=spikes, k=spikes))
        return self.readout(spikes=self.last(residual=spikes.current(), spikes=spikes))


class Nested(nn.Sequential):
    def __init__(self, shape=SHAPE):
        blocks = nn.ModuleDict({"3x3 \u00fc": SpikingConv2d(4, 4), "for": SpikingConv2d(4, 4, groups=2)})
        super().__init__(
            SpikingConv2d(shape.channels, 4, can_gate=False),
            nn.Sequential(nn.Identity(), nn.Sequential(*blocks.values())),
            nn.ModuleList([Readout(4, shape.height * shape.width, shape.classes)])[0],
        )


@pytest.mark.parametrize("network", [Net, Plain, ByKeyword, Nested, ResidualWithoutDivisor])
def test_what_does_nothing_in_evaluation_is_in_nobodys_way(network: type[nn.Module], plain_neurons: None) -> None:
    facts = inspected(network)
    assert (facts.no_integer_form, facts.notes, facts.idle) == (None, (), ())
    assert facts.architecture is not None
    form = integer_network(quantized(network()), SHAPE, time_steps=3)
    names = [step["name"] for step in form.steps if step["kind"] not in ("input", "identity")]
    assert names == [shape.name for shape in facts.shapes]


def test_arguments_by_keyword_are_read_in_the_order_of_the_parameters(plain_neurons: None) -> None:
    form = integer_network(quantized(ByKeyword()), SHAPE, time_steps=3)
    inputs = {step["name"]: step["inputs"] for step in form.steps}
    assert inputs["last"] == ["narrow", "narrow"]
    assert inputs["attention"] == ["stem", "stem", "stem"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_the_package_have_nothing_to_be_said_against(name: str) -> None:
    shape = InputShape(channels=3, height=33, width=35, classes=7)
    model = ModelSpace(network=name, width=1 / 16)
    with torch.device("meta"):
        of_package = build(model, shape, source="s.yaml")
    facts = inspect_network(model, shape, time_steps=4, source="s.yaml")
    assert (facts.no_integer_form, facts.notes, facts.idle, dict(facts.other_names)) == (None, (), (), {})
    assert {layer.name for layer in facts.shapes} == set(searchable_layers(of_package))


@pytest.mark.parametrize("name", ["vgg9", "spikformer4-256"])
def test_a_network_of_the_package_is_the_same_as_a_users_own(name: str) -> None:
    shape = InputShape(channels=3, height=17, width=19, classes=7)
    model = ModelSpace(network=name, width=1 / 16)
    own = inspected(lambda shape: build(model, shape, source="s.yaml"), shape, time_steps=2)
    assert own == inspect_network(model, shape, time_steps=2, source="s.yaml")


# ---------------------------------------------------------------- idle


class Idle(Net):
    """Layers and weights that the output does not depend on, for every reason that there is."""

    def more(self, shape):
        self.never = SpikingConv2d(4, 4)
        self.unused = nn.Sequential(SpikingConv2d(4, 4), nn.Conv2d(4, 4, 1))
        self.trained = SpikingConv2d(4, 4)
        self.aux = Readout(4, shape.height * shape.width, shape.classes)
        self.head = nn.Linear(3, 3)

    def forward(self, spikes):
        stem = self.stem(spikes)
        self.aux(stem)
        spikes = self.last(stem)
        if self.training:
            spikes = self.trained(spikes)
            return self.head(self.readout(spikes))
        if spikes.time_steps > 4:
            spikes = self.unused[0](spikes)
        return self.readout(spikes)


def test_what_the_output_does_not_depend_on_is_left_out_with_a_note() -> None:
    facts = inspected(Idle)
    assert [shape.name for shape in facts.shapes] == ["stem", "last", "readout"]
    assert facts.idle == ("never", "unused.0", "trained", "aux")
    assert facts.no_integer_form is None
    left = "left in floating point, not searched and not counted"
    assert facts.notes == (
        f"never, unused.0: never called: {left}",
        f"trained: called only in training: {left}",
        f"aux: without effect on the output: {left}",
        "unused.1 (Conv2d), head (Linear): weights that evaluation does not use: not searched and not counted",
    )
    with_more = inspected(Idle, time_steps=5)
    assert [shape.name for shape in with_more.shapes] == ["stem", "last", "unused.0", "readout"]
    assert with_more.notes[1] == f"trained: called only in training: {left}"
    assert "unused.0: called only in evaluation: never trained" in with_more.notes


def test_idle_layers_are_left_out_of_the_integer_form(plain_neurons: None) -> None:
    network = Idle()
    names = ("stem", "last", "readout")
    precisions = [LayerPrecision(weight_bits=4, membrane_levels=None if name == "readout" else 3) for name in names]
    configure(network, NetworkConfig(time_steps=2, layers=tuple(zip(names, precisions, strict=True))), NeuronSpace())
    form = integer_network(network.eval(), SHAPE, time_steps=3)
    assert [step["name"] for step in form.steps] == ["input", "stem", "last", "readout"]


class Untold(Net):
    """Code whose tensors no trace sees: what lies before it counts as needed."""

    def between(self, spikes):
        return with_values(spikes, double(spikes.values), largest=2)


def double(values: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return values * 2


def test_what_lies_before_code_that_cannot_be_seen_is_searched() -> None:
    facts = inspected(Untold)
    assert [shape.name for shape in facts.shapes] == ["stem", "last", "readout"]
    assert facts.no_integer_form is not None
    assert facts.no_integer_form.startswith("last reads what ")


def test_a_layer_of_two_names_is_known_by_the_first() -> None:
    class Listed(Net):
        def more(self, shape):
            self.blocks = nn.ModuleList([self.stem, self.last])

    facts = inspected(Listed)
    assert dict(facts.other_names) == {"blocks.0": "stem", "blocks.1": "last"}
    assert facts.no_integer_form is None


def test_the_names_of_counted_weights_are_those_of_the_layers() -> None:
    known_as_build(Net)
    found = set()
    for layer in (
        SpikingConv2d(2, 2),
        SpikingConv2d(2, 2, norm=False),
        Shortcut(2, 2),
        SpikingSelfAttention(2, 1),
        Readout(2, 1, 2),
    ):
        layer.set_precision(layer.precision, NeuronSpace(learn_threshold=True, learn_leak=True))
        found |= {name for name, _ in layer.named_parameters()}
    assert found == COUNTED
