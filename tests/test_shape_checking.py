"""The run-time check of shapes: it refuses wrong ones, and leaves what torch compiles as it is."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from long_forms import LONG
from shape_checking import COMPILED

from spquant_search.snn.gate import channel_target
from spquant_search.snn.spikes import Spikes

# Trains and evaluates layers that use all kernels, and prints what torch's compiler made of them. Graphs are found by
# its front end; by the "eager" back end they then run as they are, which takes no C++ compiler.
PROGRAM = """
import json, sys

if sys.argv[1] == "checked":
    from shape_checking import check_shapes
    check_shapes()
import torch
from torch._dynamo.utils import counters

compile = torch.compile
torch.compile = lambda function, **_options: compile(function, dynamic=True, fullgraph=True, backend="eager")
from spquant_search.snn import Spikes, SpikingConv2d
from spquant_search.snn.gate import channel_target
from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.kernels.pooling import sum_pool
from spquant_search.snn.layers import measured
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import NeuronSpace

torch.manual_seed(0)
torch.set_num_threads(1)
sums = []
for pool in (None, "before", "after"):
    layer = SpikingConv2d(8, 8, pool=pool).to(memory_format=torch.channels_last)
    for levels, mass in ((3, 1.0), (16, 0.8)):
        precision = LayerPrecision(weight_bits=4, membrane_levels=levels, channel_mass=mass, skip_below=0.0)
        layer.set_precision(precision, NeuronSpace())
        values = torch.randint(0, 2, (12, 8, 16, 16)).float().contiguous(memory_format=torch.channels_last)
        for dtype in (torch.float32, torch.bfloat16):
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is torch.bfloat16):
                out = layer.train()(Spikes(values=values, time_steps=3))
            out.values.sum().backward()
        with measured(layer.eval()):
            sums.append(layer(Spikes(values=values, time_steps=3)).values.sum().item())
    sums.append(layer.weight.grad.double().sum().item())
sum_pool(values.requires_grad_()).sum().backward()
try:
    channel_target(torch.zeros(3), 0.5)
    refuses = False
except Exception as error:
    refuses = type(error).__name__ == "TypeCheckError"
print(json.dumps({
    "graphs": counters["stats"]["unique_graphs"],
    "breaks": sum(counters["graph_break"].values()),
    "failed": Compiled.failed,
    "sums": sums,
    "refuses": refuses,
}))
"""


def compiled_by(how: str) -> dict[str, Any]:
    tests = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, how], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="two processes that compile: make test-long")
def test_the_check_changes_nothing_of_what_is_compiled() -> None:
    plain, checked = compiled_by("plain"), compiled_by("checked")
    assert (plain.pop("refuses"), checked.pop("refuses")) == (False, True)
    assert checked == plain
    assert not plain["failed"]
    assert plain["breaks"] == 0
    assert plain["graphs"] >= 10


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(TypeCheckError, match="activity"):
        channel_target(torch.zeros(3), 0.5)
    with pytest.raises(TypeCheckError, match="values"):
        Spikes(values=torch.zeros(2, 3), time_steps=1)


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_functions_that_are_left_out_exist(name: str) -> None:
    module, _, function = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))
