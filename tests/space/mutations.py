"""Mutated space files: any YAML at any place, keys lost, doubled and renamed, bytes that are broken."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SPACES = sorted((Path(__file__).parents[2] / "spaces").glob("*.yaml"))
_TENS = ", ".join("x" * 10)
_BOMB = (
    "{a: &a ["
    + _TENS
    + "], "
    + ", ".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "}"
)
_MERGE_BOMB = (
    "{a: &a {x: 1}, "
    + ", ".join(
        f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "}"
)
ODD = (
    *("null", "~", "", "true", "no", "on", "0", "-1", "1", "2", "3.5", "-0.0", ".5", "1e308", "-1e308", "1.0e+308"),
    *("1e-320", ".inf", "-.inf", ".nan", "9" * 400, "9" * 5000, "0x" + "f" * 6000, "0b" + "1" * 70, "1" + "0" * 18),
    *("2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "0o17", "017"),
    *("1_000", "190:20:30", "1:" * 3000 + "1", "12:30:45", "2024-05-01", "2024-13-45", "2001-12-14t21:59:43.10-05:00"),
    *("!!timestamp x", "!!binary aGVsbG8=", "!!binary '%%%'", "!!set {a, b}", "!!omap [a: 1, b: 2]"),
    *("!!pairs [a: 1, a: 2]", "!!python/object/apply:os.system ['exit 1']", "!!python/name:os.system"),
    *("!!python/tuple [1, 2]", "!!int x", "!!int ''", "!!int '-'", "!!float x", "!!float ''", "!!bool maybe"),
    *("!!null x", "!!str 5", "!!map [1]", "!!seq {a: 1}", "!local 3", "!<tag:example.com,2000:x> 3", "! 3"),
    *('"\\0"', '"\\e[31m"', '"\\u202e"', '"\\ud800"', '"\\U0010FFFF"', '"\\UFFFFFFFF"', '"\\q"', "'\U0001f600'"),
    *("''", '""', "' '", "'none'", "none", "{}", "[]", "[[]]", "[null]", "{? [a, b] : c}", "{? {a: b} : c}", "{1: 2}"),
    *("{null: 1}", "{true: 1, yes: 2}", "{a: 1, a: 2}", "{1: 1, 0x1: 2}", "{<<: 3}", "{<<: {weight_bits: 4}}"),
    *("{<<: [{a: 1}, 2]}", "&x [*x]", "&x {a: *x}", "&x {<<: *x}", "*undefined", "&a 1", "<<", "=", "[1, 2", "{a: 1"),
    *("'it", "- 1", "a: b", "? x", "@x", "`x`", "%x", "[2 4]", "{weight_bits: 4 membrane_levels: 3}", "x: y: z"),
    *("[" * 1000 + "]" * 1000, "{a: " * 1000 + "}" * 1000, "[" * 30 + "]" * 30, "[" * 5000, _BOMB, _MERGE_BOMB),
    *("[" + ", ".join(map(str, range(3000))) + "]", "[" + ", ".join(map(str, range(2, 257))) + "]", "x" * 100_000),
    *("[" + ", ".join(f"0.{number:03}" for number in range(1, 999)) + "]", "[" + "{}, " * 15_000 + "]"),
    "{" + ", ".join(f"k{number}: 1" for number in range(9000)) + "}",
    "{" + ", ".join(f"l{number}: {{}}" for number in range(4000)) + "}",
    *("64KiB", "64MFLOPs", "60M", "64 apples", "-1KiB", "1e6", "9" * 400 + "G", "~nobody/x", "/dev/zero", "/proc"),
    *("x" * 5000, '"\\n"', "vgg5"),
    *("sawb", "fashion-events", "image-folder", "event-folder", "nmnist", "resnet34", "spikformer4-256", "mobilenet"),
    *("a:b", "os", ":", "spquant_search.nothing:at", ".a:b", "auto", "supernet", "sgd", "[34, 34]", "[1000000, 1]"),
    *("[16384, 16384]", "1000000000", "1000000", "64", "0.001", "[none, none]", "[1, true]", "[0, -0.0]", "[8, 8.0]"),
)  # fmt: skip
_PIECES = (
    *("\t", "\0", "\x1b", "\x85", "\u2028", "\ufeff", "\u202e", "\r", "\n", ":", ": ", ",", "[", "]", "{", "}", "-"),
    *("- ", "#", "&a ", "*a", "!", "!!int ", "|\n", ">\n", "'", '"', "%YAML 9.9\n", "---\n", "...\n", "@", "`", "?"),
    *("? ", "\\", "\xe9"),
)  # fmt: skip


_FILLINGS = (" ", "a", "#", "- a\n", "[", "&a ")


class Pairs(list[tuple[str, Any]]):
    """A mapping whose keys may repeat, each as YAML text."""


class Raw(NamedTuple):
    """A value as YAML text."""

    text: str


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """Make mutated space files, the same for the same seed."""
    chance = random.Random(seed)
    texts = [path.read_text(encoding="utf-8") for path in SPACES]
    for _ in range(count):
        text = chance.choice(texts)
        if chance.random() < 0.65:
            text = _written(_mutated_tree(text, texts, chance), top=True)
            if chance.random() < 0.1:
                text = _mutated_text(text, texts, chance)
            yield _encoded(text, chance, odds=0.01)
        else:
            for _ in range(chance.choice((1, 1, 1, 2, 4))):
                text = _mutated_text(text, texts, chance)
            yield _broken(_encoded(text, chance, odds=0.1), chance)


@cache
def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


def _tree(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs((str(key), _tree(below)) for key, below in value.items())
    return [_tree(below) for below in value] if isinstance(value, list) else value


def _mutated_tree(text: str, texts: list[str], chance: random.Random) -> Any:
    tree = _tree(_parsed(text))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        node, at = chance.choice(list(_places(tree)))
        _mutate(node, at, tree, texts, chance)
    return tree


def _places(node: Any) -> Iterator[tuple[Any, int]]:
    """Every place of a tree: the mapping or list that holds it, and its index there."""
    for at, below in enumerate(node):
        yield node, at
        value = below[1] if isinstance(node, Pairs) else below
        if isinstance(value, list):
            yield from _places(value)


def _value(node: Any, at: int) -> Any:
    return node[at][1] if isinstance(node, Pairs) else node[at]


def _put(node: Any, at: int, value: Any) -> None:
    node[at] = (node[at][0], value) if isinstance(node, Pairs) else value


def _mutate(node: Any, at: int, tree: Any, texts: list[str], chance: random.Random) -> None:
    kind = chance.choice(
        (_odd, _odd, _odd, _numbered, _ranged, _deleted, _doubled, _swapped, _renamed, _spliced, _wrapped)
    )
    kind(node, at, tree, texts, chance)


def _odd(node: Any, at: int, _tree: Any, _texts: list[str], chance: random.Random) -> None:
    value = Raw(chance.choice(ODD))
    if isinstance(node, Pairs) and chance.random() < 0.1:
        node.insert(at, (chance.choice(("conv1", "readout", "all", "seed", "epochs", "preset", "root", "0")), value))
    else:
        _put(node, at, value)


def _numbered(node: Any, at: int, _tree: Any, _texts: list[str], chance: random.Random) -> None:
    _put(node, at, Raw(_number(chance)))


def _ranged(node: Any, at: int, _tree: Any, _texts: list[str], chance: random.Random) -> None:
    ends = [chance.choice((_number(chance), "0.5", "1", "1e-12", chance.choice(ODD[:24]))) for _ in range(3)]
    _put(node, at, Raw(f"{{from: {ends[0]}, to: {ends[1]}, step: {ends[2]}}}"))


def _deleted(node: Any, at: int, *_: Any) -> None:
    del node[at]


def _doubled(node: Any, at: int, _tree: Any, _texts: list[str], chance: random.Random) -> None:
    node.insert(chance.randrange(len(node) + 1), node[at])


def _swapped(node: Any, at: int, tree: Any, _texts: list[str], chance: random.Random) -> None:
    other, place = chance.choice(list(_places(tree)))
    first, second = _written(_value(node, at)), _written(_value(other, place))
    _put(node, at, Raw(second))
    _put(other, place, Raw(first))


def _renamed(node: Any, at: int, tree: Any, _texts: list[str], chance: random.Random) -> None:
    if isinstance(node, Pairs):
        key = node[at][0]
        keys = [holder[index][0] for holder, index in _places(tree) if isinstance(holder, Pairs)]
        node[at] = (chance.choice((*keys, *ODD[:40], f"{key}s", key[1:], "<<", "? [a]")), node[at][1])


def _spliced(node: Any, at: int, _tree_: Any, texts: list[str], chance: random.Random) -> None:
    stranger, index = chance.choice(list(_places(_tree(_parsed(chance.choice(texts))))))
    _put(node, at, Raw(_written(_value(stranger, index))))


def _wrapped(node: Any, at: int, _tree: Any, _texts: list[str], chance: random.Random) -> None:
    form = chance.choice(("[{}]", "{{a: {}}}", "[{0}, {0}]", "!!set {{{}}}", "&a {}", "!x {}"))
    _put(node, at, Raw(form.format(_written(_value(node, at)))))


def _number(chance: random.Random) -> str:
    number = (
        chance.choice((1, -1))
        * chance.uniform(0.1, 10)
        * 10.0 ** chance.choice((0, 1, 2, 3, 6, 9, 12, 18, 30, 300, -3, -9, -12, -300))
    )
    return str(int(number)) if chance.random() < 0.5 else repr(number)


def _written(value: Any, *, top: bool = False) -> str:
    """Write a tree as YAML: the outermost keys a line each, all below in brackets."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        entries = [f"{key}: {_written(below)}" for key, below in value]
        return "\n".join(entries) + "\n" if top else "{" + ", ".join(entries) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def _mutated_text(text: str, texts: list[str], chance: random.Random) -> str:
    if chance.random() < 0.5:
        return _mutated_line(text, chance)
    at = chance.randrange(len(text) + 1)
    return chance.choice(
        (
            lambda: text[:at] + text[at + chance.choice((1, 1, 2, 20)) :],
            lambda: text[:at] + chance.choice(_PIECES) + text[at:],
            lambda: text[:at] + chance.choice(_PIECES) + text[at:],
            lambda: text[:at],
            lambda: text + chance.choice(("", "---\n", "...\n")) + chance.choice(texts),
            lambda: text.replace("\n", "\r\n"),
        )
    )()


def _mutated_line(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    row = chance.randrange(len(lines))
    line = lines[row]
    kind = chance.choice(("delete", "tab", "double", "indent", "odd", "odd", "fill"))
    lines[row : row + 1] = {
        "delete": [],
        "tab": [line.replace("  ", "\t", 1)],
        "double": [line, line],
        "indent": [" " * chance.randrange(5) + line.lstrip()],
        "odd": [f"{line.partition(':')[0]}: {chance.choice(ODD)}"],
        "fill": [line, chance.choice(_FILLINGS) * chance.choice((1, 1, 1, 10_000, 250_000, 2_000_000))],
    }[kind]
    return "\n".join(lines)


def _encoded(text: str, chance: random.Random, *, odds: float) -> bytes:
    if chance.random() < odds:
        return text.encode(chance.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")), "replace")
    return text.encode("utf-8", "surrogatepass")


def _broken(content: bytes, chance: random.Random) -> bytes:
    if chance.random() > 0.2 or not content:
        return content
    at = chance.randrange(len(content))
    return content[:at] + bytes([chance.randrange(256)]) + content[at + chance.choice((0, 1)) :]
