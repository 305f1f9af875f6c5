"""Time and memory of one training step: ours, SpikingJelly, snnTorch, plain torch, and the floor without neurons.

    make bench
    .venv/bin/python benchmarks/train_step.py                  # a table; --json for its figures
    .venv/bin/python benchmarks/train_step.py --device cuda    # where there is a GPU

The network: [3x3 convolution, batch norm, LIF neuron, 2x2 average pooling] three times with 2-32-64-128 channels and a
linear readout averaged over time; 34x34 input of 2 channels, 10 time steps, batch 32, cross-entropy, Adam; and the
same with the pooling before the neuron. A step is forward, backward and update.

Every variant runs in a process of its own, in rounds that take turns, so that a busy moment of the machine meets all of
them; the figure is the median over all rounds. Peers run as their users run them; ours and the floor with the
allocator tuning that the package applies itself, and in the precision that it takes on this processor (bf16 where that
is multiplied natively, otherwise fp32). Before anything is timed, our float neuron is checked against the
peers' on equal input: equal spikes, equal gradients with an equal surrogate.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any

import torch
from measurement import figure_lines, markdown_table
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.processes import keep_compiled_code, tune_allocator
from spquant_search.runs.environment import describe_environment
from spquant_search.runs.files import cache_folder
from spquant_search.snn.kernels.pooling import POOL, sum_pool
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.neuron.parameters import neuron_parameters
from spquant_search.snn.neuron.reference import fire_step_by_step
from spquant_search.snn.neuron.training import fire
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import NeuronSpace, Training
from spquant_search.training.precision import training_dtype

CHANNELS = (2, 32, 64, 128)
SIZE, TIME_STEPS, BATCH, CLASSES = 34, 10, 32, 10
POSITIONS = (SIZE // POOL**3) ** 2
WARM_UP, STEPS, ROUNDS = 2, 5, 3
LEARNING_RATE = 1e-3

Step = Callable[[], Tensor]  # one training step; returns its loss


def recordings(device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw binary events [time, batch, 2, 34, 34], a tenth of them set, and labels."""
    generator = torch.Generator().manual_seed(0)
    events = (torch.rand(TIME_STEPS, BATCH, CHANNELS[0], SIZE, SIZE, generator=generator) < 0.1).float()
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    return events.to(device), labels.to(device)


def adam(network: nn.Module) -> torch.optim.Optimizer:
    """Return Adam as the package has it: fused on a GPU, for ours and peers alike."""
    parameters = list(network.parameters())
    fused = True if all(parameter.is_cuda for parameter in parameters) else None
    return torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=fused)


def stepper(network: nn.Module, logits: Callable[[], Tensor], labels: Tensor) -> Step:
    """Return a training step: forward, cross-entropy of the logits' mean over time, backward, Adam."""
    optimizer = adam(network)

    def step() -> Tensor:
        loss = F.cross_entropy(logits().float(), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


# ---------------------------------------------------------------- ours, and the floor


class Ours(nn.Module):
    """The network of this package's layers, at one precision for all layers."""

    def __init__(self, pool: str, precision: LayerPrecision) -> None:
        super().__init__()
        for index, (before, after) in enumerate(pairwise(CHANNELS), start=1):
            layer = SpikingConv2d(before, after, pool=pool, can_gate=index > 1)  # type: ignore[arg-type]
            self.add_module(f"conv{index}", layer)
        self.readout = Readout(CHANNELS[-1], POSITIONS, CLASSES)
        for layer in searchable_layers(self).values():
            layer.set_precision(precision, NeuronSpace())

    def forward(self, spikes: Spikes) -> Tensor:
        for layer in self.children():
            spikes = layer(spikes)
        return spikes.mean(dim=0)  # type: ignore[attr-defined, no-any-return]


def ours(device: torch.device, *, pool: str, bits: int, levels: int, mass: float = 1.0, fp32: bool = False) -> Step:
    dtype = torch.float32 if fp32 else training_dtype(Training(), device)
    skip = 0.0 if mass < 1.0 else None
    precision = LayerPrecision(weight_bits=bits, membrane_levels=levels, channel_mass=mass, skip_below=skip)
    network = Ours(pool, precision).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    events, labels = recordings(device)
    flat = events.flatten(0, 1).to(dtype, memory_format=torch.channels_last)

    def logits() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            return network(Spikes(values=flat, time_steps=TIME_STEPS))  # type: ignore[no-any-return]

    step = stepper(network, logits, labels)
    if mass == 1.0:
        return step
    return _with_gate_loss(network, logits, labels)


def _with_gate_loss(network: nn.Module, logits: Callable[[], Tensor], labels: Tensor) -> Step:
    optimizer = adam(network)

    def step() -> Tensor:
        loss = F.cross_entropy(logits().float(), labels)
        gates = [layer.gate_loss for layer in network.children() if isinstance(layer, SpikingConv2d)]
        loss = loss + torch.stack([gate for gate in gates if gate is not None]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def floor(device: torch.device, *, pool: str) -> Step:
    """Make our layers' convolutions, norm and pooling as they are trained, and nothing where the neuron is."""
    dtype = training_dtype(Training(), device)
    network = Ours(pool, LayerPrecision()).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in network.children():
        if isinstance(layer, SpikingConv2d):
            layer._fire = lambda current, _time_steps: current  # type: ignore[method-assign]
            layer._fire_and_pool = lambda current, _time_steps: sum_pool(current)  # type: ignore[method-assign]
    events, labels = recordings(device)
    flat = events.flatten(0, 1).to(dtype, memory_format=torch.channels_last)

    def logits() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            return network(Spikes(values=flat, time_steps=TIME_STEPS))  # type: ignore[no-any-return]

    return stepper(network, logits, labels)


# ---------------------------------------------------------------- peers, as their users run them


def spikingjelly(device: torch.device, *, pool: str, bf16: bool, implementation: str = "auto") -> Step:
    # Read when it is imported. By itself it takes, on a GPU, its own CUDA code where that is built, else Triton.
    os.environ["SJ_LIF_CUDA_IMPLEMENTATION"] = implementation
    from spikingjelly.activation_based import functional, layer, neuron

    modules: list[nn.Module] = []
    for before, after in pairwise(CHANNELS):
        lif = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0)
        average = layer.AvgPool2d(POOL)
        ends = [lif, average] if pool == "after" else [average, lif]
        modules += [layer.Conv2d(before, after, 3, padding=1, bias=False), layer.BatchNorm2d(after), *ends]
    network = nn.Sequential(*modules, layer.Flatten(), layer.Linear(CHANNELS[-1] * POSITIONS, CLASSES)).to(device)
    functional.set_step_mode(network, "m")
    events, labels = recordings(device)

    def logits() -> Tensor:
        functional.reset_net(network)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return network(events).mean(dim=0)  # type: ignore[no-any-return]

    return stepper(network, logits, labels)


class TimeLoop(nn.Module):
    """A network that sees one time step at a time, with the neurons of :meth:`neuron`."""

    def __init__(self, pool: str, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.pool = pool
        pairs = list(pairwise(CHANNELS))
        self.convolutions = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs])
        self.norms = nn.ModuleList([nn.BatchNorm2d(after) for _, after in pairs])
        self.neurons = nn.ModuleList([neuron() for _ in pairs])
        self.readout = nn.Linear(CHANNELS[-1] * POSITIONS, CLASSES)

    def forward(self, events: Tensor) -> Tensor:
        membranes: list[Any] = [None] * len(self.neurons)
        logits = []
        for frame in events:
            x = frame
            for index, lif in enumerate(self.neurons):
                x = self.norms[index](self.convolutions[index](x))
                x = F.avg_pool2d(x, POOL) if self.pool == "before" else x
                x, membranes[index] = lif(x, torch.zeros_like(x) if membranes[index] is None else membranes[index])
                x = F.avg_pool2d(x, POOL) if self.pool == "after" else x
            logits.append(self.readout(x.flatten(1)))
        return torch.stack(logits).mean(dim=0)


def snntorch_loop(device: torch.device, *, pool: str, state_bits: int = 0, bf16: bool = False) -> Step:
    import snntorch
    from snntorch.functional import quant

    states = quant.state_quant(num_bits=state_bits, uniform=True, threshold=1.0) if state_bits else False
    network = TimeLoop(
        pool, lambda: snntorch.Leaky(beta=0.5, threshold=1.0, reset_mechanism="zero", state_quant=states)
    ).to(device)
    return _loop_step(network, device, bf16=bf16)


class PlainNeuron(nn.Module):
    """A float LIF of a few torch lines, differentiated by autograd."""

    def forward(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor]:
        potential = 0.5 * membrane + current
        smooth = torch.sigmoid(4.0 * (potential - 1.0))
        spikes = (potential > 1.0).to(potential.dtype) - smooth.detach() + smooth
        return spikes, (1.0 - spikes) * potential


def plain_loop(device: torch.device, *, pool: str) -> Step:
    return _loop_step(TimeLoop(pool, PlainNeuron).to(device), device, bf16=False)


def _loop_step(network: nn.Module, device: torch.device, *, bf16: bool) -> Step:
    events, labels = recordings(device)

    def logits() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return network(events)  # type: ignore[no-any-return]

    return stepper(network, logits, labels)


VARIANTS: dict[str, Callable[..., Step]] = {
    "floor": floor,
    "ours, float": lambda device, pool: ours(device, pool=pool, bits=32, levels=0),
    "ours, 4 bit / 3 levels": lambda device, pool: ours(device, pool=pool, bits=4, levels=3),
    "ours, 4 bit / 16 levels": lambda device, pool: ours(device, pool=pool, bits=4, levels=16),
    "ours, 4 bit / 256 levels": lambda device, pool: ours(device, pool=pool, bits=4, levels=256),
    "ours, 4 bit / 3 levels, sparse": lambda device, pool: ours(device, pool=pool, bits=4, levels=3, mass=0.85),
    "ours, 4 bit / 3 levels, fp32": lambda device, pool: ours(device, pool=pool, bits=4, levels=3, fp32=True),
    "SpikingJelly multi-step, fp32": lambda device, pool: spikingjelly(device, pool=pool, bf16=False),
    "SpikingJelly multi-step, bf16": lambda device, pool: spikingjelly(device, pool=pool, bf16=True),
    "SpikingJelly multi-step, Triton": lambda device, pool: spikingjelly(
        device, pool=pool, bf16=True, implementation="triton"
    ),
    "snnTorch, float": lambda device, pool: snntorch_loop(device, pool=pool),
    "snnTorch, 2-bit state": lambda device, pool: snntorch_loop(device, pool=pool, state_bits=2),
    "snnTorch, 4-bit state": lambda device, pool: snntorch_loop(device, pool=pool, state_bits=4),
    "plain torch loop, float": lambda device, pool: plain_loop(device, pool=pool),
}
TUNED = ("floor", "ours")
ON_A_GPU = ("SpikingJelly multi-step, Triton",)  # and nowhere else


# ---------------------------------------------------------------- equality first


class Triangle(torch.autograd.Function):
    """A step at 0 with the surrogate that our neuron has: max(0, 1 - |x|)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, by_spikes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return by_spikes * (1.0 - x.abs()).clamp(min=0.0)  # type: ignore[no-any-return]


def jelly_neuron(current: Tensor) -> Tensor:
    from spikingjelly.activation_based import neuron

    lif = neuron.LIFNode(
        tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, surrogate_function=Triangle.apply, step_mode="m"
    )
    return lif(current)  # type: ignore[no-any-return]


def snntorch_neuron(current: Tensor) -> Tensor:
    import snntorch

    leaky = snntorch.Leaky(
        beta=0.5, threshold=1.0, reset_mechanism="zero", reset_delay=False, spike_grad=Triangle.apply
    )
    membrane, spikes = torch.zeros_like(current[0]), []
    for frame in current:
        fired, membrane = leaky(frame, membrane)
        spikes.append(fired)
    return torch.stack(spikes)


def check_equality() -> dict[str, float]:
    """Check our float neuron against the peers' on equal currents: equal spikes, and equal gradients by one surrogate.

    Returns how many spikes were compared and the largest difference of a gradient.
    """
    generator = torch.Generator().manual_seed(1)
    current = torch.randn(TIME_STEPS, 20_000, generator=generator) + 0.3
    weights = torch.randn(current.shape, generator=generator)
    parameters = neuron_parameters(leak=0.5, grid=None, skip_below=None)

    def gradient(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = current.clone().requires_grad_()
        spikes = function(leaf)
        (spikes * weights).sum().backward()
        assert leaf.grad is not None
        return spikes.detach(), leaf.grad

    mine, my_gradient = gradient(lambda leaf: fire(leaf, parameters)[0])
    largest = 0.0
    others = {
        "step by step": lambda leaf: fire_step_by_step(leaf, parameters),
        "SpikingJelly": jelly_neuron,
        "snnTorch": snntorch_neuron,
    }
    for name, function in others.items():
        spikes, by_current = gradient(function)
        if not torch.equal(mine, spikes):
            raise SystemExit(f"spikes differ from {name}'s in {int((mine != spikes).sum())} of {mine.numel()} places")
        # snnTorch detaches its reset: its gradient is another one by design.
        if name != "snnTorch":
            largest = max(largest, float((my_gradient - by_current).abs().max()))
    if largest > 1e-5:
        raise SystemExit(f"gradients differ by up to {largest}")
    return {"spikes_compared": float(len(others) * mine.numel()), "largest_gradient_difference": largest}


# ---------------------------------------------------------------- measuring


def measure(name: str, pool: str, device: torch.device) -> dict[str, Any]:
    """Measure the milliseconds of each step and the peak MiB of this process, which does nothing else."""
    if name.startswith(TUNED):
        tune_allocator()
        keep_compiled_code(cache_folder())
    torch.manual_seed(0)
    step = VARIANTS[name](device, pool=pool)
    losses = [float(step()) for _ in range(WARM_UP)]
    milliseconds = []
    for _ in range(STEPS):
        _synchronize(device)
        started = time.perf_counter()
        step()
        _synchronize(device)
        milliseconds.append(1000 * (time.perf_counter() - started))
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"milliseconds": milliseconds, "peak_mib": peak, "first_loss": losses[0]}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_rounds(names: list[str], pool: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all variants in turns, each in a new process every time."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    for _ in range(options.rounds):
        for name in names:
            command = [sys.executable, __file__, "--variant", name, "--pool", pool, "--device", options.device]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
            seen[name].append(json.loads(done.stdout.splitlines()[-1]))
    return [_row(name, pool, options.threads, runs) for name, runs in seen.items()]


def _row(name: str, pool: str, threads: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    steps = [milliseconds for run in runs for milliseconds in run["milliseconds"]]
    return {
        "variant": name,
        "pool": pool,
        "threads": threads,
        "ms": statistics.median(steps),
        "quartiles_ms": statistics.quantiles(steps, n=4)[::2],
        "peak_mib": statistics.median(run["peak_mib"] for run in runs),
    }


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Compute the ratios of the network with pooling after the neuron."""
    ms = {row["variant"]: row["ms"] for row in rows if row["pool"] == "after"}
    peak = {row["variant"]: row["peak_mib"] for row in rows if row["pool"] == "after"}
    mine = "ours, 4 bit / 3 levels"
    return {
        "ours_ms": ms[mine],
        "floor_ratio": ms[mine] / ms["floor"],
        "gates_floor_ratio": ms["ours, 4 bit / 3 levels, sparse"] / ms["floor"],
        "levels256_over_3": ms["ours, 4 bit / 256 levels"] / ms[mine],
        "sj_fp32": ms["SpikingJelly multi-step, fp32"] / ms[mine],
        "sj_bf16": ms["SpikingJelly multi-step, bf16"] / ms[mine],
        "snntorch_float": ms["snnTorch, float"] / ms[mine],
        "snntorch_state4": ms["snnTorch, 4-bit state"] / ms[mine],
        "peak_memory_over_sj": peak[mine] / peak["SpikingJelly multi-step, fp32"],
    }


def _versions() -> dict[str, str]:
    found = describe_environment()
    for package in ("spikingjelly", "snntorch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            raise SystemExit(f"{package} is not installed; install the bench extra") from None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of one training step, ours and the peers'.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--pool", default="after", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        print(json.dumps(measure(options.variant, options.pool, torch.device(options.device))))
        return
    versions = _versions()
    equality = check_equality()
    names = [name for name in VARIANTS if name not in ON_A_GPU or torch.device(options.device).type == "cuda"]
    rows = [row for pool in ("after", "before") for row in in_rounds(names, pool, options)]
    document = {
        "machine": {name: versions[name] for name in ("processor", "cores", "system")},
        "versions": versions,
        "equality": equality,
        "precision": str(training_dtype(Training(), torch.device(options.device))).removeprefix("torch."),
        "rows": rows,
        "figures": figures(rows),
    }
    print(json.dumps(document, indent=1) if options.json else _table(document))


def _table(document: dict[str, Any]) -> str:
    lines = []
    for pool in ("after", "before"):
        rows = [row for row in document["rows"] if row["pool"] == pool]
        mine = next(row["ms"] for row in rows if row["variant"] == "ours, 4 bit / 3 levels")
        cells = [
            (row["variant"], f"{row['ms']:.0f}", f"{row['ms'] / mine:.2f}", f"{row['peak_mib']:.0f}") for row in rows
        ]
        lines += [
            f"pooling {pool} the neuron",
            *markdown_table(("variant", "ms a step", "over ours", "peak MiB"), cells),
        ]
        lines.append("")
    lines.append(f"precision of ours and the floor: {document['precision']}")
    lines += figure_lines(document["figures"], ".4g")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
