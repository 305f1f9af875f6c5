"""Trainers and their devices in words."""

from __future__ import annotations

from spquant_search.report.step_words import enumerated
from spquant_search.runs.trainers import Trainers


def trainers_words(trainers: Trainers) -> str:
    """Say how many trainers there are, and where, such as "4 trainers on 2 GPUs (NVIDIA H200), 2 on each"."""
    words = f"{trainers.count} trainer{'s' if trainers.count > 1 else ''}"
    if trainers.device == "cpu":
        return f"{words} on the processor"
    names = list(dict.fromkeys(gpu.name for gpu in trainers.gpus))
    if len(trainers.gpus) == 1:
        return f"{words} on GPU {trainers.gpus[0].visible_as} ({names[0]})"
    each = sorted({gpu.trainers for gpu in trainers.gpus})
    return f"{words} on {len(trainers.gpus)} GPUs ({', '.join(names)}), {enumerated(tuple(each), 'or')} on each"
