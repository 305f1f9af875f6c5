"""The budget ladder: the configurations that should lose least accuracy at each of several memory budgets.

It is a multiple-choice knapsack. Every layer's weights and every layer's membrane are a group, one option of each group
is taken, and both bytes and losses add up. Bytes do so exactly: a layer's weights and scales depend on its
``weight_bits`` alone, its membrane on its ``membrane_levels`` alone. That losses add up is an assumption: it only
proposes configurations, which are then measured. Every number of time steps has a ladder of its own, in which a lower
precision is taken to lose as much as at the most steps.

The solution is exact, without a resolution in bytes, because losses are whole numbers: validation samples that are no
longer classified correctly. Groups are merged one after the other, and of all partial choices only those stay that no
other one beats in both bytes and loss (Nemhauser and Ullmann, 1969). So many can at most stay as the losses have
different sums, some thousands, while the number of byte sums knows no such bound. The result is the whole front, from
which every budget is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from spquant_search.runs.sensitivity import Choice, Sensitivity, with_values
from spquant_search.space.address import Address
from spquant_search.space.configuration import STORED, TIME_STEPS, NetworkConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One choice of a group: its bytes, and the validation samples that it loses."""

    bytes: int
    lost: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Frontier:
    """All selections that none beats in both bytes and loss, the smallest and worst first."""

    bytes: Int[np.ndarray, " selection"]
    lost: Int[np.ndarray, " selection"]
    options: Int[np.ndarray, "selection group"]  # the index of the option taken in every group


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetPoint:
    """The configuration for one budget; ``loss`` is the predicted loss of accuracy, a fraction."""

    budget_bytes: int
    memory_bytes: int
    loss: float
    config: NetworkConfig


def frontier(groups: Sequence[Sequence[Option]]) -> Frontier:
    """Return the best selections of one option a group; of a group's equal options they have the first."""
    found = Frontier(bytes=np.zeros(1, np.int64), lost=np.zeros(1, np.int64), options=np.zeros((1, 0), np.int16))
    for group in groups:
        sizes, losses = (np.array([getattr(option, name) for option in group], np.int64) for name in ("bytes", "lost"))
        size = (found.bytes[:, None] + sizes).ravel()
        lost = (found.lost[:, None] + losses).ravel()
        order = np.lexsort((lost, size))  # stable
        least = np.minimum.accumulate(lost[order])
        better = np.ones(len(order), bool)
        better[1:] = lost[order][1:] < least[:-1]
        kept = order[better]
        selection, option = np.divmod(kept, len(group))
        options = np.concatenate([found.options[selection], option[:, None].astype(np.int16)], axis=1)
        found = Frontier(bytes=size[kept], lost=lost[kept], options=options)
    return found


def plan_budget_ladder(found: Sensitivity, points: int) -> tuple[BudgetPoint, ...]:
    """Return at most ``points`` configurations for each number of time steps, the most steps first.

    Of one number of steps each configuration is larger and loses less than the last. Budgets are spread geometrically
    from the smallest configuration's memory to that of the one that loses least: more memory would buy nothing. A
    single point is the configuration that loses least. Two budgets with the same solution give one point.
    """
    if points < 1:
        return ()
    most = _Steps(time_steps=found.reference.time_steps, memory_bytes=found.memory_bytes, lost=0)
    fewer = [
        _Steps(time_steps=choice.value, memory_bytes=choice.memory_bytes, lost=_samples_lost(found, choice))
        for choice in found.fewer_steps
    ]
    return tuple(point for steps in (most, *fewer) for point in _points_at(steps, found, points))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Steps:
    """The reference at a number of time steps: its bytes, and the samples that it loses against the most steps."""

    time_steps: int
    memory_bytes: int
    lost: int


def _points_at(steps: _Steps, found: Sensitivity, points: int) -> Iterable[BudgetPoint]:
    groups = {
        address: group
        for address, group in _groups(found).items()
        if steps.time_steps > 1 or address.parameter not in STORED
    }
    best = frontier([[option for _, option in group] for group in groups.values()])
    memory = steps.memory_bytes + best.bytes
    budgets = np.rint(np.geomspace(memory[-1], memory[0], points)).astype(np.int64)[::-1]
    made: dict[int, BudgetPoint] = {}
    for budget in budgets:
        place = int(np.searchsorted(memory, budget, side="right")) - 1
        taken = zip(groups.items(), best.options[place], strict=True)
        values = {address: group[option][0] for (address, group), option in taken}
        point = BudgetPoint(
            budget_bytes=int(budget),
            memory_bytes=int(memory[place]),
            loss=(steps.lost + int(best.lost[place])) / found.samples,
            config=with_values(found.reference, {TIME_STEPS: steps.time_steps, **values}),
        )
        made.setdefault(place, point)
    return made.values()


def _samples_lost(found: Sensitivity, choice: Choice) -> int:
    """Return the samples that a choice loses; one that measured better than the reference loses none."""
    return max(0, round(found.loss(choice) * found.samples))


def _groups(found: Sensitivity) -> dict[Address, list[tuple[int, Option]]]:
    """Return all choices as options by address, the reference's first and with 0 bytes, those below it with less.

    A choice that measured better than a more precise one is taken to lose as much as that one: the difference is noise,
    and the sums would be made of the luckiest observations otherwise.
    """
    groups: dict[Address, list[tuple[int, Option]]] = {}
    for choice in found.choices:
        if choice.address not in groups:
            value = getattr(found.reference[choice.layer], choice.parameter)
            groups[choice.address] = [(value, Option(bytes=0, lost=0))]
        before = groups[choice.address][-1][1].lost
        lost = max(before, round(found.loss(choice) * found.samples))
        groups[choice.address].append((choice.value, Option(bytes=-found.bytes_saved(choice), lost=lost)))
    return groups
