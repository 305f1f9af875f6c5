"""Read YAML as plain values, with the line of every path, or tell what is wrong with it and where.

A space file holds mappings, lists, text, numbers, yes/no and nothing. All else that YAML can write is refused, and so
is what would take long to read: large files, deep nesting, and aliases that expand to more than a person would write.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Any

import yaml

from spquant_search.errors import Problem, SpaceError
from spquant_search.space.messages import path_below, sorted_by_line

MOST_BYTES = 256 * 1024  # of a file; those that come with the package have 6 KB at most
MOST_VALUES = 20_000  # and keys, aliases counted as often as they are used
MOST_DEPTH = 16  # a space has five levels
LARGEST_INTEGER = 2**63 - 1

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
# Dates, and the lone signs << and =, mean nothing in a space: a folder may be called 2024-05-01.
_TEXT_TAGS = frozenset({f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value", _MERGE})
_NUMBER_TAGS = frozenset({f"{_TAG}int", f"{_TAG}float"})

# Remedies by what PyYAML says.
_REMEDIES = {
    "expected ',' or": "put a comma between two values, or close the bracket before it",
    "'\\t'": "indent by spaces, not by tabs",
    "mapping values are not allowed": "begin a new line for each key, indented like its neighbours, or put text "
    "that holds a colon into quotes",
    "could not find expected ':'": "write KEY: VALUE, with a colon and a space",
    "expected <block end>": "indent the keys of a section, or the items of a list, by the same number of spaces",
    "found unexpected end of stream": "close the quotation mark",
    "expected the node content": "write a value, or close the bracket before it",
    "undefined alias": "define it before as &NAME, or put text that begins with an asterisk into quotes",
    "duplicate anchor": "give each &NAME once",
    "cannot start any token": "put text that begins with this sign into quotes",
    "found unknown escape": "write text with backslashes in 'single' quotes",
    "a single document": "remove the line --- and what follows, or make two files of it",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class YamlText:
    """What a YAML text says: plain values, and the line of every path in it, from 1."""

    value: Any
    lines: dict[str, int]


def read_yaml(text: str, *, source: str) -> YamlText:
    """Read a text that holds one YAML document.

    Raises:
        SpaceError: it is no YAML, or holds what a space file cannot; all that was found.
    """
    if len(text.encode("utf-8", errors="surrogatepass")) > MOST_BYTES:
        raise SpaceError(source, [Problem("", too_large())])
    reader = _Values()
    try:
        root = _root(text)
        value = None if root is None else reader.value(root, "", 0)
    except yaml.YAMLError as error:
        raise SpaceError(source, [_syntax_problem(error, text)]) from None
    if reader.problems:
        raise SpaceError(source, sorted_by_line(reader.problems, reader.lines))
    return YamlText(value=value, lines=reader.lines)


def too_large() -> str:
    return f"is no space file: it has more than {MOST_BYTES // 1024} KiB. Give the path of a YAML file."


class _TooMuch(yaml.MarkedYAMLError):
    """A text that would take long to read."""


class _Loader(yaml.SafeLoader):
    """PyYAML's reader as far as its tree of nodes, with limits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self.depth += 1
        self.nodes += 1
        _raise_if_too_much(self.nodes, self.depth, mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _root(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except (ValueError, OverflowError) as error:  # PyYAML lets some through, as of "\\U7FFFFFFF"
        raise yaml.MarkedYAMLError(problem=str(error), problem_mark=loader.get_mark()) from None


def _raise_if_too_much(nodes: int, depth: int, mark: yaml.Mark) -> None:
    if depth > MOST_DEPTH:
        words = f"more than {MOST_DEPTH} levels lie in one another; a space has five"
        raise _TooMuch(problem=words, problem_mark=mark)
    if nodes > MOST_VALUES:
        words = f"more than {MOST_VALUES:,} values and keys, aliases expanded; let `layers.all` hold what layers share"
        raise _TooMuch(problem=words, problem_mark=mark)


@dataclass(slots=True)
class _Values:
    """The values of a tree of nodes; an alias is expanded to a copy, so that a change of one leaves the others."""

    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    count: int = 0
    scalars: yaml.constructor.SafeConstructor = field(default_factory=yaml.constructor.SafeConstructor)

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        self.count += 1
        _raise_if_too_much(self.count, depth, node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
        if node.tag != f"{_TAG}{kind}":
            self._refuse_tag(node, path)
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        assert isinstance(node, yaml.SequenceNode)
        items = []
        for index, item in enumerate(node.value):
            self.lines[f"{path}.{index}"] = _line(item)
            items.append(self.value(item, f"{path}.{index}", depth + 1))
        return items

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        """Return a mapping, with what `<<` merges into it for keys that it does not hold itself."""
        values: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            place = path_below(path, key)
            if (sentence := half_character_in(key)) is not None:
                self.lines[place] = _line(key_node)
                self.problems.append(Problem(place, sentence))
                continue
            if key in values:
                sentence = f"is in line {self.lines[place]} already; keep one of the two"
                self.problems.append(Problem(place, sentence))
                self.lines[place] = _line(key_node)
                continue
            self.lines[place] = _line(key_node)
            values[key] = self.value(value_node, place, depth + 1)
        for source in merged:
            found = self.value(source, path_below(path, "<<"), depth + 1)
            if isinstance(found, dict):
                values = found | values
            else:
                self.lines[path_below(path, "<<")] = _line(source)
                self.problems.append(Problem(path_below(path, "<<"), "merges mappings; name one, such as <<: *NAME"))
        return values

    def _key(self, node: yaml.Node, path: str) -> str | None:
        """Return a key as the file writes it: a layer may be called 0, or no."""
        self.count += 1
        _raise_if_too_much(self.count, 0, node.start_mark)
        if isinstance(node, yaml.ScalarNode) and node.tag.startswith(_TAG):
            return str(node.value)
        sentence = f"line {_line(node)}: a key is no plain word; keys of a space are words such as epochs"
        self.problems.append(Problem(path, sentence))
        return None

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        if node.tag in _TEXT_TAGS:
            return self._text(node.value, path)
        try:
            if node.tag in _NUMBER_TAGS:
                value = self._number(node)
            elif node.tag == f"{_TAG}bool":
                value = self.scalars.construct_yaml_bool(node)
            elif node.tag == f"{_TAG}null":
                value = None
            else:
                self._refuse_tag(node, path)
                value = None
        except (ValueError, KeyError, IndexError, OverflowError):
            kind = node.tag.removeprefix(_TAG)
            self.problems.append(Problem(path, f"is written as !!{kind}, which {node.value[:40]!r} is not"))
            return None
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            self.problems.append(Problem(path, f"is a whole number above {LARGEST_INTEGER:,}, the largest there is"))
            return None
        return value

    def _number(self, node: yaml.ScalarNode) -> float:
        # Python refuses to read decimal numbers of more than 4,300 digits; the largest integer has 19.
        if node.tag == f"{_TAG}int":
            digits = len(node.value.replace("_", ""))
            return LARGEST_INTEGER + 1 if digits > 80 else int(self.scalars.construct_yaml_int(node))
        return float(self.scalars.construct_yaml_float(node))

    def _text(self, text: str, path: str) -> str:
        if (sentence := odd_sign_in(text)) is not None:
            self.problems.append(Problem(path, sentence))
        return text

    def _refuse_tag(self, node: yaml.Node, path: str) -> None:
        tag = node.tag.replace(_TAG, "!!") if node.tag.startswith(_TAG) else node.tag
        shown = tag if tag.isprintable() else ascii(tag)
        sentence = f"has the tag {shown[:60]}, which a space file cannot hold; write the value without it"
        self.problems.append(Problem(path, sentence))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def half_character_in(key: str) -> str | None:
    """Say which half of a character a key holds, as no file can; other odd signs may be in the name of a layer."""
    return odd_sign_in("".join(sign for sign in key if unicodedata.category(sign) == "Cs"))


def odd_sign_in(text: str) -> str | None:
    """Say which sign of a text no value of a space can hold; None where there is none."""
    odd = next((sign for sign in text if _is_odd(sign)), None)
    if odd is None:
        return None
    other = "half of a character" if unicodedata.category(odd) == "Cs" else "control character"
    name = unicodedata.name(odd, "line break" if odd in "\r\n" else other).lower()
    return f"holds the sign U+{ord(odd):04X} ({name}), which cannot be seen; remove it"


def _is_odd(sign: str) -> bool:
    """Say whether a sign cannot be seen or turns the order of those around it: control signs and half characters."""
    return unicodedata.category(sign) in ("Cc", "Cs") or unicodedata.bidirectional(sign) in _TURNS


_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    """Say where a text is no YAML, with the line and a mark below the place, and what to do."""
    if isinstance(error, yaml.reader.ReaderError):
        at, found = int(error.position), f"the character U+{int(error.character):04X} may not stand in YAML"
        return _placed(text, at, found, "remove it, or save the file as plain text in UTF-8")
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    found = " ".join(str(error.problem or error).split())
    if mark is None:
        return Problem("", f"is not valid YAML: {found}")
    if isinstance(error, _TooMuch):
        return _placed(text, mark.index, found, "")
    if error.context and error.context_mark is not None and error.context_mark.line != mark.line:
        found += f" ({error.context} that begins in line {error.context_mark.line + 1})"
    elif error.context:
        found += f" ({error.context})"
    remedy = next((remedy for words, remedy in _REMEDIES.items() if words in found), "mend this place")
    return _placed(text, mark.index, f"is not valid YAML: {found}", remedy)


def _placed(text: str, at: int, found: str, remedy: str) -> Problem:
    """Return a problem at a character of a text, with an excerpt of its line."""
    before = text[:at].replace("\r\n", "\n").replace("\r", "\n")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    begin = len(before) - column + 1
    whole = (before[begin:] + text[at:].replace("\r", "\n")).partition("\n")[0]
    first = max(0, column - 60)
    excerpt = "".join(sign if sign.isprintable() else " " for sign in whole[first : first + 100])
    number = f"{line:>6} | "
    words = f"{found}; {remedy}" if remedy else found
    caret = " " * (len(number) + column - 1 - first) + "^"
    return Problem("", f"line {line}, column {column}: {words}\n{number}{excerpt}\n{caret}")
