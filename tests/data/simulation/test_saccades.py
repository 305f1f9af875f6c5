"""The simulated event camera against a slow scalar simulation, hand-worked cases, and its own two outputs."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from spquant_search.data.simulation import saccades
from spquant_search.data.simulation.saccades import DURATION_US, Camera, simulate_events, simulate_frames

QUIET = Camera(noise_hz=0.0, threshold_mismatch=0.0)
SMALL = Camera(height=14, width=15, start_y=1, start_x=2, noise_hz=0.0)


def random_images(samples: int, rows: int, columns: int, seed: int = 0) -> NDArray[np.uint8]:
    """Blurred noise with dark and bright parts, so that pixels see anything from no event to many."""
    noise = np.random.default_rng(seed).normal(size=(samples, rows + 2, columns + 2))
    smooth = np.lib.stride_tricks.sliding_window_view(noise, (3, 3), axis=(1, 2)).sum((-2, -1))
    return np.asarray(np.clip(128 + 60 * smooth, 0, 255), np.uint8)


def binned(events: NDArray[np.void], time_steps: int, camera: Camera) -> NDArray[np.int64]:
    counts = np.zeros((time_steps, 2, camera.height, camera.width), np.int64)
    edges = [DURATION_US * step / time_steps for step in range(1, time_steps)]
    for x, y, t, p in events.tolist():
        counts[sum(t >= edge for edge in edges), p, y, x] += 1
    return counts


class ScalarPixel:
    """The docstring of ``saccades`` for one pixel, in float64, with the logarithm itself instead of its table."""

    def __init__(self, image: NDArray[np.uint8], y: int, x: int, camera: Camera) -> None:
        self.image, self.y, self.x, self.camera = image, y, x, camera
        self.off, self.on = (float(t[y, x]) for t in saccades.thresholds(camera))

    def shown(self, y: int, x: int) -> float:
        row, column = y - self.camera.start_y, x - self.camera.start_x
        inside = 0 <= row < self.image.shape[0] and 0 <= column < self.image.shape[1]
        light = float(self.image[row, column]) / 255 if inside else 0.0
        return 1.0 - light if self.camera.negative else light

    def log_intensity(self, t: float) -> float:
        # The image point under this pixel, the other way round from the displacement.
        right, down = self.position(t)
        y, x = self.y - down, self.x - right
        y0, x0 = math.floor(y), math.floor(x)
        intensity = 0.0
        for yy, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
            for xx, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
                intensity += wy * wx * self.shown(yy, xx)
        return math.log(self.camera.black_level + intensity)

    @staticmethod
    def position(t: float) -> tuple[float, float]:
        corners = [(0.0, 0.0), (3.5, 7.0), (7.0, 0.0), (0.0, 0.0)]
        leg = min(int(t // 105_000), 2)
        u = (t - 105_000 * leg) / 105_000
        done = 6 * u**5 - 15 * u**4 + 10 * u**3
        (x0, y0), (x1, y1) = corners[leg], corners[leg + 1]
        return x0 + done * (x1 - x0), y0 + done * (y1 - y0)

    def events(self) -> list[tuple[float, int]]:
        camera, step = self.camera, self.camera.step_us
        follow = 1 - math.exp(-2 * math.pi * camera.cutoff_hz * step / 1e6)
        level = reference = self.log_intensity(0)
        last, events = -math.inf, []
        for start in range(0, DURATION_US, step):
            before = level
            level += follow * (self.log_intensity(start + step) - level)
            while level - reference >= self.on or reference - level >= self.off:
                polarity = int(level > reference)
                reference += self.on if polarity else -self.off
                t = start + (reference - before) / (level - before) * step
                if t - last >= camera.refractory_us:
                    last = t
                    events.append((t, polarity))
        return events


@pytest.mark.parametrize(
    "camera",
    [
        SMALL,
        replace(SMALL, cutoff_hz=5000.0, refractory_us=0, threshold=0.15, seed=3),  # many crossings in one step
        replace(SMALL, negative=True),
        replace(SMALL, refractory_us=6000, black_level=0.3, step_us=3000, start_x=0, start_y=5),
    ],
)
def test_events_are_those_of_the_scalar_simulation(camera: Camera) -> None:
    (image,) = random_images(1, 8, 9)
    (events,) = simulate_events(image[None], np.array([0]), camera=camera)
    by_pixel: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for x, y, t, p in events.tolist():
        by_pixel[y, x].append((t, p))
    late: list[float] = []
    for y in range(camera.height):
        for x in range(camera.width):
            expected = ScalarPixel(image, y, x, camera).events()
            assert [p for _, p in by_pixel[y, x]] == [p for _, p in expected], (y, x)
            late += [abs(t - other) for (t, _), (other, _) in zip(by_pixel[y, x], expected, strict=True)]
    assert len(events) == len(late) > 300
    # Whole microseconds, float32 and the log table: a few of them, more only where a level all but stands still.
    assert np.quantile(late, 0.95) < 6
    assert max(late) < 200


@pytest.mark.parametrize(
    ("time_us", "expected"),
    [
        (0, (0, 0)),
        (52_500, (1.75, 3.5)),  # minimum jerk is half way at half time
        (105_000, (3.5, 7)),
        (157_500, (5.25, 3.5)),
        (210_000, (7, 0)),
        (315_000, (0, 0)),
        # u = 1/4: 10/64 - 15/256 + 6/1024 = 106/1024 of the first move
        (26_250, (3.5 * 106 / 1024, 7 * 106 / 1024)),
    ],
)
def test_displacement(time_us: int, expected: tuple[float, float]) -> None:
    assert saccades.displacement(time_us) == pytest.approx(expected, abs=1e-12)


def test_a_stroke_gives_off_events_when_it_comes_and_on_events_when_it_leaves() -> None:
    # A black square of 8 x 8 covers pixel (12, 6) from the first saccade to the second and never again. Going from
    # log 1.1 to log 0.1 is a change of -2.398: floor(2.398 / 0.55) = 4 thresholds. The way back is 4 * 0.55 = 2.2 from
    # the reference left behind, which rounding may just miss: so 3 or 4.
    camera = replace(
        QUIET,
        negative=True,
        height=24,
        width=24,
        start_y=0,
        start_x=0,
        threshold=0.55,
        refractory_us=0,
        cutoff_hz=1e6,
    )
    (events,) = simulate_events(np.full((1, 8, 8), 255, np.uint8), np.array([0]), camera=camera)
    here = events[(events["y"] == 12) & (events["x"] == 6)]
    polarities = here["p"].tolist()
    assert polarities in ([0] * 4 + [1] * 3, [0] * 4 + [1] * 4)
    assert here["t"][3] < 105_000 < here["t"][4]
    assert here["t"][-1] < 210_000


def test_crossings_are_interpolated_inside_a_step() -> None:
    # One step per saccade, no low-pass. Pixel (12, 6) goes linearly, in the simulation, from log 1.1 to log 0.1 within
    # the first: thresholds of ln(11) / 4 are crossed at 1/4, 2/4, 3/4 (and, but for rounding, 4/4) of 105 ms.
    quarter = math.log(11) / 4
    camera = replace(
        QUIET,
        negative=True,
        height=24,
        width=24,
        start_y=0,
        start_x=0,
        threshold=quarter,
        step_us=105_000,
        cutoff_hz=1e6,
    )
    (events,) = simulate_events(np.full((1, 8, 8), 255, np.uint8), np.array([0]), camera=camera)
    here = events[(events["y"] == 12) & (events["x"] == 6) & (events["t"] < 104_000)]
    assert here["p"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(here["t"], [26_250, 52_500, 78_750], atol=2)


def test_refractory_period_keeps_events_of_a_pixel_apart() -> None:
    images = random_images(1, 8, 9)

    def shortest_interval(camera: Camera) -> int:
        (events,) = simulate_events(images, np.array([0]), camera=camera)
        order = np.lexsort((events["t"], events["x"], events["y"]))
        pixel = events["y"][order].astype(int) * camera.width + events["x"][order]
        return int(np.diff(events["t"][order])[np.diff(pixel) == 0].min())

    assert shortest_interval(replace(SMALL, refractory_us=2500)) >= 2500
    assert shortest_interval(replace(SMALL, refractory_us=0)) < 1500


def test_a_blank_image_gives_noise_alone() -> None:
    blank, numbers = np.zeros((200, 28, 28), np.uint8), np.arange(200)
    assert simulate_frames(blank, numbers, time_steps=2, camera=QUIET).sum() == 0
    frames = simulate_frames(blank, numbers, time_steps=2)
    # 0.5 Hz * 34 * 34 pixels * 0.315 s = 182.07 events; the mean of 200 Poisson counts has deviation 0.95.
    assert frames.sum((1, 2, 3, 4), dtype=np.int64).mean() == pytest.approx(182.07, abs=4)
    # Evenly over time and polarity: four shares of 9103 events, deviation 83.
    np.testing.assert_allclose(frames.sum((0, 3, 4), dtype=np.int64), 182.07 * 200 / 4, atol=330)
    # Everywhere on the sensor: 31.5 events in a pixel, so none has no event, and none has 80.
    assert frames.sum((0, 1, 2), dtype=np.int64).min() > 0
    assert frames.sum((0, 1, 2), dtype=np.int64).max() < 80


def test_noise_is_added_and_changes_nothing_else() -> None:
    images, numbers = random_images(3, 28, 28), np.array([7, 8, 9])
    clean = simulate_frames(images, numbers, time_steps=5, camera=Camera(noise_hz=0.0)).astype(int)
    noisy = simulate_frames(images, numbers, time_steps=5)
    blank = simulate_frames(np.zeros_like(images), numbers, time_steps=5)
    np.testing.assert_array_equal(noisy, clean + blank)


@pytest.mark.parametrize("time_steps", [1, 4, 7])
def test_frames_count_the_events(time_steps: int) -> None:
    # 66 samples: more than one batch.
    images, numbers = random_images(66, 8, 9), np.arange(100, 166)
    camera = replace(SMALL, noise_hz=3.0)
    frames = simulate_frames(images, numbers, time_steps=time_steps, camera=camera)
    recordings = simulate_events(images, numbers, camera=camera)
    assert frames.shape == (66, time_steps, 2, 14, 15)
    assert sum(map(len, recordings)) > 66 * 300
    for sample, events in zip(frames, recordings, strict=True):
        np.testing.assert_array_equal(sample, binned(events, time_steps, camera))


def test_counts_end_at_255() -> None:
    # 1600 noise events a second and pixel, of two polarities: 252 in a cell, deviation 16.
    images, numbers, camera = random_images(1, 8, 9), np.array([0]), replace(SMALL, noise_hz=1600.0)
    (events,) = simulate_events(images, numbers, camera=camera)
    counts = binned(events, 1, camera)
    assert counts.max() > 270
    (frames,) = simulate_frames(images, numbers, time_steps=1, camera=camera)
    np.testing.assert_array_equal(frames, np.minimum(counts, 255))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    images, numbers = random_images(70, 28, 28), np.arange(500, 570)
    frames = simulate_frames(images, numbers, time_steps=3)
    backwards = simulate_frames(images[::-1], numbers[::-1], time_steps=3)
    np.testing.assert_array_equal(backwards[::-1], frames)
    recordings = simulate_events(images, numbers)
    for sample in (0, 1, 63, 64, 69):
        alone = slice(sample, sample + 1)
        np.testing.assert_array_equal(simulate_frames(images[alone], numbers[alone], time_steps=3), frames[alone])
        np.testing.assert_array_equal(simulate_events(images[alone], numbers[alone])[0], recordings[sample])


def test_noise_is_of_the_seed_and_the_sample_number() -> None:
    twice = np.repeat(random_images(1, 28, 28), 2, axis=0)
    same = simulate_frames(twice, np.array([4, 4]), time_steps=2)
    np.testing.assert_array_equal(same[0], same[1])
    for number in (5, 4 + 64, 4 + 6000, 4 + 2**32):
        other = simulate_frames(twice, np.array([4, number]), time_steps=2)
        np.testing.assert_array_equal(other[0], same[0])
        assert (other[1] != other[0]).any()
    reseeded = simulate_frames(twice, np.array([4, 4]), time_steps=2, camera=Camera(seed=1))
    assert (reseeded != same).any()


def test_thresholds_vary_as_asked() -> None:
    camera = Camera(height=200, width=200, threshold=0.5, threshold_mismatch=0.1)
    off, on = saccades.thresholds(camera)
    for pattern in (off, on):
        assert pattern.mean() == pytest.approx(0.5, abs=0.001)
        assert pattern.std() == pytest.approx(0.05, rel=0.03)
    assert abs(np.corrcoef(off.ravel(), on.ravel())[0, 1]) < 0.03
    wild = saccades.thresholds(replace(camera, threshold_mismatch=2.0))
    assert wild.min() == pytest.approx(0.5 / 3)


def test_events_are_sorted_and_inside_the_recording() -> None:
    recordings = simulate_events(random_images(2, 28, 28), np.array([0, 1]))
    for events in recordings:
        assert events.dtype == saccades.EVENT
        assert (np.diff(events["t"]) >= 0).all()
        assert 0 <= events["t"].min() < 5_000
        assert 300_000 < events["t"].max() < DURATION_US
        assert set(events["p"].tolist()) == {0, 1}
        for axis in ("x", "y"):
            assert events[axis].min() == 0
            assert events[axis].max() == 33


def test_the_step_does_not_shape_the_counts() -> None:
    images, numbers = random_images(4, 28, 28), np.arange(4)
    coarse, fine = (
        simulate_frames(images, numbers, time_steps=1, camera=replace(QUIET, step_us=step)).sum(dtype=np.int64)
        for step in (1500, 375)
    )
    assert coarse != fine
    assert coarse == pytest.approx(fine, rel=0.03)


def test_frames_are_the_same_bytes_on_every_machine() -> None:
    sample, y, x = np.indices((8, 28, 28))
    images = (sample * 31 + (y // 4) * (x // 3) * 57).astype(np.uint8)
    frames = simulate_frames(images, np.arange(8), time_steps=6, camera=QUIET)
    # If this changes on purpose, raise SIMULATION_VERSION, or old caches will be taken for new ones.
    assert saccades.SIMULATION_VERSION == 1
    assert hashlib.sha256(frames.tobytes()).hexdigest()[:16] == "552a24dd99a28b70"


def test_refuses_a_step_that_does_not_divide_the_recording() -> None:
    with pytest.raises(ValueError, match="step_us must divide 315000 us, 1600 does not"):
        Camera(step_us=1600)


@pytest.mark.parametrize("camera", [Camera(start_y=7), Camera(start_x=-1), Camera(height=27)])
def test_refuses_an_image_beyond_the_sensor(camera: Camera) -> None:
    images, numbers = np.zeros((1, 28, 28), np.uint8), np.array([0])
    with pytest.raises(ValueError, match=r"the image must start on the sensor: 28 x 28 pixels at row -?\d, column"):
        simulate_frames(images, numbers, time_steps=1, camera=camera)
    with pytest.raises(ValueError, match="do not fit"):
        simulate_events(images, numbers, camera=camera)
