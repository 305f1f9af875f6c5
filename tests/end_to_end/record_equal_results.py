"""Record what a small search gives, so that code whose form changes can be held against it.

``python tests/end_to_end/record_equal_results.py`` writes ``equal_results.json`` anew. A new record belongs in a commit
of its own, whose message names what changed the results: a record that comes with other changes proves nothing.

Only what a user sees is read: the tables of the run, what ``front --json`` prints and what ``pick`` writes, its weights
in the order of channels in which they were trained. Neurons run
uncompiled, since compiled ones round as the machine's compiler likes; so the record says nothing of compiled ones.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import torch

from spquant_search.deploy.artifact import FLOAT_WEIGHTS_FILE, read_artifact
from spquant_search.deploy.export import manifest_and_weights
from spquant_search.deploy.integer_form import integer_network
from spquant_search.deploy.weights_file import read_manifest
from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.space.shapes import InputShape

Record = dict[str, Any]

ROOT = Path(__file__).parents[2]
RECORD_FILE = Path(__file__).with_name("equal_results.json")
SPACE = "spaces/tiny.yaml"
SEARCH = ("--seed", "0", "--workers", "1", "--device", "cpu", "--set", "train.precision=fp32")
THREADS = 1
LIMIT_SECONDS = 240.0

COSTS = ("memory_bytes", "weight_bytes", "membrane_bytes", "overhead_bytes", "flash_bytes", "ram_bytes", "dense_macs")
MEASURED = ("accuracy", "effective_macs", "synaptic_ops", "density")
OF_A_MEMBER = ("accuracy", "test_accuracy", *COSTS, "effective_macs", "synaptic_ops")


def record(place: Path) -> Record:
    """Search in an empty folder, and return what came out of it with what it depends on."""
    _program(place, "--space", str(ROOT / SPACE), "--run", "run", *SEARCH)
    _program(place, "pick", "run", "--out", "picked")
    front = json.loads(_program(place, "front", "run", "--json"))
    return {
        "search": f"--space {SPACE} {' '.join(SEARCH)}",
        "machine": _machine(place / "runs" / "run" / "environment.json"),
        "trials": _trials(place / "runs" / "run" / "results.csv"),
        "hypervolume": front["hypervolume"],
        "baseline": _member(front["baseline"]),
        "front": [_member(member) for member in front["members"]],
        "most_accurate_weights_sha256": hashlib.sha256(_weights_as_trained(place / "picked")).hexdigest(),
    }


def _weights_as_trained(picked: Path) -> bytes:
    """Return the weights of a picked network in the order of channels in which they were trained."""
    artifact = read_artifact(picked)
    shape = InputShape(**read_manifest(picked)["input"])
    with uncompiled():
        form = integer_network(
            artifact.network(picked / FLOAT_WEIGHTS_FILE, shape), shape, time_steps=artifact.time_steps
        )
    return manifest_and_weights(form)[1]


def _machine(file: Path) -> Record:
    """Say what the last bits of a training depend on besides the code.

    The vector extension alone does not tell: libraries below torch choose instructions by the processor's maker too.
    """
    environment = json.loads(file.read_text(encoding="utf-8"))
    return {
        "processor": environment["processor"],
        "vector_extension": torch.backends.cpu.get_cpu_capability(),
        "torch": environment["torch"],
        "threads": THREADS,
    }


def _program(place: Path, *words: str) -> str:
    """Run the program that pyproject.toml declares, whatever module it lies in, and return what it printed."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["spquant-search"].partition(":")
    settings = {"OMP_NUM_THREADS": str(THREADS), "SPQUANT_COMPILE": "0", "SPQUANT_CACHE": str(place / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import {function}; {function}()", *words],
        cwd=place,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def _trials(file: Path) -> list[Record]:
    """Read every trial: where its configuration came from, what it costs, and what was measured of it."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [_trial(row) for row in csv.DictReader(lines)]


def _trial(row: dict[str, str]) -> Record:
    numbers = {name: json.loads(row[name] or "null") for name in ("number", *COSTS, *MEASURED)}
    configuration: dict[str, str] = {}
    for address, choice in row.items():
        layer, dot, name = address.partition(".")
        if dot:
            configuration[layer] = f"{configuration.get(layer, '')} {name}={choice or 'none'}".lstrip()
    return {"origin": row["origin"], **numbers, "configuration": configuration}


def _member(member: Record) -> Record:
    return {name: member[name] for name in ("number", *OF_A_MEMBER)}


def main() -> None:
    """Write the record of this checkout, made on this machine."""
    with tempfile.TemporaryDirectory() as place:
        text = json.dumps(record(Path(place)), indent=1)
    RECORD_FILE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
