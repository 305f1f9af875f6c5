"""Find the functions of a user that a space file names, and say where their code fails.

A function is written ``package.module:function``. Its module is looked for in the current folder first, as Python
itself would.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, redirect_stdout
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from spquant_search.errors import nearest

# Whatever a user's code does when it runs: a module may end the program, too.
FAILURES = (Exception, SystemExit)
_INSTALLED = ("site-packages", "dist-packages")
_NOT_THE_USERS = (str(Path(__file__).parents[1]), str(Path(inspect.__file__).parent))
_MOST_LINES = 3  # of a user's code that a sentence shows


# Modules of the user's that are being imported here, the outermost first.
_importing: list[str] = []


class NoSuchFunction(Exception):
    """There is no function at a place, as a sentence that says why."""


def find_function(path: str) -> Callable[..., Any]:
    """Import the function at ``path``.

    Raises:
        NoSuchFunction: its module cannot be imported, or holds no such function.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise NoSuchFunction(f"must be written package.module:function; got {path!r}")
    if module_name.endswith(".py"):
        raise NoSuchFunction(f"names a module, not its file; write {module_name.removesuffix('.py')}:{name}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    _importing.append(module_name)
    try:
        with prints_aside():
            module = importlib.import_module(module_name)
    except FAILURES as error:
        raise NoSuchFunction(f"{module_name} could not be imported from {here}: {failure(error)}") from error
    finally:
        _importing.pop()
    _require_users_module(module_name, getattr(module, "__file__", None), Path(here))
    function = getattr(module, name, None)
    if not callable(function):
        near = nearest(name, [known for known, value in vars(module).items() if inspect.isfunction(value)])
        raise NoSuchFunction(f"{module_name} has no function {name!r}" + (f"; did you mean {near!r}?" if near else ""))
    found: Callable[..., Any] = function
    return found


def imported_now() -> str | None:
    """Return the module that is being imported for one of its functions; None where none is."""
    return _importing[0] if _importing else None


def prints_aside() -> AbstractContextManager[object]:
    """Let what a user's code prints go to standard error: standard output is a command's answer."""
    return redirect_stdout(sys.stderr)


def failure(error: BaseException) -> str:
    """Describe an exception that a user's code raised, with its place."""
    place = failure_place(error)
    return f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")


def failure_place(error: BaseException) -> str:
    """Return the last line of a user's code that an exception passed through; empty where there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def failure_lines(error: BaseException) -> str:
    """Describe an exception that a user's code raised, with the last lines of that code as they stand."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    lines = [f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line}" for frame in frames[-_MOST_LINES:]]
    return f"{type(error).__name__}: {error}" + (f" ({'; '.join(lines)})" if lines else "")


def code_digest(path: str) -> str:
    """Return the SHA-256 of a function's place and of the code of its module and of those that it imports from beside.

    Nothing is imported or run. What is installed is left out, and so is what is imported by a name that is put
    together.
    """
    digest = hashlib.sha256(path.encode())
    for file in source_files(path.partition(":")[0]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def source_files(module_name: str) -> tuple[Path, ...]:
    """List the file of a module and those of the modules that it imports from the same folder, in a fixed order."""
    folder = _folder_of(module_name)
    found: dict[Path, None] = {}
    waiting = [module_name]
    while folder is not None and waiting:
        name = waiting.pop()
        for file in _files_of(folder, name):
            if file not in found:
                found[file] = None
                waiting += _imports(file, package=name if file.name == "__init__.py" else name.rpartition(".")[0])
    return tuple(sorted(found))


def _require_users_module(module_name: str, file: str | None, here: Path) -> None:
    """Refuse a module that hides one of the same name in the current folder."""
    top = module_name.partition(".")[0]
    own = [path for path in (here / f"{top}.py", here / top / "__init__.py") if path.is_file()]
    if own and (file is None or not Path(file).resolve().is_relative_to(here.resolve())):
        raise NoSuchFunction(
            f"{top} is also the name of a module of Python or of a package ({file or 'built in'}), which hides "
            f"{own[0]}; give the file another name"
        )


def _is_users(filename: str) -> bool:
    return not (filename.startswith(("<", *_NOT_THE_USERS)) or any(part in _INSTALLED for part in Path(filename).parts))


def _folder_of(module_name: str) -> Path | None:
    """Return the folder that a module's outermost package, or its file, lies in; None where there is none."""
    try:
        spec = PathFinder.find_spec(module_name.partition(".")[0], [os.getcwd(), *sys.path])
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return None if spec.origin is None else Path(spec.origin).parent


def _files_of(folder: Path, module_name: str) -> Iterator[Path]:
    """Yield the files that run when a module of a folder is imported: its own, and those of its packages."""
    place = folder
    for part in module_name.split("."):
        place = place / part
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                yield file


def _imports(file: Path, *, package: str) -> list[str]:
    """List the modules that a file imports, or may import; none where it is no Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            names += [base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)]
    return [name for name in names if name]
