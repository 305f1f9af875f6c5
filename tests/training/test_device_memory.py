"""How many samples go through a network together, and what a trainer takes of a GPU, from shapes alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from searches import TINY

from spquant_search.space.shipped import shipped_spaces
from spquant_search.training.device_memory import (
    CONTEXT_BYTES,
    EVALUATED_BYTES,
    MOST_STEPS,
    SMALL_EVALUATION,
    SMALL_STATISTICS,
    TRAINED_BYTES,
    USUAL_BATCHES,
    BatchSizes,
    batch_sizes,
    evaluated_bytes,
    step_bytes,
    trainer_bytes,
)
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared

Prepare = Callable[..., Prepared]


def test_the_tiny_space_by_hand() -> None:
    # VGG-9, pooled before the neurons, at a sixteenth of its width on 34x34 pixels, in 3 steps, 16 samples together.
    neurons = [4 * 34**2, 8 * 17**2, 16 * 17**2, 16 * 8**2, 32 * 8**2, 32 * 4**2, 32 * 4**2, 32 * 2**2, 10]
    prepared = prepare(TINY)
    weights = sum(shape.weights for shape in prepared.shapes)
    assert step_bytes(prepared) == 16 * weights + TRAINED_BYTES * 16 * 3 * sum(neurons)
    assert evaluated_bytes(prepared) == EVALUATED_BYTES * 3 * neurons[0]


@pytest.mark.parametrize("space", ["tiny", "vgg9"])
def test_a_processor_keeps_the_usual_batches_of_small_spaces(space: str) -> None:
    assert batch_sizes(prepare(shipped_spaces()[space]), on_gpu=False) == USUAL_BATCHES


def test_a_gpu_evaluates_in_the_memory_of_training() -> None:
    prepared = prepare(TINY)
    together = batch_sizes(prepared, on_gpu=True).evaluation
    most = MOST_STEPS * step_bytes(prepared)
    assert together * evaluated_bytes(prepared) <= most < (together + 1) * evaluated_bytes(prepared)


LARGE = ("model.width=4", "time_steps=12", "train.batch_size=8")  # a sample takes 128 times as much, or more


def test_large_batches_are_cut_anywhere() -> None:
    prepared = prepare(TINY, LARGE)
    of_processor, of_gpu = (batch_sizes(prepared, on_gpu=on_gpu) for on_gpu in (False, True))
    sample, most = evaluated_bytes(prepared), MOST_STEPS * step_bytes(prepared)
    assert of_gpu.evaluation * sample <= most
    assert of_processor.evaluation * sample <= max(most, SMALL_EVALUATION)
    assert of_processor.evaluation < USUAL_BATCHES.evaluation
    # Statistics depend on their batches, and so may not depend on the device.
    assert of_processor.statistics == of_gpu.statistics
    assert of_gpu.statistics < USUAL_BATCHES.statistics
    assert USUAL_BATCHES.statistics % of_gpu.statistics == 0
    assert of_gpu.statistics * sample <= max(most, SMALL_STATISTICS) < 2 * of_gpu.statistics * sample


def test_a_sample_that_takes_more_than_all_is_a_batch() -> None:
    prepared = prepare(TINY, ["model.width=16", "time_steps=100", "train.batch_size=1"])
    small = BatchSizes(evaluation=1, statistics=1)
    assert batch_sizes(prepared, on_gpu=True).evaluation >= small.evaluation
    assert batch_sizes(prepared, on_gpu=True).statistics >= small.statistics


def test_a_trainer_takes_its_copy_of_the_split_and_a_context() -> None:
    prepared = prepare(TINY, ["train.distillation=0"])
    alone, with_split = (trainer_bytes(prepared, split_bytes=count) for count in (0, 12345))
    assert with_split - alone == 12345
    assert alone >= CONTEXT_BYTES + step_bytes(prepared)
    weights = sum(shape.weights for shape in prepared.shapes)
    assert trainer_bytes(prepare(TINY), split_bytes=0) == alone + 4 * weights  # the float network that is imitated


def test_fp32_takes_more_than_bf16() -> None:
    by_precision = [step_bytes(prepare(TINY, [f"train.precision={name}"])) for name in ("bf16", "fp32", "auto")]
    assert by_precision[0] == by_precision[2] < by_precision[1]
