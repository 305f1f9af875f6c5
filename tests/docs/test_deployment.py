"""The page on deployment: its programs for other people's firmware build and run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from deploy.networks import ABOUT, TIME, a_network, needs_compiler, written

from spquant_search.cli.app import app
from spquant_search.deploy import export as export_module
from spquant_search.deploy.c_names import names_with
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.export import export
from spquant_search.report.boards import BOARDS

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def picked(folder: Path, *, seed: int, prefix: str) -> Path:
    network, shape, frames = a_network("vgg5", seed=seed, size=8, width=1 / 32)
    with mock.patch.object(export_module, "compiler", return_value=None):
        made = export(network, shape, frames, time_steps=TIME, about=ABOUT, facts=DeviceFacts(names=names_with(prefix)))
    return written(made, folder)


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("fetched", [False, True])
def test_the_lines_for_cmake_build_the_program_for_two_networks(
    fetched: bool, tmp_path: Path, plain_neurons: None
) -> None:
    project, from_a_repository = blocks("cmake")
    (program,) = blocks("cpp")
    wake = picked(tmp_path / ("elsewhere" if fetched else "wake"), seed=1, prefix="wake")
    picked(tmp_path / "word", seed=2, prefix="word")
    if fetched:
        project = project.replace("add_subdirectory(wake)\n", from_a_repository.rpartition("target_link")[0])
    (tmp_path / "CMakeLists.txt").write_text(project)
    (tmp_path / "firmware.cpp").write_text(program)
    here = [f"-DFETCHCONTENT_SOURCE_DIR_WAKE={wake}"] if fetched else []
    for words in (["-S", ".", "-B", "build", *here], ["--build", "build"]):
        subprocess.run(["cmake", *words], cwd=tmp_path, check=True, capture_output=True)
    assert 0 <= subprocess.run([str(tmp_path / "build" / "firmware")], check=False).returncode < 5


@needs_compiler
def test_the_line_for_the_sample_prints_what_is_said(tmp_path: Path, plain_neurons: None) -> None:
    folder = picked(tmp_path / "picked", seed=1, prefix="spq")
    (line,) = [line for block in blocks("sh") for line in block.splitlines() if "main.c" in line]
    done = subprocess.run(line, shell=True, cwd=folder, check=True, capture_output=True, text=True)
    assert re.fullmatch(r"class \d, as expected\n", done.stdout)
    assert "prints `class 7, as expected`" in PAGE


def test_every_chip_is_named() -> None:
    for board in BOARDS:
        assert board.name.split(" ")[0] in PAGE


def test_options_of_pick_on_the_page_exist() -> None:
    (pick,) = [command for command in app.registered_commands if getattr(command.callback, "__name__", "") == "pick"]
    assert pick.callback is not None
    known = {f"--{name.replace('_', '-')}" for name in pick.callback.__code__.co_varnames}
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("spquant-search pick")]
    assert lines
    assert {option for line in lines for option in re.findall(r"--[a-z-]+", line)} <= known
