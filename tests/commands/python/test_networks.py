"""How a network given in Python reaches the processes that train it, and what is said where it cannot."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from spquant_search import search
from spquant_search.commands.python.networks import builder_path, class_path, is_builder_path
from spquant_search.errors import UserError

NETWORK = """\
from torch import nn
from spquant_search.snn import Readout, SpikingConv2d

class Net(nn.Module):
    def __init__(self, shape, width=4):
        super().__init__()
        self.stem = SpikingConv2d(shape.channels, width, pool="before", can_gate=False)
        self.readout = Readout(width, (shape.height // 2) * (shape.width // 2), shape.classes)

    def forward(self, spikes):
        return self.readout(self.stem(spikes))

def build(shape):
    return Net(shape)
"""
MODULE = "network_of_a_test"
X, Y = np.zeros((12, 2, 2, 8, 8), np.uint8), np.arange(12) % 2


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / f"{MODULE}.py").write_text(NETWORK)
    yield tmp_path
    sys.modules.pop(MODULE, None)


def test_functions_and_classes_of_a_module_have_a_place(here: Path) -> None:
    module = __import__(MODULE)
    assert builder_path(module.build) == f"{MODULE}:build"
    assert builder_path(module.Net) == f"{MODULE}:Net"
    assert is_builder_path("my_package.networks:build")
    assert not any(map(is_builder_path, ("vgg9", "my.yaml", "a:b:c", "runs/x", 3)))


def test_what_has_none_is_told_with_the_remedy(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = __import__(MODULE)

    def within(shape: object) -> nn.Module:
        return nn.Sequential()

    remedy = 'write it into a file such as my_network.py beside your script, and give "my_network:build"'
    for function in (within, lambda shape: None, functools.partial(module.build), module.Net.forward):
        with pytest.raises(UserError, match=r"^network: ") as caught:
            builder_path(function)
        assert remedy in str(caught.value)
    with pytest.raises(UserError, match="a Sequential does not say how it is built") as caught:
        class_path(nn.Sequential())
    assert "weights=network" in str(caught.value)
    monkeypatch.setattr(module, "build", module.Net)
    original = module.Net
    original.__qualname__ = "build"
    monkeypatch.setattr(module, "build", len)
    with pytest.raises(UserError, match="is another function than the one given"):
        builder_path(original)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (3, "network: must be a function that builds a network"),
        ("vgg10", "vgg10: there is no such file; spaces of the package are vgg9, "),
        (f"{MODULE}:built", f"{MODULE}:built: network (model.build): {MODULE} has no function 'built'; did you mean"),
        ("nowhere:build", "nowhere:build: network (model.build): nowhere could not be imported from"),
    ],
)
def test_a_network_that_is_none(here: Path, network: object, words: str) -> None:
    with pytest.raises(UserError) as caught:
        search(network, train=(X, Y), out="run", progress=False)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)
    assert not (here / "run").exists()


def test_a_network_needs_samples_and_other_weights_are_refused(here: Path) -> None:
    with pytest.raises(UserError, match=rf"^train: is missing: what is {MODULE}:build to be trained on"):
        search(f"{MODULE}:build", out="run")
    with pytest.raises(UserError, match=r"^validation, test and classes belong to train"):
        search("tiny", validation=(X, Y), out="run", progress=False)
    with pytest.raises(UserError, match=r"^weights: must be a file, a network or its state_dict"):
        search(f"{MODULE}:build", train=(X, Y), weights=3, out="run", progress=False)
    from spquant_search.snn import InputShape

    wide = __import__(MODULE).Net(InputShape(channels=2, height=8, width=8, classes=2), width=8)
    with pytest.raises(UserError, match=r"weights \(model\.weights\): holds tensors of other shapes: stem"):
        search(wide, train=(X, Y), out="run", progress=False)
    assert not (here / "run").exists()


SCRIPT = """\
import numpy as np
from spquant_search import search
from spquant_search.errors import UserError
{network}
try:
    search(build, train=(np.zeros((12, 2, 2, 8, 8), np.uint8), np.arange(12) % 2), bits=5, out="run", progress=False)
except UserError as error:
    print(error)
    raise SystemExit(5)
"""


def test_a_function_of_the_script_itself_needs_the_guard(here: Path) -> None:
    script = SCRIPT.format(network="def build(shape):\n    return None\n")
    (here / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "search() is called while script is imported for a function in it" in done.stderr + done.stdout
    assert 'below `if __name__ == "__main__":`' in done.stderr + done.stdout
    body, call = script.split("try:")
    indented = "".join(f"    {line}\n" for line in ("try:" + call).splitlines())
    (here / "script.py").write_text(f'{body}\nif __name__ == "__main__":\n{indented}')
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert "bits (layers.all.weight_bits" in done.stdout
    for line in ([sys.executable, "-"], [sys.executable, "-c", script]):
        done = subprocess.run(line, input=script, capture_output=True, text=True, check=False)
        assert "build was written into this session, not into a file" in done.stdout
