"""Compare what a training takes at least with the memory of the machine, before it takes it."""

from __future__ import annotations

import os

from spquant_search.errors import Problem, SpaceError
from spquant_search.training.prepared import Prepared

FLOAT_BYTES = 4
WEIGHT_COPIES = 4  # the weight, its gradient, and two moments of Adam


def require_memory(prepared: Prepared, *, samples: int) -> None:
    """Check that one training of the float baseline fits into this machine; ``samples`` are those of train.

    What is counted is what must be there at once, less than what is used: weights with what the optimizer keeps of
    them, and a number for every neuron, sample of a batch and time step.

    Raises:
        SpaceError: it does not; says which keys make it so large.
    """
    memory = _memory_bytes()
    if memory is None:
        return
    file, problems = prepared.space.file, []
    weights = WEIGHT_COPIES * FLOAT_BYTES * sum(shape.weights for shape in prepared.shapes)
    if weights > memory:
        words = f"makes weights that take {_gib(weights)} in training"
        problems.append(Problem("model.width", f"{words}, where this machine has {_gib(memory)}; take a smaller one"))
    batch = min(file.train.batch_size, samples)
    neurons = FLOAT_BYTES * batch * file.time_steps * sum(shape.neurons for shape in prepared.shapes)
    if neurons > memory:
        sentence = (
            f"{batch:,} samples of {file.time_steps:,} time steps take {_gib(neurons)} in training, where this machine "
            f"has {_gib(memory)}; take smaller batches, fewer time_steps, or smaller frames"
        )
        problems.append(Problem("train.batch_size", sentence))
    if problems:
        raise SpaceError(prepared.space.source, problems)


def _memory_bytes() -> int | None:
    """Return the machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
