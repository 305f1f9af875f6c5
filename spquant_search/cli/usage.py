"""Words of the command line that are no command of this program: why, and the line that was meant.

The parser says what it did not understand; what its user wanted mostly stands in the words themselves: a space file
without --space, a run before its command, an override without its equals sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spquant_search.cli import places
from spquant_search.cli.faults import PROGRAM, UsageFault, example_of, space_files_here
from spquant_search.cli.overrides import joined_override
from spquant_search.errors import UserError, first_of, nearest
from spquant_search.space.shipped import shipped_spaces

SEARCH_WORDS = ("search", "run", "start", "train")  # searching is what the program does without a command


RUNS = ("RUN", "RUN...")  # arguments that name a run, or several
DASHES = ("\u2013", "\u2014", "\u2212")  # as texts have them, instead of two hyphens


@dataclass(frozen=True, slots=True)
class Line:
    """The words of a command line: those before the command, the first word that is none of them, and the rest."""

    before: tuple[str, ...]
    word: str | None
    after: tuple[str, ...]


def split_line(words: Sequence[str], group: Any) -> Line:
    """Find the first word that is neither an option of the program or of a command nor an option's value."""
    index, options = 0, _all_options(group)
    while index < len(words) and words[index].startswith("-") and words[index] != "-":
        index += 1 if words[index] == "--" or not _takes_value(words[index], options) else 2
    word = words[index] if index < len(words) else None
    return Line(tuple(words[:index]), word, tuple(words[index + 1 :]))


def _all_options(group: Any) -> list[Any]:
    return [*group.params, *(option for command in group.commands.values() for option in command.params)]


def _takes_value(word: str, options: Sequence[Any]) -> bool:
    if "=" in word:
        return False
    return any(word in option.opts and not getattr(option, "is_flag", False) for option in options)


def explain(error: Any, words: Sequence[str], group: Any) -> UserError:
    """Return what to tell the user of a usage error of the parser; ``group`` is the program with its commands."""
    line = split_line(words, group)
    command = group.commands.get(line.word) if line.word is not None else None
    kind = type(error).__name__
    if kind == "NoSuchOption":
        is_before = error.ctx is not None and error.ctx.command.name not in group.commands
        return _unknown_option(error.option_name, words, group, line, is_before=is_before)
    if kind == "BadOptionUsage":
        return _option_without_value(error, words, command)
    if kind == "MissingParameter" and (command is None or _extra_place(line.after, command) is None):
        return _missing(error.param, words, line)
    if kind == "BadParameter":
        return _bad_value(error, words)
    if line.word is not None and command is None:
        return unknown_command(line, group)
    if command is not None:
        return _extra_word(line, command, group)
    return UsageFault(str(error.format_message()))


def missing_space(words: Sequence[str]) -> UserError:
    """Return what to say of options of a search without a space to search."""
    given = next(iter(places.space_files()), "FILE")
    return UsageFault(f"--space is missing: say what to search.{space_files_here()}", "--space", given, *words)


def misplaced_options(words: Sequence[str], group: Any) -> UserError:
    """Return what to say of options that stand before the command that they are for."""
    line = split_line(words, group)
    assert line.word is not None
    command = group.commands[line.word]
    foreign = [word for word in line.before if word.startswith("-") and not _has_option(command, word)]
    first = next(word for word in line.before if word.startswith("-")).partition("=")[0]
    if foreign:
        name = foreign[0].partition("=")[0]
        kept = _without_options(line.before, foreign, _all_options(group))
        return UsageFault(f"{name}: {line.word} has no such option; omit it:", line.word, *line.after, *kept)
    return UsageFault(f"{first} belongs behind the command {line.word}:", line.word, *line.after, *line.before)


def _has_option(command: Any, word: str) -> bool:
    return any(word.partition("=")[0] in option.opts for option in command.params)


def _without_options(words: Sequence[str], removed: Sequence[str], options: Sequence[Any]) -> list[str]:
    kept: list[str] = []
    index = 0
    while index < len(words):
        width = 2 if _takes_value(words[index], options) else 1
        if words[index] not in removed:
            kept += words[index : index + width]
        index += width
    return kept


# ---------------------------------------------------------------- a word that is no command


def unknown_command(line: Line, group: Any) -> UserError:
    """Return what to say of a first word that is no command."""
    word = line.word or ""
    if fault := _split_override(line.before, (word, *line.after)):
        return fault
    if word.startswith(DASHES):
        option = f"--{word.lstrip(word[0])}"
        return UsageFault(f"{word}: options begin with two hyphens:", *line.before, option, *line.after)
    names_space = word.lower().endswith(places.YAML_SUFFIXES) or word in shipped_spaces()
    if names_space or places.kind_of(Path(word)) == "space":
        return _bare_space(line, group)
    if word in ("help", "version"):
        return UsageFault(f"{word} is no command but an option:", f"--{word}")
    if word in SEARCH_WORDS:
        return _search_word(line, group)
    at = next((at for at, other in enumerate(line.after) if other in group.commands), None)
    if at is not None:
        rest = [*line.after[:at], *line.after[at + 1 :]]
        return UsageFault(f"{word}: the command comes first:", line.after[at], word, *rest, *line.before)
    if places.is_run(word):
        return UsageFault(f"{word} is a run; name what to do with it, such as front, report, pick:", "front", word)
    if places.kind_of(Path(word)) == "picked":
        return UsageFault(f"{word} is what pick wrote; compare it by verify:", "verify", word)
    if near := nearest(word.lower(), group.commands):
        return UsageFault(f"{word} is no command; did you mean {near}?", near, *line.after, *line.before)
    commands = ", ".join(group.commands)
    space = next(iter(places.space_files()), "FILE")
    return UsageFault(f"{word} is no command. Commands: {commands}. A search needs none:", "--space", space)


def _bare_space(line: Line, group: Any) -> UserError:
    word = line.word or ""
    commands = [other for other in line.after if other in group.commands]
    rest = [other for other in line.after if other not in commands and other != "--space"]
    if "--space" in line.before:
        return UsageFault(f"{word}: one search has one space file; search it by itself:", "--space", word)
    why = f"{word} is no command; did you mean --space {word}?"
    return UsageFault(why, *commands[:1], "--space", word, *rest, *line.before)


def _search_word(line: Line, group: Any) -> UserError:
    after = list(line.after)
    if "--space" not in (*after, *line.before):
        index = next((at for at, word in enumerate(after) if not word.startswith("-")), None)
        if index is not None and places.kind_of(Path(after[index])) in ("space", "nothing", "file"):
            after.insert(index, "--space")
        else:
            after = ["--space", next(iter(places.space_files()), "FILE"), *after]
    return UsageFault(f"{line.word} is no command: the program searches without one:", *line.before, *after)


def _split_override(before: Sequence[str], rest: Sequence[str]) -> UserError | None:
    """Put an override together that stands in several words after --set; None where that is not the fault."""
    if len(before) < 2 or before[-2] != "--set":
        return None
    found = joined_override(before[-1], rest)
    if found is None:
        return None
    override, left = found
    why = f"--set {before[-1]} {rest[0]}: an override is one word, PATH=VALUE, in quotes where it holds spaces:"
    return UsageFault(why, *before[:-1], override, *left)


# ---------------------------------------------------------------- words of a command


def _extra_word(line: Line, command: Any, group: Any) -> UserError:
    """Return what to say of more words than a command takes."""
    name, after = line.word or "", list(line.after)
    at = _extra_place(after, command)
    if at is None:
        return UsageFault(f"{name}: these words are not understood; see {PROGRAM} {name} --help")
    if fault := _split_override(after[:at], after[at:]):
        assert isinstance(fault, UsageFault)
        return UsageFault(str(fault).partition("\n")[0], name, *fault.suggested)
    word, others = after[at], [*after[:at], *after[at + 1 :]]
    if word in group.commands:
        return UsageFault(f"{word}: one command at a time:", name, *others)
    if _has_option(command, "--space") and "--space" not in others:
        if places.is_run(word):
            run = word if places.kind_of(Path(word)) == "run" else str(places.RUNS / word)
            return UsageFault(f"{word} is a run; {name} takes its space file:", name, "--space", f"{run}/space.yaml")
        return UsageFault(f"{word}: {name} takes its space file by --space:", name, "--space", word, *others)
    return UsageFault(f"{word}: {name} takes no such word; omit it:", name, *others)


def _extra_place(after: Sequence[str], command: Any) -> int | None:
    """Return the place of the first word that is one too many."""
    left = sum(option.param_type_name == "argument" for option in command.params)
    index = 0
    while index < len(after):
        if after[index].startswith("-") and after[index] != "-":
            index += 2 if _takes_value(after[index], command.params) else 1
            continue
        if left == 0:
            return index
        left, index = left - 1, index + 1
    return None


def _unknown_option(name: str, words: Sequence[str], group: Any, line: Line, *, is_before: bool) -> UserError:
    command = group.commands.get(line.word)
    if is_before and command is not None and _has_option(command, name):
        return misplaced_options(words, group)
    command = None if is_before else command
    owner = group if command is None else command
    known = [word for option in owner.params for word in option.opts if word.startswith("--")]
    at = next((index for index, word in enumerate(words) if _begins_with_option(word, name)), None)
    written = name if at is None else words[at].partition("=")[0]
    meant = f"--{written.lstrip('-')}".lower().replace("_", "-")
    near = meant if meant in known else nearest(meant, known, cutoff=0.7)
    if near and at is not None:
        value = words[at][len(written) :]
        corrected = [*words[:at], near + value, *words[at + 1 :]]
        return UsageFault(f"{written} is no option; did you mean {near}?", *corrected)
    if meant == "--space" and _takes_run(command):
        return _space_for_a_run(words, at, line)
    if meant == "--run" and _takes_run(command) and at is not None:
        return UsageFault(f"{written}: {line.word} takes its run as a word:", *words[:at], *words[at + 1 :])
    others = [other.name for other in group.commands.values() if _has_option(other, meant)]
    if command is not None and _has_option(group, meant):
        others.append("a search (spquant-search --space FILE)")
    place = f"it is an option of {' and '.join(others)}" if others else f"its options are {', '.join(sorted(known))}"
    what = PROGRAM if command is None else f"{PROGRAM} {line.word}"
    named = () if command is None else (command.name,)
    return UsageFault(f"{written} is no option of {what}; {place}. See:", *named, "--help")


def _begins_with_option(word: str, name: str) -> bool:
    """Say whether a word is this option; of -space the parser names -s alone."""
    return word.partition("=")[0] == name or (len(name) == 2 and word.startswith(name) and not word.startswith("--"))


def _takes_run(command: Any) -> bool:
    return command is not None and any(option.metavar in RUNS for option in command.params)


def _space_for_a_run(words: Sequence[str], at: int | None, line: Line) -> UserError:
    assert at is not None
    path = words[at].partition("=")[2] or (words[at + 1] if at + 1 < len(words) else "")
    width = 1 if "=" in words[at] else 2
    run = Path(path).stem or next(iter(places.run_names()), "RUN")
    others = [*words[:at], *words[at + width :]]
    return UsageFault(f"--space: {line.word} takes a run; the run of a space file has its name:", *others, run)


def _option_without_value(error: Any, words: Sequence[str], command: Any) -> UserError:
    name = str(error.option_name)
    options = [] if command is None else command.params
    is_flag = any(name in option.opts and getattr(option, "is_flag", False) for option in options)
    if is_flag:
        corrected = [word.partition("=")[0] if word.startswith(f"{name}=") else word for word in words]
        return UsageFault(f"{name} takes no value:", *corrected)
    index = next((at for at, word in enumerate(words) if word == name), len(words))
    extra = None if command is None else _extra_place(words[1:index], command)
    if extra is not None:  # cost my.yaml --space
        value = words[1 + extra]
        others = [*words[: 1 + extra], *words[2 + extra : index], *words[index + 1 :]]
        return UsageFault(f"{name}: its value stands behind it:", *others, name, value)
    if index == len(words) - 1 or words[index + 1].startswith("-"):
        corrected = [*words[: index + 1], example_of(name), *words[index + 1 :]]
        return UsageFault(f"{name}: its value is missing; for example:", *corrected)
    return UsageFault(f"{name}: {error.message}")


def _missing(param: Any, words: Sequence[str], line: Line) -> UserError:
    if param.param_type_name != "argument":
        name = param.opts[0]
        listed = space_files_here() if name == "--space" else ""
        return UsageFault(f"{line.word}: {name} is missing.{listed} For example:", *words, name, example_of(name))
    if param.metavar in RUNS:
        names = places.run_names()
        here = places.RUNS.absolute()
        listed = f"Runs in {here}: {first_of(names, places.MOST_NAMED)}." if names else f"There are no runs in {here}."
        why = f"{line.word}: name a run. {listed} For example:"
        return UsageFault(why, line.word or "", next(iter(names), "RUN"), *line.after)
    folders = places.picked_folders()
    listed = f" Here: {first_of(folders, places.MOST_NAMED)}." if folders else ""
    why = f"{line.word}: name the folder that pick wrote.{listed} For example:"
    return UsageFault(why, line.word or "", next(iter(folders), "DIR"), *line.after)


def _bad_value(error: Any, words: Sequence[str]) -> UserError:
    param = error.param
    name = param.opts[0] if param is not None else ""
    example = example_of(name)
    corrected, value = [], ""
    for index, word in enumerate(words):
        if word.startswith(f"{name}="):
            value = word.partition("=")[2]
            corrected.append(f"{name}={example}")
        elif index and words[index - 1] == name:
            value = word
            corrected.append(example)
        else:
            corrected.append(word)
    message = str(error.message).rstrip(".")
    return UsageFault(f"{name} {value}: {message}. For example:", *corrected)
