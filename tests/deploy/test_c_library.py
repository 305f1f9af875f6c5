"""The compiled library runs clean under sanitizers and takes the bytes that were promised."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from deploy.networks import ABOUT, TIME, a_network, loaded, needs_compiler, written

from spquant_search.deploy.c_library import STRICT, compiler, device_compiler, object_size
from spquant_search.deploy.export import Export, export

_MAIN = """\
#include <stdio.h>
#include "model.h"
int main(void)
{
    static uint8_t frame[SPQ_HEIGHT * SPQ_WIDTH * SPQ_CHANNELS];
    int sample, t;
    for (sample = 0; sample < 2; ++sample) {
        spq_reset();
        for (t = 0; t < SPQ_TIME_STEPS; ++t) {
            if (fread(frame, 1, sizeof frame, stdin) != sizeof frame)
                return 1;
            spq_step(frame);
        }
        printf("%d\\n", spq_class());
    }
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("name", ["vgg9", "resnet19", "spikformer4-256"])
def test_a_program_runs_clean_under_sanitizers(name: str, tmp_path: Path, plain_neurons: None) -> None:
    network, shape, frames = a_network(name, seed=5, size=8 if name != "vgg9" else 16, width=1 / 32)
    made = export(network, shape, frames, time_steps=TIME, about=ABOUT)
    folder = written(made, tmp_path / "deployed")
    (tmp_path / "main.c").write_text(_MAIN)
    program = tmp_path / "program"
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = [compiler(), *STRICT, *flags, f"-I{folder}", folder / "model.c", tmp_path / "main.c", "-o", program]
    subprocess.run([str(part) for part in command], check=True)
    counts = frames[:2].transpose(0, 1, 3, 4, 2).tobytes()
    answer = subprocess.run([str(program)], input=counts, capture_output=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, b"")
    expected = loaded(made).run(frames[:2]).predictions.tolist()
    assert [int(line) for line in answer.stdout.split()] == expected


@needs_compiler
@pytest.mark.skipif(shutil.which("size") is None, reason="there is no size")
def test_an_object_file_holds_the_bytes_that_were_promised(deployed: Export, tmp_path: Path) -> None:
    """Its code and tables, and its memory, are at least the network's own numbers, and not far above."""
    folder = written(deployed, tmp_path / "deployed")
    tools = [(compiler(), ()), device_compiler()]
    sizes = deployed.c.sizes
    for tool in tools:
        if tool is None:
            continue
        found = object_size(folder, cc=str(tool[0]), work=tmp_path, flags=tool[1])
        own = sizes.weights + sizes.overhead
        assert own <= found.flash <= own + 10_000, "the engine's code is a few kilobytes"
        ram = sizes.membrane + sizes.maps + sizes.scratch
        assert ram <= found.ram <= ram + 300, "alignment"
        assert found.data == 0
