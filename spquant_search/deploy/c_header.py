"""Write ``model.h``: what a program needs to use the network."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from spquant_search.deploy.c_names import CNames
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.names import in_string, without_comment_marks

_WIDTH = 118


def header(
    *,
    time_steps: int,
    shape: tuple[int, int, int],
    largest: int,
    classes: int,
    facts: DeviceFacts | None = None,
) -> str:
    """Return the text of ``model.h``: ASCII, C99 and C++."""
    facts = facts or DeviceFacts()
    names = facts.names
    channels, height, width = shape
    return names.renamed(_HEADER).format(
        time_steps=time_steps,
        fewer_steps=f" /* {facts.fewer_steps} */" if facts.fewer_steps else "",
        frames=1 if facts.same_frame else time_steps,
        height=height,
        width=width,
        channels=channels,
        frame_bytes=height * width * channels,
        largest=largest,
        classes=classes,
        how_frames_are_made=_frames_comment(facts.frame_sentences),
        class_names=_class_names(facts.classes, names),
    )


def _frames_comment(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    lines = ["/* How frames are made:"]
    for sentence in sentences:
        words = without_comment_marks(sentence)
        lines += textwrap.wrap(words, _WIDTH, initial_indent=" * - ", subsequent_indent=" *   ", break_on_hyphens=False)
    return "\n".join([*lines, " */", "", ""])


def _class_names(classes: Sequence[str], names: CNames) -> str:
    if not classes:
        return "/* The classes have no names: their numbers are all that is known. */\n"
    table = "\n".join(f"        {in_string(name)}," for name in classes)
    return names.renamed(_CLASS_NAMES).format(table=table)


# A function that is not called takes no memory, whatever the compiler's settings; an array in a header might.
_CLASS_NAMES = """\
/* The name of a class in UTF-8, "" of a number that is none. Programs that do not call it do not contain the names. */
static inline const char *spq_class_name(int number)
{{
    static const char *const names[SPQ_CLASSES] = {{
{table}
    }};
    return number >= 0 && number < SPQ_CLASSES ? names[number] : "";
}}
"""

_HEADER = """\
/* Written by spquant-search pick. For each sample: spq_reset, SPQ_TIME_STEPS times spq_step, spq_class. */
#ifndef SPQ_MODEL_H
#define SPQ_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define SPQ_TIME_STEPS {time_steps}{fewer_steps}
#define SPQ_FRAMES {frames} /* of a sample: one for each step, or 1, which is shown in every step */
#define SPQ_HEIGHT {height}
#define SPQ_WIDTH {width}
#define SPQ_CHANNELS {channels}
#define SPQ_FRAME_BYTES {frame_bytes}UL /* SPQ_HEIGHT * SPQ_WIDTH * SPQ_CHANNELS */
#define SPQ_LARGEST {largest} /* larger values are read as this */
#define SPQ_CLASSES {classes}

{how_frames_are_made}/* Brings all membranes to rest, and the logits to their offsets. */
void spq_reset(void);

/* Runs one time step with a frame, which it only reads: event counts or pixel values, [row][column][channel]. */
void spq_step(const uint8_t *frame);

/* After the last time step: a number for each class, and the class with the largest number (the first of several). */
const int32_t *spq_logits(void);
int spq_class(void);

{class_names}
/* With SPQ_COUNT defined: the synaptic operations of computed neurons since the program started. */
extern uint64_t spq_synaptic_ops;

/* With SPQ_TRACE defined: called with the spikes of each layer, [row][column], channels in whole bytes, the
 * first one in the highest bit. The comments in model.c have the layers' numbers. */
extern void (*spq_trace)(int layer, const uint8_t *spikes, uint32_t bytes);

#ifdef __cplusplus
}}
#endif

#endif
"""
