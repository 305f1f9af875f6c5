"""Write the page README.md of the folder that ``pick`` gives, for whoever builds the device's program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spquant_search.deploy.c_names import CNames
from spquant_search.deploy.c_source import CSource
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.report.boards import boards_table
from spquant_search.report.class_words import are_numbers
from spquant_search.report.numbers import interval_text
from spquant_search.report.text_table import markdown_text
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval

PAGE_FILE = "README.md"


def page(
    about: dict[str, Any],
    c: CSource,
    facts: DeviceFacts,
    *,
    time_steps: int,
    changes: Sequence[str] = (),
) -> str:
    """Write the folder's README.md; ``time_steps`` are the network's.

    ``changes``: sentences on what its numbers were in floating point.
    """
    names = facts.names
    how_often = "the same frame SPQ_TIME_STEPS times" if facts.same_frame else "each of its SPQ_TIME_STEPS frames"
    return names.renamed(_PAGE).format(
        title=markdown_text(f"Trial {about['trial']} of {about['run']}"),
        sizes=_sizes_table(about, c, facts.steps_words(time_steps)),
        frames=_frames(facts),
        how_often=names.renamed(how_often),
        vectors=_vectors(about["test_vectors"]),
        classes=_classes(facts.classes, names),
        changes=_changes(changes),
        boards=_boards(about),
        library=names.library,
        sample=names.sample,
    )


def _sizes_table(about: dict[str, Any], c: CSource, steps: str) -> str:
    tested = about["test_accuracy"] is not None
    on_device = [("flash", about["flash_bytes"]), ("RAM with the input frame", about["ram_bytes"])]
    rows = [
        f"| time steps | {steps} |",
        f"| accuracy on the validation split | {_accuracy_cell(about['accuracy'], about['accuracy_samples'])} |",
        "| accuracy on the test split | "
        f"{_accuracy_cell(about['test_accuracy'], about['test_samples']) if tested else 'not tested'} |",
        f"| memory as the front counts it | {about['memory_bytes']:,} bytes |",
        *(f"| {name} as the front counts it | {size:,} bytes |" for name, size in on_device if size is not None),
        f"| weights, packed | {c.sizes.weights:,} bytes |",
        f"| slopes, offsets, gates | {c.sizes.overhead:,} bytes |",
        f"| membranes, packed | {c.sizes.membrane:,} bytes |",
        f"| spikes between layers, in RAM | {c.sizes.maps:,} bytes |",
        f"| sums of one position, in RAM | {c.sizes.scratch:,} bytes |",
        f"| the input frame, which your program holds, in RAM | {about['frame_bytes']:,} bytes |",
    ]
    return "\n".join(["| | |", "|---|--:|", *rows])


def _accuracy_cell(accuracy: float, samples: int) -> str:
    """Write an accuracy with its interval: ``86.40 %; 84.8 to 87.9 (95 %, Wilson) of 2,000 samples``."""
    interval, words = wilson_interval(accuracy, samples), f"{100 * accuracy:.2f} %"
    if interval is None:
        return words
    return f"{words}; {interval_text(interval, ' to ')} ({100 * CONFIDENCE:g} %, Wilson) of {samples:,} samples"


def _frames(facts: DeviceFacts) -> str:
    if not facts.frame_sentences:
        return "How its frames were made is not known here."
    return "\n".join(f"- {sentence}" for sentence in facts.frame_sentences)


def _vectors(vectors: dict[str, Any]) -> str:
    if vectors["made_up"]:
        return "Its frames are random numbers, as the data was not there."
    samples = vectors["samples"]
    if not any("file" in sample for sample in samples):
        return f"Its frames are the first {len(samples)} samples of the test split."
    rows = [f"| {at} | {markdown_text(sample['file'])} | {sample['class']} |" for at, sample in enumerate(samples)]
    begin = "Its frames are those of these files of the test split, by their paths in the data set:"
    return "\n".join([begin, "", "| sample | file | its class |", "|--:|---|--:|", *rows])


def _changes(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    return "\n".join(
        ["## What it was in floating point", "", *(f"- {markdown_text(one)}" for one in sentences), "", ""]
    )


def _classes(classes: Sequence[str], names: CNames) -> str:
    if not classes:
        nameless = "The classes have no names: `spq_class()` gives a number, and that is all that is known of it."
        return names.renamed(nameless)
    begin = names.renamed("`spq_class()` gives the number of a class, and `spq_class_name(number)` its name.")
    if are_numbers(classes):
        return f"{begin} The {len(classes)} classes are called by their numbers from 0."
    rows = [f"| {label} | {markdown_text(name)} |" for label, name in enumerate(classes)]
    return "\n".join([begin, "", "| number | class |", "|--:|---|", *rows])


def _boards(about: dict[str, Any]) -> str:
    if about["flash_bytes"] is None or about["ram_bytes"] is None:
        return ""
    return _BOARDS.format(table=boards_table(about["flash_bytes"], about["ram_bytes"]))


_BOARDS = """\
## Where it fits

{table}

Counted are flash, with code as a compiler makes it for a Cortex-M4, and RAM with the input frame; not counted are the
stack, your own program, radio stacks and bootloader. Where RAM lies in several pieces, the largest one counts. What
each function takes of the stack is in the file that ends in `.su` after

    arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -Os -fstack-usage -c model.c

"""

_PAGE = """\
# {title}, as integers

{sizes}

| file | what it is |
|---|---|
| `model.h`, `model.c` | a C99 library: no floating point, no allocation; all that a device needs |
| `main.c`, `{sample}` | shows the network one sample and says whether it answers as expected: here, and on a board |
| `examples/classify.c` | an example to copy from: reads the frames of a sample, and prints its class |
| `CMakeLists.txt` | the library `{library}` for CMake, with `main.c` as its test |
| `library.properties`, `src/`, `examples/replay/` | the same for Arduino; `replay` runs the test vectors on a board |
| `manifest.json` | the network's steps, bits, packing and rules; frames and classes; a checksum of every file |
| `weights.bin` | all its numbers, packed |
| `reference.py` | the same in numpy, which reads the two files above: `python reference.py` repeats the test vectors |
| `test_vectors.npz` | frames, the spikes of every layer, and the logits that they must give |
| `config.yaml`, `weights.safetensors` | the configuration and the trained floating-point weights, to train on from |

## Try it

    cc main.c model.c && ./a.out

{boards}## How a frame is made

A frame is SPQ_HEIGHT x SPQ_WIDTH x SPQ_CHANNELS bytes, [row][column][channel]: a row from left to right after the other
from the top, and the channels of a pixel beside each other. A device must make it as it was made for training:

{frames}

Once a sample: `spq_reset()`, then `spq_step(frame)` for {how_often}, then `spq_class()`.

## The classes

{classes}

{changes}## In your program

CMake takes the folder as it is, by a path or from a repository of yours:

    add_subdirectory(FOLDER)
    target_link_libraries(program PRIVATE {library})

In the Arduino IDE, choose Sketch > Include Library > Add .ZIP Library for the folder packed as one (its name must begin
with a letter or a digit, and have no blanks), or copy it into the folder `libraries` of your sketchbook; then
`#include <model.h>`. The example `replay` runs the test vectors on the board:

    python examples/replay/replay.py PORT

compares every logit, and says how long a sample takes. Several picked networks fit one program if each was picked
with a `--prefix` of its own.

    cc -std=c99 -Os -c model.c                 # for a device
    cc -std=c99 -O3 -c model.c                 # larger and faster
    cc -std=c99 -DSPQ_COUNT -c model.c         # counts synaptic operations

## The test vectors

`test_vectors.npz` has `frames` [sample, frame, channel, row, column] and `logits` [sample, class], whose largest is the
network's answer. {vectors}

    cc -std=c99 -O2 -I. examples/classify.c model.c -o classify
    python -c "import numpy, sys
    frames = numpy.load('test_vectors.npz')['frames'][0]
    sys.stdout.buffer.write(frames.transpose(0, 2, 3, 1).tobytes())" | ./classify

`spquant-search verify FOLDER` runs PyTorch, numpy and C on the test split and compares every spike. It compiles and
runs the C that lies in the folder; the checksums are no signature.
"""
