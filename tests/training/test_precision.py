"""The number format of training, and fp32 that is nothing less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_training import RECIPE, network, recordings
from torch.utils._python_dispatch import TorchDispatchMode

from spquant_search.errors import UserError
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, LayerPrecision, NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.training import precision as formats
from spquant_search.training.distillation import FloatTeacher
from spquant_search.training.evaluation import evaluate
from spquant_search.training.loop import TrainingRun, train
from spquant_search.training.precision import exact_fp32, loss_scaler, training_dtype
from spquant_search.training.prefix_reuse import subnet_accuracies
from spquant_search.training.schedule import Schedule
from spquant_search.training.supernet import measure_statistics


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


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), torch.float32),
        ((7, 0), torch.float16),
        ((7, 5), torch.float16),
        ((8, 0), torch.bfloat16),
        ((8, 9), torch.bfloat16),
        ((10, 0), torch.bfloat16),
        ((12, 0), torch.bfloat16),
    ],
)
def test_auto_is_what_the_trainers_own_gpu_multiplies(
    capability: tuple[int, int], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []

    def answer(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return capability

    def nobody_asks(*_given: Any) -> bool:
        raise AssertionError("emulated bf16 counts as supported, and the current device may be another")

    monkeypatch.setattr(torch.cuda, "get_device_capability", answer)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", nobody_asks)
    device = torch.device("cuda:1")
    assert training_dtype(replace(RECIPE, precision="auto"), device) is expected
    assert asked == [device]
    assert training_dtype(replace(RECIPE, precision="bf16"), device) is torch.bfloat16, "who asks for it gets it"


Settings = tuple[Any, ...]


def settings() -> Settings:
    return (torch.backends.cudnn.benchmark, *(switch.fp32_precision for switch in formats._FP32_SWITCHES))


@pytest.fixture
def loosest() -> Iterator[Settings]:
    """All that a user's own module may have set to be faster, by torch's old switches and by its new ones."""
    with exact_fp32():  # which puts everything back
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.fp32_precision = "tf32"
        for switch in formats._FP32_SWITCHES:
            switch.fp32_precision = "none"  # as torch.backends says
        torch.backends.cudnn.benchmark = True
        yield settings()
        torch.backends.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")


class Multiplications(TorchDispatchMode):
    """The settings under which everything was multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Settings]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name
        if any(word in name for word in ("conv", "mm", "linear")):
            self.seen.append((name, settings()))
        return function(*args, **(kwargs or {}))


def test_integers_are_multiplied_exactly_whatever_was_set_before(loosest: Settings, plain_neurons: None) -> None:
    subject, few, exact = network(), recordings(8), (False, *["ieee"] * len(formats._FP32_SWITCHES))
    names = [name for name, module in subject.named_children() if name.startswith("conv")] + ["readout"]
    config = NetworkConfig(
        time_steps=3,
        layers=tuple(
            (
                name,
                LayerPrecision(weight_bits=FLOAT_BITS, membrane_levels=FLOAT_MEMBRANE if name != "readout" else None),
            )
            for name in names
        ),
    )
    run = TrainingRun(
        network=subject, training=few, recipe=RECIPE, schedule=Schedule(epochs=1, learning_rate=1e-3), seed=0
    )
    parts = {
        "training, evaluation": lambda: next(train(run, few)),
        "evaluation": lambda: evaluate(subject, few),
        "statistics": lambda: measure_statistics(subject, few, samples=8),
        "teacher": lambda: FloatTeacher(subject, few, varied=False),
        "subnets": lambda: subnet_accuracies(subject, [config], NeuronSpace(), training=few, samples=8, validation=few),
    }
    for part, work in parts.items():
        with Multiplications() as multiplied:
            work()
        assert len(multiplied.seen) >= len(names), part
        assert {seen for _, seen in multiplied.seen} == {exact}, part
        assert settings() == loosest, part


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
