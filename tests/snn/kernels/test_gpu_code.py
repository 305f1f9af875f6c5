"""What compiled functions need to be one kernel each on a GPU, as far as it can be seen without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from spquant_search.snn.kernels import compile as compiled
from spquant_search.snn.neuron import exact, training
from spquant_search.snn.neuron.parameters import exact_parameters, neuron_parameters
from spquant_search.snn.neuron.rule import ABOVE_TO_ZERO

POINTWISE_CAT = ("max_pointwise_cat_inputs", "max_complex_pointwise_cat_inputs")


def test_the_compiler_is_told_what_it_knows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    known = set(torch._inductor.list_options())
    assert set(compiled.OPTIONS) <= known  # torch.compile raises at any other
    assert {compiled.OPTIONS.get(name) for name in POINTWISE_CAT if name in known} <= {0}
    # Another version of torch has one of the two, or none.
    for names in ([], ["max_pointwise_cat_inputs"]):
        monkeypatch.setattr(torch._inductor, "list_options", lambda names=names: names)
        assert compiled._known(dict.fromkeys(POINTWISE_CAT, 0)) == dict.fromkeys(names, 0)


def arguments_of_graphs(function: Any, *arguments: Any) -> list[Any]:
    """Trace a function as it is compiled, and return what its graph takes beside the tensors that were given."""
    given = {id(leaf) for leaf in tree_leaves(arguments)}
    seen: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        seen.extend(one for one in inputs if id(one) not in given)
        return graph.forward

    torch._dynamo.reset()
    torch.compile(function, dynamic=True, fullgraph=True, backend=backend)(*arguments)
    return seen


@pytest.mark.parametrize("name", ["_backward", "_skipped", "_run_exactly"])
def test_the_threshold_is_a_constant_of_compiled_code(name: str) -> None:
    p = neuron_parameters(leak=0.5, grid=None, skip_below=None)
    values = torch.zeros(2, 5, dtype=torch.bfloat16)
    function, arguments = {
        "_backward": (training._backward, (values, values.clone(), p)),
        "_skipped": (training._skipped, (values, p)),
        "_run_exactly": (exact._run_exactly, (values.double(), exact_parameters(p))),
    }[name]
    more = arguments_of_graphs(function, *arguments)
    assert [one for one in more if isinstance(one, float | torch.SymFloat)] == []
    assert [one for one in more if isinstance(one, Tensor) and one.dtype is torch.float64 and one.dim() == 0] == []


@pytest.mark.parametrize(("device", "numbers"), [("cpu", 16), ("cuda", 2**20)])
def test_the_backward_pass_is_compiled_for_as_many_numbers_as_layers_have(
    device: str, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    monkeypatch.setattr(training, "neuron_parameters", lambda **_options: ())
    monkeypatch.setitem(
        training._compiled_backward,
        ABOVE_TO_ZERO,
        lambda *given: shapes.extend((one.device.type, one.shape) for one in given[:2]),
    )
    with FakeTensorMode():  # which needs no GPU
        training.compile_backward(10, torch.bfloat16, torch.device(device))
    assert shapes == [(device, (10, numbers))] * 2


@pytest.mark.parametrize("time_steps", [1, 2, 3])
@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_nothing_is_skipped_in_the_first_time_step(
    time_steps: int, shape: tuple[int, ...], plain_neurons: None
) -> None:
    """Values worked out by hand: v = 1.5 spikes and leaves 0, which lies at the cut; 0.5 above it, -0.5 below."""
    steps = [torch.full(shape, value) for value in (-0.5, 1.5, 0.5)][:time_steps]
    p = neuron_parameters(leak=0.5, grid=None, skip_below=0.0)
    for potentials in (torch.stack(steps), torch.stack(steps).double()):
        found = training.skipped(potentials, p)
        assert found.dtype is torch.float32
        assert [set(one.flatten().tolist()) for one in found] == [{0.0}, {1.0}, {0.0}][:time_steps]
