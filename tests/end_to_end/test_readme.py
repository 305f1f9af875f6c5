"""Every command of the README runs, in the order it stands there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The default search takes minutes, and the tiny one half of one; here the same lines run on a handful of samples.
SMALL = {
    "data.train_samples": 64,
    "data.validation_samples": 20,
    "data.test_samples": 20,
    "train.epochs": 1,
    "train.baseline_epochs": 1,
    "supernet.epochs": 1,
    "final.members": 1,
    "train.batch_size": 16,
    "model.width": 0.0625,
}
SHRUNK = ["--trials", "1", *(word for path, value in SMALL.items() for word in ("--set", f"{path}={value}"))]
SMALLER = [word for path in ("data.train_samples=128", "train.baseline_epochs=2") for word in ("--set", path)]
TRAINS = ("--space", "sensitivity")  # the first words of commands that train by a space file


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def environment() -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "SPQUANT_COMPILE": "0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(ROOT / "spaces", folder / "spaces")
    return folder


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_of_the_readme(folder: Path) -> None:
    searched = [line.removeprefix(".venv/bin/") for line in commands()]
    own = [line.split() for line in searched if line.startswith("spquant-search")]
    assert len(own) >= 7
    for command in own:
        if command[1] == "dashboard":
            continue
        default = command[1:] == ["--space", "spaces/vgg9.yaml"]
        added = SHRUNK if default else SMALLER if command[1] in TRAINS else []
        assert run([*command, *added], folder)
    assert (folder / "runs" / "tiny" / "front.png").stat().st_size > 10_000
    assert {"config.yaml", "manifest.json", "model.c"} <= {path.name for path in (folder / "picked").iterdir()}


@pytest.mark.slow
def test_the_dashboard_answers(folder: Path) -> None:
    assert "spquant-search dashboard tiny" in commands()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["spquant-search", "dashboard", "tiny", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            answer = _get(f"http://127.0.0.1:{port}/api/studies/0", seconds=30)
        finally:
            server.terminate()
    assert '"accuracy", "memory_bytes", "effective_flops"' in answer
    assert "## The front" in answer
    assert "memory_kib" in answer


def _get(address: str, *, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as response:
                return str(response.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_make_targets_and_pip_lines() -> None:
    makes = [line.split()[1] for line in commands() if line.startswith("make ")]
    assert makes == ["search", "test"]
    for target in makes:
        planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        last = {"search": "spquant-search --space spaces/vgg9.yaml", "test": "python -m pytest"}[target]
        assert last in planned
    (install,) = [line for line in commands() if "pip install" in line]
    assert "--constraint constraints.txt" in install
    extras = re.findall(r"\[(.*?)\]", install)[0].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras) <= set(project["optional-dependencies"])


def test_pinned_versions_are_those_allowed() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    assert pins["torch"] == "2.13.0"
    assert pins["optuna"].startswith("5.")
