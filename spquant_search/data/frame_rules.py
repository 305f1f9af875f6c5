"""Say how the frames of a data set are made, so that a device can make the same from what it sees.

Numbers and names come from where the code makes frames: a rule that is changed there is changed here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from spquant_search.data.catalog import IMAGE_FOLDER, PYTHON, SETS
from spquant_search.data.description import DataInfo, binning_of
from spquant_search.data.events.binning import MOST_COUNTED, POLARITY_CHANNELS, Binning
from spquant_search.data.images.pixels import MOST_WHITE
from spquant_search.data.images.stills import LUMA, RESAMPLING
from spquant_search.data.simulation.saccades import DURATION_US, SACCADE_MARGIN
from spquant_search.data.simulation.simulated import camera_for
from spquant_search.space.schema import DataSpace

_RESAMPLING = f"Pillow's ImageOps.fit, Resampling.{RESAMPLING.name}"
_GREY_OF_COLOURS = "({} R + {} G + {} B + 32768) // 65536".format(*LUMA)
_COLOURS = {1: ("grey",), 3: ("red", "green", "blue")}


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRules:
    """How frames are made: as figures for JSON, and as sentences for people."""

    figures: dict[str, object]
    sentences: tuple[str, ...]
    fewer_steps: str = ""  # how the network's time steps come from those of its search, where it takes fewer


@dataclass(frozen=True, kw_only=True, slots=True)
class _Steps:
    """The time steps of a network, and of the frames that its search made, which are a multiple of them."""

    shown: int
    made: int

    @property
    def summed(self) -> int:
        """How many neighbouring frames of the search a step of the network sums."""
        return self.made // self.shown

    def figures(self, *, same_frame: bool = False) -> dict[str, object]:
        """Return the figures for JSON; ``same_frame``: each step has the one frame of a sample, and sums none."""
        summed = 1 if same_frame else self.summed
        return {"time_steps": self.shown, "search_time_steps": self.made, "search_frames_per_step": summed}

    def words(self, *, same_frame: bool = False) -> str:
        """Return what is to be said after the network's number of steps, where the search made more."""
        if self.shown == self.made:
            return ""
        if same_frame:
            return f"of up to {self.made} in the search"
        if self.shown == 1:
            return f"the sum of the {self.made} frames that the search made"
        return f"each the sum of {self.summed} neighbouring frames of the {self.made} that the search made"

    def of_same_frame(self) -> str:
        """Return the sentence on the time of a sample of one frame."""
        if self.shown == 1:
            return "Time: the frame in the one time step."
        return f"Time: the same frame in each of the {self.shown} time steps."

    def sums(self) -> str:
        """Return what a frame of fewer steps is, in the middle of a sentence."""
        frame = "the one frame here" if self.shown == 1 else f"each of the {self.shown} frames here"
        return f"{frame} is the sum of {self.summed} neighbours of those"

    def sentences(self) -> tuple[str, ...]:
        """Return the sentence on frames of recordings that are sums of the search's; none where they are those."""
        if self.shown == self.made:
            return ()
        return (
            f"Search: it made {self.made} frames of a recording; {self.sums()}, which gives the same numbers. "
            "Counts are clamped after such a sum.",
        )


def frame_rules(info: DataInfo, options: DataSpace, *, time_steps: int, made: int) -> FrameRules:
    """Return how the frames of a data set are made with these options. No file is read.

    Args:
        time_steps: those of the network.
        made: the most time steps of its search, a multiple, in which the search made its frames. A step is then as
            long as so many of the search's, and its frame their sum.
    """
    steps = _Steps(shown=time_steps, made=made)
    if info.name == PYTHON:
        return _of_python(info, options, steps)
    if SETS[info.name].kind == "events":
        return _of_recordings(info, options, steps)
    if info.static:
        return _of_images(info, options, steps)
    return _of_simulated(info, steps)


def _of_recordings(info: DataInfo, options: DataSpace, steps: _Steps) -> FrameRules:
    binning = binning_of(info.name, options, steps.shown)
    if binning.window_us is not None:  # fewer steps are longer, and see as much of a recording
        binning = replace(binning, first_windows=binning.first_windows or steps.made)
    (sensor_height, sensor_width), (crop_height, crop_width) = binning.sensor, binning.crop
    (height, width), (top, left) = binning.size, binning.corner
    channels = POLARITY_CHANNELS[binning.polarity]
    figures: dict[str, object] = {
        "made_of": "recordings",
        **steps.figures(),
        "step": _step_words(binning, frames_given=info.frames_given),
        "step_us": binning.step_us,
        "sensor": [sensor_height, sensor_width],
        "crop": {"row": top, "column": left, "height": crop_height, "width": crop_width},
        "frame": [height, width],
        "channels": list(channels),
        "denoise_us": binning.denoise_us,
        "stored_up_to": MOST_COUNTED,
        "shown_up_to": info.largest,
    }
    sentences = [_sum_of_given(binning) if info.frames_given else _time_of_steps(binning)]
    if binning.crop != binning.sensor:
        sentences.append(
            f"Place: of the {sensor_height} x {sensor_width} pixels (height x width) of the sensor those from row "
            f"{top} and column {left} on are seen, {crop_height} x {crop_width}; other events are left out."
        )
    if binning.denoise_us is not None:
        sentences.append(
            "Noise: an event counts only where one of the four neighbouring pixels of the sensor had one of either "
            f"polarity at the same time or less than {binning.denoise_us} us before."
        )
    sentences += [
        f"Pixels: the event at row y and column x of these {crop_height} x {crop_width} counts in row y * {height} // "
        f"{crop_height} and column x * {width} // {crop_width} of a frame of {height} x {width}."
        if binning.size != binning.crop
        else f"Pixels: a frame has the {height} x {width} pixels (height x width) that are seen.",
        f"Channels: {_numbered(channels)}. OFF (polarity 0) is darker, ON (polarity 1) brighter.",
        f"Counts: of each pixel, channel and step; the network is shown {info.largest} for more than {info.largest} "
        f"(they are stored up to {MOST_COUNTED}).",
    ]
    sentences += steps.sentences()
    return FrameRules(figures=figures, sentences=tuple(sentences), fewer_steps=steps.words())


def _step_words(binning: Binning, *, frames_given: bool) -> str:
    if frames_given:
        return "sums of frames that another program has made"
    return "equal parts of the recording" if binning.step_us is None else "windows of time"


def _sum_of_given(binning: Binning) -> str:
    if binning.first_windows is None:
        seen = f"all of a recording, equally many to each of {binning.time_steps} steps"
    else:
        each = binning.first_windows // binning.time_steps
        seen = f"the first {binning.first_windows} of a recording, {each} to each of {binning.time_steps} steps"
    return (
        f"Time: the recordings were frames, made by another program; neighbouring ones are summed, {seen}. Which time "
        "or how many events such a frame has, only that program knows."
    )


def _time_of_steps(binning: Binning) -> str:
    if binning.step_us is None:
        return (
            f"Time: step k of {binning.time_steps} (k from 0) counts the events with t * {binning.time_steps} // D == "
            "k, where t is the time since the recording's first event, wherever on the sensor, and D the time from its "
            "first to its last event plus 1, in whole microseconds."
        )
    return (
        f"Time: step k of {binning.time_steps} (k from 0) counts the events from k * {binning.step_us} us to (k + 1) * "
        f"{binning.step_us} us, the end excluded, after the recording's first event, wherever on the sensor; what "
        "comes after the last step is left out."
    )


def _of_images(info: DataInfo, options: DataSpace, steps: _Steps) -> FrameRules:
    channels = _COLOURS[info.channels]
    figures: dict[str, object] = {
        "made_of": "images",
        **steps.figures(same_frame=True),
        "step": "the same frame in every step",
        "frame": [info.height, info.width],
        "fit": "the middle that has the frame's ratio of sides, scaled to the frame",
        "resampling": _RESAMPLING,
        "channels": list(channels),
        "values": [0, info.largest],
    }
    sentences = [
        f"Size: the largest middle part of the picture that has the ratio of {info.height} x {info.width} (height x "
        f"width) is scaled to it: Pillow's ImageOps.fit with Resampling.{RESAMPLING.name}.",
        "Scaling: of an axis on which the picture has N pixels and the frame n, pixel i of the frame is the mean of "
        "the picture's pixels j (all from 0), weighted by max(0, 1 - |j + 0.5 - c| / max(s, 1)), where s is the "
        f"smaller of the picture's height / {info.height} and width / {info.width}, and c = (N - n * s) / 2 + "
        "(i + 0.5) * s. Each row is scaled first, then each column, and both times values are rounded. Pillow, which "
        "computes in fixed point, differs from this by at most 1.",
        f"Channels: {_numbered(channels)}.",
        f"Values: 0 to {info.largest} as they are in the picture, 0 black; nothing is subtracted or divided before "
        "the network.",
        steps.of_same_frame(),
    ]
    if info.name == IMAGE_FOLDER:
        figures |= {"white": options.white or MOST_WHITE, "background": options.background}
        sentences.insert(
            0,
            "Pictures are turned as their camera says (EXIF); pixels of 16 bits become round(255 * value / "
            f"{options.white or MOST_WHITE}), at most 255"
            + (f"; behind transparent pixels is {options.background}." if options.background else "."),
        )
    if info.channels == 1:
        figures |= {"grey": list(LUMA)}
        sentences.insert(-2, f"Grey: of colours {_GREY_OF_COLOURS}, before the scaling.")
    return FrameRules(figures=figures, sentences=tuple(sentences), fewer_steps=steps.words(same_frame=True))


def _of_python(info: DataInfo, options: DataSpace, steps: _Steps) -> FrameRules:
    figures: dict[str, object] = {
        "made_of": info.description,
        **steps.figures(same_frame=info.static),
        "step": "the same frame in every step" if info.static else "the frames as they were given",
        "frame": [info.height, info.width],
        "channels": info.channels,
        "values": [0, info.largest],
    }
    time = (steps.of_same_frame(),) if info.static else _time_of_python(steps, options)
    sentences = (
        "The samples were given in Python: the device must make its frames as they were made."
        if options.build is None
        else f"The samples are those that {options.build} returned: the device must make its frames as that code does.",
        *time,
        f"Values: of each of the {info.channels} channels and {info.height} x {info.width} pixels (height x width) a "
        f"whole number; the network is shown {info.largest} for more than {info.largest}."
        + (" A floating-point value from 0 to 1 became round(255 * value)." if info.static else ""),
    )
    return FrameRules(figures=figures, sentences=sentences, fewer_steps=steps.words(same_frame=info.static))


def _time_of_python(steps: _Steps, options: DataSpace) -> tuple[str, ...]:
    """Return the sentences on the time that a frame counts: a function knows the search's time steps alone."""
    asked = "" if options.build is None else ", the function's argument time_steps if it has one"
    first = (
        f"Time: one frame for each of {steps.made} time steps{asked}; where there are a multiple of so many, "
        "neighbours are added."
    )
    if steps.shown == steps.made:
        return (first,)
    return (
        first,
        f"Steps: {steps.sums()}. Counts are clamped after such a sum.",
    )


def _of_simulated(info: DataInfo, steps: _Steps) -> FrameRules:
    size = (info.height - SACCADE_MARGIN, info.width - SACCADE_MARGIN)
    channels = POLARITY_CHANNELS["both"]
    figures: dict[str, object] = {
        "made_of": "images before a simulated event camera",
        **steps.figures(),
        "step": "equal parts of the recording",
        "recording_us": DURATION_US,
        "image": list(size),
        "frame": [info.height, info.width],
        "channels": list(channels),
        "camera": asdict(camera_for(size)),
        "stored_up_to": MOST_COUNTED,
        "shown_up_to": info.largest,
    }
    sentences = (
        f"Recordings are simulated: grey images of {size[0]} x {size[1]} (height x width) move in three saccades "
        f"before an event camera of {info.height} x {info.width} pixels, {DURATION_US} us long. No device sees such "
        "events: what is said here is of the simulated ones.",
        f"Time: the recording is divided into {steps.shown} equal parts; step k counts the events with t * "
        f"{steps.shown} // {DURATION_US} == k."
        if steps.shown > 1
        else "Time: the one step counts all events of the recording.",
        f"Channels: {_numbered(channels)}. OFF is darker, ON brighter.",
        f"Counts: of each pixel, channel and step; the network is shown {info.largest} for more than {info.largest} "
        f"(they are stored up to {MOST_COUNTED}).",
    )
    return FrameRules(figures=figures, sentences=(*sentences, *steps.sentences()), fewer_steps=steps.words())


def _numbered(channels: tuple[str, ...]) -> str:
    return ", ".join(f"{number} is {name}" for number, name in enumerate(channels))
