"""The choice of a member of a run's front, and its writing as integers in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spquant_search.commands.loading import bars_on_terminal, load_shown
from spquant_search.errors import UserError

if TYPE_CHECKING:
    from spquant_search.data.loading import DataSet
    from spquant_search.deploy.artifact import Artifact
    from spquant_search.deploy.c_names import CNames
    from spquant_search.deploy.device_facts import DeviceFacts
    from spquant_search.deploy.vectors import Vectors
    from spquant_search.report.pick_reasons import Wish
    from spquant_search.report.run_summary import RunSummary
    from spquant_search.runs.folder import RunFolder
    from spquant_search.runs.results import TrialResult
    from spquant_search.space.schema import SpaceFile
    from spquant_search.training.prepared import Prepared

Members = tuple["TrialResult", ...]
Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The member of a front that is to be written, with all that it was chosen from."""

    folder: RunFolder
    file: SpaceFile
    prepared: Prepared
    summary: RunSummary
    member: TrialResult
    wanted: TrialResult | None  # what would have been taken if it could be written

    @property
    def floats_words(self) -> str:
        """What the wanted member keeps in floating point; empty where it is the one that was taken."""
        if self.wanted is None or self.wanted.has_integer_form:
            return ""
        return _floats_words(self.prepared, self.wanted)

    @property
    def origin_words(self) -> str:
        """Where the network came from, if it was imported; empty elsewhere."""
        from spquant_search.snn.networks.planned import plan_of

        layers = self.file.model.layers
        origin = None if layers is None else plan_of(layers, source=str(self.folder.space_file)).origin
        if origin is None:
            return ""
        came = "" if origin.function is None else f" by {origin.function}"
        return f"imported from {origin.library}{came}: README.md of what is written says what was folded and rounded"


def choose_member(
    folder: RunFolder, wish: Wish, *, trial: int | None = None, knee: bool = False, said: str = "--trial"
) -> Choice:
    """Choose a member of a run's front; ``said``: what names the ``trial`` where it is not on the front.

    Raises:
        UserError: no member fits the wish, or the one that does cannot be written.
    """
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.runs.records import read_frozen_space
    from spquant_search.runs.selection import pick as choose
    from spquant_search.training.prepare import bind_network

    file, summary = read_frozen_space(folder), summarize_run(folder)
    if not summary.front:
        raise UserError(f"{folder.path}: no trial of this run is complete yet; start its search again")
    prepared = bind_network(file, source=str(folder.space_file))
    prepared.require_network_of(folder)
    summary = _as_it_is_written(summary, prepared)
    members = summary.front if trial is None else _named_member(trial, summary, folder, said)
    can_be_picked = summary.pickable
    fitting = tuple(member for member in members if member in can_be_picked)
    wanted, member = (choose(some, summary.costs, wish.budget, at_knee=knee) for some in (members, fitting))
    if member is None:
        raise UserError(_nothing_to_write(prepared, summary, members, fitting, wish))
    return Choice(folder=folder, file=file, prepared=prepared, summary=summary, member=member, wanted=wanted)


def write_choice(choice: Choice, out: Path, *, note: Note, names: CNames | None = None) -> tuple[Artifact, str]:
    """Write a member to the new folder ``out``, with its test vectors; ``names``: those of the network in C.

    Returns what was written, and its time steps in words where they are fewer than the most of the search.

    Raises:
        MissingWeights: the run lacks its weights, perhaps as a command that works on the run has better ones by now.
        UserError: it cannot be written.
    """
    from spquant_search.deploy.artifact import write_artifact
    from spquant_search.deploy.device_facts import device_facts
    from spquant_search.runs.records import read_facts

    member, prepared, summary = choice.member, choice.prepared, choice.summary
    time_steps = member.config.time_steps
    facts = device_facts(prepared.space.file, read_facts(choice.folder).classes, time_steps=time_steps)
    facts = facts if names is None else replace(facts, names=names)
    artifact = write_artifact(
        choice.folder,
        choice.file,
        member,
        out,
        samples=summary.samples_of(member),
        test_accuracy=summary.test_accuracy.get(member.number),
        test_samples=summary.test_samples,
        shape=prepared.input,
        vectors=_vectors(choice, facts, note=note),
        facts=facts,
        note=note,
    )
    return artifact, facts.steps_words(time_steps) if facts.fewer_steps else ""


def _as_it_is_written(summary: RunSummary, prepared: Prepared) -> RunSummary:
    """Return a run with the flash and RAM of what this version writes, where another version has searched it."""
    from spquant_search.costs.memory import cost_report

    def renewed(result: TrialResult) -> TrialResult:
        device = prepared.footprint(cost_report(prepared.shapes, result.config))
        if device is None or not result.has_integer_form:
            return result
        return replace(result, engine_flash_bytes=device.engine_flash, engine_ram_bytes=device.engine_ram)

    return replace(summary, results=tuple(map(renewed, summary.results)))


def has_better(choice: Choice) -> bool:
    """Tell whether a run's front has changed since a member was chosen."""
    from spquant_search.report.run_summary import summarize_run

    found = _as_it_is_written(summarize_run(choice.folder), choice.prepared)
    return found.front != choice.summary.front


def _named_member(number: int, summary: RunSummary, folder: RunFolder, said: str) -> Members:
    from spquant_search.report.pick_reasons import why_not_on_the_front

    named = tuple(member for member in summary.front if member.number == number)
    if not named:
        numbers = ", ".join(str(member.number) for member in summary.front)
        raise UserError(
            f"{said} {number}: is not on the front of {folder.path}: {why_not_on_the_front(summary, number)}; "
            f"the members of the front are {numbers}"
        )
    return named


def _nothing_to_write(
    prepared: Prepared, summary: RunSummary, members: Members, deployable: Members, wish: Wish
) -> str:
    """Explain why none of these members is written, of which some can be deployed, perhaps."""
    from spquant_search.costs.extremes import smallest_figures
    from spquant_search.report.pick_advice import why_nothing_is_pickable
    from spquant_search.report.pick_reasons import member_figures, why_nothing_fits
    from spquant_search.runs.selection import within

    if not deployable and len(members) < len(summary.front) and not summary.no_integer_form:
        return (
            f"trial {members[0].number} cannot be written in integers: it keeps {_floats_words(prepared, members[0])}"
        )
    if not deployable:
        return f"nothing on the front can be picked: {why_nothing_is_pickable(summary)}"
    smallest = smallest_figures(prepared.space, prepared.shapes, prepared.architecture)
    words = why_nothing_fits(summary, deployable, wish, smallest=smallest)
    for kept in within(members, wish.budget):
        figures = member_figures(summary, kept)
        words += f"\nTrial {kept.number} ({figures}) fits, but keeps {_floats_words(prepared, kept)}"
    return words


def _floats_words(prepared: Prepared, member: TrialResult) -> str:
    """Say what a member keeps in floating point, and where first."""
    from spquant_search.deploy.deployable import float_parts

    floats = float_parts(prepared, member)
    if not floats:
        return "floats"
    first, *others = floats
    return f"{floats[first]} in {first}" + (f" and {len(others)} more" if others else "")


def _vectors(choice: Choice, facts: DeviceFacts, *, note: Note) -> Vectors:
    """Return the test vectors at a member's time steps, made up where the data is absent or its classes are others."""
    from spquant_search.deploy.vectors import made_up_vectors, vectors_of

    prepared, config = choice.prepared, choice.member.config
    file = prepared.space.file
    try:
        return vectors_of(recordings_of(file, facts.classes), time_steps=config.time_steps)
    except UserError as error:
        is_gated = any(precision.channel_mass < 1.0 for _, precision in config.layers)
        unordered = ", and channels stay in the order of training" if is_gated else ""
        note(f"the test vectors are made-up frames, not those of the data{unordered}: {error}")
        made = 1 if facts.same_frame else file.most_time_steps
        return made_up_vectors(prepared.input, frames=made, time_steps=config.time_steps)


def recordings_of(file: SpaceFile, classes: Sequence[str]) -> DataSet:
    """Load the data; raise UserError where it is not there, or no longer has these classes."""
    from spquant_search.runs.opening import changed_classes

    with bars_on_terminal() as stage:
        loaded = load_shown(file, stage)
    if change := changed_classes(classes, loaded.classes):
        raise UserError(f"the classes of {file.data.name} are not those that the network was trained for: {change}")
    return loaded
