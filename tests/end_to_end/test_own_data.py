"""Data from a user's Python code, from a search to `verify`, in an empty folder."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from searches import program

PAGE = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
SMALL = {
    "data.train_samples": 200,
    "data.test_samples": 40,
    "train.epochs": 1,
    "train.baseline_epochs": 1,
    "search.workers": 1,
}
CHANGES = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]


def answer(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = program(folder, *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_a_search_on_samples_from_python(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    (code,) = re.findall(r"^```python\n(.*?load_digits.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (space,) = re.findall(r"^```yaml\n(data: {name: python.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    module = tmp_path / "my_data.py"
    module.write_text(f"print('imported')\nopen('imports', 'a').write('x')\n{code}")
    (tmp_path / "my_space.yaml").write_text(space)
    search = ("--space", "my_space.yaml", "--run", "own", "--device", "cpu", *CHANGES)
    answer(tmp_path, *search, "--trials", "1")
    assert (tmp_path / "imports").read_text() == "x", "trainers open what the command has made"
    answer(tmp_path, *search, "--trials", "2")  # goes on with what is there
    trials = sorted(path.name for path in (tmp_path / "runs" / "own" / "trials").glob("*.json"))
    assert trials == ["0000.json", "0001.json", "0002.json"]
    assert "my_data:build" in (tmp_path / "runs" / "own" / "space.yaml").read_text()
    facts = json.loads((tmp_path / "runs" / "own" / "run.json").read_text())
    assert re.fullmatch(r"images \[8, 8\] that my_data:build returns \(samples [0-9a-f]{8}\)", facts["data"])
    module.rename(tmp_path / "away.py")
    answer(tmp_path, "report", "own")  # needs no samples
    (tmp_path / "away.py").rename(module)
    answer(tmp_path, "pick", "own", "--out", "picked")
    verified = json.loads(answer(tmp_path, "verify", "picked", "--samples", "5", "--json").stdout)
    assert "imported" not in json.dumps(verified)
    with np.load(tmp_path / "picked" / "test_vectors.npz") as vectors:
        assert vectors["frames"].max() == 255
    module.write_text(module.read_text().replace("/ 16", "/ 17"))
    refused = answer(tmp_path, *search, "--trials", "2", code=2)
    assert "this run began with other samples" in refused.stderr
