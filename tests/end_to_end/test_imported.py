"""Networks of SpikingJelly and snnTorch by the command line: searched, killed, resumed, picked, verified."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Command
from importer.functions import SAMPLES, SNNTORCH, SPACE, SPIKINGJELLY
from importer.libraries import snntorch, spikingjelly
from long_forms import LONG

from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_results

PROGRAM = [sys.executable, "-m", "spquant_search.cli"]
SEARCH = [*PROGRAM, "--space", "my.yaml", "--device", "cpu"]
COUNTED = "    with open('calls.txt', 'a') as calls:\n        calls.write('called\\n')\n"
# An import of either library fails, as on a machine that has none.
WITHOUT = "import sys\nsys.modules['spikingjelly'] = sys.modules['snntorch'] = None\n"
SECONDS = 120

CODES = {"snntorch": SNNTORCH, "spikingjelly": SPIKINGJELLY}


@pytest.fixture(autouse=True)
def libraries() -> None:
    spikingjelly("neuron")
    snntorch()


def written(here: Path, code: str) -> dict[str, str]:
    """Write the user's files, and return the environment of commands."""
    (here / "my_network.py").write_text(code.replace("def trained():\n", f"def trained():\n{COUNTED}"))
    (here / "my_data.py").write_text(SAMPLES)
    (here / "my.yaml").write_text(SPACE.replace("MODULE", "my_network").replace("SAMPLES", "my_data"))
    return os.environ | {"SPQUANT_COMPILE": "0", "OMP_NUM_THREADS": "1"}


def ran(here: Path, environment: dict[str, str], *words: str, code: int = 0) -> str:
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def calls(here: Path) -> int:
    return len((here / "calls.txt").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("code", [pytest.param(CODES[name], id=name) for name in (CODES if LONG else ["snntorch"])])
def test_a_killed_search_goes_on_and_its_pick_is_verified_elsewhere(tmp_path: Path, code: str) -> None:
    environment, run = written(tmp_path, code), RunFolder(path=tmp_path / "runs" / "my")
    said = ran(tmp_path, environment, *PROGRAM, "cost", "--space", "my.yaml")
    assert "note: the network was imported from " in said
    assert "by my_network:trained: " in said
    (tmp_path / "calls.txt").unlink()
    search = subprocess.Popen(
        SEARCH, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    end = time.monotonic() + SECONDS
    while not run.result_file(0).is_file() and search.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(search.pid, signal.SIGKILL)
    told, _ = search.communicate()
    assert run.result_file(0).is_file(), told
    assert calls(tmp_path) == 1
    ran(tmp_path, environment, *SEARCH)
    assert calls(tmp_path) == 1, "a run that goes on calls no function"
    numbers = [result.number for result in read_results(run)]
    assert numbers[:3] == [0, 1, 2]

    moved = tmp_path / "other machine"
    moved.mkdir()
    (tmp_path / "runs").rename(moved / "runs")
    for name in ("my_data.py", "my.yaml"):
        (tmp_path / name).rename(moved / name)
    (moved / "sitecustomize.py").write_text(WITHOUT)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(moved), environment.get("PYTHONPATH", "")]))
    environment["SPQUANT_CACHE"] = str(tmp_path / "new cache")
    assert "imported from " in ran(moved, environment, *PROGRAM, "pick", "my", "--out", "picked")
    verified = ran(moved, environment, *PROGRAM, "verify", "picked")
    assert "0 mismatches" in verified or " 0 " in verified, verified
    ran(moved, environment, *PROGRAM, "report", "my")
    ran(moved, environment, *PROGRAM, "finalize", "my", "--epochs", "1", "--seeds", "1", "--device", "cpu")
    frozen = ("--space", "runs/my/space.yaml", "--run", "runs/my", "--trials", "3", "--device", "cpu")
    ran(moved, environment, *PROGRAM, *frozen)
    assert len(read_results(RunFolder(path=moved / "runs" / "my"))) > len(numbers)


def test_what_cannot_be_imported_ends_with_2_and_all_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    code = SNNTORCH.replace("beta=0.8", "beta=0.8, reset_delay=False").replace("learn_beta=True", "reset_delay=False")
    written(tmp_path, code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    answer = command("--space", "my.yaml", "--device", "cpu")
    sys.modules.pop("my_network")
    assert answer.code == 2
    assert answer.err.count("model.import: my_network:trained: cannot be imported: ") == 2
    assert not (tmp_path / "runs").exists()
