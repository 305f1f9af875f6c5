"""The page report.md: the subject of a run, its front, its trials and the next commands."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from spquant_search.report.accuracy_words import best_interval, validation_words
from spquant_search.report.class_words import classes_sentence
from spquant_search.report.energy_columns import ENERGY_NOTES
from spquant_search.report.forms import short_form
from spquant_search.report.front_table import front_table, run_hypervolume_text
from spquant_search.report.layer_table import layer_table
from spquant_search.report.numbers import duration
from spquant_search.report.pick_advice import pick_advice, run_words, why_nothing_is_pickable, within_words
from spquant_search.report.pick_reasons import member_figures
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.step_words import dense_words, enumerated, over_steps
from spquant_search.report.text_table import one_line
from spquant_search.report.trainer_words import trainers_words
from spquant_search.runs.files import write_text
from spquant_search.runs.results import Outcome
from spquant_search.space.objectives import COSTS


def write_report(summary: RunSummary, path: Path) -> None:
    write_text(path, report_markdown(summary))


def report_markdown(summary: RunSummary) -> str:
    """Write the whole run on one page."""
    sections = (_opening, _front_section, _trials_section, _counting_section, _next_section, _layers_section)
    return "\n".join(section(summary) for section in sections)


def _opening(summary: RunSummary) -> str:
    return f"""# {one_line(summary.run)}: how few bits and operations

{searched_sentence(summary)}
Data: {one_line(summary.data)}.
{classes_sentence(summary.classes)}

{accuracy_sentence(summary)}
{test_sentence(summary)}

![the front of accuracy and {COSTS[summary.costs[0]].words}, among the trials that left a network](front.png)
"""


def searched_sentence(summary: RunSummary) -> str:
    """Say what had choices."""
    if not summary.has_choices:
        return f"Nothing was searched: `{summary.source}` gives every layer of {summary.network} one choice."
    words = []
    if summary.searches_steps:
        words.append(f"the number of time steps ({enumerated(summary.time_steps, 'or')})")
    if summary.searched:
        words.append(f"{enumerated(summary.searched, 'and')}, layer by layer,")
    listed = ", and ".join(words)
    return f"Searched: {listed} of {summary.network}, as `{summary.source}` allows."


def accuracy_sentence(summary: RunSummary) -> str:
    """Say what accuracies are of, and what they were measured on."""
    kinds = {trial.outcome for trial in summary.results if trial.outcome.has_weights}
    words = {
        Outcome.COMPLETE: "of the last epoch of the network that was kept",
        Outcome.SUBNET: "of the subnet as the supernet left it",
    }
    measured = tuple(trial for trial in summary.results if trial.outcome.has_weights)
    said = [text for kind, text in words.items() if kind in kinds]
    what = f"Accuracy is that {', or '.join(said)}," if said else "Accuracy is measured"
    return f"{what} on {validation_words(summary, measured)}."


def test_sentence(summary: RunSummary) -> str:
    """Say how often the test split was used."""
    use = summary.test_use
    if not use.total:
        return "The test split was not used."
    networks = [
        *(["the float baseline"] if use.baseline else []),
        *([f"{use.members} that {'was' if use.members == 1 else 'were'} on the front then"] if use.members else []),
        *([f"{use.seeds} of the fine-tuning with several seeds"] if use.seeds else []),
    ]
    times = "once" if use.total == 1 else f"{use.total} times"
    return (
        f"The test split ({summary.test_samples:,} samples) was used {times}, each time for a network that was trained "
        f"already ({', '.join(networks)}); nothing was chosen by it."
    )


def _front_section(summary: RunSummary) -> str:
    if not summary.front:
        return "## The front\n\nNo trial has left a network yet.\n"
    interval = best_interval(summary)
    notes = [f"{interval}." if interval else "", _choice_sentence(summary)]
    return f"""## The front

{front_table(summary).markdown()}
{" ".join(note for note in notes if note)}

{_hypervolume_sentences(summary)}
"""


def _choice_sentence(summary: RunSummary) -> str:
    """Say which way accuracies lean, where there was a choice."""
    if len([trial for trial in summary.results if trial.outcome.has_weights]) < 3:  # the baseline and one other
        return ""
    return "The front was chosen by these accuracies, which therefore lean to the high side."


def _hypervolume_sentences(summary: RunSummary) -> str:
    text = _sentence(run_hypervolume_text(summary))
    if summary.reference_point is None:
        return f"{text}."
    axes = [COSTS[name].words for name in summary.costs if name not in summary.hidden_costs]
    words = f"Its axes: accuracy above chance, and {' and '.join(axes)} as parts of the reference point's."
    if summary.budget:
        words += " Only members within the constraints count."
    return f"{text}. {words if axes else ''}".rstrip()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _trials_section(summary: RunSummary) -> str:
    ends = Counter(trial.outcome for trial in summary.trials)
    rows = [f"| {outcome.value} | {ends[outcome]} |" for outcome in Outcome if ends[outcome]]
    table = "\n".join(["| how it ended | trials |", "| :-- | --: |", *rows, "", ""]) if rows else ""
    return f"""## Trials

{table}{_count_sentence(summary)} {_epochs_sentence(summary)}
{duration(summary.seconds)} of wall clock, over all starts that were not killed{_trainers_clause(summary)}.
Each trial is a row of `results.csv`, with the reason why it ended.
"""


def _trainers_clause(summary: RunSummary) -> str:
    """Say what trained; a run that was begun on several machines, or with other numbers of trainers, had several."""
    listed = [trainers_words(trainers) for trainers in summary.trainers]
    return f", by {'; or '.join(listed)}" if listed else ""


def _epochs_sentence(summary: RunSummary) -> str:
    epochs = sum(trial.trained_epochs for trial in summary.trials)
    return (
        f"At their own configuration they were trained for {epochs} {'epoch' if epochs == 1 else 'epochs'}; those of "
        "the float baseline, of a supernet, and of seeds that were not kept come on top."
    )


def _count_sentence(summary: RunSummary) -> str:
    """Say how many trials there are, and how many were asked for where those are not all."""
    total, tried = len(summary.trials), summary.candidates_tried
    words = f"{total} {'trial' if total == 1 else 'trials'} besides the float baseline"
    if summary.has_choices and summary.trials_wanted not in (None, tried):
        words += f", {tried} of them candidates, of which {summary.trials_wanted} were asked for"
    return f"{words}."


def _counting_section(summary: RunSummary) -> str:
    baseline = summary.baseline
    dense = ""
    if baseline is not None:
        dense = f"\n- Dense operations of the network: {dense_words(baseline.dense_macs, summary.time_steps)}."
    return f"""## What is counted

- Memory: weights packed at their bits, {_membranes_words(summary)},
  scales, offsets and gate predictors. Code, input frames and scratch buffers are not in it.
- FLOPs: 2 per MAC, a sample {over_steps(summary.time_steps)}. Effective FLOPs omit closed channels and skipped
  neurons, include the gates' predictors, and are measured with the accuracy; zeros in the input are counted.{dense}
{_further_counts(summary)}"""


def _further_counts(summary: RunSummary) -> str:
    """Say what further costs count, those that are objectives or bounded."""
    words = {
        "flash_bytes": "Flash: weights, scales, offsets and gate predictors, and the code of the program in C.",
        "ram_bytes": "RAM: the input frame, membranes, the spikes between layers, and what layers work in; "
        "the stack comes on top.",
        "synaptic_ops": "Synaptic operations (SOPs): of the effective ones, those whose input is not zero.",
        "energy_uj": f"Energy: {ENERGY_NOTES[0].removeprefix('uJ: ')}; at integer prices.",
    }
    shown = [words[name] for name in summary.shown_costs if name in words]
    return "".join(f"- {sentence}\n" for sentence in shown)


def _membranes_words(summary: RunSummary) -> str:
    levels = [layer.membrane_levels for result in summary.results for _, layer in result.config.layers]
    if levels and all(level is None for level in levels):
        return "no membranes (with one time step nothing is stored between steps)"
    none = "; none with a single time step" if summary.searches_steps and 1 in summary.time_steps else ""
    return f"membranes at ceil(log2 levels) bits a neuron (one sample, one time step{none})"


def _next_section(summary: RunSummary) -> str:
    run = run_words(summary)
    lines = ["## Next", "", *_pick_lines(summary)]
    command = one_line(summary.command) or f"spquant-search --space {shlex.quote(summary.source)} --run {run}"
    lines += ["The command that began this run, and goes on with it:", "", f"    {command}", ""]
    lines += [*_again_lines(summary), ""]
    if summary.environment:
        rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in summary.environment.items()]
        lines += ["| begun with | |", "| :-- | :-- |", *rows, ""]
    return "\n".join(lines)


def _pick_lines(summary: RunSummary) -> list[str]:
    advice = pick_advice(summary)
    if advice is None:
        return [f"Nothing can be picked: {why_nothing_is_pickable(summary)}.", ""]
    form = short_form(advice.member.config, with_steps=summary.searches_steps)
    return [
        "To deploy the member nearest to the ideal corner of those that have a form in integers (the knee: here trial "
        f"{advice.member.number}, `{form}`), or the most accurate one within "
        f"{within_words(summary)}:",
        "",
        f"    {advice.at_knee}",
        f"    {advice.within_cost}",
        "",
    ]


def _again_lines(summary: RunSummary) -> list[str]:
    """Say exactly when the same search gives the same results."""
    reasons = []
    if summary.is_shared:
        reasons.append("coordinators that share a run end their trials in another order each time")
    elif summary.workers > 1:
        reasons.append(f"{summary.workers} trainers end their trials in another order each time")
    if any(trainers.device == "cuda" for trainers in summary.trainers):
        reasons.append("a GPU adds up cumulative sums and the gradients of weights in another order each time")
    why = ", and ".join(reasons)
    rule = "with one worker (`--workers 1`) on the same processor, without a GPU, with the same versions"
    limits = "unless a limit of minutes ended something"
    if why:
        return [
            f"With another `--run` it searches anew, and may come out differently: {why}. Equal seeds give equal "
            f"results, apart from times, only {rule}, and {limits}."
        ]
    return [
        f"With another `--run` it searches anew. Equal seeds give equal results, apart from times, {rule}, {limits}."
    ]


def _cell(text: str) -> str:
    return one_line(str(text)).replace("|", "\\|")


def _layers_section(summary: RunSummary) -> str:
    if not summary.front:
        return ""
    parts = ["## Layers of the front's members\n"]
    for member in summary.front:
        figures = member_figures(summary, member)
        parts.append(f"### Trial {member.number} ({member.origin}): {figures}\n\n{layer_table(member).markdown()}")
    return "\n".join(parts)
