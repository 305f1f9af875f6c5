"""What has no form is refused by the module's qualified name: all reasons at once, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from importer.libraries import snntorch, spikingjelly, zoo
from importer.spikingjelly_networks import MultiStep
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.errors import UserError
from spquant_search.importer import NotImportable, read_network


class Between(nn.Module):
    """A neuron, what a test puts between it and the next one, and that one; a loop over time."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        self.between = between
        self.fc1, self.lif1 = nn.Linear(6, 6), neuron.LIFNode()
        self.fc2, self.lif2 = nn.Linear(6, 6), neuron.LIFNode()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.lif2(self.fc2(self.between(self.lif1(self.fc1(frame))))) for frame in x]).sum(0)


def refused(network: nn.Module, example: Tensor | None = None, **given: Any) -> dict[tuple[str, str], str]:
    """Return the reasons by module and what it is."""
    with pytest.raises(NotImportable) as caught:
        read_network(network, torch.rand(3, 2, 6) if example is None else example, **given)
    assert isinstance(caught.value, UserError)
    assert str(caught.value).startswith("the network cannot be imported:\n  ")
    return {(reason.module, reason.what): f"{reason.why}; {reason.remedy}" for reason in caught.value.reasons}


def compiled(network: nn.Module) -> Any:
    return torch.compile(network, backend="eager")  # which none of these tests may reach


@pytest.mark.parametrize(
    ("between", "what", "why"),
    [
        (torch.relu, "relu", "an activation that is no neuron"),
        (lambda x: (x > 0.5).float(), "gt", "a comparison: a neuron or an encoder of its own?"),
        (lambda x: x * x, "mul", "a product of two signals has no form"),
        (lambda x: torch.cat([x[:, :3], x[:, 3:]], 1), "getitem", "takes a part of a signal"),
        (lambda x: torch.cat([x, x], 1)[:, :6], "cat", "a concatenation of channels"),
        (lambda x: F.layer_norm(x, (6,)), "layer_norm", "a norm by the statistics of each sample"),
        (lambda x: F.dropout(x, 0.5), "dropout", "dropout that stays on in evaluation"),
        (lambda x: F.batch_norm(x, None, None, training=True), "batch_norm", "by the statistics of the batch"),
        (lambda x: x.flip(1), "flip", "puts it into another order"),
        (lambda x: x.clamp(0, 1), "clamp", "has no form"),
        (lambda x: x + torch.arange(12.0).view(2, 6), "add", "a constant that differs between samples"),
        (lambda x: F.softmax(x, 1), "softmax", "it is within the network: attention"),
        (lambda x: x.view(2, 2, 3).transpose(1, 2).reshape(2, 6), "linear", "its features are permuted"),
    ],
)
def test_a_function_without_a_form(between: Callable[[Tensor], Tensor], what: str, why: str) -> None:
    reasons = refused(Between(between))
    (found,) = [reason for (_, name), reason in reasons.items() if name == what]
    assert why in found


def test_all_reasons_come_together_with_the_names_of_modules() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            snn = snntorch()
            self.fc, self.body = nn.Linear(6, 6), nn.ModuleDict({"norm": nn.LayerNorm(6)})
            self.synaptic, self.lapicque = snn.Synaptic(alpha=0.9, beta=0.8), snn.Lapicque(beta=0.9)

        def forward(self, x: Tensor) -> Tensor:
            syn, mem = self.synaptic.init_synaptic()
            mem2 = self.lapicque.init_lapicque()
            out = []
            for frame in x:
                spikes, syn, mem = self.synaptic(self.body["norm"](self.fc(frame)), syn, mem)
                spikes, mem2 = self.lapicque(torch.tanh(spikes), mem2)
                out.append(spikes)
            return torch.stack(out)

    reasons = refused(Odd())
    assert set(reasons) == {
        ("body.norm", "layer_norm"),
        ("synaptic", "Synaptic"),
        ("", "tanh"),
        ("lapicque", "Lapicque"),
    }
    assert (
        "it has more states than a membrane; neurons of snnTorch that have one: Leaky"
        in reasons["synaptic", "Synaptic"]
    )


def test_a_neuron_that_is_called_twice_in_a_step() -> None:
    class Twice(Between):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.lif1(self.fc2(self.lif1(self.fc1(frame)))) for frame in x])

    assert (
        "it is called twice in a step, or out of order; make a neuron for each place"
        in (refused(Twice(nn.Identity()))["lif1", "LIFNode"])
    )


def test_memory_outside_of_neurons() -> None:
    class Leaky(Between):
        def forward(self, x: Tensor) -> Tensor:
            mem: Any = 0.0
            for frame in x:
                mem = 0.5 * mem + self.fc2(self.lif1(self.fc1(frame)))
            return mem  # type: ignore[no-any-return]

    reason = refused(Leaky(nn.Identity()))["", "add"]
    assert reason.startswith("joins signals of different time steps (0, 1); only neurons of SpikingJelly and snnTorch")


def test_time_steps_that_differ() -> None:
    class FirstOnly(Between):
        def forward(self, x: Tensor) -> Tensor:
            steps = [self.lif1(self.fc1(frame)) for frame in x]
            return torch.stack(
                [self.lif2(self.fc2(s)) if t else self.lif2(self.fc2(2 * s)) for t, s in enumerate(steps)]
            )

    assert "what is stacked is not the same signal of every time step" in refused(FirstOnly(nn.Identity()))["", "stack"]


def test_control_flow_on_data() -> None:
    class Dimmed(Between):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(0.5 * x if x.mean() > 2.6 else x)

    reasons = refused(Dimmed(nn.Identity()), 4 * torch.rand(3, 2, 6) + 1)
    assert set(reasons) == {("", "forward"), ("", "bool")}
    assert reasons["", "forward"].startswith("it computes something else on a second example")
    assert "what depends on the input must be computed by layers" in reasons["", "forward"]


def test_control_flow_that_both_examples_take_is_told() -> None:
    class Checked(Between):
        def forward(self, x: Tensor) -> Tensor:
            if float(x.max()) > 1000:
                x = x / 255
            return super().forward(x)

    (note,) = [n for n in read_network(Checked(nn.Identity()), torch.rand(3, 2, 6)).notes if "reads numbers" in n]
    assert note.startswith("its code reads numbers out of tensors: forward (float). Both examples took the same way")


def test_a_change_in_place_through_a_view() -> None:
    def through_a_view(x: Tensor) -> Tensor:
        view = x.view(2, 3, 2)
        view += 1
        return x

    assert "was changed in place through another view of it" in refused(Between(through_a_view))["fc2", "linear"]


def test_a_tensor_that_is_read_before_all_steps_are_in_it() -> None:
    class Early(Between):
        def forward(self, x: Tensor) -> Tensor:
            out, totals = torch.zeros(3, 2, 6), []
            for t in range(3):
                out[t] = self.lif1(self.fc1(x[t]))
                totals.append(out.sum(0))
            return torch.stack(totals)

    assert "not all time steps have been written yet" in refused(Early(nn.Identity()))["", "sum"]


def test_what_is_no_function_of_torch() -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy((x.numpy() > 0.5).astype("float32"))

    reasons = refused(Between(Own()))
    assert "something in it is no function of torch" in reasons["between", "Own"]


def test_an_own_surrogate_is_refused_by_the_comparison_in_it() -> None:
    class Surrogate(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return (x > 0.5).float()

    class Fire(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Surrogate.apply(x)  # type: ignore[no-any-return, no-untyped-call]

    assert "a neuron or an encoder of its own?" in refused(Between(Fire()))["between", "gt"]


def test_what_does_not_reach_the_output_does_not_count() -> None:
    def watched(x: Tensor) -> Tensor:
        torch.sigmoid(x).mean()
        return x

    assert read_network(Between(watched), torch.rand(3, 2, 6)).description.neurons


@pytest.mark.parametrize(
    ("example", "given", "why"),
    [
        (
            torch.zeros(3, 2, 6, dtype=torch.uint8),
            {},
            "it must be a tensor of floating-point numbers; it is torch.uint8",
        ),
        ([1.0], {}, "it is list"),
        (torch.rand(1, 2, 6), {}, "has one time step"),
        (torch.rand(3, 2, 6), {"axes": "TC"}, "axes 'TC' do not name the axes of [3, 2, 6]"),
        (torch.rand(3, 2, 6), {"axes": "TCH"}, "axes 'TCH' do not name the axes of [3, 2, 6]"),
        (torch.rand(6), {}, "axes None do not name the axes of [6]"),
        (torch.rand(3, 2, 7), {}, "it does not run on the example [3, 2, 7]: RuntimeError"),
    ],
)
def test_an_example_that_does_not_fit(example: Any, given: dict[str, Any], why: str) -> None:
    assert any(why in reason for reason in refused(Between(nn.Identity()), example, **given).values())


def test_one_sample_is_enough() -> None:
    read = read_network(Between(nn.Identity()), torch.rand(3, 1, 6))
    assert read.proofs["the example"].neuron_steps == 2 * 3 * 2 * 6


def test_a_network_in_wrappers_is_unwrapped() -> None:
    network, example = MultiStep(), torch.rand(4, 2, 2, 16, 16)
    right = read_network(network, example).description
    for wrapped in (nn.DataParallel(network), compiled(network), compiled(nn.DataParallel(network))):
        read = read_network(wrapped, example)  # type: ignore[arg-type]
        assert str(read.description) == str(right)


def test_a_compiled_part_runs_as_plain_python_and_has_its_name() -> None:
    network = Between(nn.Identity())
    network.fc2 = compiled(network.fc2)
    read = read_network(network, torch.rand(3, 2, 6))
    names = [node.name for node in read.description.layers.values()]
    assert names == ["input", "fc1", "lif1", "fc2", "lif2", ""]


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated
def test_a_scripted_part_is_refused() -> None:
    network = Between(nn.Identity())
    network.fc2 = torch.jit.script(network.fc2)
    why = "it is scripted or traced, and its code cannot be followed; give the module that it was made from"
    assert refused(network) == {("fc2", "Linear"): why}


def test_a_part_that_is_spread_over_devices_is_refused() -> None:
    network = Between(nn.Identity())
    network.fc2 = nn.DataParallel(network.fc2)  # type: ignore[assignment]
    reason = refused(network)["fc2", "DataParallel"]
    assert reason == "it spreads its work over several devices; give the network with its .module in this place"


@pytest.mark.parametrize("seed", [0, 1])
def test_random_numbers_are_refused(seed: int) -> None:
    torch.manual_seed(seed)
    reasons = refused(Between(lambda x: x + torch.rand(1, 6)))
    assert any("time step" in reason or "second example" in reason for reason in reasons.values())


def test_iand_of_the_zoo_is_refused_by_name() -> None:
    sew, neuron = zoo("sew_resnet"), spikingjelly("neuron")
    network = sew.SEWResNet(
        sew.BasicBlock, [1, 1, 1, 1], num_classes=3, cnf="IAND", spiking_neuron=neuron.IFNode, width_per_group=64
    )
    spikingjelly("functional").set_step_mode(network, "m")
    reasons = refused(network, torch.rand(2, 2, 3, 32, 32))
    assert "a product of two signals has no form" in reasons["layer1.0", "mul"]


# ---- what a network may be given as


@pytest.mark.parametrize("given", ["one step", "whole network", "torch.compile in place"])
@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated
def test_other_wrappers(given: str) -> None:
    network, example = Between(nn.Identity()), torch.rand(3, 2, 6)
    if given == "one step":
        network.fc2 = torch.jit.trace(network.fc2, example[0])  # type: ignore[no-untyped-call]
        assert set(refused(network)) == {("fc2", "Linear")}
    elif given == "whole network":
        scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6))))
        (reason,) = refused(scripted).items()  # one, not one of each part
        assert reason[0] == ("", "Sequential")
    else:
        network.compile(backend="eager")
        assert len(read_network(network, example).description.neurons) == 2


def test_a_network_of_several_processes_is_unwrapped() -> None:
    distributed: Any = torch.distributed
    if not distributed.is_available():
        pytest.skip("torch is built without torch.distributed")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        network, example = MultiStep(), torch.rand(4, 2, 2, 16, 16)
        right = str(read_network(network, example).description)
        assert str(read_network(nn.parallel.DistributedDataParallel(network), example).description) == right
    finally:
        distributed.destroy_process_group()


def test_weights_that_are_spread_over_devices_are_refused() -> None:
    class FSDPModule:
        """What torch.distributed.fsdp.fully_shard puts among a module's classes."""

    class FSDPLinear(FSDPModule, nn.Linear):
        pass

    class FullyShardedDataParallel(nn.Sequential):
        pass

    network = Between(nn.Identity())
    network.fc1, network.fc2 = FSDPLinear(6, 6), FullyShardedDataParallel(nn.Linear(6, 6))
    assert refused(network) == dict.fromkeys(
        (("fc1", "FSDPLinear"), ("fc2", "FullyShardedDataParallel")),
        "it spreads its work over several devices; give the network as it was",
    )


@pytest.mark.parametrize(
    ("given", "what", "why"),
    [
        (Between, "Between", "it is a class, and no network that was made of it; give Between(...)"),
        (torch.relu, "builtin_function_or_method", "it is no torch.nn.Module"),
        ({}, "dict", "it is no torch.nn.Module"),
        (None, "NoneType", "it is no torch.nn.Module"),
    ],
)
def test_what_is_no_network(given: Any, what: str, why: str) -> None:
    assert why in refused(given)["", what]


def test_weights_without_values() -> None:
    network = Between(nn.Identity())
    network.fc1, network.fc2 = nn.LazyLinear(6), nn.Linear(6, 6, device="meta")  # type: ignore[assignment]
    reasons = refused(network)
    assert reasons["fc1", "LazyLinear"].startswith("its weight has no shape yet; run the network once")
    assert reasons["fc2", "Linear"].startswith("its weight is on the meta device and has no values; make it on a")


@pytest.mark.parametrize(
    ("example", "why"),
    [
        (torch.rand(3, 2, 6, device="meta"), "it is on the meta device and has no values"),
        (torch.rand(3, 2, 6).to_sparse(), "it is torch.sparse_coo"),
        (torch.full((3, 2, 6), float("nan")), "it has values that are not finite"),
        (torch.zeros(3, 0, 6), "[3, 0, 6] is empty"),
        (torch.zeros(3, 2, 6, dtype=torch.complex64), "it is torch.complex64"),
        (torch.rand(3, 2, 6, dtype=torch.float64), "it does not run on the example [3, 2, 6]: RuntimeError"),
    ],
)
def test_an_example_of_another_kind(example: Tensor, why: str) -> None:
    given = {} if example.dtype == torch.float64 else {"second": torch.rand(3, 2, 6)}
    assert any(why in reason for reason in refused(Between(nn.Identity()), example, **given).values())
    if not given:
        return
    reasons = refused(Between(nn.Identity()), torch.rand(3, 2, 6), second=example)
    assert any(why in reason for reason in reasons.values())


def test_a_network_in_double_precision_is_read() -> None:
    read = read_network(Between(nn.Identity()).double(), torch.rand(3, 2, 6, dtype=torch.float64))
    assert all(
        layer.membrane_error is not None and layer.membrane_error < 1e-6 for layer in read.proofs["the example"].layers
    )


def test_an_error_of_the_networks_own_is_shown_with_its_place() -> None:
    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError("of the network's own")

    network = Between(nn.Sequential(nn.Identity(), Bad()))
    reason = refused(network)["between.1", "Bad"]
    assert reason.startswith(
        "it does not run on the example [3, 2, 6]: ZeroDivisionError: of the network's own (test_refusals.py, line "
    )
    reason = refused(Between(nn.Identity()), run=lambda net, x: net(x).nothing)["", "Between"]
    assert "AttributeError: 'Tensor' object has no attribute 'nothing' (test_refusals.py, line" in reason


@pytest.mark.parametrize("output", [2, -3])
def test_an_output_that_there_is_not(output: int) -> None:
    class Two(Between):
        def forward(self, x: Tensor) -> Any:
            made = super().forward(x)
            return made, made

    reasons = refused(Two(nn.Identity()), output=output)
    assert reasons["", "output"].startswith(f"output={output} is none of the 2 that the network returns")
    assert read_network(Two(nn.Identity()), torch.rand(3, 2, 6), output=1).description.neurons
