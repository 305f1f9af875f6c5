"""The figures of scenarios as a table: printed from what was found, and read from the file that is written down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIB = 2**20
ROUNDING = 0.05  # MiB: the table has one digit


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What one scenario may ask of a GPU."""

    launches: int  # at most, of one step or batch
    mib: float  # at most, beyond what lay on the device before
    waits: int  # exactly, of one step or batch
    launches_after: int  # at most, of what comes after the last one
    waits_else: int  # exactly, of the first one, what comes before it, and after all


def figures(found: Mapping[str, Any]) -> Figures:
    """Return the figures of what a scenario was found to ask for."""
    return Figures(
        launches=found["launches"],
        mib=found["most_bytes"] / MIB,
        waits=sum(found["waits"].values()),
        launches_after=found["launches_after"],
        waits_else=sum(found["waits_else"].values()),
    )


def table(found: Mapping[str, Mapping[str, Any]], *, waits: bool = False) -> str:
    """Write what was found as a table, with the places of waits if asked for."""
    lines = [
        f"{'space':<25}{'scenario':<25}{'launches':>9}{'MiB':>9}{'waits':>7}{'launches after':>16}{'waits else':>12}"
    ]
    for space, scenarios in found.items():
        for scenario, one in scenarios.items():
            if one["failure"] is not None:
                lines.append(f"{space:<25}{scenario:<25}  {one['failure']}")
                continue
            of = figures(one)
            numbers = f"{of.launches:>9}{of.mib:>9.1f}{of.waits:>7}{of.launches_after:>16}{of.waits_else:>12}"
            lines.append(f"{space:<25}{scenario:<25}{numbers}")
            if waits:
                for kind, counted in (("waits", one["waits"]), ("waits else", one["waits_else"])):
                    lines += [f"    {kind}: {count} x {place}" for place, count in counted.items()]
    return "\n".join(lines)


def read(text: str) -> dict[tuple[str, str], Figures]:
    """Read a table back, by space and scenario."""
    rows = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines()[1:])
    return {
        (space, scenario): Figures(
            launches=int(launches),
            mib=float(mib),
            waits=int(waits),
            launches_after=int(launches_after),
            waits_else=int(waits_else),
        )
        for space, scenario, launches, mib, waits, launches_after, waits_else in rows
    }


def violations(
    space: str, found: Mapping[str, Mapping[str, Any]], allowed: Mapping[tuple[str, str], Figures]
) -> list[str]:
    """Say what a space's scenarios ask for that is not written down."""
    problems = []
    for scenario, one in found.items():
        if one["failure"] is not None:
            problems.append(f"{scenario} fails: {one['failure']}")
            continue
        now, most = figures(one), allowed.get((space, scenario))
        if most is None:
            continue
        for kind in ("launches", "launches_after"):
            count, written = getattr(now, kind), getattr(most, kind)
            if count > written:
                problems.append(f"{scenario}: {count} {_words(kind)}, and {written} are written down")
        if now.mib > most.mib + ROUNDING:
            problems.append(f"{scenario}: {now.mib:.2f} MiB, and {most.mib:.1f} are written down")
        for kind in ("waits", "waits_else"):
            count, written = getattr(now, kind), getattr(most, kind)
            if count != written:
                places = "; ".join(f"{times} x {place}" for place, times in one[kind].items())
                problems.append(f"{scenario}: {count} {_words(kind)}, and {written} are written down: {places}")
    return problems


def _words(kind: str) -> str:
    return kind.replace("_", " ")
