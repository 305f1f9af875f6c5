"""Write the folder that ``pick`` gives, and read it back.

An artifact is one configuration, its trained weights, and its form in integers.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from safetensors.numpy import load_file, save
from torch import nn

from spquant_search.deploy.c_tables import TooLarge
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.export import Differs, export, sealed
from spquant_search.deploy.page import PAGE_FILE, page
from spquant_search.deploy.segments import NoIntegerForm
from spquant_search.deploy.vectors import Vectors
from spquant_search.errors import SpaceError, UserError
from spquant_search.runs.drafts import draft_folder, remove_leftovers, require_new_folder
from spquant_search.runs.files import write_bytes
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.results import TrialResult
from spquant_search.snn.layers import configure
from spquant_search.snn.leaks import quantized_leaks, rounded_leak_words
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.networks.origin_words import origin_words
from spquant_search.snn.networks.plan import NetworkPlan, plan_bytes
from spquant_search.snn.networks.planned import plan_of
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import DataSpace, ModelSpace, NeuronSpace, SpaceFile
from spquant_search.space.shapes import InputShape
from spquant_search.space.yaml_text import read_yaml
from spquant_search.training.network import load_weights

CONFIG_FILE, FLOAT_WEIGHTS_FILE = "config.yaml", "weights.safetensors"
NETWORK_FILE = "network.json"  # of a network that is data


class MissingWeights(UserError):
    """A run lacks the weights of a member: they were deleted, perhaps as better ones took their place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A picked configuration: all about it but the values of its weights."""

    run: str
    trial: int
    data: DataSpace
    time_steps: int
    most_time_steps: int  # of the search, whose frames are summed where the network takes fewer steps
    model: ModelSpace
    neuron: NeuronSpace
    layers: dict[str, LayerPrecision]
    accuracy: float  # on the validation split
    accuracy_samples: int  # that it was measured on
    test_accuracy: float | None
    test_samples: int
    memory_bytes: int
    flash_bytes: int | None  # with the engine, as on the front; None where the run does not have it
    ram_bytes: int | None
    effective_macs: float
    weights_sha256: str
    frame_bytes: int = 0  # of the input frame, in ram_bytes; 0 in folders of versions that did not count it

    @property
    def config(self) -> NetworkConfig:
        return NetworkConfig(time_steps=self.time_steps, layers=tuple(self.layers.items()))

    def space(self) -> SpaceFile:
        """Return the space that the artifact's data can be loaded for, in frames of the search's most time steps.

        It has nothing to search.
        """
        steps = (self.most_time_steps,)
        return SpaceFile(data=self.data, time_steps=steps, model=self.model, neuron=self.neuron, layers={})

    def network(self, weights: Path, shape: InputShape) -> nn.Module:
        """Return the trained network in its precision, with the weights in the file ``weights``."""
        return _trained(self.model, self.neuron, self.config, (weights,), shape)


def _trained(
    model: ModelSpace, neuron: NeuronSpace, config: NetworkConfig, weights: Sequence[Path], shape: InputShape
) -> nn.Module:
    network = build(model, shape, source="space")
    configure(network, config, neuron)  # before weights are loaded: learned thresholds are among them
    load_weights(network, *weights)
    return network.eval()


def write_artifact(  # noqa: PLR0913 - options by name
    folder: RunFolder,
    space: SpaceFile,
    member: TrialResult,
    out: Path,
    *,
    test_accuracy: float | None,
    shape: InputShape,
    vectors: Vectors,
    facts: DeviceFacts,
    note: Callable[[str], None] = lambda words: None,
    samples: int = 0,
    test_samples: int = 0,
) -> Artifact:
    """Write a member of a run's front to the new folder ``out``, which appears whole or not at all.

    Before anything is written, PyTorch, numpy and C must agree on the test ``vectors``, at the member's time steps.
    ``facts``: what a device's program must know beside the network. ``note`` is told where C could not be run.
    ``samples``, ``test_samples``: on which the accuracies were measured, 0 if unknown.

    Raises:
        UserError: ``out`` holds something already or cannot be written, the run lacks the member's weights, or the
            network has no integer form or computes something else in it.
    """
    _require_weights(folder, member)
    require_new_folder(out)
    network, weights = member_network(folder, space, member, shape), _merged_weights(folder, member)
    artifact = Artifact(
        run=folder.name,
        trial=member.number,
        data=space.data,
        time_steps=member.config.time_steps,
        most_time_steps=space.most_time_steps,
        model=_model_beside(space.model),
        neuron=space.neuron,
        layers=dict(member.config.layers),
        accuracy=member.accuracy,
        accuracy_samples=samples,
        test_accuracy=test_accuracy,
        test_samples=test_samples,
        memory_bytes=member.memory_bytes,
        flash_bytes=member.flash_bytes,
        ram_bytes=member.ram_bytes,
        effective_macs=member.effective_macs,
        weights_sha256=_sha256(weights),
        frame_bytes=shape.frame_bytes,
    )
    content = _content(artifact, weights, network, space.model, shape=shape, vectors=vectors, facts=facts, note=note)
    _write_folder(content, out)
    return artifact


def _plan(model: ModelSpace) -> NetworkPlan | None:
    """Return the structure of a network that is data."""
    return None if model.layers is None else plan_of(model.layers, source="space")


def _model_beside(model: ModelSpace) -> ModelSpace:
    """Return a model as an artifact has it: it has weights of its own, and a network that is data lies beside it."""
    return replace(model, weights=None, layers=None if model.layers is None else NETWORK_FILE)


def _require_weights(folder: RunFolder, member: TrialResult) -> None:
    for file in folder.weights_of(member):
        if not file.is_file():
            raise MissingWeights(f"{file}: the weights of trial {member.number} are missing; run the search again")


def member_network(folder: RunFolder, space: SpaceFile, member: TrialResult, shape: InputShape) -> nn.Module:
    """Return the trained network of a member of a run's front, in its precision, for evaluation.

    Raises:
        MissingWeights: the run lacks its weights.
    """
    _require_weights(folder, member)
    with _as_missing(folder, member):
        return _trained(space.model, space.neuron, member.config, folder.weights_of(member), shape)


def _merged_weights(folder: RunFolder, member: TrialResult) -> bytes:
    """Return the content of one file that holds the weights of several; later files replace weights of earlier ones."""
    files = folder.weights_of(member)
    with _as_missing(folder, member):
        if len(files) == 1:
            return files[0].read_bytes()
        return save({name: tensor for file in files for name, tensor in load_file(file).items()})


@contextmanager
def _as_missing(folder: RunFolder, member: TrialResult) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:  # since they were looked for
        raise MissingWeights(f"{folder.path}: the weights of trial {member.number} are gone; pick again") from None


def _content(  # noqa: PLR0913 - options by name
    artifact: Artifact,
    weights: bytes,
    network: nn.Module,
    model: ModelSpace,
    *,
    shape: InputShape,
    vectors: Vectors,
    facts: DeviceFacts,
    note: Callable[[str], None],
) -> dict[str, bytes]:
    """Return every file of the folder by its name."""
    about = _about(artifact, shape, vectors)
    try:
        exported = export(
            network,
            shape,
            vectors.frames,
            time_steps=artifact.time_steps,
            about=about,
            facts=facts,
            labels=vectors.labels,
            training=vectors.training,
        )
    except (NoIntegerForm, TooLarge) as error:
        raise UserError(f"trial {artifact.trial} cannot be written in integers: {error}") from None
    except Differs as error:
        raise UserError(f"trial {artifact.trial} is not written: {error}") from None
    if exported.unchecked is not None:
        note(f"the C library was not run on the test vectors: {exported.unchecked}")
    plan = _plan(model)
    changes = [*_origin(plan), *rounded_leak_words(quantized_leaks(network)), *_order_words(exported.manifest)]
    others = {
        CONFIG_FILE: _yaml(artifact).encode(),
        FLOAT_WEIGHTS_FILE: weights,
        PAGE_FILE: page(about, exported.c, facts, time_steps=artifact.time_steps, changes=changes).encode(),
        **({} if plan is None else {NETWORK_FILE: plan_bytes(plan)}),
    }
    return sealed(exported.manifest, exported.files | others)


def _about(artifact: Artifact, shape: InputShape, vectors: Vectors) -> dict[str, Any]:
    """Return what the manifest says of a network besides its steps."""
    return {
        "run": artifact.run,
        "trial": artifact.trial,
        "data": artifact.data.name,
        "accuracy": artifact.accuracy,
        "accuracy_samples": artifact.accuracy_samples,
        "test_accuracy": artifact.test_accuracy,
        "test_samples": artifact.test_samples,
        "memory_bytes": artifact.memory_bytes,
        "flash_bytes": artifact.flash_bytes,
        "ram_bytes": artifact.ram_bytes,
        "frame_bytes": artifact.frame_bytes,
        "input": asdict(shape),
        "test_vectors": vectors.manifest(),
    }


def _order_words(manifest: dict[str, Any]) -> list[str]:
    """Say that channels have another order than in training, where they have one."""
    gained = manifest["channel_order"]
    if gained is None:
        return []
    return [
        "its channels were in another order: channel k of a step that has an order in manifest.json was channel "
        f"order[k]; {gained['words']}"
    ]


def _origin(plan: NetworkPlan | None) -> list[str]:
    if plan is None:
        return []
    return [*(origin_words(plan.origin) if plan.origin is not None else ()), f"its layers are in {NETWORK_FILE}"]


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _yaml(artifact: Artifact) -> str:
    """Return the artifact as YAML, with only those options of the data set that differ from its defaults."""
    document = _adapter(Artifact).dump_python(artifact, mode="json", by_alias=True)
    document["data"] = _adapter(DataSpace).dump_python(artifact.data, mode="json", exclude_defaults=True)
    return yaml.safe_dump(document, sort_keys=False)


def _write_folder(files: dict[str, bytes], out: Path) -> None:
    """Write files into a folder that appears whole or not at all; raise UserError where it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out.parent)
        with draft_folder(out) as draft:
            whole = draft / "whole"
            whole.mkdir()
            for name, content in files.items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                write_bytes(whole / name, content)
            os.rename(whole, out)  # an empty folder is replaced
    except OSError as error:
        quicker = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
        if os.path.lexists(out) and error.errno in quicker:  # another command was
            raise UserError(f"{out}: exists already; give --out a new folder") from None
        raise UserError(f"{out}: cannot be written: {error.strerror}; give --out another folder") from error


def read_artifact(path: Path) -> Artifact:
    """Read the artifact in a folder and compare its weights with their checksum.

    Raises:
        UserError: a file is missing, damaged or not what ``pick`` writes.
    """
    config, weights = path / CONFIG_FILE, path / FLOAT_WEIGHTS_FILE
    for file in (config, weights):
        if not file.is_file():
            raise UserError(f"{file}: is missing; write the folder again with spquant-search pick")
    try:
        content = read_yaml(config.read_text(encoding="utf-8"), source=str(config)).value
        artifact: Artifact = _adapter(Artifact).validate_python(content)
    except (ValidationError, SpaceError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{config}: is not what pick writes ({first}); write the folder again") from None
    if _sha256(weights.read_bytes()) != artifact.weights_sha256:
        raise UserError(f"{weights}: does not match the checksum in {CONFIG_FILE}; write the folder again")
    if artifact.model.layers is None:
        return artifact
    if not (network := path / NETWORK_FILE).is_file():
        raise UserError(f"{network}: is missing; write the folder again with spquant-search pick")
    return replace(artifact, model=replace(artifact.model, layers=str(network)))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
