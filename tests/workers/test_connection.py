"""What a trainer sends: whole messages, whoever warns of something while one is sent."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

from spquant_search.workers.connection import TrainerConnection
from spquant_search.workers.messages import Failed, TrainerWarning

LARGE = Failed(reason="x" * 3_000_000)  # sent in pieces
MOST_WARNINGS = 500  # of a thread: where the sender is slow, all of them wait in memory


def received(ours: Any, count: int) -> list[Any]:
    return [ours.recv() for _ in range(count)]


def test_what_this_thread_warns_of_is_sent_at_once():
    ours, theirs = multiprocessing.Pipe()
    TrainerConnection(theirs).warn("slow")
    assert ours.poll(10)
    assert ours.recv() == TrainerWarning(text="slow")


def test_what_other_threads_warn_of_goes_ahead_of_the_next_message():
    ours, theirs = multiprocessing.Pipe()
    connection = TrainerConnection(theirs)
    threads = [threading.Thread(target=connection.warn, args=(str(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not ours.poll(0.05), "only the thread of the messages sends"
    connection.send(Failed(reason="done"))
    assert {message.text for message in received(ours, 3)} == {"0", "1", "2"}
    assert ours.recv() == Failed(reason="done")


def test_messages_stay_whole_while_other_threads_warn():
    ours, theirs = multiprocessing.Pipe()
    connection, ended = TrainerConnection(theirs), threading.Event()

    def warns() -> None:
        for _ in range(MOST_WARNINGS):
            if ended.wait(0.0005):
                return
            connection.warn("w" * 100_000)

    read: list[Any] = []

    def reads() -> None:
        while sum(isinstance(message, Failed) for message in read) < 10:
            read.append(ours.recv())

    threads = [threading.Thread(target=target) for target in (warns, warns, reads)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        connection.send(LARGE)
    threads[2].join(60)
    ended.set()
    for thread in threads:
        thread.join(60)
    assert [message for message in read if isinstance(message, Failed)] == [LARGE] * 10
    assert all(isinstance(message, Failed | TrainerWarning) for message in read)


def test_a_warning_amid_a_message_waits_for_its_end():
    """As one that a destructor gives, which may run at any moment in the same thread."""

    class Sender:
        def __init__(self) -> None:
            self.sent: list[Any] = []

        def send(self, message: Any) -> None:
            if not self.sent:
                connection.warn("amid")
            self.sent.append(message)

    sender = Sender()
    connection = TrainerConnection(sender)
    connection.send(Failed(reason="first"))
    connection.send(Failed(reason="second"))
    assert sender.sent == [Failed(reason="first"), TrainerWarning(text="amid"), Failed(reason="second")]
