"""Weights that a user gives a search to begin from: read safely, checked against the network, and kept by the run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from spquant_search.errors import Problem, SpaceError, UserError, first_of
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import InputShape
from spquant_search.training.network import new_network

KEY = "model.weights"
_SHOWN = 4  # names that a sentence lists
# What weights may lack that were trained without: a threshold that is learned begins at 1, a leak at that of the space.
_BEGIN_AT_THE_SPACE = (".log_threshold", ".leak_logit")
_SUGGESTION = "save network.state_dict() of the network that is searched, by safetensors or torch.save"


def given_weights(file: SpaceFile, shape: InputShape, *, source: str) -> bytes | None:
    """Read the weights that a space names, as a safetensors file of its network; None where it names none.

    A number in another floating-point format becomes fp32.

    Raises:
        SpaceError: there is no such file, it holds something else, or its tensors are not those of the network.
    """
    if file.model.weights is None:
        return None
    path = Path(file.model.weights).expanduser()
    try:
        return fitted(_read(path), file, shape)
    except UserError as error:
        raise SpaceError(source, [Problem(KEY, f"{path}: {error}")]) from None


def fitted(content: Mapping[str, Any], file: SpaceFile, shape: InputShape) -> bytes:
    """Return tensors by name as a safetensors file, once they are those of a space's network.

    Raises:
        UserError: says what differs.
    """
    tensors = _state_dict(content)
    wanted = new_network(file, shape, seed=0, device=torch.device("cpu")).state_dict()
    _require_names(list(tensors), list(wanted))
    shapes = [
        f"{name} is {list(tensor.shape)}, and {list(wanted[name].shape)} in the network"
        for name, tensor in tensors.items()
        if tensor.shape != wanted[name].shape
    ]
    if shapes:
        raise UserError(f"holds tensors of other shapes: {first_of(shapes, _SHOWN)}; {_SUGGESTION}")
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise UserError(f"{first_of(broken, _SHOWN)}: holds numbers that are not finite (NaN or infinite)")
    # Cloned: two names may share one tensor, and the user's is never handed on.
    return save(
        {
            name: tensors.get(name, like).detach().cpu().to(like.dtype).contiguous().clone()
            for name, like in wanted.items()
        }
    )


def _require_names(given: Sequence[str], wanted: Sequence[str]) -> None:
    lacking = [name for name in wanted if name not in given and not name.endswith(_BEGIN_AT_THE_SPACE)]
    more = [name for name in given if name not in wanted]
    if not lacking and not more:
        return
    prefix = next((name for name in more if name.startswith("module.")), None)
    words = (
        "; its names begin with module., which DataParallel adds: save network.module.state_dict()" if prefix else ""
    )
    missing = f"lacks {first_of(lacking, _SHOWN)}" if lacking else ""
    unknown = f"holds {first_of(more, _SHOWN)}, which the network does not have" if more else ""
    raise UserError(f"{' and '.join(filter(None, [missing, unknown]))}{words or f'; {_SUGGESTION}'}")


def _read(path: Path) -> Any:
    """Read what should be tensors by name; nothing in the file is run."""
    if not path.is_file():
        raise UserError("there is no such file; give the path of a file of weights")
    try:
        with path.open("rb") as file:
            beginning = file.read(9)
        if beginning[8:9] == b"{":  # the header of safetensors is JSON behind its length
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other formats of pickle: what they hold is told below
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"is a damaged safetensors file ({error}); save it again") from None
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot be read as weights alone ({reason}); {_SUGGESTION}") from None


def _state_dict(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise UserError(f"holds an object of type {type(content).__name__}, not tensors by name; {_SUGGESTION}")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        within = [name for name in others if isinstance(content.get(name), Mapping)]
        place = f"; perhaps the state_dict is what lies in {within[0]!r}: save that alone" if within else ""
        raise UserError(f"holds {first_of(others, _SHOWN) or 'nothing'} beside tensors{place or f'; {_SUGGESTION}'}")
    return {str(name): value for name, value in content.items()}
