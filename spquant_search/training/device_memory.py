"""What networks take of a GPU's memory, and how many samples may go through one together, from shapes alone.

No torch here: a coordinator asks before any trainer begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from spquant_search.runs.work import STATISTICS_BATCH
from spquant_search.training.prepared import Prepared

EVALUATION_BATCH = 250  # samples together at most: more are no faster

# Peaks of the shipped spaces as a GPU's operators take them; tests/fake_gpu holds the figures against what it counts.
# For every sample and time step a training step keeps, of each neuron in 16 bits (twice as much in fp32):
TRAINED_BYTES = 7
# Evaluation keeps nothing from layer to layer; of each neuron of the layer with most of them, in fp32: what goes in,
# sums, spikes, and what is counted of them.
EVALUATED_BYTES = 24
UNPOOLED_BYTES = 8  # of each output that currents are pooled from
# Where configurations take turns, what all layers before the first that differs gave is kept, beside a layer's work.
KEPT_BYTES, BESIDE_BYTES = 4, 8
WEIGHT_BYTES = 16  # of each weight: itself, its gradient, and two moments of Adam
TEACHER_BYTES = 4  # of each weight, where a float network is imitated
CONTEXT_BYTES = 600 * 2**20  # of a process on a GPU: CUDA's own, and the libraries' kernels and workspaces

# Evaluation may take as much as so many training steps: of the estimates, each of which may miss by a third, so that it
# takes no more than two.
MOST_STEPS = 1.5
# Less than this is not worth other batches: of statistics, which depend on them, anywhere; of evaluation, on a
# processor.
SMALL_STATISTICS, SMALL_EVALUATION = 256 * 2**20, 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSizes:
    """How many samples go through a network together at most, where no weight learns from them."""

    evaluation: int = EVALUATION_BATCH
    statistics: int = STATISTICS_BATCH


USUAL_BATCHES = BatchSizes()


def batch_sizes(prepared: Prepared, *, on_gpu: bool) -> BatchSizes:
    """Return the batches of evaluation and statistics that take at most MOST_STEPS times what a training step takes.

    Statistics of batch norm depend on their batches, so that these are the same on every device. Evaluation in integers
    does not. A processor's batches are cut only where they take more than SMALL_EVALUATION: the float baseline's sums
    may be rounded otherwise in others, and smaller ones would gain a processor nothing.
    """
    most, sample = round(MOST_STEPS * step_bytes(prepared)), evaluated_bytes(prepared)
    statistics = STATISTICS_BATCH
    while statistics > 1 and statistics * sample > max(most, SMALL_STATISTICS):
        statistics //= 2  # so that whole usual batches are whole ones of these
    evaluation = most if on_gpu else max(most, SMALL_EVALUATION)
    return BatchSizes(evaluation=min(EVALUATION_BATCH, max(1, evaluation // sample)), statistics=statistics)


def step_bytes(prepared: Prepared) -> int:
    """Estimate the peak of a training step, weights and what the optimizer keeps of them included."""
    file = prepared.space.file
    neurons = sum(_outputs(prepared)) + sum(_unpooled(prepared))
    of_neuron = TRAINED_BYTES * (2 if file.train.precision == "fp32" else 1)
    weights = sum(shape.weights for shape in prepared.shapes)
    return WEIGHT_BYTES * weights + of_neuron * neurons * file.most_time_steps * file.train.batch_size


def evaluated_bytes(prepared: Prepared) -> int:
    """Estimate the peak of evaluating one sample, by itself or where configurations take turns."""
    outputs = _outputs(prepared)
    by_turns = KEPT_BYTES * sum(outputs) + BESIDE_BYTES * max(outputs)
    layers = zip(outputs, _unpooled(prepared), strict=True)
    most = max(EVALUATED_BYTES * made + UNPOOLED_BYTES * unpooled for made, unpooled in layers)
    return max(most, by_turns) * prepared.space.file.most_time_steps


def trainer_bytes(prepared: Prepared, *, split_bytes: int) -> int:
    """Estimate the memory of a GPU that one trainer takes at most.

    ``split_bytes``: of the frames that it copies there.
    """
    weights = sum(shape.weights for shape in prepared.shapes)
    together = batch_sizes(prepared, on_gpu=True)
    evaluation = max(together.evaluation, together.statistics) * evaluated_bytes(prepared)
    imitation = TEACHER_BYTES * weights if prepared.space.file.train.distillation > 0 else 0
    return CONTEXT_BYTES + split_bytes + imitation + max(step_bytes(prepared), evaluation)


def _outputs(prepared: Prepared) -> list[int]:
    """Return the numbers that each layer gives for one sample and time step, before pooling behind neurons."""
    return [shape.out_channels * shape.current_positions for shape in prepared.shapes]


def _unpooled(prepared: Prepared) -> list[int]:
    """Return how many outputs of each layer lie in memory for one sample and time step until they are pooled."""
    return [shape.out_channels * shape.unpooled for shape in prepared.shapes]
