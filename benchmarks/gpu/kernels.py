"""The compiled functions on the device: kernels a call, registers, spills, and bandwidth against that of a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu.compiled_functions import Case, cases, least_bytes
from gpu.part import Found, run
from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.neuron.rule import ABOVE_TO_ZERO, Rule

# Compiling one takes seconds: all functions of the usual rule at the usual number of time steps, and of the others the
# one that has most to do; those of the usual rule's training with a loop over time steps at the largest number too.
CHOSEN = {4: "", 10: "bf16"}
RULES = (None, ABOVE_TO_ZERO, Rule(at_threshold=True, subtracts=True))
SAMPLES = 512  # so many that launches, a few microseconds each, are hidden behind the work
CALLS = 10
COPIED_BYTES = 2**30
NOT_OURS = ("Memcpy", "Memset")


def measure(device: torch.device, *, samples: int = SAMPLES) -> Iterator[Found]:
    """Measure one function after another."""
    copy = _copy_bandwidth(device)
    found: Found = {"copy_gb_per_s": copy, "functions": {}}
    for time_steps, chosen in CHOSEN.items():
        for case in _chosen(time_steps, chosen):
            found["functions"][f"{case.name}, {time_steps} steps"] = _of_function(case, device, samples, copy)
            found["works"] = Compiled.works()
            yield found | {"checks": _checks(found)}


def _chosen(time_steps: int, named: str) -> Iterator[Case]:
    is_first = time_steps == next(iter(CHOSEN))
    for case in cases(time_steps):
        is_unrolled = case.is_unrolled and case.rule == ABOVE_TO_ZERO
        if named in case.name and (case.rule in RULES if is_first else is_unrolled):
            yield case


def _checks(found: Found) -> dict[str, bool]:
    counts = [
        (one["kernels"], one["most_kernels"]) for one in found["functions"].values() if one["kernels"] is not None
    ]
    return {"no_fallback": bool(found["works"]), "one_kernel": all(1 <= count <= most for count, most in counts)}


def _of_function(case: Case, device: torch.device, samples: int, copy: float | None) -> dict[str, Any]:
    arguments, compiled = case.arguments(device, samples), case.compiled()
    launched: list[Any] = []
    with _autotuners(launched):
        results = compiled(*arguments)  # which compiles it
    compiled(*arguments)
    moved = least_bytes(arguments, results)
    kernels = seconds = None
    if device.type == "cuda":
        kernels, seconds = _on_device(lambda: compiled(*arguments), device)
    bandwidth = None if seconds is None else moved / seconds / 1e9
    return {
        "kernels": kernels,
        "most_kernels": case.kernels,
        "milliseconds": None if seconds is None else round(1e3 * seconds, 4),
        "gb_per_s": None if bandwidth is None else round(bandwidth),
        "share_of_copy": None if bandwidth is None or copy is None else round(bandwidth / copy, 2),
        "tuned": [_tuned(one) for one in launched],
    }


def _on_device(call: Callable[[], Any], device: torch.device) -> tuple[int, float]:
    """Count the kernels of a call, and the seconds that the device works on them, without those between them."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(CALLS):
            call()
        torch.cuda.synchronize(device)
    ours = [one for one in seen.events() if one.device_type == DeviceType.CUDA and not one.name.startswith(NOT_OURS)]
    return round(len(ours) / CALLS), sum(one.self_device_time_total for one in ours) / CALLS / 1e6


class _autotuners:
    """Collects Inductor's kernels as they are launched; a private class of torch, and nothing where it is another."""

    def __init__(self, launched: list[Any]) -> None:
        self._launched = launched

    def __enter__(self) -> None:
        try:
            from torch._inductor.runtime.triton_heuristics import CachingAutotuner
        except ImportError:  # of a torch without Triton
            self._kind = None
            return
        self._kind, self._run = CachingAutotuner, CachingAutotuner.run
        launched, plain = self._launched, self._run

        def run(tuner: Any, *arguments: Any, **more: Any) -> Any:
            done = plain(tuner, *arguments, **more)
            launched.append(tuner)
            return done

        CachingAutotuner.run = run  # type: ignore[method-assign]

    def __exit__(self, *_raised: object) -> None:
        if self._kind is not None:
            self._kind.run = self._run  # type: ignore[method-assign]


def _tuned(tuner: Any) -> dict[str, Any]:
    """Return what the configuration that Inductor chose for a kernel takes."""
    launcher = (getattr(tuner, "launchers", None) or [None])[0]
    config = getattr(launcher, "config", None)
    return {
        "blocks": dict(getattr(config, "kwargs", {})),
        "warps": getattr(config, "num_warps", None),
        "registers": getattr(launcher, "n_regs", None),
        "spills": getattr(launcher, "n_spills", None),
    }


def _copy_bandwidth(device: torch.device) -> float | None:
    """Return the GB/s, read and written, of copying a gigabyte on the device; None on a processor."""
    if device.type != "cuda":
        return None
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    milliseconds = []
    for _ in range(CALLS):
        begin.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize(device)
        milliseconds.append(begin.elapsed_time(end))
    return round(2 * COPIED_BYTES / median(milliseconds) / 1e6)


if __name__ == "__main__":
    run(__doc__, measure)
