"""Compare a network in PyTorch, numpy and C, where C also stops at whatever it must not do."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from unittest import mock

import numpy as np
from deploy.networks import ABOUT, loaded, written
from numpy.typing import NDArray
from torch import nn

from spquant_search.deploy import export as module
from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.comparison import whole_logits
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.export import Export, export
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.space.shapes import InputShape

_MAIN = """\
#include <stdio.h>
#include "model.h"
int main(void)
{
    static uint8_t frame[SPQ_HEIGHT * SPQ_WIDTH * SPQ_CHANNELS];
    int sample, t, k;
    for (sample = 0; sample < 2; ++sample) {
        spq_reset();
        for (t = 0; t < SPQ_TIME_STEPS; ++t) {
            if (fread(frame, 1, sizeof frame, stdin) != sizeof frame)
                return 1;
            spq_step(frame);
        }
        for (k = 0; k < SPQ_CLASSES; ++k)
            printf("%ld\\n", (long)spq_logits()[k]);
        printf("%d\\n", spq_class());
    }
    return 0;
}
"""
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
# Without optimization, which takes a compiler three times as long as it saves.
SANITIZED = ("-O0", "-fsanitize=undefined", "-fno-sanitize-recover=undefined")


def exported(
    network: nn.Module, shape: InputShape, frames: NDArray[np.uint8], *, facts: DeviceFacts | None = None
) -> Export:
    """Export a network without compiling its library, which the test does for itself."""
    with mock.patch.object(module, "compiler", return_value=None):
        return export(network, shape, frames, time_steps=frames.shape[1], about=ABOUT, facts=facts)


def assert_runs_clean(made: Export, frames: NDArray[np.uint8], tmp_path: Path) -> None:
    """Run two samples in a program that stops at undefined behaviour, and at memory that it must not touch."""
    folder = written(made, tmp_path / "deployed")
    (tmp_path / "main.c").write_text(_MAIN)
    program = tmp_path / "program"
    flags = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    sources = (folder / "model.c", tmp_path / "main.c")
    command = [*shlex.split(str(compiler())), *STRICT, *flags, f"-I{folder}", *sources, "-o", program]
    subprocess.run([str(part) for part in command], check=True)
    counts = frames[:2].transpose(0, 1, 3, 4, 2).tobytes()
    answer = subprocess.run([str(program)], input=counts, capture_output=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, b"")
    expected = loaded(made).run(frames[:2])
    both = np.concatenate([expected.logits, expected.predictions[:, None]], axis=1)
    assert [int(line) for line in answer.stdout.split()] == both.flatten().tolist()


def assert_all_agree(network: nn.Module, shape: InputShape, frames: NDArray[np.uint8], tmp_path: Path) -> float:
    """Compare PyTorch, numpy and C, and the operations of the last two; return the share of neurons that spiked."""
    deployed = exported(network, shape, frames)
    model = loaded(deployed)
    form = model.manifest["network"]
    outcome = model.run(frames)
    seen = run_in_pytorch(network, frames, form)
    assert outcome.spikes.keys() == seen.spikes.keys()
    for layer, fired in outcome.spikes.items():
        np.testing.assert_array_equal(fired, seen.spikes[layer], err_msg=layer)
    np.testing.assert_array_equal(outcome.predictions, seen.logits.argmax(axis=1))
    unit = form["steps"][-1]["unit"]
    np.testing.assert_array_equal(whole_logits(seen, unit), outcome.logits)
    np.testing.assert_allclose(seen.logits / unit, outcome.logits, rtol=1e-15, err_msg="sums of whole units")
    cc = compiler()
    if cc is not None:
        folder = written(deployed, tmp_path / "deployed")
        library = CLibrary(folder, form, cc=cc, work=tmp_path, flags=(*STRICT, *SANITIZED))
        in_c = library.run(frames)
        for layer, fired in outcome.spikes.items():
            np.testing.assert_array_equal(in_c.spikes[layer], fired, err_msg=layer)
        np.testing.assert_array_equal(in_c.logits, outcome.logits)
        assert in_c.operations == sum(outcome.operations.values())
    return float(np.mean([fired.mean() for fired in outcome.spikes.values()]))
