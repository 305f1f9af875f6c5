"""Every rule of tools/measure_house.py finds the tree that breaks it, and none finds fault with a clean one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
STATEMENTS = "\n".join(f"value_{number} = {number}" for number in range(6))
EDITED = STATEMENTS.replace("value_5 = 5", "value_5 = 6")


@pytest.fixture(scope="module")
def house():
    """The script, imported as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(TOOLS), *sys.path])
        import measure_house

        yield measure_house


@pytest.fixture
def broken(house, tmp_path):
    """Write a package of these files; return the rules that it breaks, and where."""

    def write(files: dict[str, str]) -> list[str]:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return [violation.key for violation in house.violations(house.measure(tmp_path))]

    return write


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def function(lines: int, name: str = "work") -> str:
    """A function of so many lines; its statements differ from those of all others."""
    return f"def {name}():\n" + "".join(f"    {name}_{number}()\n" for number in range(lines - 1))


def a_class(lines: int, methods: int = 0) -> str:
    heads = "".join(f"    def method_{number}(self): ...\n" for number in range(methods))
    return "class Thing:\n" + heads + "".join(f"    field_{number} = 0\n" for number in range(lines - methods - 1))


SHORT = "".join(function(3, f"short_{number}") for number in range(9))
CLEAN = {
    "__init__.py": '"""A package."""\n',
    "__main__.py": "\n" * 450,
    "work/__init__.py": a_class(250, methods=20),
    "work/first.py": SHORT + function(50),
    "work/second.py": f"{STATEMENTS}\n",
    "work/third.py": f"{EDITED}\n",
    "images/one.txt": "",
    "__pycache__/first.pyc": "",
    "py.typed": "",
}


def test_a_tree_at_every_limit_is_clean(broken, house, tmp_path, capsys):
    assert broken(CLEAN) == []
    assert house.main(["--check", "--package", str(tmp_path)]) == 0
    assert "longest function of 30: 50 lines, work/first.py:work\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"long.py": "\n" * 451}, "long module: long.py"),
        ({"deep/down/long.py": "\n" * 451}, "long module: deep/down/long.py"),
        ({"one.py": a_class(251)}, "long class: one.py:Thing"),
        ({"one.py": a_class(30, methods=21)}, "many methods: one.py:Thing"),
        ({"one.py": SHORT + function(51)}, "long function: one.py:work"),
        ({"one.py": SHORT + f"async {function(51)}"}, "long function: one.py:work"),
        ({"one.py": SHORT + "class Thing:\n" + indented(function(51))}, "long function: one.py:Thing.work"),
        ({"one.py": SHORT + "if SHORT:\n" + indented(function(51))}, "long function: one.py:work"),
        ({"one.py": function(21)}, "long functions: package"),
        ({"one.py": STATEMENTS, "two.py": f"before = 1\n{STATEMENTS}"}, "repeated statements: one.py and two.py"),
        ({"one.py": f"{STATEMENTS}\nbetween()\n{STATEMENTS}"}, "repeated statements: one.py"),
        ({f"module_{number}.py": "" for number in range(5)}, "many modules at the top: package"),
        ({f"package_{number}/__init__.py": "" for number in range(14)}, "many packages at the top: package"),
        ({f"folder_{number}/image.txt": "" for number in range(2)}, "many data folders at the top: package"),
    ],
)
def test_a_broken_rule_is_found_and_no_other(broken, house, tmp_path, files, expected):
    assert broken(files) == [expected]
    assert house.main(["--package", str(tmp_path)]) == 0
    assert house.main(["--check", "--package", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    "other",
    [
        STATEMENTS.replace("value_3 = 3", "value_3 = (\n    3  # three\n)"),
        STATEMENTS.replace("value_3", "import json\nvalue_3"),
        f"def work():\n    '''Do it.'''\n{indented(STATEMENTS)}",
        f"class Thing:\n{indented(STATEMENTS)}",
        f"try:\n{indented(STATEMENTS)}finally:\n    pass",
        f"try:\n    pass\nexcept OSError:\n{indented(STATEMENTS)}",
        f"if STATEMENTS:\n    pass\nelse:\n{indented(STATEMENTS)}",
        f"match STATEMENTS:\n    case 1:\n{indented(indented(STATEMENTS))}",
    ],
)
def test_statements_are_the_same_however_they_are_written_and_wherever(broken, other):
    assert "repeated statements: one.py and two.py" in broken({"one.py": STATEMENTS, "two.py": other})


@pytest.mark.parametrize(
    "other",
    [EDITED, STATEMENTS.rpartition("\n")[0], STATEMENTS.replace("value_3", "between()\nvalue_3")],
)
def test_statements_that_differ_or_are_too_few_are_no_repetition(broken, other):
    assert broken({"one.py": STATEMENTS, "two.py": other}) == []


def test_imports_and_docstrings_are_no_repetition(broken):
    imports = '"""Read."""\n' + "".join(f"import module_{number}\n" for number in range(8))
    assert broken({"one.py": imports, "two.py": imports}) == []


def test_a_longer_repetition_is_told_once_and_with_all_places(house, tmp_path):
    for name in ("one.py", "two.py", "three.py"):
        (tmp_path / name).write_text(f"first = 1\n{STATEMENTS}\nlast = 1\n")
    assert house.measure(tmp_path).repetitions == (("one.py:1", "three.py:1", "two.py:1"),)


def test_a_run_of_one_statement_does_not_repeat_itself_until_it_is_twice_as_long(broken):
    assert broken({"one.py": "again()\n" * 11}) == []
    assert broken({"one.py": "again()\n" * 12}) == ["repeated statements: one.py"]


@pytest.mark.parametrize(("values", "expected"), [([], 0), ([7], 7), (range(1, 11), 9), (range(1, 12), 10)])
def test_nine_in_ten_are_no_more_than_the_percentile(house, values, expected):
    assert house.percentile(values, 90) == expected


def allowed(house, exceptions: dict[str, str]) -> list[str]:
    found = [house.Violation(rule="long module", place="one.py", found="500 lines")]
    return [violation.key for violation in house.without_exceptions(found, exceptions)]


def test_an_exception_needs_a_reason_and_a_use_and_there_are_three_at_most(house):
    key = "long module: one.py"
    assert allowed(house, {}) == [key]
    assert allowed(house, {key: "one table"}) == []
    assert allowed(house, {key: " "}) == [f"exception without a reason: {key}"]
    assert allowed(house, {"long class: one.py:Thing": "one table"}) == [
        key,
        "exception without use: long class: one.py:Thing",
    ]
    many = {key: "one table"} | {f"long module: {number}.py": "one table" for number in range(3)}
    assert "many exceptions: package" in allowed(house, many)


def test_all_figures_as_json(broken, house, tmp_path, capsys):
    broken({"one.py": a_class(30, methods=21)})
    house.main(["--json", "--package", str(tmp_path)])
    document = json.loads(capsys.readouterr().out)
    assert document["classes"] == [{"place": "one.py:Thing", "lines": 30, "methods": 21}]
    assert document["top_modules"] == ["one.py"]
    assert document["violations"] == [{"rule": "many methods", "place": "one.py:Thing", "found": "21, at most 20"}]
