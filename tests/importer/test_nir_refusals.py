"""What of a NIR graph, or of a file with one, cannot be read is refused: all at once, by the names of nodes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from importer.libraries import nir
from importer.nir_graphs import DT, chain, ends, lif
from importer.test_nir import convolutional
from torch import Tensor

from spquant_search.errors import UserError
from spquant_search.importer import NotImportable, from_nir, nir_file, read_nir

pytestmark = pytest.mark.usefixtures("plain_neurons")
EXAMPLE = torch.randint(0, 4, (4, 2, 2, 8, 8), generator=torch.Generator().manual_seed(0)).float()


def refused(graph: Any, example: Tensor = EXAMPLE, **given: Any) -> dict[tuple[str, str], str]:
    """Return the reasons by node and what it is."""
    with pytest.raises(NotImportable) as caught:
        from_nir(graph, example, **given)
    return {(reason.module, reason.what): f"{reason.why}; {reason.remedy}" for reason in caught.value.reasons}


def test_all_reasons_come_together_by_the_names_of_nodes() -> None:
    cuba = nir().CubaLIF(*(np.full((4, 8, 8), value) for value in (DT, DT, 1.0, 0.0, 1.0)))
    graph = convolutional(lif=cuba, pool=nir().Delay(np.ones((4, 4, 4))), end=lif((4,), tau=DT / 2))
    graph.nodes["if"].v_reset = np.full((4, 1, 1), 0.9)
    reasons = refused(graph)
    assert set(reasons) == {("lif", "CubaLIF"), ("pool", "Delay"), ("end", "LIF"), ("if", "IF")}
    assert reasons["lif", "CubaLIF"] == "it has no form: it has two states, a current and a membrane; "
    assert reasons["pool", "Delay"] == "it has no form: it keeps what came in earlier steps; "
    assert reasons["end", "LIF"] == (
        "its time constant tau is 5e-05, shorter than a time step of dt=0.0001; give dt= in the unit of tau"
    )
    assert reasons["if", "IF"].startswith("its v_threshold, 0.7, is not above the potential that it rests at, 0.9")


def changed(**values: Any) -> Any:
    node = lif((4, 8, 8))
    for name, value in values.items():
        setattr(node, name, np.broadcast_to(value, (4, 8, 8)) if np.ndim(value) < 3 else value)
    return node


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"v_reset": 0.1}, "a spike resets it to 0.1 (v_reset), and it leaks towards 0 (v_leak)"),
        ({"v_threshold": 0.0}, "its v_threshold, 0, is not above the potential that it rests at, 0"),
        ({"tau": np.inf}, "its tau holds numbers that are not finite, inf"),
        ({"r": np.nan}, "its r holds numbers that are not finite"),
        ({"tau": np.linspace(DT, 2 * DT, 256).reshape(4, 8, 8)}, "its tau differs within a channel, 0 to 0.5"),
        ({"tau": np.full((4, 8, 7), 2 * DT)}, "its tau is of shape [4, 8, 7], and it reads [4, 8, 8]"),
        ({"tau": DT * np.array([2.0, 3.0, 4.0, 5.0])[:, None, None] * np.ones((4, 8, 8))}, "a leak for each channel"),
        ({"tau": DT}, "a leak of 0 has no form in this package's layers"),
        ({"v_threshold": np.inf}, "neurons that never spike are read"),
        ({"r": np.full((4, 8, 8), "a")}, "and no numbers"),
    ],
)
def test_parameters_of_neurons(values: dict[str, Any], why: str) -> None:
    reasons = refused(convolutional(lif=changed(**values)))
    assert any(why in reason for reason in reasons.values()), reasons


def conv(weight: Any = None, **changed: Any) -> Any:
    node = nir().Conv2d(None, np.ones((4, 2, 3, 3)) if weight is None else weight, 1, 1, 1, 1, np.zeros(4))
    for name, value in changed.items():
        setattr(node, name, value)
    return node


@pytest.mark.parametrize(
    ("nodes", "name", "why"),
    [
        ({"conv": conv(np.ones((4, 3, 3, 3)))}, "conv", "its weights, [4, 3, 3, 3] in 1 groups, take 3 channels"),
        ({"conv": conv(np.ones((4, 2, 3)))}, "conv", "its weight is an array [4, 2, 3] of float64, and has 4 dim"),
        ({"conv": conv(np.full((4, 2, 3, 3), np.nan))}, "conv", "its weight holds numbers that are not finite"),
        ({"conv": conv(padding="full")}, "conv", "its padding is 'full'"),
        ({"conv": conv(padding="same", stride=(2, 2))}, "conv", 'padding "same" with a stride of (2, 2)'),
        ({"conv": conv(stride=(0, 1))}, "conv", "its stride is (0, 1): a whole number from 1 on is one"),
        ({"conv": conv(stride=1.5)}, "conv", "its stride is 1.5"),
        ({"conv": conv(np.ones((4, 2, 11, 3)))}, "conv", "its window, 11x3, is larger than the padded map, 10x10"),
        ({"conv": conv(bias=np.zeros(3))}, "conv", "its bias has 3 numbers for 4 channels"),
        ({"conv": conv(input_shape=(9, 8))}, "conv", "it takes features of shape [2, 9, 8], and reads [2, 8, 8]"),
        ({"conv": conv(groups=0)}, "conv", "its groups is 0"),
        ({"conv": conv(dilation=(2, 2), padding=2)}, "lif", "a dilated convolution has no form"),
        ({"flat": nir().Flatten(np.array([4, 1, 1]), 0, 1)}, "fc", "one vector, and it reads [4, 1]; put a Flatten"),
        ({"flat": nir().Flatten(np.array([4, 1, 2]), 0, -1)}, "flat", "shape [4, 1, 2], and reads [4, 1, 1]"),
        ({"fc": nir().Linear(np.ones((4, 5)))}, "fc", "its weights take 5 features in one vector, and it reads [4]"),
        ({"output": nir().Output(np.array([5]))}, "output", "it says that it takes features of shape [5], and reads"),
        ({"fc": nir().Threshold(np.ones(4))}, "fc", "a leak of 0 has no form in this package's layers"),
        ({"if": nir().Threshold(np.ones((4, 3, 3)))}, "if", "its threshold is of shape [4, 3, 3], and it reads [4, 1,"),
        ({"if": nir().Threshold(np.ones((4, 1, 1)))}, "deep", "a leak of 0 has no form in this package's layers"),
        ({"if": nir().I(np.ones((4, 1, 1)))}, "if", "it lies between neurons, and no layer has it"),
    ],
)
def test_nodes_that_do_not_fit(nodes: dict[str, Any], name: str, why: str) -> None:
    reasons = {module: reason for (module, _), reason in refused(convolutional(**nodes)).items()}
    assert why in reasons.get(name, ""), reasons


class Own:
    """A node of somebody's own."""


@pytest.mark.parametrize(
    ("change", "module", "what", "why"),
    [
        (lambda g: g.edges.append(("if", "deep")), "deep", "recurrence", "deep -> if -> deep"),
        (lambda g: g.edges.append(("lif", "lif")), "lif", "recurrence", "lif -> lif: what comes out goes in again"),
        (lambda g: g.edges.append(("lif", "nobody")), "", "edge", "there is no node 'nobody'"),
        (lambda g: g.edges.append(("lif", "pool")), "", "edge", "of 'lif' and 'pool': it stands twice"),
        (lambda g: g.edges.append("lif"), "", "edge", "'lif' is no pair of names"),
        (lambda g: g.edges.append(("conv", "fc")), "fc", "Affine", "adds features of shape [4] and [4, 8, 8]"),
        (lambda g: g.edges.remove(("lif", "pool")), "pool", "SumPool2d", "nothing goes into it"),
        (lambda g: g.nodes.pop("input"), "", "Input", "it has 0"),
        (lambda g: g.nodes.pop("output"), "", "Output", "it has 0"),
        (lambda g: g.nodes.update(second=ends([4], [4])[1]), "", "Output", "it has 2: output, second"),
        (lambda g: g.nodes.update(lif=Own()), "lif", "Own", "it is no node of the package nir"),
        (lambda g: g.nodes.update(lif=g), "lif", "NIRGraph", "it contains itself"),
    ],
)
def test_edges_that_make_no_network(change: Callable[[Any], Any], module: str, what: str, why: str) -> None:
    graph = convolutional()
    change(graph)
    reasons = refused(graph)
    assert why in reasons[module, what], reasons


def test_names_of_any_kind() -> None:
    names = ["input", "all", "forward", "a b/c.d", "1st", "neurons", "plan", "", "output"]
    nodes = [convolutional().nodes[name] for name in convolutional().nodes if name != "pool"]
    nodes[3] = nir().Conv2d((8, 8), np.ones((4, 2, 8, 8)), 1, 0, 1, 2, np.zeros(4))
    made = from_nir(chain(*zip(names, nodes, strict=True)), EXAMPLE)
    assert len(set(made.neurons)) == 3
    assert all(name.isidentifier() and name not in ("all", "forward") for name in made.neurons)


@pytest.mark.parametrize(
    ("example", "why"),
    [
        ([1.0], "it must be a tensor of numbers; it is list"),
        (torch.rand(4, 2), "[4, 2] is no [time, samples, *features]"),
        (torch.zeros(4, 2, 2, 8, 8, device="meta"), "it is Tensor of torch.float32 on meta"),
        (torch.zeros(4, 2, 2, 8, 8, dtype=torch.complex64), "it is Tensor of torch.complex64"),
        (torch.zeros(0, 2, 2, 8, 8), "[0, 2, 2, 8, 8] is no [time, samples, *features]"),
        (torch.zeros(4, 2, 3, 8, 8), "it says that it takes features of shape [2, 8, 8], and reads [3, 8, 8]"),
    ],
)
def test_an_example_that_does_not_fit(example: Any, why: str) -> None:
    assert any(why in reason for reason in refused(convolutional(), example).values())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"dt": 0}, "dt is 0: it is a number above 0"),
        ({"dt": float("nan")}, "dt is nan"),
        ({"dt": "1e-4"}, "dt is 1e-4"),
        ({"reset": "soft"}, "reset is 'soft': it is one of 'zero', 'subtract', 'delayed-subtract'"),
        ({"reads": "first"}, "reads is 'first'"),
    ],
)
def test_arguments(given: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError) as caught:
        read_nir(convolutional(), EXAMPLE, **given)
    assert why in str(caught.value)


# ---- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "network.nir"
    nir().write(made, convolutional())
    return made


def test_a_file_is_read_as_the_graph_that_was_written(path: Path) -> None:
    one, other = (read_nir(given, EXAMPLE).recordings["the example"] for given in (path, convolutional()))
    assert torch.equal(one.logits, other.logits)
    assert list(from_nir(str(path), EXAMPLE).neurons) == ["conv", "deep", "fc"]


def fails(path: Path, why: str) -> None:
    with pytest.raises(UserError) as caught:
        from_nir(path, EXAMPLE)
    assert str(caught.value).startswith(str(path))
    assert why in str(caught.value)


def test_no_graph_at_all(path: Path, tmp_path: Path) -> None:
    fails(tmp_path / "absent.nir", "there is no such file")
    fails(tmp_path, "there is no such file")
    (tmp_path / "text.nir").write_text("weights")
    fails(tmp_path / "text.nir", "it holds no NIR graph, or is damaged")
    nir().write(tmp_path / "node.nir", lif((4,)))
    fails(tmp_path / "node.nir", "it holds no NIR graph, or is damaged")
    with pytest.raises(UserError, match="the path of a file with one; it is dict"):
        from_nir({}, EXAMPLE)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    fails(path, "it holds no NIR graph, or is damaged")


def test_a_file_whose_bytes_were_changed_is_read_or_refused(path: Path) -> None:
    content, rng = path.read_bytes(), np.random.default_rng(0)
    outcomes = set()
    for _ in range(20):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), size=8):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_nir(path, EXAMPLE[:2, :1])
            outcomes.add("read")
        except UserError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def linked(file: Any, h5py: Any) -> None:
    del file["node/nodes/fc/weight"]
    file["node/nodes/fc/weight"] = h5py.ExternalLink("other.h5", "/weight")


def circular(file: Any, h5py: Any) -> None:
    file["node/nodes/lif/metadata"] = file["node/nodes"]


def outside(file: Any, h5py: Any) -> None:
    del file["node/nodes/fc/weight"]
    file["node/nodes/fc"].create_dataset("weight", (4, 4), dtype="f8", external=[("/etc/hostname", 0, 128)])


def virtual(file: Any, h5py: Any) -> None:
    del file["node/nodes/fc/weight"]
    layout = h5py.VirtualLayout(shape=(4, 4), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "weight", shape=(4, 4))
    file["node/nodes/fc"].create_virtual_dataset("weight", layout)


def huge(file: Any, h5py: Any) -> None:
    file["node/nodes/fc"].create_dataset("metadata", (1 << 40,), dtype="f8", chunks=(1 << 20,), compression="gzip")


def deep(file: Any, h5py: Any) -> None:
    group = file["node"]
    for _ in range(100):
        group = group.create_group("metadata")


def unknown(file: Any, h5py: Any) -> None:
    del file["node/nodes/fc/type"]
    file["node/nodes/fc/type"] = "os.system"


def nameless(file: Any, h5py: Any) -> None:
    del file["node/edges"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (linked, "weight is a link to another place"),
        (circular, "its groups contain each other"),
        (outside, "weight lies in another file"),
        (virtual, "weight lies in another file"),
        (huge, "and 2,147,483,648 are read"),
        (deep, "its groups are too deep"),
        (unknown, "it holds no NIR graph, or is damaged"),
        (nameless, "it holds no NIR graph, or is damaged"),
    ],
)
def test_a_hostile_file(path: Path, change: Callable[[Any, Any], None], why: str) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "r+") as file:
        change(file, h5py)
    fails(path, why)


def test_without_the_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        if name == "nir":
            raise ImportError("No module named 'nir'")
        return importlib.import_module(name)

    monkeypatch.setattr(nir_file, "import_module", missing)
    fails(
        path,
        "reading it needs nir, which cannot be imported (No module named 'nir'); pip install 'spquant-search[nir]'",
    )
