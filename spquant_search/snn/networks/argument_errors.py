"""Say what is wrong with code of a user's network: the error, where in their file, and what the layer takes."""

from __future__ import annotations

import inspect
import re

from spquant_search import snn
from spquant_search.space.messages import suggestion
from spquant_search.space.user_functions import failure

_CALLED = re.compile(r"([\w.]+)\(\) (?:got|missing|takes)")
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def error_words(error: BaseException) -> str:
    """Describe an exception that a user's code raised, with its place and, where they were wrong, the arguments."""
    words = failure(error)
    if "meta tensor" in words:
        words += "; what is computed must not depend on the numbers in a signal, which are not there yet"
    return words + _arguments(error)


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
