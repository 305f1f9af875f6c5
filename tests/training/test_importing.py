"""A function of a user's that returns a network of another library: called once, checked, and kept as data."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from importer.functions import SAMPLES, SNNTORCH, SPACE, SPIKINGJELLY
from importer.libraries import snntorch, spikingjelly
from safetensors.torch import load_file

from spquant_search.errors import SpaceError, UserError
from spquant_search.runs.folder import RunFolder, given_weights_file, network_file
from spquant_search.runs.opening import open_run, require_same_network
from spquant_search.runs.records import RunFacts, read_frozen_space
from spquant_search.snn.networks.plan import ConvolutionLayer, read_plan
from spquant_search.space.reading import read_space
from spquant_search.training.importing import with_imported_network
from spquant_search.training.prepare import prepare

MODULE, DATA = "imported_of_a_test", "samples_of_a_test"
Written = Callable[[str], Path]
SET_STEP_MODE = """\
_made = Net.__init__

def _multi_step(self):
    _made(self)
    functional.set_step_mode(self, "m")

Net.__init__ = _multi_step
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """Write a module and a space that imports its network; both are read anew at every call."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions of a module in a second have one time stamp
    spikingjelly("neuron")
    snntorch()

    def write(code: str) -> Path:
        for name in (MODULE, DATA):
            sys.modules.pop(name, None)
        (tmp_path / f"{MODULE}.py").write_text(code)
        (tmp_path / f"{DATA}.py").write_text(SAMPLES)
        (tmp_path / "my.yaml").write_text(SPACE.replace("MODULE", MODULE).replace("SAMPLES", DATA))
        return tmp_path / "my.yaml"

    yield write
    for name in (MODULE, DATA):
        sys.modules.pop(name, None)


def test_a_network_is_kept_as_data_and_its_weights_are_the_baseline(written: Written) -> None:
    space = written(SPIKINGJELLY)
    prepared = prepare(space)
    model = prepared.space.file.model
    assert prepared.space.file.train.baseline_epochs == 0
    assert model.import_ is None
    assert model.layers is not None
    assert model.weights is not None
    assert Path(model.layers).is_relative_to(os.environ["SPQUANT_CACHE"])
    plan = read_plan(Path(model.layers))
    assert list(plan.layers) == ["conv_0", "hidden_1", "counts"]
    assert (plan.shape.channels, plan.shape.height, plan.shape.time_steps, plan.shape.still) == (2, 8, 2, False)
    assert list(load_file(model.weights))[:2] == ["conv_0.bias", "conv_0.neuron.leak_logit"]
    assert [shape.name for shape in prepared.shapes] == ["conv_0", "hidden_1"]
    assert prepared.no_integer_form is None
    assert prepare(space).space.file == prepared.space.file  # random numbers that it draws are those of the first call


def test_what_it_had_in_floating_point_is_said(written: Written) -> None:
    notes = prepare(written(SPIKINGJELLY)).notes
    weights, leaks = 4 * (6 * 2 * 9 + 96 * 8 + 8), 4
    assert (
        f"the network was imported from SpikingJelly by {MODULE}:trained: {weights:,} bytes of weights in 32 bits, 96 "
        f"bytes of a batch norm, folded into weights, {leaks} bytes of a learned leak, each one number of its layer"
    ) in notes
    assert "the imported weights are the float baseline as they are (train.baseline_epochs: 0)" in notes
    assert "hidden_1: a leak of 0.411765 is 1687/4096 = 0.411865 in integers" in notes
    assert "conv_0: leaks that are learned are rounded to k/4096 in integers" in notes
    assert not any("inputs times" in note for note in notes)
    vectors = SNNTORCH.replace("threshold=1.5", "threshold=torch.linspace(1, 2, 6).view(6, 1, 1)")
    (said,) = [note for note in prepare(written(vectors), ["train.baseline_epochs=2"]).notes if "24 bytes" in note]
    assert said.endswith(
        "24 bytes of thresholds, one a channel in one layer, which weights are divided by, 4 bytes of a learned leak, "
        "each one number of its layer"
    )
    trained_on = prepare(written(SNNTORCH), ["train.baseline_epochs=2"])
    assert trained_on.space.file.train.baseline_epochs == 2
    assert "the imported weights are trained on for 2 epochs (train.baseline_epochs: 2)" in trained_on.notes


def test_inputs_between_0_and_1_are_said(written: Written) -> None:
    notes = prepare(
        written(SPIKINGJELLY.replace("randint(0, 4, (2, 3, 2, 8, 8)).float()", "randint(0, 9, (2, 3, 2, 8, 8)) / 255"))
    ).notes
    assert any(note.startswith("it took inputs times 1/255, which is part of its first weights now") for note in notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("def trained", "def other"), f"{MODULE} has no function 'trained'"),
        (("    net = Votes()", "    raise ValueError('no file')"), f"{MODULE}:trained failed: ValueError: no file ("),
        (("    net = Votes()", "    exit(3)"), f"{MODULE}:trained failed: SystemExit: 3 ("),
        (
            ("    return net, torch", "    return net  # "),
            "must return (network, example), a torch.nn.Module and a tensor",
        ),
        (("    return net, torch", "    return net, 3  # "), "got (an object of type Votes, an object of type int)"),
        (
            ("    return net, torch", "    return net, torch.ones(2, 3, 2, 8, 8), {'axis': 1}  # "),
            "got the option axis",
        ),
        (("return self.vote(", "return self.vote(self.nothing("), "'Votes' object has no attribute 'nothing'"),
    ],
)
def test_functions_that_give_no_network(written: Written, change: tuple[str, str], words: str) -> None:
    code = SPIKINGJELLY.replace(*change)
    code = code.replace("self.conv(x)))", "self.conv(x))))") if "nothing" in change[1] else code
    with pytest.raises(SpaceError) as caught:
        prepare(written(code))
    message = str(caught.value)
    assert "my.yaml: model.import: " in message
    assert words in message


def test_what_from_torch_gives_is_taken_as_it_is(written: Written) -> None:
    code = SPIKINGJELLY.replace("    return net, ", "    return spquant_search.from_torch(net, ").replace(
        "8)).float()", "8)).float())"
    )
    named = prepare(written(SPIKINGJELLY)).space.file.model
    given = prepare(written(f"import spquant_search\n{code}")).space.file.model
    assert (given.weights, given.layers != named.layers) == (named.weights, True)  # the code is another
    with pytest.raises(
        SpaceError, match=rf"model\.import: {MODULE}:trained: cannot be imported: \(the network itself\)"
    ):
        prepare(written(f"import spquant_search\n{code.replace('.float())', '.float() - 1)')}"))


def test_all_reasons_of_a_refusal_are_told_with_their_modules(written: Written) -> None:
    code = SNNTORCH.replace("beta=0.8", "beta=0.8, reset_delay=False").replace("learn_beta=True", "reset_delay=False")
    with pytest.raises(SpaceError) as caught:
        prepare(written(code))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(f"model.import: {MODULE}:trained: cannot be imported: " in line for line in lines)
    assert [name in line for line, name in zip(lines, ("conv", "fc"), strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("2, 3, 2, 8, 8", "4, 3, 2, 8, 8"),
            "in 4 time steps; the data have 2 channels of 8x8 and 2 classes, in 2 time",
        ),
        (("2, 3, 2, 8, 8", "4, 3, 2, 8, 8"), "set time_steps to 4, or give an example of 2"),
        (("VotingLayer(4)", "VotingLayer(2)"), "takes 2 channels of 8x8 and 4 classes, in 2 time steps; the data have"),
        (("VotingLayer(4)", "VotingLayer(2)"), "give an example like the data, or data of its size"),
    ],
)
def test_an_example_unlike_the_data_is_told_with_both(written: Written, change: tuple[str, str], words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        prepare(written(SPIKINGJELLY.replace(*change)))
    assert f"my.yaml: model.import: {MODULE}:trained: the network takes " in str(caught.value)
    assert words in str(caught.value)


def test_an_image_is_no_example_of_frames(written: Written) -> None:
    code = SPIKINGJELLY.replace("randint(0, 4, (2, 3", "randint(0, 4, (3").replace(
        "self.conv(x)", "self.conv(x.repeat(2, 1, 1, 1, 1))"
    )
    with pytest.raises(SpaceError, match=r"in 2 time steps of one image; .*; give an example with a time axis"):
        prepare(written(code))


def test_keys_that_say_it_twice_are_refused(written: Written) -> None:
    space = written(SPIKINGJELLY)
    for key, value in (("build", "a:b"), ("weights", "w.pt"), ("layers", "network.json")):
        with pytest.raises(
            SpaceError, match=rf"model\.{key}: is one too many, as model\.import brings the network and"
        ):
            read_space(space, [f"model.{key}={value}"])
    with pytest.raises(SpaceError, match=r"model\.build: is one too many, as model\.layers says that the network is"):
        read_space(space, ["model.import=null", "model.build=a:b", "model.layers=network.json"])
    with pytest.raises(SpaceError, match=r"model\.imports: unknown key; did you mean 'import'\?"):
        read_space(space, ["model.imports=a:b"])


def facts() -> RunFacts:
    return RunFacts(source="", command="", data="", classes=("0", "1"), validation_samples=1, test_samples=1)


def opened(space: Path, run: RunFolder) -> None:
    file = with_imported_network(read_space(space), source="x", run=run)
    assert file.model.layers is not None
    assert file.model.weights is not None
    content = [Path(name).read_bytes() for name in (file.model.weights, file.model.layers)]
    open_run(run, file, facts(), weights=content[0], network=content[1])


def test_a_run_keeps_the_network_and_does_without_the_function(written: Written, tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path / "runs" / "mine")
    space = written(SPIKINGJELLY)
    opened(space, run)
    file = read_frozen_space(run)
    assert "layers: network.json" in run.space_file.read_text()
    assert (file.model.layers, file.model.weights) == (str(network_file(run)), str(given_weights_file(run)))
    again = with_imported_network(read_space(space), source="x", run=run)
    assert again.model == file.model
    calls = SPIKINGJELLY.replace("    net = Votes()", "    print('called')\n    net = Votes()")
    space = written(calls)  # its code has changed, and its network has not
    opened(space, run)
    moved = run.path.rename(tmp_path / "elsewhere")
    (tmp_path / f"{MODULE}.py").unlink()
    sys.modules.pop(MODULE)
    elsewhere = read_frozen_space(RunFolder(path=moved))
    assert elsewhere.model.layers == str(moved / "network.json")
    assert prepare(moved / "space.yaml").no_integer_form is None


def test_a_run_goes_on_with_no_other_network(written: Written, tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path / "runs" / "mine")
    opened(written(SPIKINGJELLY), run)
    with pytest.raises(UserError, match=r"began with another network \(layers that differ: conv_0\)"):
        opened(written(SPIKINGJELLY.replace("padding=1, bias", "padding=1, stride=1, groups=2, bias")), run)
    with pytest.raises(UserError, match=r"began from other weights"):
        opened(written(SPIKINGJELLY.replace("3.0 if", "3.5 if")), run)
    with pytest.raises(UserError, match=r"layers that are new: .*; layers that are gone: .*"):
        opened(written(SNNTORCH), run)
    content = network_file(run).read_bytes()
    require_same_network(run, content.replace(b'"library": "SpikingJelly"', b'"library": "torch"'))
    opened(written(SPIKINGJELLY), run)


def test_what_the_page_says_runs(written: Written, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "own_network.md").read_text(encoding="utf-8")
    section = page.split("## Search an imported network\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    (space,) = re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    written(SPIKINGJELLY)
    theirs = SPIKINGJELLY.replace("class Votes", "class Net").replace("Linear(96, 8)", "Linear(1734, 40)")
    (tmp_path / "my_training.py").write_text(theirs.partition("def trained")[0] + SET_STEP_MODE)
    (tmp_path / "my_snn.py").write_text(code)
    (tmp_path / "my_space.yaml").write_text(space)
    try:
        sys.path.insert(0, str(tmp_path))
        torch.save(__import__("my_training").Net().state_dict(), "trained.pt")
        prepared = prepare(Path("my_space.yaml"))
    finally:
        for name in ("my_training", "my_snn"):
            sys.modules.pop(name, None)
    assert [shape.name for shape in prepared.shapes] == ["conv_0", "hidden_1"]
    assert prepared.space.file.train.baseline_epochs == 0


def test_trained_leaks_are_learned_on(written: Written) -> None:
    for code, name, leak in (
        (SPIKINGJELLY, "conv_0", 1 - 1 / 3),
        (SNNTORCH, "conv", 0.9),
        (SNNTORCH.replace("beta=0.9", "beta=0.03"), "conv", 0.03),
    ):
        model = prepare(written(code)).space.file.model
        assert model.layers is not None
        assert model.weights is not None
        layer = read_plan(Path(model.layers)).layers[name]
        assert isinstance(layer, ConvolutionLayer)
        assert layer.neuron is not None
        assert layer.neuron.learn_leak
        weights = load_file(model.weights)
        kept = float(torch.sigmoid(weights[f"{name}.neuron.leak_logit"]))
        assert kept == pytest.approx(leak, rel=2e-7)
        assert layer.neuron.leak == pytest.approx(leak, rel=1e-7)


def test_a_trained_leak_of_1_stays_as_it_is(written: Written) -> None:
    prepared = prepare(written(SNNTORCH.replace("beta=0.9", "beta=1.2")))  # which snnTorch takes as 1
    assert prepared.space.file.model.layers is not None
    layer = read_plan(Path(prepared.space.file.model.layers)).layers["conv"]
    assert isinstance(layer, ConvolutionLayer)
    assert layer.neuron is not None
    assert (layer.neuron.leak, layer.neuron.learn_leak) == (1.0, False)
    assert any(
        note.startswith("conv: its trained leak, 1, is kept as it is and not trained on") for note in prepared.notes
    )
