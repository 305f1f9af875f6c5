"""Looking at other processes, by what Linux says of them in /proc."""

from __future__ import annotations

from pathlib import Path


def children_of(process: int) -> list[int]:
    """The processes that one has started and that are there still; none of one that is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
