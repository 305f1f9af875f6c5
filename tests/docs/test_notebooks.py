"""The notebooks of docs/ are valid, carry no outputs, and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def notebook(path: Path) -> Any:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: the extra [dev] brings it")
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def test_there_is_a_notebook_and_the_pages_name_it() -> None:
    assert [path.name for path in NOTEBOOKS] == ["spikingjelly.ipynb"]
    page = (NOTEBOOKS[0].parents[1] / "own_network.md").read_text(encoding="utf-8")
    assert "(notebooks/spikingjelly.ipynb)" in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_is_kept_without_outputs(path: Path) -> None:
    made = notebook(path)
    pytest.importorskip("nbformat").validate(made)
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    for cell in code:
        compile(cell.source, path.name, "exec")
        assert (cell.outputs, cell.execution_count) == ([], None)
    assert all(cell.source.strip() for cell in made.cells)
    assert set(made.metadata) == {"kernelspec", "language_info"}  # nothing of the machine that it was written on


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the packages that start a kernel
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: the extra [dev] brings it")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: the extra [dev] brings it")
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed: the extra [dev] brings it")
    monkeypatch.setenv("SPQUANT_COMPILE", "0")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    made = notebook(path)
    nbclient.NotebookClient(made, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {cell.id: "".join(map(_text, cell.outputs)) for cell in made.cells if cell.cell_type == "code"}
    assert "the example: 0 of" in shown["imported"]
    assert "accuracy" in shown["search"]
    assert shown["picked"].strip().endswith("True")
    assert "model.c" in shown["code"]
    assert (tmp_path / "fashion" / "model.c").is_file()


def _text(output: Any) -> str:
    return str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
