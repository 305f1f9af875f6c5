"""Functions that a space file names: how they are found, what of their code is looked at, what is said of failures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spquant_search.space.user_functions import NoSuchFunction, code_digest, find_function, source_files


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder with a package and two modules; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    files = {
        "own_main.py": "import json, own_side\nfrom own_parts.inner import deep\n\ndef make():\n    return 1\n",
        "own_side.py": "def late():\n    import own_late\n",
        "own_late.py": "",
        "own_other.py": "",
        "own_parts/__init__.py": "from . import beside\nimport own_parts.beside\n",
        "own_parts/beside.py": "",
        "own_parts/unused.py": "",
        "own_parts/inner/__init__.py": "",
        "own_parts/inner/deep.py": "from ..third import value\n",
        "own_parts/third.py": "value = 1\n",
        "own_broken.py": "def make(:\n",
        "json.py": "def make():\n    return 2\n",
        "own_ending.py": "import sys\nsys.exit('no')\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_the_code_of_a_module_is_its_file_and_what_it_imports_from_beside(here: Path) -> None:
    names = [str(file.relative_to(here)) for file in source_files("own_main")]
    assert names == [
        "json.py",
        "own_late.py",
        "own_main.py",
        *("own_parts/__init__.py", "own_parts/beside.py", "own_parts/inner/__init__.py", "own_parts/inner/deep.py"),
        "own_parts/third.py",
        "own_side.py",
    ]
    assert [str(file.relative_to(here)) for file in source_files("own_parts.inner.deep")] == names[3:8]
    assert source_files("no_such_module") == source_files("sys") == ()


@pytest.mark.parametrize("name", ["own_main.py", "own_late.py", "own_parts/third.py", "own_other.py"])
def test_a_change_in_the_code_changes_the_digest(here: Path, name: str) -> None:
    before = code_digest("own_main:make")
    assert before == code_digest("own_main:make") != code_digest("own_main:other")
    with (here / name).open("a") as file:
        file.write("# another\n")
    assert (code_digest("own_main:make") == before) == (name == "own_other.py")
    assert "own_main" not in sys.modules  # nothing is run


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("own_side", "must be written package.module:function; got 'own_side'"),
        (":make", "must be written package.module:function; got ':make'"),
        ("own_side.py:late", "names a module, not its file; write own_side:late"),
        ("own_side:lat", "own_side has no function 'lat'; did you mean 'late'?"),
        ("own_parts.third:value", "own_parts.third has no function 'value'"),
        ("own_nowhere:make", "own_nowhere could not be imported from {here}: ModuleNotFoundError"),
        ("own_broken:make", "own_broken could not be imported from {here}: SyntaxError"),
        ("own_ending:make", "own_ending could not be imported from {here}: SystemExit: no (own_ending.py, line 2)"),
        ("json:make", "which hides {here}/json.py; give the file another name"),
        ("..:make", "could not be imported from {here}"),
    ],
)
def test_what_cannot_be_found_is_said(here: Path, path: str, words: str) -> None:
    with pytest.raises(NoSuchFunction) as caught:
        find_function(path)
    assert words.format(here=here) in str(caught.value)


def test_a_function_is_found_in_the_current_folder(here: Path) -> None:
    (here / "own_parts" / "beside.py").write_text("def make():\n    return 3\n")
    assert find_function("own_parts.beside:make")() == 3
