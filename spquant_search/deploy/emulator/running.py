"""Run a program in QEMU until it ends, or does what it must not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.emulator.building import Program
from spquant_search.deploy.emulator.targets import Target
from spquant_search.deploy.emulator.tools import Tools
from spquant_search.errors import UserError
from spquant_search.report.text_table import one_line

PATIENCE_SECONDS = 300.0  # without a time step or sample: many times what an emulated processor takes for one
_LOOK_SECONDS = 0.05
_MOST_SAID_BYTES = 1_000_000
_MOST_SHOWN = 300  # letters of what the emulator says

# Bits of the Configurable Fault Status Register (Armv7-M and Armv8-M Architecture Reference Manuals).
_CAUSES = {
    0: "instructions were fetched where there are none",
    1: "memory was read or written that must not be",
    8: "instructions were fetched where no memory is",
    9: "memory was read or written where none is",
    10: "memory was written where none is",
    12: "the stack left the memory",
    16: "an undefined instruction",
    17: "a jump to what is no Thumb code",
    18: "a return to where none was due",
    19: "an instruction of a unit that is switched off",
    20: "the stack left its bounds",
    24: "an access that is not aligned",
    25: "a division by zero",
}


class Misbehaved(Exception):
    """The program did not run to its end, or wrote what cannot be its results; the message says what it did."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A machine of QEMU. ``patience``: seconds without any result after which a program is ended."""

    target: Target
    tools: Tools
    patience: float = PATIENCE_SECONDS

    def run(
        self,
        program: Program,
        frames: NDArray[np.uint8],
        *,
        result_bytes: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> bytes:
        """Run samples [sample, time or 1, channel, row, column] and return what was written.

        ``progress`` is called with the bytes that are written by now, of ``result_bytes``.

        Raises:
            Misbehaved: it faults, hangs, stops with an error or writes more than it should.
            UserError: QEMU itself fails.
        """
        work = program.file.parent
        samples, frames_each = frames.shape[:2]
        counts = np.array([samples, frames_each], dtype="<u4").tobytes()
        (work / "frames.bin").write_bytes(counts + np.ascontiguousarray(frames.transpose(0, 1, 3, 4, 2)).tobytes())
        results, said = work / "results.bin", work / "said.txt"
        results.write_bytes(b"")
        with said.open("wb") as output:
            try:
                process = subprocess.Popen(
                    self._command(program), cwd=work, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            except OSError as error:
                raise UserError(f"{self.tools.qemu} cannot be started: {error.strerror}") from None
            try:
                self._wait(process, results, said, result_bytes, progress)
            finally:
                process.kill()
                process.wait()
        written = results.read_bytes()
        if process.returncode != 0:
            self._raise_ended(program, process.returncode, said.read_text("utf-8", "replace"), has_begun=bool(written))
        return written

    def _command(self, program: Program) -> list[str]:
        # With shift=0 an instruction takes one nanosecond of the machine's time, whatever the host's time does.
        clock = ("-icount", "shift=0")
        quiet = ("-display", "none", "-monitor", "none", "-serial", "none", "-no-reboot")
        files = ("-semihosting-config", "enable=on,target=native")
        return [self.tools.qemu, "-machine", self.target.machine, *clock, *quiet, *files, "-kernel", str(program.file)]

    def _wait(
        self,
        process: subprocess.Popen[bytes],
        results: Path,
        said: Path,
        result_bytes: int,
        progress: Callable[[int], None],
    ) -> None:
        seen, at = 0, time.monotonic()
        while True:
            try:
                process.wait(_LOOK_SECONDS)
                return
            except subprocess.TimeoutExpired:
                pass
            size = results.stat().st_size if results.exists() else 0
            if size > result_bytes or said.stat().st_size > _MOST_SAID_BYTES:
                raise Misbehaved(f"{self.target.words} wrote more than its results; it was ended")
            if size != seen:
                seen, at = size, time.monotonic()
                progress(size)
            elif time.monotonic() - at > self.patience:
                raise Misbehaved(
                    f"{self.target.words} hung: in {self.patience:,.0f} seconds it finished no time step; it was ended"
                )

    def _raise_ended(self, program: Program, code: int, said: str, *, has_begun: bool) -> None:
        """Say why QEMU ended with another exit code than 0."""
        lines = [one_line(line) for line in said.splitlines() if line.strip()]  # whatever the program prints
        for line in lines:
            kind, _, rest = line.partition(" ")
            words = rest.split()
            if kind == "fault" and len(words) == 3 and all(_is_hexadecimal(word) for word in words):
                exception, status, place = (int(word, 16) for word in words)
                raise Misbehaved(self._fault_words(program, exception, status, place))
            if kind == "error":
                raise Misbehaved(f"{self.target.words} stopped: {rest[:_MOST_SHOWN]}")
        shown = " ".join(lines)[:_MOST_SHOWN] or "it said nothing"
        if "lockup" in said.lower():
            raise Misbehaved(f"{self.target.words} faulted so that it could not go on: {shown}")
        if not has_begun:
            raise UserError(f"{self.tools.qemu} does not run {self.target.machine} here (exit code {code}): {shown}")
        raise Misbehaved(f"QEMU ended {self.target.words} before its end (exit code {code}): {shown}")

    def _fault_words(self, program: Program, exception: int, status: int, place: int) -> str:
        causes = [words for bit, words in _CAUSES.items() if status >> bit & 1]
        cause = " and ".join(causes) or "of an unknown cause"
        asked = [self.tools.addr2line, "-f", "-s", "-e", str(program.file), f"{place:#x}"]
        answer = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False)
        function, line = [*answer.stdout.split("\n"), "", ""][:2]
        known = answer.returncode == 0 and function not in ("", "??")
        where = f", in {function} ({line})" if known else ""
        return f"{self.target.words} faulted (exception {exception}): {cause}, at {place:#010x}{where}"


def _is_hexadecimal(word: str) -> bool:
    return len(word) == 8 and all(letter in "0123456789abcdef" for letter in word)
