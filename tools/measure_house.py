"""Measure the package spquant_search against the rules of its house; ``--check`` exits with 1 where one is broken.

    python tools/measure_house.py [--check] [--json] [--package FOLDER]

A length is that of the whole definition, from its ``def`` or ``class`` line to its last line: docstring, comments and
blank lines included, decorators not. A function inside another is measured by itself too.

Statements are repeated where six in a row of one block stand again elsewhere, the same but for line breaks, spaces and
comments. Imports and docstrings do not count: statements before and after them are neighbours.

At the package's top every file of Python is a module, ``__init__.py`` too; a folder that holds some is a package, and
one that holds none a data folder.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "spquant_search"

MODULE_LINES = 450
CLASS_LINES = 250
CLASS_METHODS = 20
FUNCTION_LINES = 50
USUAL_FUNCTION_LINES = 20  # nine functions in ten are no longer
REPEATED_STATEMENTS = 6
TOP_MODULES = 4
TOP_PACKAGES = 13
TOP_DATA_FOLDERS = 1

# Violations that are allowed: "rule: place", as they are printed, and why.
EXCEPTIONS: dict[str, str] = {}
MOST_EXCEPTIONS = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef
Spot = tuple[int, int]  # the number of a block, and that of a statement in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A module, class or function: where it stands, and how much it is."""

    place: str
    lines: int
    methods: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Statements that stand one after the other in a module."""

    module: str
    statements: tuple[ast.stmt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """All figures of a package."""

    modules: tuple[Definition, ...]
    classes: tuple[Definition, ...]
    functions: tuple[Definition, ...]
    usual_function_lines: int
    repetitions: tuple[tuple[str, ...], ...]
    top_modules: tuple[str, ...]
    top_packages: tuple[str, ...]
    top_data_folders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A rule that is broken, where, and in what way."""

    rule: str
    place: str
    found: str

    @property
    def key(self) -> str:
        """What an exception calls it."""
        return f"{self.rule}: {self.place}"


# ---------------------------------------------------------------- measuring


def measure(package: Path) -> Measures:
    """Measure all that lies in a package's folder."""
    sources = {path.relative_to(package).as_posix(): path.read_text("utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {module: ast.parse(source, filename=module) for module, source in sources.items()}
    functions = tuple(_functions(trees))
    folders = [path for path in sorted(package.iterdir()) if path.is_dir() and path.name != "__pycache__"]
    return Measures(
        modules=tuple(Definition(place=module, lines=len(text.splitlines())) for module, text in sources.items()),
        classes=tuple(_classes(trees)),
        functions=functions,
        usual_function_lines=percentile([function.lines for function in functions], 90),
        repetitions=tuple(repetitions(trees)),
        top_modules=tuple(module for module in sources if "/" not in module),
        top_packages=tuple(folder.name for folder in folders if any(folder.rglob("*.py"))),
        top_data_folders=tuple(folder.name for folder in folders if not any(folder.rglob("*.py"))),
    )


def _functions(trees: Mapping[str, ast.Module]) -> Iterator[Definition]:
    for module, tree in trees.items():
        for name, node in _definitions(tree):
            if isinstance(node, Function):
                yield Definition(place=f"{module}:{name}", lines=_lines(node))


def _classes(trees: Mapping[str, ast.Module]) -> Iterator[Definition]:
    for module, tree in trees.items():
        for name, node in _definitions(tree):
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(child, Function) for child in node.body)
                yield Definition(place=f"{module}:{name}", lines=_lines(node), methods=methods)


def _definitions(node: ast.AST, outer: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Go through the classes and functions at any depth, each with its dotted name."""
    for child in ast.iter_child_nodes(node):
        inner = outer
        if isinstance(child, Function | ast.ClassDef):
            yield f"{outer}{child.name}", child
            inner = f"{outer}{child.name}."
        yield from _definitions(child, inner)


def _lines(node: Function | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def percentile(values: Iterable[int], percent: int) -> int:
    """Return the smallest of the values that so many percent of them do not exceed; 0 if there is none."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[rank - 1] if ordered else 0


# ---------------------------------------------------------------- repetitions


def repetitions(trees: Mapping[str, ast.Module]) -> Iterator[tuple[str, ...]]:
    """Find runs of statements that stand more than once: for each the places where it begins."""
    blocks = [block for module, tree in trees.items() for block in _blocks(module, tree)]
    repeated = [spots for spots in _spots_by_run(blocks).values() if len(spots) > 1]
    # A longer run holds several of the least length, one a statement later each; only the first is told.
    later = {tuple((block, start + 1) for block, start in spots) for spots in repeated}
    for spots in repeated:
        if tuple(spots) not in later:
            yield tuple(f"{blocks[block].module}:{blocks[block].statements[start].lineno}" for block, start in spots)


def _spots_by_run(blocks: list[Block]) -> dict[tuple[str, ...], list[Spot]]:
    """Where every run of the least length begins; not where it overlaps with itself."""
    found: dict[tuple[str, ...], list[Spot]] = {}
    for number, block in enumerate(blocks):
        texts = [ast.dump(statement) for statement in block.statements]
        for start in range(len(texts) - REPEATED_STATEMENTS + 1):
            spots = found.setdefault(tuple(texts[start : start + REPEATED_STATEMENTS]), [])
            if not spots or spots[-1] <= (number, start - REPEATED_STATEMENTS):
                spots.append((number, start))
    return found


def _blocks(module: str, tree: ast.Module) -> Iterator[Block]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):  # the body of a lambda is none
                yield Block(module=module, statements=tuple(filter(_counts, block)))


def _counts(statement: ast.stmt) -> bool:
    """Tell whether a statement is more than an import or a string that stands alone, as docstrings do."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return False
    alone = statement.value if isinstance(statement, ast.Expr) else None
    return not (isinstance(alone, ast.Constant) and isinstance(alone.value, str))


# ---------------------------------------------------------------- rules


def violations(measures: Measures) -> Iterator[Violation]:
    """Find every rule that is broken, exceptions or not."""
    yield from _too_long("long module", measures.modules, MODULE_LINES)
    yield from _too_long("long class", measures.classes, CLASS_LINES)
    yield from _too_long("long function", measures.functions, FUNCTION_LINES)
    for one in measures.classes:
        if one.methods > CLASS_METHODS:
            yield Violation(rule="many methods", place=one.place, found=f"{one.methods}, at most {CLASS_METHODS}")
    if measures.usual_function_lines > USUAL_FUNCTION_LINES:
        found = f"a tenth has {measures.usual_function_lines} lines or more, at most {USUAL_FUNCTION_LINES}"
        yield Violation(rule="long functions", place="package", found=found)
    for places in measures.repetitions:
        modules = sorted({place.rpartition(":")[0] for place in places})
        yield Violation(rule="repeated statements", place=" and ".join(modules), found=", ".join(places))
    yield from _too_many("many modules at the top", measures.top_modules, TOP_MODULES)
    yield from _too_many("many packages at the top", measures.top_packages, TOP_PACKAGES)
    yield from _too_many("many data folders at the top", measures.top_data_folders, TOP_DATA_FOLDERS)


def _too_long(rule: str, definitions: Iterable[Definition], most: int) -> Iterator[Violation]:
    for one in definitions:
        if one.lines > most:
            yield Violation(rule=rule, place=one.place, found=f"{one.lines} lines, at most {most}")


def _too_many(rule: str, names: tuple[str, ...], most: int) -> Iterator[Violation]:
    if len(names) > most:
        yield Violation(rule=rule, place="package", found=f"{len(names)}, at most {most}: {', '.join(names)}")


def without_exceptions(found: Iterable[Violation], exceptions: Mapping[str, str]) -> Iterator[Violation]:
    """Leave out what is allowed; exceptions that are too many, unfounded or needless are violations themselves."""
    unused = set(exceptions)
    for violation in found:
        unused.discard(violation.key)
        if violation.key not in exceptions:
            yield violation
    if len(exceptions) > MOST_EXCEPTIONS:
        yield Violation(rule="many exceptions", place="package", found=f"{len(exceptions)}, at most {MOST_EXCEPTIONS}")
    for key in exceptions:
        if not exceptions[key].strip():
            yield Violation(rule="exception without a reason", place=key, found="give one")
        if key in unused:
            yield Violation(rule="exception without use", place=key, found="nothing is excepted by it")


# ---------------------------------------------------------------- the script


def as_text(measures: Measures, found: Iterable[Violation]) -> str:
    """Show the figures in few lines, and every violation in one."""
    sizes = {"module": measures.modules, "class": measures.classes, "function": measures.functions}
    lines = []
    for name, definitions in sizes.items():
        longest = max(definitions, key=lambda one: one.lines, default=Definition(place="none", lines=0))
        lines.append(f"longest {name} of {len(definitions)}: {longest.lines} lines, {longest.place}")
    lines += [
        f"90th percentile of function lengths: {measures.usual_function_lines}",
        f"runs of repeated statements: {len(measures.repetitions)}",
        f"at the top: {len(measures.top_modules)} modules, {len(measures.top_packages)} packages, "
        f"{len(measures.top_data_folders)} data folders",
    ]
    return "\n".join([*lines, *(f"{one.key}: {one.found}" for one in found)])


def main(words: list[str] | None = None) -> int:
    """Print the figures; return 1 if they are to be checked and a rule is broken, otherwise 0."""
    parser = argparse.ArgumentParser(description="Measure the package against the rules of its house.")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a rule is broken")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="the folder of another package")
    chosen = parser.parse_args(words)
    measures = measure(chosen.package)
    found = list(without_exceptions(violations(measures), EXCEPTIONS))
    document = asdict(measures) | {"violations": [asdict(violation) for violation in found]}
    print(json.dumps(document, indent=1) if chosen.json else as_text(measures, found))
    return 1 if chosen.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
