"""A trainer's end of the connection to its coordinator."""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from spquant_search.workers.messages import Message, TrainerWarning


class TrainerConnection:
    """A trainer's end of the connection to the coordinator, with warnings that any thread may give.

    Messages are sent by one thread alone: sent by two at once, or by a warning amid a message, they would run into
    each other. What others warn of goes ahead of the next message.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._thread, self._is_sending = threading.get_ident(), False
        self._warnings: SimpleQueue[str] = SimpleQueue()

    def send(self, message: Message) -> None:
        """Send a message, and first all that was warned of."""
        self._is_sending = True
        try:
            while not self._warnings.empty():
                self._connection.send(TrainerWarning(text=self._warnings.get()))
            self._connection.send(message)
        finally:
            self._is_sending = False

    def warn(self, text: str) -> None:
        """Take a warning to be sent: at once where this thread sends messages and is not amid one."""
        if threading.get_ident() == self._thread and not self._is_sending:
            self.send(TrainerWarning(text=text))
        else:
            self._warnings.put(text)

    def recv(self) -> Any:
        """Wait for the coordinator's next task or answer, and return it."""
        return self._connection.recv()

    def poll(self, seconds: float = 0.0) -> bool:
        """Return whether the coordinator has sent something, after waiting so long for it."""
        return self._connection.poll(seconds)
