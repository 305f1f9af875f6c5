"""What the parts of the check have in common: one device in, JSON lines out."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# What a part has found so far; the last line that it prints counts, so that a part that is cut still tells.
Found = dict[str, Any]


def run(description: str | None, measure: Callable[[torch.device], Iterator[Found]]) -> None:
    """Measure on the device that the command line names, and print what is known as often as more is."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    for found in measure(device):
        print(json.dumps(found), flush=True)


@contextmanager
def waits(device: torch.device) -> Iterator[list[str]]:
    """Collect where the host waits for the device in this context, as far as torch notices; nowhere on a processor."""
    seen: list[str] = []
    if device.type != "cuda":
        yield seen
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")
    seen += [f"{one.filename}:{one.lineno}" for one in caught if "called a synchronizing" in str(one.message)]
