"""What a device's program must know, from the files alone: names of classes in C, and the way to frames."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.event_writers import HEIGHT, WIDTH, Rows, made_up_events, write_structured
from deploy.agreement import STRICT
from deploy.networks import needs_compiler
from examples import trial
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from spquant_search.data.loading import DataSet, load
from spquant_search.deploy import export as export_module
from spquant_search.deploy.artifact import write_artifact
from spquant_search.deploy.c_header import header
from spquant_search.deploy.c_library import compiler
from spquant_search.deploy.device_facts import DeviceFacts, device_facts
from spquant_search.deploy.firmware import firmware_files
from spquant_search.deploy.names import in_string, without_comment_marks
from spquant_search.deploy.vectors import vectors_of
from spquant_search.runs.folder import RunFolder
from spquant_search.space.configuration import TIME_STEPS
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import SpaceFile
from spquant_search.training.network import new_network, write_weights
from spquant_search.training.prepare import bind_network

HOSTILE = (
    '"; int x; /*',
    "*/ int y;",
    "back\\slash",
    "ends in \\",
    "??/ ??= ???",
    "new\nline\r\ttab\x00nul\x7f",
    "Bär ½ 中 \U0001f41d",
    "\x01234",  # a digit behind an escape
    "%s%n",
    "// no comment",
    "",
    " ",
    "n" * 255,
    "中" * 85,  # 255 bytes, as long as a name on a disk may be
    "\u202eabc",
    "x" * 5000,
    "caf\udce9",
)


def bytes_of(name: str) -> bytes:
    """What a C program is to see of a name."""
    whole = name.encode("utf-8", "backslashreplace")
    return whole if len(whole) <= 1000 else whole[:997] + b"..."


def as_c_reads(text: str) -> bytes:
    """Read a string of C: escapes of one letter, and octal ones of up to three digits."""
    read = re.sub(r"\\([0-7]{1,3}|.)", lambda m: chr(int(m[1], 8)) if m[1].isdigit() else m[1], text[1:-1])
    return read.encode("latin-1")


@given(st.text(max_size=60) | st.text("?\\/*\"'0123456789\n%", max_size=30))
def test_any_name_is_a_string_of_c(name: str) -> None:
    text = in_string(name)
    assert text.isascii()
    assert text.isprintable()
    assert "??" not in text
    assert re.fullmatch(r'"([^"\\]|\\([0-7]{3}|["\\?]))*"', text)
    assert as_c_reads(text) == name.encode()


@given(st.text(max_size=60) | st.text("?/*\\\n -", max_size=30))
def test_no_sentence_ends_a_comment(sentence: str) -> None:
    plain = without_comment_marks(sentence)
    assert plain.isascii()
    assert plain.isprintable() or not plain
    for never in ("*/", "/*", "??"):
        assert never not in f"* {plain} *".replace("* ", "", 1).removesuffix(" *")


def header_of(facts: DeviceFacts, classes: int) -> str:
    return header(time_steps=3, shape=(2, 4, 5), largest=15, classes=classes, facts=facts)


_NAMES_MAIN = """\
#include <stdio.h>
#include "model.h"
int main(void)
{
    int number;
    for (number = -1; number <= SPQ_CLASSES; ++number) {
        const char *name = spq_class_name(number);
        unsigned long size = (unsigned long)(number < 0 || number >= SPQ_CLASSES ? 0 : sizes[number]);
        printf("%lu ", size);
        fwrite(name, 1, size + 1, stdout);
    }
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("language", ["C", "C++"])
def test_hostile_names_come_out_of_a_program_as_they_are(language: str, tmp_path: Path) -> None:
    rules = ("A rule that ends */ int z; /* and ??/", "Ünicode", "x" * 300)
    text = header_of(DeviceFacts(classes=HOSTILE, frame_sentences=rules), len(HOSTILE))
    (tmp_path / "model.h").write_text(text, encoding="ascii")
    sizes = ", ".join(str(len(bytes_of(name))) for name in HOSTILE)
    source = _NAMES_MAIN.replace("int main", f"static const int sizes[] = {{{sizes}}};\nint main")
    (tmp_path / "names.c").write_text(source)
    strict = STRICT if language == "C" else ("-x", "c++", "-std=c++11", *STRICT[1:])
    cc = [*shlex.split(str(compiler())), *strict, str(tmp_path / "names.c"), "-o", str(tmp_path / "names")]
    subprocess.run(cc, check=True)
    out = subprocess.run([str(tmp_path / "names")], capture_output=True, check=True).stdout
    expected = [b"", *map(bytes_of, HOSTILE), b""]
    assert out == b"".join(b"%d %s\0" % (len(name), name) for name in expected)


@needs_compiler
def test_names_that_nobody_asks_for_are_not_in_the_program(tmp_path: Path) -> None:
    """Not even without any optimization, and without a warning."""
    text = header_of(DeviceFacts(classes=("a name to look for",)), 1)
    (tmp_path / "model.h").write_text(text)
    (tmp_path / "user.c").write_text('#include "model.h"\nint user(void) { return SPQ_CLASSES; }\n')
    command = [
        *shlex.split(str(compiler())),
        *STRICT,
        "-O0",
        "-c",
        str(tmp_path / "user.c"),
        "-o",
        str(tmp_path / "user.o"),
    ]
    subprocess.run(command, check=True)
    assert b"look for" not in (tmp_path / "user.o").read_bytes()


def test_classes_without_names_are_numbers() -> None:
    text, frames, logits = header_of(DeviceFacts(), 7), np.zeros((1, 3, 2, 4, 5), np.uint8), np.zeros((1, 7), np.int64)
    files = firmware_files(DeviceFacts(), frames, logits, about={"run": "some", "trial": 1})
    programs = {name: files[name].decode() for name in ("main.c", "examples/classify.c")}
    assert "spq_class_name" not in text + "".join(programs.values())
    assert "The classes have no names" in text
    assert 'printf("%d\\n", spq_class());' in programs["examples/classify.c"]
    assert 'printf("class %d, as expected\\n", spq_class());' in programs["main.c"]


@dataclass(frozen=True)
class Picked:
    """What `pick` wrote, and the data that the network was made for."""

    folder: Path
    data: DataSet

    @property
    def page(self) -> str:
        return (self.folder / "README.md").read_text(encoding="utf-8")

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "manifest.json").read_text()))

    @property
    def vectors(self) -> dict[str, NDArray[Any]]:
        with np.load(self.folder / "test_vectors.npz") as vectors:
            return {name: vectors[name] for name in ("frames", "logits")}


Pick = Callable[..., Picked]


@pytest.fixture
def picked(tmp_path: Path, plain_neurons: None, monkeypatch: pytest.MonkeyPatch) -> Pick:
    """Pick an untrained network for a data set; its C is not compiled, which takes most of the time."""
    monkeypatch.setattr(export_module, "compiler", lambda: None)

    def pick(data: str, steps: int = 3, of: str = "3") -> Picked:
        prepared = bind_network(a_space(data, of), source="s.yaml")
        space, shape = prepared.space.file, prepared.input
        first = {address: options[0] for address, options in prepared.space.choices().items()} | {TIME_STEPS: steps}
        made, cache = space.most_time_steps, tmp_path / "cache"
        loaded = load(space.data.name, time_steps=made, options=space.data, cache_dir=cache)
        run = RunFolder(path=tmp_path / "run")
        run.weights_file(7).parent.mkdir(parents=True)
        write_weights(new_network(space, shape, seed=0, device=torch.device("cpu")), run.weights_file(7))
        write_artifact(
            run,
            space,
            trial(7, of=prepared.space.config(first)),
            tmp_path / "picked",
            test_accuracy=None,
            shape=shape,
            vectors=vectors_of(loaded, time_steps=steps),
            facts=device_facts(space, loaded.classes, time_steps=steps),
        )
        return Picked(folder=tmp_path / "picked", data=loaded)

    return pick


def a_space(data: str, steps: str = "3") -> SpaceFile:
    layers = "all: {weight_bits: [4], membrane_levels: [16]}"
    text = f"data: {data}\ntime_steps: {steps}\nmodel: {{network: vgg5, width: 0.1}}\nlayers: {{{layers}}}\n"
    return parse_space(text, source="s.yaml")


@pytest.mark.parametrize(
    ("steps", "of", "said"),
    [
        (3, "3", "time steps | 3 |"),
        (3, "[1, 3, 6]", "time steps | 3, each the sum of 2 neighbouring frames of the 6 that the search made |"),
        (1, "[1, 3, 6]", "time steps | 1, the sum of the 6 frames that the search made |"),
    ],
)
def test_a_stranger_makes_the_frames_of_a_recording(
    picked: Pick, tmp_path: Path, steps: int, of: str, said: str
) -> None:
    """By the sentences of README.md: nothing but whole numbers and loops, and no line of this package."""
    recordings: dict[str, Rows] = {}
    for number in range(12):
        name = f"{('class2', 'class10')[number % 2]}/{number}.npy"
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        recordings[name] = made_up_events(number, WIDTH, HEIGHT, count=800)
        write_structured(tmp_path / "files" / name, recordings[name])
    size = "crop: [16, 20], size: [8, 10], polarity: both-and-sum"
    data = f"{{name: event-folder, root: {tmp_path / 'files'}, sensor: [{HEIGHT}, {WIDTH}], {size}}}"
    found = picked(data, steps, of)
    top, left = (HEIGHT - 16) // 2, (WIDTH - 20) // 2
    for words in (
        time := f"step k of {steps} (k from 0) counts the events with t * {steps} // D == k",
        said,
        f"from row {top} and column {left} on are seen, 16 x 20",
        "counts in row y * 8 // 16 and column x * 10 // 20 of a frame of 8 x 10",
        "0 is OFF, 1 is ON, 2 is OFF + ON",
        "each of its SPQ_TIME_STEPS frames",
        "| 0 | class2 |\n| 1 | class10 |",
    ):
        assert words in found.page
    assert time in re.sub(r"\n \* +", " ", (found.folder / "model.h").read_text())
    samples = found.manifest["test_vectors"]["samples"]
    assert len(samples) == len(found.vectors["frames"]) > 0
    for sample, frames in zip(samples, found.vectors["frames"], strict=True):
        assert f"| {sample['file']} | {sample['class']} |" in found.page
        assert found.manifest["classes"][sample["class"]] == sample["file"].split("/")[0]
        assert frames.tolist() == strangers_frames(recordings[sample["file"]].tolist(), top, left, steps)


def strangers_frames(events: list[list[int]], top: int, left: int, steps: int) -> list[Any]:
    frames = [[[[0] * 10 for _ in range(8)] for _ in range(3)] for _ in range(steps)]
    first = events[0][2]
    duration = events[-1][2] - first + 1
    for x, y, time, polarity in events:
        row, column = y - top, x - left
        if row < 0 or row >= 16 or column < 0 or column >= 20:
            continue
        for channel in (polarity, 2):
            frames[(time - first) * steps // duration][channel][row * 8 // 16][column * 10 // 20] += 1
    return [[[[min(n, 255) for n in row] for row in plane] for plane in step] for step in frames]


@needs_compiler
@pytest.mark.parametrize(("steps", "of"), [(3, "3"), (2, "[1, 2, 4]")])
def test_a_stranger_makes_the_frames_of_an_image_and_reads_its_class(
    picked: Pick, tmp_path: Path, steps: int, of: str
) -> None:
    """By the sentences of README.md, with Pillow; and the example in C prints what the reference says."""
    generator = np.random.default_rng(0)
    for number in range(12):
        file = tmp_path / "files" / ("Bär", "*bee* | wasp")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (23, 31, 3), np.uint8)).save(file)
    found = picked(f"{{name: image-folder, root: {tmp_path / 'files'}, size: [16, 17]}}", steps, of)
    for words in (
        "ImageOps.fit with Resampling.BILINEAR",
        "0 is red, 1 is green, 2 is blue",
        f"the same frame in each of the {steps}",
    ):
        assert words in found.page
    samples = found.manifest["test_vectors"]["samples"]
    for sample, (frame,) in zip(samples, found.vectors["frames"], strict=True):
        with Image.open(tmp_path / "files" / sample["file"]) as picture:
            fitted = ImageOps.fit(picture.convert("RGB"), (17, 16), Image.Resampling.BILINEAR)
        pixels = [[[fitted.getpixel((x, y))[c] for x in range(17)] for y in range(16)] for c in range(3)]
        assert frame.tolist() == pixels
    sources = [f"-I{found.folder}", *(str(found.folder / name) for name in ("examples/classify.c", "model.c"))]
    program = tmp_path / "model"
    subprocess.run([*shlex.split(str(compiler())), *STRICT, "-O1", *sources, "-o", str(program)], check=True)
    for frames, logits in zip(found.vectors["frames"], found.vectors["logits"], strict=True):
        sent = b"".join(
            bytes(int(frame[c][y][x]) for y in range(16) for x in range(17) for c in range(3)) for frame in frames
        )
        printed = subprocess.run([str(program)], input=sent, capture_output=True, check=True).stdout.decode()
        best = logits.tolist().index(max(logits.tolist()))
        assert printed == f"{best} {found.data.classes[best]}\n"
    cut = subprocess.run([str(program)], input=sent[:-1], capture_output=True, check=False)
    assert (cut.returncode, cut.stderr) == (1, b"frame 1 of 1 is missing\n")
    assert "| 0 | \\*bee\\* \\| wasp |\n| 1 | Bär |" in found.page


def test_simulated_recordings_are_called_so_where_a_device_is_built(picked: Pick) -> None:
    space = a_space("{name: fashion-events}")
    facts = device_facts(space, ("a", "b"), time_steps=3)
    assert facts.frame_sentences[0].startswith("Recordings are simulated")
    assert facts.manifest()["frames"]["made_of"] == "images before a simulated event camera"
    assert not facts.same_frame
    assert "Recordings are simulated" in header_of(facts, 2)
