"""What is said of a network that was imported: what it had in floating point, and what became of it."""

from __future__ import annotations

from spquant_search.snn.networks.plan import Origin

_BYTES = 4  # of a number of 32 bits
_PIXEL = 1 / 255


def origin_words(origin: Origin, *, trains: int | None = None) -> list[str]:
    """Say where a network came from; ``trains``: for how many epochs its weights are trained on, None: not known."""
    came = "" if origin.function is None else f" by {origin.function}"
    sentences = [f"the network was imported from {origin.library}{came}: {', '.join(_parts(origin))}"]
    if origin.unit != 1.0:
        value = "1/255" if abs(origin.unit - _PIXEL) < 1e-9 else f"{origin.unit:g}"
        sentences.append(
            f"it took inputs times {value}, which is part of its first weights now: frames are whole numbers"
        )
    if trains is not None:
        then = f"are trained on for {trains} epochs" if trains else "are the float baseline as they are"
        sentences.append(f"the imported weights {then} (train.baseline_epochs: {trains})")
    return [*sentences, *origin.notes]


def _parts(origin: Origin) -> list[str]:
    """Return what its numbers of 32 bits were."""
    parts = [f"{_size(origin.weights)} of weights in 32 bits"]
    if origin.batch_norms:
        what = "a batch norm" if origin.batch_norms == 1 else f"{origin.batch_norms} batch norms"
        parts.append(f"{_size(origin.batch_norm_values)} of {what}, folded into weights")
    if origin.threshold_layers:
        where = "one layer" if origin.threshold_layers == 1 else f"{origin.threshold_layers} layers"
        parts.append(
            f"{_size(origin.threshold_values)} of thresholds, one a channel in {where}, which weights are divided by"
        )
    if origin.learned_leaks:
        what = "a learned leak" if origin.learned_leaks == 1 else f"{origin.learned_leaks} learned leaks"
        parts.append(f"{_size(origin.learned_leaks)} of {what}, each one number of its layer")
    return parts


def _size(numbers: int) -> str:
    return f"{_BYTES * numbers:,} bytes"
