"""Simulate event-camera recordings of still images: the three micro-saccades of N-MNIST, in numpy.

The image moves over the sensor of a simulated dynamic vision sensor along a closed triangle, one side in 105 ms
(Orchard et al., "Converting static image datasets to spiking neuromorphic datasets using saccades", 2015). Per pixel:

    L(t)  = log(black_level + I(t))              I: intensity 0..1, moved bilinearly
    v    += (1 - exp(-2 pi cutoff dt)) (L - v)   first-order photoreceptor
    event when |v - reference| reaches the pixel's threshold; the reference then moves by that threshold

Events are timed by linear interpolation inside a step; one that falls into the pixel's refractory period is lost, while
the reference still moves. Poisson noise comes on top. The screen shows the images as they are, bright on black; with
``negative``, dark on white, which puts p = 1 (ON) on the trailing edge of a stroke, as in N-MNIST. Clothes have many
greys, and a grey differs far more from black than from white in the logarithm: in the negative many of them vanish.

Fitted are ``threshold``, so that MNIST digits in the negative give about the 4172 events a sample reported for
N-MNIST (5,000 digits give 4205 +- 1024), and ``refractory_us``, ``noise_hz`` and ``cutoff_hz``, against a single
N-MNIST recording. Not fitted are the spread over samples, the ON/OFF ratio, the number of active pixels, and anything
about images other than digits. The 10,000 images of ``fashion-events`` give 5026 +- 978 events. The recordings are
simulated: results on them are no results on N-MNIST.

The simulation is elementwise float32 and integer arithmetic, the logarithm comes from a table, and every sample has
random numbers of its own: neither the batch that a sample is in nor the processor changes an event.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int8, UInt8
from numpy.typing import NDArray

from spquant_search.runs.random_streams import Purpose, random_generator

# Raise this with every change that alters a single event: cached frames of the old code are then no longer used.
SIMULATION_VERSION = 1

SACCADE_US = 105_000
MOVES = ((3.5, 7.0), (3.5, -7.0), (-7.0, 0.0))  # pixels right, pixels down
DURATION_US = SACCADE_US * len(MOVES)
# Pixels around an image, for saccades of 7 pixels: N-MNIST has as many around a 28 x 28 digit on its 34 x 34 sensor.
SACCADE_MARGIN = 6
POLARITIES = 2  # 0 = OFF (darker), 1 = ON (brighter)
EVENT = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])

_MARGIN = 8  # pixels around the sensor: the largest displacement, plus one for the interpolation
_SUBLEVELS = 128  # steps of the log table per grey level
_LEVELS = 255 * _SUBLEVELS
_BATCH = 64  # samples simulated together: their state fits the L3 cache, and numpy's cost per call is small


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """The simulated sensor; the defaults are those of ``fashion-events``."""

    height: int = 34  # pixels, like N-MNIST
    width: int = 34
    start_y: int = 1  # where the image's upper left corner is at t = 0
    start_x: int = 2
    negative: bool = False  # the screen shows 255 - image on white instead of the image on black
    threshold: float = 0.458  # of the natural log of intensity
    threshold_mismatch: float = 0.03  # standard deviation over pixels, relative to the threshold
    black_level: float = 0.1  # light that reaches a pixel from a black image; white adds 1
    cutoff_hz: float = 50.0
    refractory_us: int = 1500
    noise_hz: float = 0.5  # events per second and pixel
    step_us: int = 1500
    seed: int = 0  # of the thresholds and, with the sample's number, of its noise

    def __post_init__(self) -> None:
        if self.step_us < 1 or DURATION_US % self.step_us:
            raise ValueError(f"step_us must divide {DURATION_US} us, {self.step_us} does not")


def simulate_events(
    images: UInt8[np.ndarray, "sample rows columns"],
    sample_numbers: Int[np.ndarray, " sample"],
    *,
    camera: Camera | None = None,
) -> list[NDArray[Any]]:
    """Return one array of ``EVENT`` for each image, sorted by time (t in microseconds, 0 <= t < ``DURATION_US``).

    ``sample_numbers`` choose each sample's noise: equal numbers give equal noise in any batch and any order.
    """
    camera = camera or Camera()
    _check(images, camera)
    recordings: list[NDArray[Any]] = []
    for start in range(0, len(images), _BATCH):
        batch = slice(start, start + _BATCH)
        recordings += _batch_events(images[batch], sample_numbers[batch], camera)
    return recordings


def simulate_frames(
    images: UInt8[np.ndarray, "sample rows columns"],
    sample_numbers: Int[np.ndarray, " sample"],
    *,
    time_steps: int,
    camera: Camera | None = None,
) -> UInt8[np.ndarray, "sample time polarity height width"]:
    """Count the events of ``simulate_events`` in ``time_steps`` equal bins of the recording; counts end at 255."""
    camera = camera or Camera()
    _check(images, camera)
    frames = np.empty((len(images), time_steps, POLARITIES, camera.height, camera.width), np.uint8)
    for start in range(0, len(images), _BATCH):
        batch = slice(start, start + _BATCH)
        frames[batch] = _batch_frames(images[batch], sample_numbers[batch], time_steps, camera)
    return frames


def displacement(time_us: int) -> tuple[float, float]:
    """Return how far the image has moved since t = 0, in pixels (right, down).

    The speed inside a saccade is bell-shaped: minimum jerk, 10 u^3 - 15 u^4 + 6 u^5 (Flash and Hogan, 1985).
    """
    right = down = 0.0
    for number, (move_right, move_down) in enumerate(MOVES):
        u = min(max(time_us / SACCADE_US - number, 0.0), 1.0)
        done = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
        right += move_right * done
        down += move_down * done
    return right, down


def thresholds(camera: Camera) -> Float32[np.ndarray, "polarity height width"]:
    """Return the log-intensity thresholds of every pixel's OFF and ON events: a fixed pattern, all positive."""
    generator = random_generator(camera.seed, Purpose.CAMERA_THRESHOLDS)
    pattern = generator.standard_normal((POLARITIES, camera.height, camera.width))
    # A threshold near zero would fire for ever; a third of the nominal one is 22 standard deviations away.
    relative = np.maximum(1.0 + camera.threshold_mismatch * pattern, 1.0 / 3.0)
    return (camera.threshold * relative).astype(np.float32)


def noise_events(sample_number: int, camera: Camera) -> tuple[Int[np.ndarray, "3 event"], Int8[np.ndarray, " event"]]:
    """Draw one sample's background activity: (y, x, t in us) and the polarity of each event, in no order."""
    generator = random_generator(camera.seed, Purpose.CAMERA_NOISE, sample_number)
    mean = camera.noise_hz * camera.height * camera.width * DURATION_US * 1e-6
    count = int(generator.poisson(mean))
    limits = np.array([[camera.height], [camera.width], [DURATION_US]])
    place = generator.integers(0, limits, (3, count))
    return place, generator.integers(0, POLARITIES, count, dtype=np.int8)


class _Burst(NamedTuple):
    """Events of one polarity. A cell is a pixel of a sample, counted in the order [row, column, sample].

    The samples of a batch come last, so that a moved image is still a long contiguous run in memory.
    """

    polarity: int
    cells: NDArray[np.intp]
    time_us: NDArray[np.int32]


def _check(images: NDArray[np.uint8], camera: Camera) -> None:
    _, rows, columns = images.shape
    fits_down = 0 <= camera.start_y <= camera.height - rows
    fits_right = 0 <= camera.start_x <= camera.width - columns
    if not (fits_down and fits_right):
        raise ValueError(
            f"the image must start on the sensor: {rows} x {columns} pixels at row {camera.start_y}, column "
            f"{camera.start_x} do not fit {camera.height} x {camera.width}"
        )


def _batch_frames(
    images: NDArray[np.uint8], sample_numbers: NDArray[np.integer], time_steps: int, camera: Camera
) -> NDArray[np.uint8]:
    cells = camera.height * camera.width * len(images)
    counts = np.zeros(time_steps * POLARITIES * cells, np.uint16)
    for burst in _bursts(images, sample_numbers, camera):
        time_step = burst.time_us.astype(np.int64) * time_steps // DURATION_US
        # The 1 has a type: with a Python int numpy takes a path that is 25 times slower.
        np.add.at(counts, (time_step * POLARITIES + burst.polarity) * cells + burst.cells, np.uint16(1))
    frames = np.minimum(counts, 255).astype(np.uint8)
    return np.moveaxis(frames.reshape(time_steps, POLARITIES, camera.height, camera.width, -1), -1, 0)


def _batch_events(images: NDArray[np.uint8], sample_numbers: NDArray[np.integer], camera: Camera) -> list[NDArray[Any]]:
    bursts = list(_bursts(images, sample_numbers, camera))
    pixel, sample = np.divmod(np.concatenate([burst.cells for burst in bursts]), len(images))
    events = np.empty(len(pixel), EVENT)
    events["y"], events["x"] = np.divmod(pixel, camera.width)
    events["t"] = np.concatenate([burst.time_us for burst in bursts])
    events["p"] = np.concatenate([np.full(len(burst.cells), burst.polarity) for burst in bursts])
    order = np.lexsort((events["p"], events["x"], events["y"], events["t"], sample))
    return np.split(events[order], np.searchsorted(sample[order], np.arange(1, len(images))))


def _bursts(images: NDArray[np.uint8], sample_numbers: NDArray[np.integer], camera: Camera) -> Iterator[_Burst]:
    """Make all events of a batch: those of the moving image step by step, then the noise."""
    scene = _Scene(images, camera)
    log_intensity = np.empty(camera.height * camera.width * len(images), np.float32)
    scene.log_intensity(0, out=log_intensity)
    pixels = _Pixels(log_intensity, camera)
    for start_us in range(0, DURATION_US, camera.step_us):
        scene.log_intensity(start_us + camera.step_us, out=log_intensity)
        yield from pixels.step(log_intensity, start_us)
    for position, number in enumerate(sample_numbers.tolist()):
        (y, x, time_us), polarity = noise_events(number, camera)
        cells = (y * camera.width + x) * len(images) + position
        for sign in range(POLARITIES):
            chosen = polarity == sign
            yield _Burst(sign, cells[chosen], time_us[chosen].astype(np.int32))


class _Scene:
    """The images of a batch on their screens, as the sensor sees them at any moment of the saccades."""

    def __init__(self, images: NDArray[np.uint8], camera: Camera) -> None:
        samples, rows, columns = images.shape
        self._shape = (camera.height, camera.width, samples)
        top, left = _MARGIN + camera.start_y, _MARGIN + camera.start_x
        canvas = (camera.height + 2 * _MARGIN, camera.width + 2 * _MARGIN, samples)
        # In units of the log table; the half makes the later truncation round to nearest.
        self._canvas = np.full(canvas, (_LEVELS if camera.negative else 0) + 0.5, np.float32)
        shown = (255 - images if camera.negative else images).transpose(1, 2, 0).astype(np.float32)
        self._canvas[top : top + rows, left : left + columns] = shown * _SUBLEVELS + 0.5
        self._to_left = np.zeros_like(self._canvas)
        np.subtract(self._canvas[:, :-1], self._canvas[:, 1:], out=self._to_left[:, 1:])
        intensity = np.arange(_LEVELS + 1) / _LEVELS
        self._log = np.log(camera.black_level + intensity).astype(np.float32)
        self._wide = np.empty((camera.height + 1, camera.width, samples), np.float32)
        self._moved = np.empty(self._shape, np.float32)
        self._index = np.empty(self._shape, np.intp)

    def log_intensity(self, time_us: int, out: NDArray[np.float32]) -> None:
        """Write the log intensity of every cell at ``time_us`` into the flat array ``out``."""
        (column, right), (row, down) = (divmod(pixels, 1.0) for pixels in displacement(time_us))
        top, left = _MARGIN - int(row), _MARGIN - int(column)
        height, width, _ = self._shape
        window = (slice(top - 1, top + height), slice(left, left + width))
        # Bilinear: each row between a pixel and its left neighbour, then between a row and the one above.
        np.multiply(self._to_left[window], np.float32(right), out=self._wide)
        self._wide += self._canvas[window]
        np.subtract(self._wide[:-1], self._wide[1:], out=self._moved)
        self._moved *= np.float32(down)
        self._moved += self._wide[1:]
        # A table, because the last bit of numpy's float32 logarithm depends on the processor. At 128 steps a grey level
        # its error is at most 0.0004 of a threshold. "clip" only spares numpy a bounds check with a copy.
        np.copyto(self._index, self._moved, casting="unsafe")
        np.take(self._log, self._index, out=out.reshape(self._shape), mode="clip")


class _Pixels:
    """The state of a batch's pixels, one flat array over the cells for each quantity."""

    def __init__(self, log_intensity: NDArray[np.float32], camera: Camera) -> None:
        # The recording starts with settled photoreceptors and references.
        self._before = log_intensity.copy()  # photoreceptor output at the start of the step
        self._level = log_intensity.copy()  # and at its end
        self._reference = log_intensity.copy()
        self._change = np.empty_like(log_intensity)
        self._beyond = np.empty(log_intensity.shape, np.bool_)
        self._last_us = np.full(log_intensity.shape, -camera.refractory_us, np.int32)
        off, on = thresholds(camera)
        samples = log_intensity.size // off.size
        # Repeated for every sample: broadcasting would break the long inner loops.
        self._off, self._on = np.repeat(-off.ravel(), samples), np.repeat(on.ravel(), samples)
        self._gain = np.float32(1.0 - math.exp(-2.0 * math.pi * camera.cutoff_hz * camera.step_us * 1e-6))
        self._camera = camera

    def step(self, log_intensity: NDArray[np.float32], start_us: int) -> Iterator[_Burst]:
        """Make the events of the step that starts at ``start_us`` and ends with the scene at ``log_intensity``."""
        self._before, self._level = self._level, self._before
        np.subtract(log_intensity, self._before, out=self._level)
        self._level *= self._gain
        self._level += self._before
        np.subtract(self._level, self._reference, out=self._change)
        yield from self._fire(0, np.less_equal, self._off, start_us)
        yield from self._fire(1, np.greater_equal, self._on, start_us)

    def _fire(self, polarity: int, beyond: np.ufunc, edges: NDArray[np.float32], start_us: int) -> Iterator[_Burst]:
        """Make the events of one polarity; a pixel that crosses several thresholds appears in several bursts."""
        cells = np.flatnonzero(beyond(self._change, edges, out=self._beyond))
        threshold, before, level = edges[cells], self._before[cells], self._level[cells]
        while cells.size:
            edge = self._reference[cells] + threshold
            # level differs from before: it is beyond the edge, and before was not.
            time_us = ((edge - before) / (level - before) * np.float32(self._camera.step_us)).astype(np.int32)
            time_us = np.minimum(time_us, self._camera.step_us - 1) + np.int32(start_us)
            ready = time_us - self._last_us[cells] >= self._camera.refractory_us
            burst = _Burst(polarity, cells[ready], time_us[ready])
            self._last_us[burst.cells] = burst.time_us
            yield burst
            self._reference[cells] = edge
            more = beyond(level - edge, threshold)
            cells, threshold, before, level = cells[more], threshold[more], before[more], level[more]
