"""What a device's program must know beside the network: how frames are made, and what the classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from spquant_search.data.description import describe
from spquant_search.data.frame_rules import frame_rules
from spquant_search.deploy.c_names import CNames
from spquant_search.space.schema import SpaceFile


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFacts:
    """The names of the classes by number, and the way to a sample's frames; empty where they are not known.

    And the names that the network itself has in C.
    """

    classes: tuple[str, ...] = ()
    frame_figures: dict[str, Any] = field(default_factory=dict)
    frame_sentences: tuple[str, ...] = ()
    same_frame: bool = False  # in every time step
    names: CNames = field(default_factory=CNames)
    fewer_steps: str = ""  # how the time steps come from those of the search, where the network takes fewer

    def manifest(self) -> dict[str, Any]:
        """Return the part of the manifest that says it."""
        return {"classes": list(self.classes), "frames": self.frame_figures | {"rules": list(self.frame_sentences)}}

    def steps_words(self, time_steps: int) -> str:
        """Return a number of time steps, and how they come from those of the search: ``2, each the sum of ..``."""
        return f"{time_steps:,}, {self.fewer_steps}" if self.fewer_steps else f"{time_steps:,}"


def device_facts(space: SpaceFile, classes: Sequence[str], *, time_steps: int) -> DeviceFacts:
    """Return what is known of a space's data, as a network of so many time steps is shown it.

    ``classes`` are those that the space's networks were trained for.
    """
    info = describe(space.data.name, space.data, time_steps=space.most_time_steps)
    rules = frame_rules(info, space.data, time_steps=time_steps, made=space.most_time_steps)
    return DeviceFacts(
        classes=tuple(classes),
        frame_figures=rules.figures,
        frame_sentences=rules.sentences,
        same_frame=info.static,
        fewer_steps=rules.fewer_steps,
    )
