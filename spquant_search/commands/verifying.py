"""The comparison of what was picked, in PyTorch, numpy and C, on this machine or on an emulated one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spquant_search.commands.loading import bars_on_terminal
from spquant_search.commands.picking import recordings_of
from spquant_search.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spquant_search.deploy.artifact import Artifact
    from spquant_search.deploy.emulator.emulate import Emulation
    from spquant_search.deploy.emulator.targets import Target
    from spquant_search.deploy.verify import Verification


def compare_all(folder: Path, *, samples: int | None = None) -> tuple[Artifact, Verification]:
    """Compare a picked network's implementations on the test split, or on the first ``samples`` of it.

    Raises:
        UserError: the folder's files are not those that were written.
    """
    from spquant_search.deploy.verify import verify as compare
    from spquant_search.space.shapes import InputShape

    manifest, artifact = _read(folder)
    shape = InputShape(**manifest["input"])
    frames, labels, note = _samples_of(artifact, folder, samples, classes=manifest["classes"])
    with bars_on_terminal() as stage:
        found = compare(
            folder,
            artifact,
            frames,
            labels,
            shape=shape,
            progress=lambda done, total: stage("comparing spikes", done, total),
        )
    if note:
        found.notes.insert(0, note)
    return artifact, found


def emulate_on(target: Target, folder: Path, *, samples: int | None = None) -> tuple[Artifact, Emulation]:
    """Compare a picked network in numpy and on an emulated processor.

    It is shown the stored test vectors, or the first ``samples`` of the test split.

    Raises:
        UserError: the folder's files are not those that were written, a tool is missing, or the network does not fit.
    """
    from spquant_search.deploy.emulator.emulate import emulate
    from spquant_search.deploy.emulator.tools import find_tools
    from spquant_search.deploy.vectors import at_time_steps

    tools = find_tools(target)  # before data are loaded
    manifest, artifact = _read(folder)
    if samples is None:
        frames, labels, note = _stored_vectors(folder), None, ""
    else:
        frames, labels, note = _samples_of(artifact, folder, samples, classes=manifest["classes"])
    with bars_on_terminal() as stage:
        found = emulate(
            folder,
            target,
            at_time_steps(frames, artifact.time_steps),
            labels,
            tools=tools,
            progress=lambda done, total: stage(f"emulating {target.name}", done, total),
        )
    if note:
        found.notes.insert(0, note)
    return artifact, found


def _read(folder: Path) -> tuple[dict[str, Any], Artifact]:
    """Return the manifest of a folder that pick wrote, and what it says of the configuration."""
    from spquant_search.deploy.artifact import read_artifact
    from spquant_search.deploy.weights_file import DamagedArtifact, read_manifest

    try:
        manifest = read_manifest(folder)
    except DamagedArtifact as error:
        raise UserError(f"{error}; write the folder again with spquant-search pick") from None
    return manifest, read_artifact(folder)


def _samples_of(
    artifact: Artifact, folder: Path, samples: int | None, *, classes: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None, str]:
    """Return the frames to compare on, labels where they are of the test split, and a note where they are not."""
    try:
        loaded = recordings_of(artifact.space(), classes)
    except UserError as error:
        return _stored_vectors(folder), None, f"compared on the stored test vectors alone: {error}"
    limit = slice(samples)
    return loaded.test.frames[limit], loaded.test.labels[limit], ""


def _stored_vectors(folder: Path) -> NDArray[np.uint8]:
    import numpy as np

    from spquant_search.deploy.weights_file import VECTORS_FILE

    with np.load(folder / VECTORS_FILE) as vectors:
        frames: NDArray[np.uint8] = vectors["frames"]
    return frames
