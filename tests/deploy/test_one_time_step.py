"""With one time step neither numpy nor C stores anything, whatever the membranes are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from deploy.networks import ABOUT, Choices, needs_compiler, written
from deploy.odd_networks import an_odd_network

from spquant_search.deploy.c_library import CLibrary, compiler, object_size
from spquant_search.deploy.export import Export, export
from spquant_search.deploy.reference import Model
from spquant_search.deploy.weights_file import WEIGHTS_FILE


def exported_at_one_step(choices: Choices) -> Export:
    network, shape, frames = an_odd_network("after", size=(13, 14), time_steps=1, choices=choices)
    return export(network, shape, frames, time_steps=1, about=ABOUT)


def test_with_one_time_step_levels_and_cuts_change_nothing(plain_neurons: None) -> None:
    """Weights and test vectors are the same bytes whatever the membranes are, floats included."""
    few, many, floats = (
        exported_at_one_step(Choices(levels=(levels,), skip=(skip,)))
        for levels, skip in ((3, 0.0), (256, -0.5), (0, None))
    )
    assert few.files == many.files == floats.files
    assert "membrane" not in few.files["model.c"].decode().split("Nothing is stored")[1].split("SPQ_TIME_STEPS")[0]
    assert all(step["neuron"]["levels"] is None for step in few.manifest["network"]["steps"] if "neuron" in step)


@needs_compiler
def test_with_one_time_step_the_library_stores_no_membranes(tmp_path: Path, plain_neurons: None) -> None:
    """The compiler's object file holds the memory that is promised before training: maps and scratch alone."""
    made = exported_at_one_step(Choices(skip=(None,)))
    assert made.c.sizes.membrane == 0
    assert "_membrane[" not in made.files["model.c"].decode()
    found = object_size(written(made, tmp_path / "deployed"), cc=str(compiler()), work=tmp_path)
    promised = made.c.sizes.maps + made.c.sizes.scratch
    assert promised <= found.ram <= promised + 300, "alignment"


@needs_compiler
def test_with_one_time_step_all_spike_alike(tmp_path: Path, plain_neurons: None) -> None:
    """Learned thresholds and gates included."""
    network, shape, frames = an_odd_network(
        "max", size=(16, 12), time_steps=1, choices=Choices(skip=(None,)), learn=True
    )
    made = export(network, shape, frames, time_steps=1, about=ABOUT)
    in_numpy = Model.of(made.manifest, made.files[WEIGHTS_FILE]).run(frames)
    folder = written(made, tmp_path / "deployed")
    in_c = CLibrary(folder, made.manifest["network"], cc=str(compiler()), work=tmp_path, flags=("-O1",)).run(frames)
    np.testing.assert_array_equal(in_c.logits, in_numpy.logits)
    assert any(fired.any() for fired in in_numpy.spikes.values())
    for name, fired in in_numpy.spikes.items():
        np.testing.assert_array_equal(in_c.spikes[name], fired)
