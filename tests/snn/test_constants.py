"""Values that are kept: made once of their arguments, and again when one of these is another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spquant_search.snn.constants import Constants, constants_kept, kept


class Counted:
    """A function of tensors and numbers that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tensor: Tensor, number: float, other: Tensor | None) -> Tensor:
        self.calls += 1
        return tensor * number + (0.0 if other is None else other)


OWNER = nn.Identity()


def test_a_constant_is_made_once_and_without_constants_every_time() -> None:
    double, tensor = Counted(), torch.ones(3)
    for _ in range(2):
        assert kept(OWNER, double, tensor, 2.0, None).tolist() == [2.0] * 3
    assert double.calls == 2
    with constants_kept():
        first = kept(OWNER, double, tensor, 2.0, None)
        assert kept(OWNER, double, tensor, 2.0, None) is first
        assert double.calls == 3
        with constants_kept():  # another evaluation
            assert kept(OWNER, double, tensor, 2.0, None) is not first
        assert kept(OWNER, double, tensor, 2.0, None) is first
    assert kept(OWNER, double, tensor, 2.0, None) is not first
    assert double.calls == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor, other: (tensor.mul_(3.0), 2.0, other),
        lambda tensor, other: (tensor, 2.0, other.add_(1.0)),
        lambda tensor, other: (tensor.view(3)[1:].fill_(7.0) is None or tensor, 2.0, other),
        lambda tensor, other: (torch.inference_mode(False)(tensor.clone)(), 2.0, other),
        lambda tensor, other: (tensor, 4.0, other),
        lambda tensor, other: (tensor, 2.0, None),
    ],
    ids=["in place", "in place, another", "in place, by a view", "an equal tensor", "a number", "none"],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_constant_is_made_again_when_an_argument_is_another(
    change: Callable[[Tensor, Tensor], tuple[Tensor, float, Tensor | None]], mode: Callable[[], torch.no_grad]
) -> None:
    double, tensor, other = Counted(), torch.ones(3), torch.ones(3)
    with mode(), constants_kept():
        before = kept(OWNER, double, tensor, 2.0, other).clone()
        changed = change(tensor, other)
        found = kept(OWNER, double, *changed)
        assert torch.equal(found, Counted()(*changed))
        assert double.calls == 2
        assert before.tolist() == [3.0] * 3
        assert not found.is_inference(), "its changes could not be seen"


def test_constants_are_those_of_their_owner_and_function() -> None:
    one, two, tensor = Counted(), Counted(), torch.ones(3)
    with constants_kept():
        values = [
            kept(owner, function, tensor, 2.0, None) for owner in (OWNER, nn.Identity()) for function in (one, two)
        ]
    assert len({id(value) for value in values}) == 4


@pytest.mark.parametrize(("configurations", "calls"), [(1, 6), (2, 2)])
def test_as_many_are_kept_as_there_are_configurations(configurations: int, calls: int) -> None:
    double, tensors = Counted(), [torch.ones(3), torch.zeros(3)]
    constants = Constants(configurations=configurations)
    for _ in range(3):
        for tensor in tensors:
            with constants_kept(constants):
                assert torch.equal(kept(OWNER, double, tensor, 2.0, None), 2.0 * tensor)
    assert double.calls == calls


def test_of_a_tensor_whose_changes_nobody_counts_nothing_is_kept() -> None:
    double = Counted()
    with torch.inference_mode(), constants_kept():
        tensor = torch.ones(3)
        for number in range(3):
            assert kept(OWNER, double, tensor.fill_(number), 2.0, None).tolist() == [2.0 * number] * 3


def test_what_raises_is_not_kept() -> None:
    def fail(tensor: Tensor) -> Tensor:
        raise ValueError(f"{len(tensor)} are too many")

    with constants_kept():
        for _ in range(2):
            with pytest.raises(ValueError, match="3 are too many"):
                kept(OWNER, fail, torch.ones(3))
