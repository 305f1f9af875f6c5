"""Samples that a user's function returns: the same frames in every form, read once, and again when they change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from data.user_data import BUILD, MODULE, all_frames, expected, forget_module, in_folder, load_built, write_module

from spquant_search.data.description import describe
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

GENERATOR = np.random.default_rng(0)  # as in the modules
X, Y = GENERATOR.integers(20, 256, (30, 3, 9, 7), dtype=np.uint8), np.arange(30) % 3
FRAMES = GENERATOR.integers(0, 4, (30, 4, 2, 9, 7))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with in_folder(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.mark.parametrize(
    "body",
    [
        "return parts(x)",
        "return parts(x.astype(np.int32))",
        "return parts(x.astype(float))",
        "return parts((x / 255).astype(np.float32))",
        "return parts(list(x), list(y))",
        "return [parts(x)[0], *map(list, map(lambda p: zip(*p), parts(x)[1:]))]",
        "return tuple(Pairs(*part) for part in parts(x))",
        "import torch\nreturn parts(torch.from_numpy(x), torch.from_numpy(y))",
        "import torch\nreturn parts((torch.from_numpy(x) / 255).requires_grad_())",
        "from torch.utils.data import TensorDataset, Subset\nfrom torch import from_numpy\n"
        "whole = TensorDataset(from_numpy(x), from_numpy(y))\n"
        "return [Subset(whole, range(*bounds)) for bounds in ((0, 18), (18, 24), (24, 30))]",
        "from PIL import Image\nreturn parts([Image.fromarray(image.transpose(1, 2, 0)) for image in x])",
        "import torch\n"  # what ToTensor of torchvision does
        "def to_tensor(image):\n    return torch.from_numpy(image).permute(2, 0, 1).contiguous().float().div(255)\n"
        "return parts([to_tensor(image.transpose(1, 2, 0).copy()) for image in x])",
        "return parts(x, [np.int16(label) for label in y])",
        "import torch\nreturn parts(x, [torch.tensor(label) for label in y])",
    ],
)
def test_images_are_the_same_in_every_form(here: Path, body: str) -> None:
    write_module(here, body)
    loaded = load_built(here)
    assert all_frames(loaded) == expected(X, Y)
    assert (loaded.static, loaded.largest, loaded.train.frames.shape) == (True, 255, (18, 1, 3, 9, 7))
    for split, (low, high) in {"train": (0, 18), "validation": (18, 24), "test": (24, 30)}.items():
        frames = {each.tobytes() for each in getattr(loaded, split).frames}
        assert frames == {each.tobytes() for each in X[low:high]}


@pytest.mark.parametrize("form", ["frames", "frames.astype(np.float32)", "frames.astype(np.uint8)"])
@pytest.mark.parametrize("time_steps", [1, 2, 4])
def test_neighbouring_frames_are_added(here: Path, form: str, time_steps: int) -> None:
    write_module(here, f"return parts({form})")
    loaded = load_built(here, time_steps=time_steps)
    added = np.zeros((30, time_steps, 2, 9, 7), int)
    for step in range(4):
        added[:, step * time_steps // 4] += FRAMES[:, step]
    assert all_frames(loaded) == expected(added, Y)
    assert (loaded.static, loaded.largest) == (False, 15)
    assert (f"4 time steps become {time_steps}" in " ".join(loaded.notes)) == (time_steps < 4)
    assert loaded.train.events is not None
    assert loaded.train.events.tolist() == loaded.train.frames.sum((2, 3, 4), dtype=int).tolist()


def test_a_function_that_asks_for_the_time_steps_gets_them(here: Path) -> None:
    write_module(here, "time_steps, more=1|return parts(frames[:, :time_steps])")
    assert all_frames(load_built(here, time_steps=3)) == expected(FRAMES[:, :3], Y)


def test_sums_end_at_255_as_counts_of_recordings_do(here: Path) -> None:
    write_module(here, "frames[:, :] = 10**12\nframes[5:, :, 0] = 200\nreturn parts(frames.astype(float))")
    loaded = load_built(here, time_steps=2)
    assert set(np.unique(loaded.train.frames)) == {255}
    assert "100% of the counts are above 15" in " ".join(loaded.notes)


def test_grey_images_and_binary_ones(here: Path) -> None:
    write_module(here, "return parts(x[:, 0] > 99)")
    assert all_frames(load_built(here)) == expected((X[:, :1] > 99) * 255, Y)


def test_the_scale_is_that_of_the_first_image_that_is_not_black(here: Path) -> None:
    write_module(here, "z = x.astype(float)\nz[:4] = 0\nreturn parts(z)")
    assert {frames.tobytes() for frames in X[4:]} | {bytes(X[0].size)} == set(all_frames(load_built(here)))


@pytest.mark.parametrize(
    ("returned", "sizes"),
    [("(x, y), None, None", (21, 3, 6)), ("(x[:24], y[:24]), None, (x[24:], y[24:])", (21, 3, 6))],
)
def test_splits_that_are_not_returned_are_taken_from_train(
    here: Path, returned: str, sizes: tuple[int, int, int]
) -> None:
    write_module(here, f"return {returned}")
    loaded = load_built(here, test_share=0.2)
    assert tuple(len(split.labels) for split in (loaded.train, loaded.validation, loaded.test)) == sizes
    assert all_frames(loaded) == expected(X, Y)
    assert np.bincount(loaded.validation.labels).tolist() == [1, 1, 1]
    again = load_built(here, test_share=0.2, split_seed=1)
    assert not np.array_equal(again.validation.frames, loaded.validation.frames)


def test_the_first_samples_hold_every_class(here: Path) -> None:
    write_module(here, "order = np.argsort(y, kind='stable')\nreturn (x[order], y[order]), None, None")
    loaded = load_built(here, train_samples=3, validation_share=0.2, test_share=0.2)
    assert sorted(loaded.train.labels.tolist()) == [0, 1, 2]
    assert {frames.tobytes() for frames in loaded.train.frames} <= {image.tobytes() for image in X}


@pytest.mark.parametrize(
    ("body", "classes"),
    [
        ("return parts(x)", ("class 0", "class 1", "class 2")),
        ("return [Pairs(*part) for part in parts(x)]", ("class 0", "class 1", "class 2")),
        ("return *parts(x), ['ant', 'bee', 'cat', 'dog']", ("ant", "bee", "cat", "dog")),
        ("train = Pairs(x, y)\ntrain.classes = ['a', 'b', 'c']\nreturn train, None, None", ("a", "b", "c")),
        (
            "from torch.utils.data import Subset\nall_ = Pairs(x, y)\nall_.classes = ['a', 'b', 'c']\n"
            "return Subset(Subset(all_, range(24)), range(20)), None, Subset(all_, range(24, 30))",
            ("a", "b", "c"),
        ),
        ("train = Pairs(x, y)\ntrain.classes = 3\nreturn train, None, None", ("class 0", "class 1", "class 2")),
    ],
)
def test_classes_have_the_names_that_they_are_given(here: Path, body: str, classes: tuple[str, ...]) -> None:
    write_module(here, body)
    info = describe("python", DataSpace(name="python", build=BUILD), time_steps=2)
    loaded = load_built(here)
    assert info.classes == loaded.classes == classes
    assert (info.channels, info.height, info.width, info.static) == (3, 9, 7, True)
    absent = [note for note in loaded.notes if "has no sample of dog" in note]
    assert len(absent) == (3 if "dog" in classes else 0)


def test_how_many_classes_there_are_can_be_said(here: Path) -> None:
    write_module(here, "return [Pairs(*part) for part in parts(x, 2 * y)]")
    assert len(load_built(here, classes=6).classes) == 6
    with pytest.raises(UserError, match=r"sample 2 of train has the label 4, and there are 4 classes, 0 to 3"):
        load_built(here, classes=4)


COUNTED = """\
import samples_of_a_test as me
class Counted(Pairs):
    def __getitem__(self, index):
        with open("reads", "a") as file:
            file.write("x")
        return super().__getitem__(index)
return tuple(Counted(*part) for part in parts(x))
"""


def reads(folder: Path) -> int:
    """How many samples were read since the last question."""
    file = folder / "reads"
    count = len(file.read_text()) if file.exists() else 0
    file.unlink(missing_ok=True)
    return count


LOOKS = 10  # of three parts the first sample, that again, and the last; and what tells the form of all


def test_samples_are_read_once_and_again_when_something_has_changed(here: Path) -> None:
    (here / "beside_it.py").write_text("scale = 1\n")
    body = f"import beside_it\nx[:] = x // beside_it.scale\n{COUNTED}"
    write_module(here, body)
    first = load_built(here)
    assert reads(here) == 30 + LOOKS
    for change, count in (
        (None, 0),
        ({"train_samples": 3}, 0),  # other splits of what was read
        ({"validation_share": 0.3}, 0),
        ({"split_seed": 1}, 30),
    ):
        forget_module()
        load_built(here, **(change or {}))
        assert reads(here) == count + LOOKS
    load_built(here, is_made=True)  # as a trainer does
    assert reads(here) == 0
    (here / "beside_it.py").write_text("scale = 2\n")
    forget_module()
    assert all_frames(load_built(here)) == expected(X // 2, Y)
    assert reads(here) == 30 + LOOKS
    write_module(here, body.replace("x // beside_it.scale", "x"))
    assert all_frames(load_built(here)) == all_frames(first)


@pytest.mark.parametrize(("changed", "is_seen"), [(0, True), (17, True), (5, False)])
@pytest.mark.parametrize("kind", ["parts(z)", "[Pairs(*part) for part in parts(z)]"])
def test_a_change_in_what_the_function_reads_is_seen(here: Path, changed: int, is_seen: bool, kind: str) -> None:
    np.save(here / "z.npy", X)
    write_module(here, f"z = np.load('z.npy')\nreturn {kind}")
    load_built(here)
    other = X.copy()
    other[changed] ^= 1
    np.save(here / "z.npy", other)
    forget_module()
    now = other if is_seen or kind == "parts(z)" else X  # of arrays in memory every change is seen
    assert all_frames(load_built(here)) == expected(now, Y)


def test_trainers_go_on_with_the_samples_of_the_command_that_started_them(here: Path) -> None:
    write_module(here, "return parts(x)")
    made = load_built(here)
    write_module(here, "raise RuntimeError('half edited')")
    assert all_frames(load_built(here, is_made=True)) == all_frames(made)
    with pytest.raises(UserError, match="half edited"):
        load_built(here)


def test_a_document_that_is_lost_or_damaged_is_made_again(here: Path) -> None:
    write_module(here, "return parts(x)")
    made = all_frames(load_built(here))
    (document,) = (here / "cache").glob("python-samples-*.json")
    for damage in (document.unlink, lambda: document.write_text("{}")):
        damage()
        forget_module()
        assert all_frames(load_built(here)) == made


RANDOM = """\
class Moved(Pairs):
    def __getitem__(self, index):
        return np.random.permutation(self.x[index].ravel()).reshape(3, 9, 7), self.y[index]
train, validation, test = parts(x)
return Moved(*train), validation, test
"""


def test_random_changes_are_frozen_and_that_is_said(here: Path) -> None:
    write_module(here, RANDOM)
    loaded = load_built(here)
    (note,) = [note for note in loaded.notes if "another one each time" in note]
    assert "a sample of train is" in note
    assert "train.augment" in note


def test_random_splits_without_a_seed_are_the_same_every_time(here: Path) -> None:
    write_module(
        here,
        "import random, torch\nfrom torch.utils.data import random_split\n"
        "order = list(range(30))\nrandom.shuffle(order)\nother = np.random.permutation(30)\n"
        "return *random_split(Pairs(x[order][other], y[order][other]), [0.6, 0.2, 0.2]),",
    )
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = load_built(here)
    assert torch.equal(torch.get_rng_state(), before), "the program's own numbers go on as they would"
    forget_module()
    again = load_built(here)
    assert first.description == again.description
    np.testing.assert_array_equal(first.test.frames, again.test.frames)


def test_samples_that_are_in_two_splits_are_counted(here: Path) -> None:
    write_module(here, "return (x, y), (x[:4], y[:4]), (x[3:5] + 0, y[3:5])")
    notes = load_built(here).notes
    assert f"{BUILD}: 4 of 4 samples of validation are in train, too" in notes
    assert f"{BUILD}: 2 of 2 samples of test are in train, too" in notes


def test_images_that_are_almost_black_are_told(here: Path) -> None:
    write_module(here, "return parts(x // 64)")
    assert "no pixel is above 3 of 255" in " ".join(load_built(here).notes)


def test_prints_do_not_reach_standard_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_module(
        here, f"print('called')\n{COUNTED.replace('with open', 'print(index)' + chr(10) + '        with open')}"
    )
    (here / f"{MODULE}.py").write_text("print('imported')\n" + (here / f"{MODULE}.py").read_text())
    load_built(here)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("imported\ncalled\n0\n")
