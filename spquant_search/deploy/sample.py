"""Write ``sample.h``: frames to show a network on any machine, and the logits that it must give for them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from spquant_search.deploy.c_names import CNames

_WIDTH = 118


def sample_header(frames: NDArray[np.uint8], logits: NDArray[np.int64], labels: Sequence[int], names: CNames) -> str:
    """Return the text of ``sample.h`` for one of the test vectors: the first that is classified rightly, if any is.

    ``frames`` are [sample, frame, channel, row, column], ``logits`` [sample, class]; ``labels`` are empty where the
    frames are made up.
    """
    answers = logits.argmax(axis=1).tolist()
    right = (sample for sample, label in enumerate(labels) if answers[sample] == label)
    chosen = next(right, 0)
    truth = f"; in the data it is of class {labels[chosen]}" if labels else "; its frames are made up"
    shown = frames[chosen].transpose(0, 2, 3, 1).reshape(len(frames[chosen]), -1)  # channels last
    rows = "\n".join(f"    {{\n{_numbers(frame.tolist(), 8)}\n    }}," for frame in shown)
    return names.renamed(_SAMPLE).format(
        number=chosen, truth=truth, answer=answers[chosen], frames=rows, logits=_numbers(logits[chosen].tolist(), 4)
    )


def _numbers(numbers: Iterable[int], indent: int) -> str:
    """Write whole numbers with commas behind them, in lines of a source file."""
    blanks = " " * indent
    return textwrap.fill(
        " ".join(f"{number}," for number in numbers), _WIDTH, initial_indent=blanks, subsequent_indent=blanks
    )


_SAMPLE = """\
/* Sample {number} of test_vectors.npz, and what the network answers{truth}. For main.c. */
#ifndef SPQ_SAMPLE_H
#define SPQ_SAMPLE_H

#include "model.h"

#define SPQ_SAMPLE_CLASS {answer} /* of the largest of these logits */

static const int32_t spq_sample_logits[SPQ_CLASSES] = {{
{logits}
}};

static const uint8_t spq_sample[SPQ_FRAMES][SPQ_FRAME_BYTES] = {{ /* [row][column][channel] */
{frames}
}};

#endif
"""
