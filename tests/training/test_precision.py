"""The number format of training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_training import RECIPE, network, recordings

from spquant_search.errors import UserError
from spquant_search.training.loop import TrainingRun, train
from spquant_search.training.precision import loss_scaler, training_dtype
from spquant_search.training.schedule import Schedule


def test_the_recipe_chooses_the_type_of_training() -> None:
    cpu = torch.device("cpu")
    assert training_dtype(replace(RECIPE, precision="bf16"), cpu) is torch.bfloat16
    assert training_dtype(replace(RECIPE, precision="fp32"), cpu) is torch.float32


def test_fp16_is_refused_without_a_gpu_and_alone_needs_a_scale() -> None:
    recipe, cpu = replace(RECIPE, precision="fp16"), torch.device("cpu")
    with pytest.raises(UserError) as caught:
        training_dtype(recipe, cpu)
    assert str(caught.value) == (
        "train.precision: fp16 needs a GPU, and this training is on device cpu; take auto, bf16 or fp32"
    )
    assert training_dtype(recipe, torch.device("cuda")) is torch.float16
    for precision in ("auto", "bf16", "fp32"):
        assert loss_scaler(replace(RECIPE, precision=precision), cpu) is None


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_auto_is_bf16_where_the_processor_multiplies_it(
    capabilities: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert training_dtype(replace(RECIPE, precision="auto"), torch.device("cpu")) is expected


def test_bf16_is_for_training_alone(plain_neurons: None) -> None:
    seen: list[tuple[bool, torch.dtype]] = []
    subject = network()
    subject.conv4.register_forward_hook(lambda module, _inputs, out: seen.append((module.training, out.values.dtype)))
    epochs = train(
        TrainingRun(
            network=subject,
            training=recordings(8),
            recipe=replace(RECIPE, precision="bf16"),
            schedule=Schedule(epochs=1, learning_rate=1e-3),
            seed=0,
        ),
        recordings(4),
    )
    next(epochs)
    assert seen == [(True, torch.bfloat16), (False, torch.float32)]
    assert all(parameter.dtype == torch.float32 for parameter in subject.parameters())
