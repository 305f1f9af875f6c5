"""Send the test vectors to a board that runs replay.ino, and compare every logit of its answers.

``python replay.py PORT``; PORT is /dev/ttyACM0 or COM3, say. It needs numpy, and pyserial where it is installed, which
on Windows it must be.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parents[2]
BAUD = 115_200
PATIENCE = 60.0  # seconds for a frame: a slow board takes some for a time step


class NoAnswer(Exception):
    """The board does not say what the sketch says."""


def open_port(name: str) -> Any:
    """Open a serial port, whose reads end after a second where nothing comes."""
    try:
        import serial
    except ImportError:
        import termios
        import tty

        port = open(name, "r+b", buffering=0)  # noqa: SIM115 - for as long as the program runs
        tty.setraw(port.fileno())
        settings = termios.tcgetattr(port.fileno())
        settings[4] = settings[5] = termios.B115200
        settings[6][termios.VMIN], settings[6][termios.VTIME] = 0, 10  # tenths of a second
        termios.tcsetattr(port.fileno(), termios.TCSANOW, settings)
        return port
    return serial.Serial(name, BAUD, timeout=1)


def wait_for(port: Any, *beginnings: str) -> str:
    """Return the next line that begins so; others are those of the board's start, or that it waits."""
    end = time.monotonic() + PATIENCE
    line = b""
    while time.monotonic() < end:
        line += port.readline() or b""
        if not line.endswith(b"\n"):
            continue
        words, line = line.decode("ascii", "replace").strip(), b""
        if words.startswith(beginnings):
            return words
    raise NoAnswer(f"no answer for {PATIENCE:.0f} seconds; is examples/replay/replay.ino on the board?")


def run_sample(port: Any, frames: np.ndarray[Any, Any]) -> tuple[list[int], int]:
    """Return the logits of a sample's frames [frame, row, column, channel] on the board, and its microseconds."""
    wait_for(port, "ready")
    port.write(b"S")
    while (words := wait_for(port, "frame ", "class ").split())[0] == "frame":
        data, sent = frames[int(words[1])].tobytes(), 0
        while sent < len(data):
            sent += port.write(data[sent:])
    return [int(word) for word in words[words.index("logits") + 1 :]], int(words[words.index("microseconds") + 1])


def main() -> int:
    """Return 0 where all answers are as expected."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    with np.load(FOLDER / "test_vectors.npz") as vectors:
        samples = np.ascontiguousarray(vectors["frames"].transpose(0, 1, 3, 4, 2))
        expected = vectors["logits"].tolist()
    right = 0
    with open_port(sys.argv[1]) as port:
        for number, (frames, logits) in enumerate(zip(samples, expected, strict=True)):
            found, microseconds = run_sample(port, frames)
            right += found == logits
            words = "as expected" if found == logits else f"WRONG: its logits are {found}, not {logits}"
            print(f"sample {number}: class {found.index(max(found))}, {words}; {microseconds / 1000:,.1f} ms")
    print(f"{right} of {len(samples)} samples as expected")
    return 0 if right == len(samples) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoAnswer as problem:
        sys.exit(f"error: {problem}")
