"""Trainer processes: they train and test, stream their epochs, and are told to go on or to stop. No Optuna here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spquant_search.workers.messages import Message

if TYPE_CHECKING:  # torch is imported in the trainers' processes alone
    pass
Handler = Callable[[Any], Message]
