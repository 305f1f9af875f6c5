"""Whether a GPU computes what a processor does: sums of whole numbers against fp64, and a whole network's spikes.

Sums in fp32 must be exact, as evaluation computes them; those in TensorFloat-32 are counted and not checked, as nothing
is multiplied in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from gpu.part import Found, run
from gpu.small_space import noise, small_space
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.training.evaluation import evaluate
from spquant_search.training.network import new_network
from spquant_search.training.precision import exact_fp32
from spquant_search.training.supernet import measure_statistics

CHANNELS, PIXELS, SAMPLES = 512, 16, 8
LARGEST_WEIGHT, LARGEST_VALUE = 127, 4  # weights of 8 bits, sums of four spikes
SHAPES = ((3, 1), (3, 2), (1, 1))  # kernel and stride


def measure(device: torch.device, *, channels: int = CHANNELS, samples: int = SAMPLES) -> Iterator[Found]:
    """Compare convolutions, then a network."""
    found: Found = {
        "sums": 0,
        "fp32_sums_differ": 0,
        "tf32_sums_differ": 0,
    }
    for kernel, stride in SHAPES:
        values, weight = _whole_numbers(device, channels, kernel)
        expected = F.conv2d(values.double(), weight.double(), stride=stride, padding=kernel // 2)
        for name, context in (("fp32", exact_fp32()), ("tf32", _tf32())):
            with context:
                # Rounded, as evaluation does: an algorithm may add fractions that cancel but for their rounding.
                sums = F.conv2d(values, weight, stride=stride, padding=kernel // 2).round()
            found[f"{name}_sums_differ"] += int((sums.double() != expected).sum())
        found["sums"] += expected.numel()
    checks = {"fp32_sums_exact": found["fp32_sums_differ"] == 0}
    yield found | {"checks": checks}
    found |= _network(device, samples)
    checks |= {name: found[f"{name}_differ"] == 0 for name in ("spikes", "logits")}
    checks["evaluation_as_on_processor"] = found["gpu_vs_cpu_evaluation_equal"]
    yield found | {"checks": checks}


def _whole_numbers(device: torch.device, channels: int, kernel: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(kernel)
    shape = (SAMPLES, channels, PIXELS, PIXELS)
    values = torch.randint(0, LARGEST_VALUE + 1, shape, generator=generator)
    weights = torch.randint(
        -LARGEST_WEIGHT, LARGEST_WEIGHT + 1, (channels, channels, kernel, kernel), generator=generator
    )
    last = {"memory_format": torch.channels_last, "dtype": torch.float32}
    return values.to(device, **last), weights.to(device, **last)  # type: ignore[call-overload]


@contextmanager
def _tf32() -> Iterator[None]:
    convolutions = torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "tf32"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def _network(device: torch.device, samples: int) -> Found:
    """Evaluate one network, of which all is quantized and gated, on the device and on the processor."""
    prepared = small_space()
    space, file = prepared.space, prepared.space.file
    processor = torch.device("cpu")
    network = new_network(file, prepared.input, seed=0, device=processor)
    config = space.config({address: options[0] for address, options in space.choices().items()})
    configure(network, config, file.neuron)
    measure_statistics(network, noise(prepared, samples, processor), samples=samples)
    seen: list[list[Tensor]] = []
    evaluations = []
    for where in (processor, device):
        network.to(where)
        spikes: list[Tensor] = []
        hooks = [
            layer.neuron.spikes.register_forward_hook(lambda _module, _given, out, kept=spikes: kept.append(out.cpu()))
            for layer in searchable_layers(network).values()
            if hasattr(layer, "neuron")
        ]
        batch = noise(prepared, samples, where, seed=1)
        network.eval()
        with torch.inference_mode(), exact_fp32():
            logits = network(batch.spikes(torch.float32))
        for hook in hooks:
            hook.remove()
        seen.append([*spikes, logits.cpu()])
        evaluations.append(evaluate(network, batch))
    *layers, logits_differ = [int((a != b).sum()) for a, b in zip(*seen, strict=True)]
    return {
        "spikes": sum(one.numel() for one in seen[0][:-1]),
        "spikes_differ": sum(layers),
        "logits_differ": logits_differ,
        "gpu_vs_cpu_evaluation_equal": evaluations[0] == evaluations[1],
    }


if __name__ == "__main__":
    run(__doc__, measure)
