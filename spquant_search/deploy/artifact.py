"""What `pick` writes, and how it is read back: one configuration, its network's description, its trained weights."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from safetensors.numpy import load_file, save

from spquant_search.errors import UserError
from spquant_search.results import TrialResult
from spquant_search.runfolder import RunFolder, write_bytes, write_text
from spquant_search.space import LayerPrecision, ModelSpace, NetworkConfig, NeuronSpace, SpaceFile

CONFIG_FILE, WEIGHTS_FILE = "config.yaml", "weights.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A picked configuration; everything but the weights' values."""

    run: str
    trial: int
    data: str
    time_steps: int
    model: ModelSpace
    neuron: NeuronSpace
    layers: dict[str, LayerPrecision]
    accuracy: float  # on the validation split
    test_accuracy: float | None
    memory_bytes: int
    effective_macs: float
    weights_sha256: str

    @property
    def config(self) -> NetworkConfig:
        return NetworkConfig(layers=tuple(self.layers.items()))


def write_artifact(
    folder: RunFolder, space: SpaceFile, member: TrialResult, out: Path, *, test_accuracy: float | None
) -> Artifact:
    """Write a member of a run's front to the new folder ``out``, which appears whole or not at all.

    Raises:
        UserError: ``out`` holds something already or cannot be written, or the run lacks the member's weights.
    """
    files = folder.weights_of(member)
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: the weights of trial {member.number} are missing; run the search again")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists already; give --out a new folder")
    weights = _whole(files)
    artifact = Artifact(
        run=folder.name,
        trial=member.number,
        data=space.data.name,
        time_steps=space.time_steps,
        model=space.model,
        neuron=space.neuron,
        layers=dict(member.config.layers),
        accuracy=member.accuracy,
        test_accuracy=test_accuracy,
        memory_bytes=member.memory_bytes,
        effective_macs=member.effective_macs,
        weights_sha256=_sha256(weights),
    )
    try:
        _write(artifact, weights, out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}; give --out another folder") from error
    return artifact


def _whole(files: Sequence[Path]) -> bytes:
    """The content of one file for the weights that lie in several."""
    if len(files) == 1:
        return files[0].read_bytes()
    return save({name: tensor for file in files for name, tensor in load_file(file).items()})


def _write(artifact: Artifact, weights: bytes, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        write_bytes(whole / WEIGHTS_FILE, weights)
        write_text(whole / CONFIG_FILE, yaml.safe_dump(_plain(artifact), sort_keys=False))
        if out.exists():
            out.rmdir()
        os.rename(whole, out)


def _plain(artifact: Artifact) -> dict[str, Any]:
    return asdict(artifact)


def read_artifact(path: Path) -> Artifact:
    """The artifact in a folder, its weights checked against their checksum.

    Raises:
        UserError: a file is missing, damaged or not what `pick` writes.
    """
    config, weights = path / CONFIG_FILE, path / WEIGHTS_FILE
    for file in (config, weights):
        if not file.is_file():
            raise UserError(f"{file}: is missing; write the folder again with spquant-search pick")
    try:
        artifact = TypeAdapter(Artifact).validate_python(yaml.safe_load(config.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{config}: is not what pick writes ({first}); write the folder again") from None
    if _sha256(weights.read_bytes()) != artifact.weights_sha256:
        raise UserError(f"{weights}: does not match the checksum in {CONFIG_FILE}; write the folder again")
    return artifact


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
