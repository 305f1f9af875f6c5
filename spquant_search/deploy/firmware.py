"""Write what makes a picked folder a part of other people's firmware: an example, CMake's and Arduino's files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search import __version__
from spquant_search.deploy.c_names import CNames
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.sample import sample_header


def firmware_files(
    facts: DeviceFacts,
    frames: NDArray[np.uint8],
    logits: NDArray[np.int64],
    *,
    labels: Sequence[int] = (),
    about: dict[str, Any],
) -> dict[str, bytes]:
    """Return the files by their names in the folder; a picked network's header and source lie beside them.

    ``frames``, ``logits`` and ``labels`` are those of the test vectors.
    """
    names = facts.names
    name = names.renamed(", spq_class_name(spq_class())") if facts.classes else ""
    folder = {"LIBRARY": names.library, "VERSION": __version__, "SENTENCE": _sentence(about)}
    texts = {
        "main.c": _filled("main.c", names, {"FORMAT": ": %s" if name else "", "NAME": name}),
        "examples/classify.c": _filled("classify.c", names, {"FORMAT": " %s" if name else "", "NAME": name}),
        names.sample: sample_header(frames, logits, labels, names),
        "CMakeLists.txt": _filled("CMakeLists.txt", names, folder),
        "library.properties": _filled("library.properties", names, folder),
        "examples/replay/replay.ino": _filled("replay.ino", names, {}),
        "examples/replay/replay.py": _filled("replay.py", names, {}),
        # Arduino compiles what lies in src, and nothing beside it: main.c is no part of a sketch.
        f"src/{names.header}": f'#include "../{names.header}"\n',
        f"src/{names.source}": f'#include "../{names.source}"\n',
    }
    return {name: text.encode() for name, text in texts.items()}


def _filled(name: str, names: CNames, marks: dict[str, str]) -> str:
    text = names.renamed(resources.files("spquant_search.deploy.kit").joinpath(name).read_text(encoding="utf-8"))
    for mark, words in marks.items():
        text = text.replace(f"@{mark}@", words)
    return text


def _sentence(about: dict[str, Any]) -> str:
    """Return what the library is, in one line of ASCII."""
    words = f"Trial {about['trial']} of {about['run']}: a spiking neural network in whole numbers."
    return " ".join(words.split()).encode("ascii", "replace").decode()
