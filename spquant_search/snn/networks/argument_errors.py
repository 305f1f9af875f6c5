"""Say what is wrong with code of a user's network: the error, where in their file, and what the layer takes."""

from __future__ import annotations

import inspect
import re
import traceback
from pathlib import Path

import torch

from spquant_search import snn
from spquant_search.space.messages import suggestion

_CALLED = re.compile(r"([\w.]+)\(\) (?:got|missing|takes)")
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_NOT_THE_USERS = tuple(
    str(Path(file).parents[level])
    for file, level in ((str(torch.__file__), 1), (str(snn.__file__), 1), (str(inspect.__file__), 0))
)


def error_words(error: BaseException) -> str:
    """Describe an exception that a user's code raised, with its place and, where they were wrong, the arguments."""
    place = _place(error)
    words = f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")
    if "meta tensor" in words:
        words += "; what is computed must not depend on the numbers in a signal, which are not there yet"
    return words + _arguments(error)


def _place(error: BaseException) -> str:
    """Return the last line outside installed packages and this one that the exception passed through."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_NOT_THE_USERS) and not frame.filename.startswith("<")
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def _arguments(error: BaseException) -> str:
    """List the arguments of the part of this package that was called with others; empty where it was none."""
    match = _CALLED.match(str(error)) if isinstance(error, TypeError) else None
    if match is None:
        return ""
    name = match[1].removesuffix(".__init__").removesuffix(".forward")
    part = getattr(snn, name, None)
    if part is None:
        return ""
    called = part.forward if match[1].endswith(".forward") else part
    signature = inspect.signature(called)
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    parameters = [each for each in parameters if each.name != "self"]
    listed = str(inspect.Signature(parameters)).strip("()")
    found = _UNEXPECTED.search(str(error))
    near = suggestion(found[1], [each.name for each in parameters]) if found else "."
    return f"{near} {match[1].removesuffix('.__init__')} takes {listed}"
