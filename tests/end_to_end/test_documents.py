"""What the documents give as examples is well-formed, and names options that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml

from spquant_search.cli.app import app

CLUSTER = Path(__file__).parents[2] / "docs" / "cluster.md"


def block(language: str) -> str:
    found = re.findall(
        rf"^```{language}\n(.*?)^```", CLUSTER.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert len(found) == 1
    return str(found[0])


def options() -> set[str]:
    return {option for parameter in typer.main.get_command(app).params for option in parameter.opts}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_slurm_script_is_well_formed() -> None:
    script = block("bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    command = next(line for line in script.splitlines() if line.startswith("srun spquant-search "))
    named = set(re.findall(r"--[a-z]+", command))
    assert named
    assert named <= options()


def test_the_kubernetes_job_is_well_formed() -> None:
    job = yaml.safe_load(block("yaml"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] in ("OnFailure", "Never"), "the two that a Job may have"
    (container,) = pod["containers"]
    words = [container["command"][0], *container["args"]]
    assert all(isinstance(word, str) for word in words), "numbers are no words of a command line"
    assert {word for word in words if word.startswith("--")} <= options()
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
