"""The wheel and the source archive, built as they would be published, and used in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both archives, the wheel from the source archive, as pip and PyPI do."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder], cwd=ROOT, check=True)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "source", filter="data")
    (unpacked,) = (folder / "source").iterdir()
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=unpacked, check=True)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "installed")
    return built / "installed"


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program, which must not see the checkout."""
    environment = os.environ | {"PYTHONPATH": str(installed), "SPQUANT_COMPILE": "0"}
    program = "import sys, spquant_search.cli.app as app; assert sys.argv.pop(1) in app.__file__; app.main()"
    command = [sys.executable, "-c", program, str(installed), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_package_and_the_spaces(installed: Path) -> None:
    package = {str(file.relative_to(ROOT)) for file in (ROOT / "spquant_search").rglob("*") if file.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    spaces = {f"spquant_search/spaces/{file.name}" for file in (ROOT / "spaces").iterdir()}
    held = {str(file.relative_to(installed)) for file in installed.rglob("*") if file.is_file()}
    assert {name for name in held if ".dist-info/" not in name} == package | spaces


def test_the_metadata_is_complete(installed: Path) -> None:
    (metadata,) = installed.glob("*.dist-info/METADATA")
    found = Parser().parsestr(metadata.read_text(encoding="utf-8"))
    assert found["Name"] == "spquant-search"
    assert found["License-Expression"] == "MIT"
    assert found.get_all("License-File") == ["LICENSE", "spquant_search/data/fashion_mnist/LICENSE"]
    assert found["Requires-Python"] == ">=3.11"
    assert found["Description-Content-Type"] == "text/markdown"
    assert "Operating System :: POSIX :: Linux" in found.get_all("Classifier", [])
    assert all((metadata.parent / "licenses" / name).is_file() for name in found.get_all("License-File", []))


def test_the_source_archive_holds_what_its_tests_need(built: Path) -> None:
    (unpacked,) = (built / "source").iterdir()
    for name in ("tests/conftest.py", "spaces/vgg9.yaml", "Makefile", "constraints.txt", "README.md", "docs/search.md"):
        assert (unpacked / name).is_file(), name


def test_an_installation_searches_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "spaces")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("vgg9 ")
    copied = run(installed, tmp_path, "spaces", "tiny")
    assert copied.stdout == (ROOT / "spaces" / "tiny.yaml").read_text(encoding="utf-8")
    words = ("--trials", "1", "--workers", "1", "--set", "train.baseline_epochs=1", "--set", "supernet.epochs=1")
    small = ("--set", "data.train_samples=60", "--set", "data.validation_samples=20", "--set", "data.test_samples=20")
    searched = run(installed, tmp_path, "--space", "tiny", *words, *small)
    assert searched.returncode == 0, searched.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert (tmp_path / "runs" / "tiny" / "front.json").is_file()
