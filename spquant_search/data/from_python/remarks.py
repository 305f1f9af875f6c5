"""What a person should know of samples that their Python code gave, found while they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from spquant_search.data.from_python.values import LARGEST, SampleForm
from spquant_search.errors import first_of

SHOWN_COUNT = 15  # counts are clamped to it before a network sees them
_DARKEST = 16  # images without a brighter pixel are almost black
_OFTEN = 0.1  # share of the counts above SHOWN_COUNT from which on they seem to be something else
_SHOWN = 3


@dataclass(kw_only=True, slots=True)
class Remarks:
    """Counters of what is odd in samples, and a digest of all of them."""

    form: SampleForm
    _digests: dict[str, list[bytes]] = field(default_factory=dict)  # by split
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    _largest: int = 0
    _counted: int = 0  # values above zero
    _clamped: int = 0  # values that a network is not shown

    def add(self, split: str, frames: UInt8[np.ndarray, "time channel height width"], label: int) -> None:
        """Take note of the next sample."""
        content = frames.tobytes()
        self._hash.update(content + str(label).encode())
        self._digests.setdefault(split, []).append(hashlib.blake2b(content, digest_size=8).digest())
        self._largest = max(self._largest, int(frames.max()))
        if not self.form.static:
            self._counted += int(np.count_nonzero(frames))
            self._clamped += int(np.count_nonzero(frames > SHOWN_COUNT))

    @property
    def digest(self) -> str:
        """The SHA-256 of all samples and labels so far."""
        return self._hash.hexdigest()

    def sentences(
        self, build: str, lengths: Mapping[str, int], labels: Sequence[int], classes: Sequence[str]
    ) -> Iterator[str]:
        """Yield what a person should know."""
        form = self.form
        if form.merged > 1:
            yield f"{build}: {form.shape[0]} time steps become {form.time_steps}: {form.merged} neighbours are added"
        if form.unit == LARGEST:
            yield f"{build}: pixels from 0 to 1 are shown as 0 to {LARGEST}: round({LARGEST} * value)"
        if form.static and self._largest < _DARKEST:
            yield (
                f"{build}: no pixel is above {self._largest} of {LARGEST}, so that the images are almost black; scale "
                f"them to 0 to {LARGEST}"
            )
        if self._clamped > _OFTEN * self._counted:
            yield (
                f"{build}: {self._clamped / self._counted:.0%} of the counts are above {SHOWN_COUNT}, the most that a "
                "network is shown of one; if these are pixels and no counts of events, give images"
            )
        yield from self._shared(build)
        yield from _absent(build, lengths, labels, classes)

    def _shared(self, build: str) -> Iterator[str]:
        train = set(self._digests["train"])
        for split, digests in self._digests.items():
            both = sum(digest in train for digest in digests)
            if split != "train" and both:
                yield f"{build}: {both:,} of {len(digests):,} samples of {split} are in train, too"


def _absent(build: str, lengths: Mapping[str, int], labels: Sequence[int], classes: Sequence[str]) -> Iterator[str]:
    start = 0
    for split, length in lengths.items():
        present = set(labels[start : start + length])
        start += length
        absent = [name for label, name in enumerate(classes) if label not in present]
        if absent:
            yield f"{build}: {split} has no sample of {first_of(absent, _SHOWN)}"
