"""Commands that describe a space before any training: what its network costs, what its data are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spquant_search.cli.expected import find_space_file
from spquant_search.cli.faults import UsageFault
from spquant_search.cli.options import JsonOption, SetOption, SpaceOption
from spquant_search.cli.terminal import is_wide, show_table
from spquant_search.commands.loading import load_shown
from spquant_search.errors import nearest
from spquant_search.space.presets import Preset

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.commands.needs import Needs
    from spquant_search.costs.memory import CostReport
    from spquant_search.data.loading import DataSet
    from spquant_search.space.configuration import NetworkConfig
    from spquant_search.training.prepared import Prepared


def cost(
    space: SpaceOption,
    preset: Annotated[
        Preset | None,
        typer.Option(
            help="Of which system of the SpQuant-SNN paper, whatever the file searches. Default: snn-bl; with --set of "
            "layers, and where a space has a single configuration, what the space itself has."
        ),
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show bytes, dense operations and energy of a network, and what a search of its space takes."""
    from rich.console import Console

    from spquant_search.commands.needs import known_needs
    from spquant_search.report.cost_table import cost_table, device_notes, steps_table
    from spquant_search.report.paper import paper_comparison, paper_table
    from spquant_search.report.step_words import steps_words
    from spquant_search.runs.folder import find_run
    from spquant_search.training.prepare import prepare

    space = find_space_file(space)
    prepared = prepare(space, overrides or [])
    file = prepared.space.file
    shown = _shown_configuration(prepared, preset, overrides or [])
    by_steps = _costs_by_steps(prepared, shown.config)
    report, dense = by_steps[-1], _costs_by_steps(prepared, prepared.space.baseline())[-1]
    size = {"height": prepared.input.height, "width": prepared.input.width}
    paper = None if shown.preset is None else paper_comparison(report, shown.preset, model=file.model, **size)
    needs = known_needs(prepared, find_run(space.stem).path, trials=file.search.trials)
    macs = dense.dense_macs_all_steps
    if as_json:
        search = {"not_known": needs} if isinstance(needs, str) else needs.as_dict(macs=macs)
        beside = {"search": search} | ({} if paper is None else {"paper": paper.as_dict()})
        typer.echo(json.dumps(_cost_document(space, prepared, shown, by_steps) | beside, indent=1))
        return
    console = Console()
    at_most = f" at {steps_words(report.time_steps)}" if len(by_steps) > 1 else ""
    title = f"Cost of {file.model.network} {shown.title}{at_most}"
    further = (*shown.notes, *device_notes(report, prepared))
    show_table(cost_table(report, title=title, energy_columns=is_wide(console), further=further), console)
    if len(by_steps) > 1:
        show_table(steps_table(by_steps, dense), console)
    if paper is not None:
        show_table(paper_table(paper), console)
    _show_work(prepared, needs, console, macs=macs)


def _show_work(prepared: Prepared, needs: Needs | str, console: Console, *, macs: int) -> None:
    """Show what a search takes, and what else is to be said of the space."""
    from spquant_search.commands.needs import work_table

    remarks = list(prepared.remarks)
    if isinstance(needs, str):
        remarks.append(f"what a search takes is known once its data are there: {needs}")
    else:
        show_table(work_table(needs, macs=macs, time_steps=prepared.space.file.time_steps), console)
    for remark in remarks:
        console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)


def _cost_document(space: Path, prepared: Prepared, shown: _Shown, by_steps: Sequence[CostReport]) -> dict[str, object]:
    """Return what `cost --json` says of a configuration and of the space."""
    from spquant_search.report.cost_table import cost_document

    preset = None if shown.preset is None else str(shown.preset)
    steps = [{"time_steps": one.time_steps, **cost_document(one, prepared)["total"]} for one in by_steps]
    return {
        **{"space": str(space), "preset": preset, "no_integer_form": prepared.no_integer_form},
        **{"notes": list(prepared.all_notes), **cost_document(by_steps[-1], prepared)},
        **{"by_time_steps": steps, "range": prepared.byte_ranges()},
    }


def _costs_by_steps(prepared: Prepared, config: NetworkConfig) -> list[CostReport]:
    """Return what a configuration costs at each number of time steps that the space has, the most last."""
    from spquant_search.costs.memory import cost_report
    from spquant_search.runs.sensitivity import with_values
    from spquant_search.space.configuration import TIME_STEPS

    at_steps = [with_values(config, {TIME_STEPS: time_steps}) for time_steps in prepared.space.file.time_steps]
    return [cost_report(prepared.shapes, one) for one in at_steps]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """A configuration whose cost is shown, and why it is this one."""

    config: NetworkConfig
    title: str
    preset: Preset | None = None
    notes: tuple[str, ...] = ()


def _shown_configuration(prepared: Prepared, preset: Preset | None, overrides: Sequence[str]) -> _Shown:
    """Return a preset, or what the space itself has: where its choices were set, or where it has no others."""
    from spquant_search.runs.sensitivity import reference_configuration
    from spquant_search.space.configuration import PARAMETERS
    from spquant_search.space.references import preset_config

    file, choices = prepared.space.file, prepared.space.choices()
    chosen = {address.parameter for address, options in choices.items() if len(options) > 1}
    several = [name for name in PARAMETERS if name in chosen]
    is_set = any(override.startswith("layers") for override in overrides)
    if preset is None and (is_set or not several):
        if not several:
            return _Shown(config=reference_configuration(prepared.space), title="in its one configuration")
        note = (
            f"of {', '.join(several)} there are several choices: shown is the most precise one of every layer; fix "
            f"them with --set, as in --set layers.all.{several[-1]}=..., or name a --preset"
        )
        return _Shown(
            config=reference_configuration(prepared.space), title="at its most precise choices", notes=(note,)
        )
    named = preset or Preset.SNN_BL
    network, shapes = file.model.network, prepared.shapes
    config = preset_config(named, network=network, shapes=shapes, time_steps=file.most_time_steps)
    return _Shown(config=config, title=f"as {named}", preset=named)


def data(
    space: SpaceOption,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw a few samples into this picture.")] = None,
    download: Annotated[bool, typer.Option("--download", help="First fetch a published set into data.root.")] = False,
) -> None:
    """Prepare a data set; show its classes, events and size."""
    from rich.console import Console

    from spquant_search.data.download import download as fetch
    from spquant_search.report.stages import stages
    from spquant_search.snn.networks.catalog import too_small
    from spquant_search.space.reading import read_space
    from spquant_search.training.data_set import describe_data, input_shape

    space = find_space_file(space)
    file = read_space(space, overrides or [])
    unfit = too_small(file.model, input_shape(describe_data(file, source=str(space))))
    with stages(Console(stderr=True)) as stage:
        if download:
            fetch(file.data, stage)
        loaded = load_shown(file, stage)
    loaded = replace(loaded, notes=(*loaded.notes, *filter(None, [unfit])))
    _show_data(loaded, file.time_steps, space, as_json=as_json, out=out)


def _show_data(loaded: DataSet, time_steps: Sequence[int], space: Path, *, as_json: bool, out: Path | None) -> None:
    from rich.console import Console

    from spquant_search.data.statistics import dataset_statistics, examples
    from spquant_search.report.data_report import class_table, split_table, steps_table, write_sample_figure

    facts = dataset_statistics(loaded, time_steps)
    if out is not None:
        write_sample_figure(facts, examples(loaded), out)
    if as_json:
        typer.echo(json.dumps({"space": str(space), **facts.as_dict()}, indent=1))
        return
    console = Console()
    show_table(class_table(facts), console)
    show_table(split_table(facts), console)
    if (of_steps := steps_table(facts)) is not None:
        show_table(of_steps, console)
    if out is not None:
        console.print(f"Written to {out}")


def spaces(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this one, to be copied: spaces vgg9 > my.yaml.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the space files that come with the package, or print one."""
    from spquant_search.space.shipped import SUFFIX, first_sentence, shipped_spaces

    known = shipped_spaces()
    if name is None:
        sentences = {known_name: first_sentence(file) for known_name, file in known.items()}
        if as_json:
            typer.echo(json.dumps(sentences, indent=1))
            return
        width = max(map(len, known), default=0)
        for known_name, sentence in sentences.items():
            typer.echo(f"{known_name:{width}}  {sentence}")
        return
    file = known.get(name.removesuffix(SUFFIX))
    if file is None:
        near = nearest(name, known) or next(iter(known))
        raise UsageFault(
            f"{name}: no such space file comes with the package. There are {', '.join(known)}:", "spaces", near
        )
    typer.echo(file.read_text(encoding="utf-8"), nl=False)
