"""Read what a program wrote in the emulator; ``program.c`` says how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.emulator.running import Misbehaved
from spquant_search.deploy.emulator.targets import Target
from spquant_search.errors import UserError

_HEADER, _SAMPLE, _FOOTER = 0x51505301, 0x51505302, 0x51505303
_HEADER_WORDS, _RECORD_WORDS, _FOOTER_WORDS = 5, 4, 4
_TESTED_INSTRUCTIONS = 200_000
_MOST_OFF = 0.001  # of these: less than a tick is lost at either end


@dataclass(frozen=True, slots=True)
class Results:
    """What came out of some samples.

    ``logits`` [sample, class], ``classes`` [sample]; ``instructions`` [sample] of a build without SPQ_TRACE;
    ``checksums`` [sample, time, layer] and ``layers`` [sample, time, layer and the rest], instructions, of one with it.
    ``stack`` is how deep the library's functions went below their caller, in bytes.
    """

    logits: NDArray[np.int64]
    classes: NDArray[np.int64]
    stack: int
    instructions: NDArray[np.float64] | None = None
    checksums: NDArray[np.uint32] | None = None
    layers: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes on which the layout of results rests; ``traced_layers`` is None in a build without SPQ_TRACE."""

    target: Target
    time_steps: int
    classes: int
    frame_bytes: int
    traced_layers: int | None = None

    @classmethod
    def of(cls, network: dict[str, Any], target: Target, *, frame_bytes: int, traced: bool) -> Layout:
        """Return the layout of the results of the network that a manifest describes."""
        layers = sum("neuron" in step for step in network["steps"]) if traced else None
        return cls(target, network["time_steps"], network["steps"][-1]["classes"], frame_bytes, layers)

    def bytes_of(self, samples: int) -> int:
        """Return the bytes of the results of so many samples."""
        return 4 * (_HEADER_WORDS + samples * self._sample_words + _FOOTER_WORDS)

    def samples_in(self, size: int) -> int:
        """Return how many samples are done, by the bytes that are written."""
        return max(0, size // 4 - _HEADER_WORDS) // self._sample_words

    @property
    def _step_words(self) -> int:
        return 1 if self.traced_layers is None else 2 * self.traced_layers + 1

    @property
    def _sample_words(self) -> int:
        return self.time_steps * self._step_words + _RECORD_WORDS + self.classes

    def read(self, written: bytes, samples: int) -> Results:
        """Read the results of so many samples.

        Raises:
            Misbehaved: they are not such results.
            UserError: the emulator's timer has other ticks than it should.
        """
        expected = self.bytes_of(samples)
        if len(written) != expected:
            raise self._not_results(f"{len(written):,} bytes, where {expected:,} are expected")
        words = np.frombuffer(written, dtype="<u4")
        header, body, footer = np.split(words, [_HEADER_WORDS, len(words) - _FOOTER_WORDS])
        if header[:4].tolist() != [_HEADER, self.time_steps, self.classes, self.frame_bytes]:
            raise self._not_results(f"they begin with {_hexadecimal(header[:4])}")
        self._check_timer(int(header[4]))
        if footer[:2].tolist() != [_FOOTER, samples]:
            raise self._not_results(f"they end with {_hexadecimal(footer[:2])}")
        if footer[3] == 0:
            raise Misbehaved(f"the stack of {self.target.words} ran over: it took all memory that the program left it")
        of_samples = body.reshape(samples, self._sample_words)
        steps, records = np.split(of_samples, [self.time_steps * self._step_words], axis=1)
        wrong = (records[:, 0] != _SAMPLE) | (records[:, 1] != np.arange(samples))
        if wrong.any():
            first = int(np.argmax(wrong))
            raise self._not_results(f"sample {first} begins with {_hexadecimal(records[first, :2])}")
        return self._results(steps.reshape(samples, self.time_steps, -1), records, stack=int(footer[2]))

    def _results(self, steps: NDArray[np.uint32], records: NDArray[np.uint32], *, stack: int) -> Results:
        logits = records[:, _RECORD_WORDS:].astype(np.int32).astype(np.int64)
        classes = records[:, 3].astype(np.int32).astype(np.int64)
        tick = self.target.timer.instructions_per_tick
        if self.traced_layers is None:
            ticks = records[:, 2].astype(np.float64) + steps[:, :, 0].sum(axis=1, dtype=np.float64)
            return Results(logits, classes, stack, instructions=tick * ticks)
        checksums, layers = np.split(steps, [self.traced_layers], axis=2)
        return Results(logits, classes, stack, checksums=checksums, layers=tick * layers.astype(np.float64))

    def _check_timer(self, ticks: int) -> None:
        timer = self.target.timer
        found = _TESTED_INSTRUCTIONS / max(ticks, 1)
        if abs(found / timer.instructions_per_tick - 1) > _MOST_OFF:
            raise UserError(
                f"--emulate {self.target.name}: this QEMU's timer has {found:,.2f} instructions a tick, where "
                f"{timer.instructions_per_tick:g} are expected: it cannot count instructions; QEMU 7.2 can"
            )

    def _not_results(self, why: str) -> Misbehaved:
        return Misbehaved(f"what {self.target.words} wrote are no results: {why}")


def _hexadecimal(words: NDArray[np.uint32]) -> str:
    return " ".join(f"{word:08x}" for word in words.tolist())
