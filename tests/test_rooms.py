"""The rooms of the package: every module can be imported, none hides a name, and the contract names them all."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import spquant_search

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(spquant_search.__path__, f"{spquant_search.__name__}.")
    if not module.name.endswith(".__main__")  # which runs the program
)
# Functions of the Python interface: a room of the same name would take their place once it is imported.
INTERFACE = {"search", "open_run", "from_torch", "load_space"}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__name__ == name


def names_bound_by(package: ModuleType) -> Iterator[str]:
    """Find the public functions and classes that a package's code binds, whatever has taken their place since."""
    yield from getattr(package, "__all__", ())
    assert package.__file__ is not None
    for statement in ast.parse(Path(package.__file__).read_text()).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in statement.names)


def test_no_public_name_of_a_package_is_that_of_one_of_its_modules() -> None:
    packages = [module for name in MODULES if hasattr(module := importlib.import_module(name), "__path__")]
    assert len(packages) > 10
    for package in (spquant_search, *packages):
        inside = {module.name for module in pkgutil.iter_modules(package.__path__)}
        bound = set(names_bound_by(package)) | (INTERFACE if package is spquant_search else set())
        assert not inside & bound, package.__name__
        assert all(isinstance(vars(package).get(name, package), ModuleType) for name in inside)


def test_the_contract_names_exactly_the_rooms() -> None:
    contracts = tomllib.loads(PROJECT.read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = [room.strip() for layer in layers for room in layer.split("|")]
    rooms = [module.name for module in pkgutil.iter_modules(spquant_search.__path__)]
    assert sorted(named) == sorted(rooms)
