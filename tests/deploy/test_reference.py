"""The numpy reference: packing against hand-worked bytes, and files that cannot be changed unnoticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deploy.networks import written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spquant_search.deploy.export import Export, sealed
from spquant_search.deploy.reference import Model
from spquant_search.deploy.weights_file import (
    MANIFEST_FILE,
    DamagedArtifact,
    pack_rows,
    read_manifest,
    row_bytes,
    unpack_rows,
)


@given(
    bits=st.sampled_from([1, 2, 3, 4, 8]), rows=st.integers(1, 4), columns=st.integers(1, 40), seed=st.integers(0, 99)
)
def test_rows_are_unpacked_as_they_were_packed(bits: int, rows: int, columns: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns))
    data = pack_rows(codes, bits)
    assert len(data) == rows * row_bytes(columns, bits)
    np.testing.assert_array_equal(unpack_rows(data, rows=rows, columns=columns, bits=bits), codes)


def test_packing_by_hand() -> None:
    """Six codes of 2 bits: byte j holds the columns j, j + 2, j + 4, from the lowest bits on."""
    assert pack_rows(np.array([[1, 2, 3, 0, 2, 1]]), 2) == bytes([0b10_11_01, 0b01_00_10])
    # Of 3 bits the lower two come first, then the third: here of the columns 0 .. 2 in one byte each.
    assert pack_rows(np.array([[5, 2, 7]]), 3) == bytes([0b11_10_01, 0b101])


def test_the_engine_repeats_the_test_vectors_without_torch(deployed: Export, tmp_path: Path) -> None:
    folder = written(deployed, tmp_path / "deployed")
    blocked = "import sys; sys.modules['torch'] = sys.modules['spquant_search'] = None; "
    run = f"{blocked}import runpy; runpy.run_path({str(folder / 'reference.py')!r}, run_name='__main__')"
    answer = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.endswith("spikes compared, 0 numbers differ\n")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_noticed(
    deployed: Export, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = written(deployed, tmp_path_factory.mktemp("changed") / "deployed")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    file = folder / data.draw(st.sampled_from(names))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with pytest.raises(DamagedArtifact, match=file.name):
        read_manifest(folder)
    with pytest.raises(DamagedArtifact):
        Model.load(folder)


def test_a_missing_file_and_an_unknown_format_are_named(deployed: Export, tmp_path: Path) -> None:
    folder = written(deployed, tmp_path / "deployed")
    (folder / "model.c").unlink()
    with pytest.raises(DamagedArtifact) as error:
        read_manifest(folder)
    assert str(error.value) == f"{folder / 'model.c'}: is missing"
    (folder / "manifest.json").unlink()
    with pytest.raises(DamagedArtifact, match=r"manifest\.json: is missing"):
        read_manifest(folder)
    later = sealed(deployed.manifest | {"format": 99}, deployed.files)
    (folder / "manifest.json").write_bytes(later[MANIFEST_FILE])
    with pytest.raises(DamagedArtifact, match="has format 99; this program reads 4"):
        read_manifest(folder)
