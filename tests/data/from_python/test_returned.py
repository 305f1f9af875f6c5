"""What a user's function returns wrongly is told with its place and the remedy, and never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from data.user_data import BUILD, MODULE, in_folder, load_built, write_module

from spquant_search.data.description import describe
from spquant_search.errors import OptionError, UserError
from spquant_search.space.schema import DataSpace

RETURN = "must return (train, validation, test), each (inputs, labels) or a data set of such pairs"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with in_folder(tmp_path, monkeypatch) as folder:
        yield folder


WRONG = [
    # What is returned as a whole.
    ("return None", f"{BUILD} {RETURN}", "got an object of type NoneType"),
    ("return x, y", f"{BUILD} {RETURN}", "got a tuple of 2"),
    ("return {'train': (x, y)}", f"{BUILD} {RETURN}", "got a dict with train"),
    ("return x", f"{BUILD} {RETURN}", "got an object of type ndarray"),
    ("return None, None, (x, y)", "train is None"),
    ("return (x, y), (x, y), None", "test is None, and may be only where validation is, too"),
    ("return (x, y), None, (x, y)", "train and test are the same samples; divide them"),
    ("return x, x, x", "train is an object of type ndarray, inputs without labels; give both: (inputs, labels)"),
    ("return (x, y, y), None, None", "train is a tuple of 3, a tuple of 3; give two things: (inputs, labels)"),
    ("return {'x': x}, None, None", "train is a dict with x, and must be (inputs, labels)"),
    ("return (p for p in zip(x, y)), None, None", "train is an object of type generator, which has no length"),
    (
        "from torch.utils.data import DataLoader\nreturn DataLoader(Pairs(x, y)), None, None",
        "train is an object of type DataLoader, which makes batches; give its data set, loader.dataset",
    ),
    ("return (x, y[:29]), None, None", "train has 30 inputs and 29 labels; give one for each"),
    ("return (x, y), (x[:0], y[:0]), (x[:3], y[:3])", "validation is empty; give None for validation"),
    ("return *parts(x), ['a', 'b', 'a']", "two classes are called 'a'"),
    (
        "return *parts(x), 'abc'",
        "the fourth value must be a list with the name of each class; got an object of type str",
    ),
    ("return *parts(x), ['a', 'b']", "sample 2 of train has the label 2, and there are 2 classes, 0 to 1"),
    # The form of samples.
    (
        "return parts(x.transpose(0, 2, 3, 1))",
        "sample 0 of train has the shape [9, 7, 3], which looks like [height, width,",
    ),
    ("return parts(x.reshape(30, -1))", "sample 0 of train has the shape [189]; images are [channel, height, width]"),
    ("return parts(frames[:, :, 0])", "[4, 9, 7]: if these are 4 time steps of one channel, give x[:, None]"),
    ("return parts(frames[:, :3])", "[3, 2, 9, 7]: 3 time steps, where 2 or a multiple of it are needed (time_steps)"),
    ("return parts(frames.transpose(0, 1, 3, 4, 2))", "[4, 9, 7, 2], which looks like [time, height, width, channel]"),
    ("return parts(np.repeat(frames, 2, 1)[:, :8].swapaxes(1, 2)[:, :1])", "which looks like [channel, time, height,"),
    ("return parts(x[..., :2])", "[3, 9, 2], and nothing says which axis is the channels"),
    (
        "z = list(x)\nz[20] = z[20][:, :5]\nreturn parts(z)",
        "sample 2 of validation has the shape [3, 5, 7], and sample 0",
    ),
    ("z = list(x)\nz[29] = frames[0]\nreturn parts(z)", "sample 5 of test has the shape [4, 2, 9, 7]", "in one form"),
    # Values.
    ("return parts((x / 255 - 0.5) / 0.5)", "sample 0 of train has pixels from -", "give it without Normalize"),
    ("return parts(x / 1.01)", "sample 0 of train has a pixel of ", "give whole numbers from 0 to 255"),
    ("return parts(x.astype(np.uint16) * 257)", "sample 0 of train has pixels up to 65", "bring them to 0 to 255"),
    (
        "z = x / 255\nz[3] = 0.5 + x[3]\nreturn parts(z)",
        "sample 3 of train has pixels up to 2",
        "sample 0 of train from 0 to 1",
    ),
    (
        "z = x / 255\nz[3, 1, 2] = np.nan\nreturn parts(z)",
        "sample 3 of train holds 7 values that are no finite numbers",
    ),
    ("z = frames - 1\nreturn parts(z)", "has counts from -1 to 2; count OFF and ON events in a channel each"),
    ("return parts(frames / 3)", "sample 0 of train has a count of 0.", "without a mean, an interpolation"),
    ("z = frames.astype(float)\nz[9, 0] = np.inf\nreturn parts(z)", "sample 9 of train holds 126 values that are no"),
    ("return parts(x.astype(complex))", "sample 0 of train holds no numbers but complex128"),
    ("return parts([str(image) for image in x])", "sample 0 of train is of type str; give an array or a tensor"),
    ("return parts([None] * 30)", "sample 0 of train is of type NoneType"),
    ("return parts([[[1, 2], [3]]] * 30)", "sample 0 of train of type list makes no array"),
    (
        "from PIL import Image\nreturn parts([Image.fromarray(image[0]).convert('RGBA') for image in x])",
        "sample 0 of train is a picture of Pillow's mode RGBA with transparent pixels; convert it",
    ),
    (
        "from PIL import Image\nreturn parts([Image.fromarray(image[0]).convert('F') for image in x])",
        "sample 0 of train is a picture of Pillow's mode F; convert it",
    ),
    # Labels.
    ("return parts(x, y / 1.0)", "sample 0 of train has the label 0.0, a floating-point number; give int(label)"),
    ("return parts(x, np.eye(3)[y])", "has a label of 3 numbers, one of them 1; give its place, label.argmax()"),
    ("return parts(x, y[:, None])", "sample 0 of train has a label of the shape [1]; it must be one whole number"),
    ("return parts(x, [('ant', 'bee', 'cat')[i] for i in y])", "sample 0 of train has the label 'ant'; number the"),
    ("return parts(x, [None] * 30)", "sample 0 of train has a label of type NoneType; it must be a whole number"),
    ("return parts(x, y - 1)", "sample 0 of train has the label -1; number the classes from 0"),
    ("return parts(x, y + 1)", "gives the labels 1, 2, 3, none of them 0; number the classes from 0 without gaps"),
    ("return parts(x, y * 2)", "gives the labels 0, 2, 4, none of them 1", "or say by data.classes how many there are"),
    ("return parts(x, y * 0)", "gives the label 0 alone; two classes or more are needed"),
    (
        "z = y.copy()\nz[3:] %= 2\nreturn (x, z), None, None",
        "train holds too few samples of class 2 (1): 3 or more are needed",
    ),
    # Data sets of pairs.
    ("return [Pairs(*part) for part in parts(x, y / 2)]", "sample 0 of train has the label 0.0, a floating"),
    ("return list(x), None, list(x)", "sample 0 of train is an object of type ndarray; give two things, the input"),
    ("return [{'image': i, 'label': l} for i, l in zip(x, y)], None, None", "is a dict with image, label; give two"),
    ("return [(*p, 0) for p in zip(x, y)], None, None", "sample 0 of train is a tuple of 3; give two things"),
    (
        "p = Pairs(x, list(y[:20]))\nreturn p, None, None",
        "sample 29 of train cannot be read: IndexError: list index out",
    ),
    (
        "p = Pairs(x, y)\np.x = 3\nreturn p, None, None",
        "train has no length: TypeError: object of type 'int' has no len()",
    ),
    # The function.
    (
        "return 1 / 0",
        f"build: {BUILD} failed: ZeroDivisionError: division by zero ({MODULE}.py, line 16: return 1 / 0)",
    ),
    ("import sys\nsys.exit(3)", f"{BUILD} failed: SystemExit: 3"),
    ("folder, size|return None", f"{BUILD} needs folder, size; it is called with time_steps alone, if it takes it"),
]


def test_there_are_many_ways_to_be_wrong() -> None:
    assert len(WRONG) >= 40


@pytest.mark.parametrize("case", WRONG, ids=[case[0][:50] for case in WRONG])
def test_what_is_returned_wrongly_is_told_with_its_place(here: Path, case: tuple[str, ...]) -> None:
    body, *words = case
    write_module(here, body)
    with pytest.raises(UserError) as caught:
        load_built(here)
    message = str(caught.value)
    assert MODULE in message
    for sentence in words:
        assert sentence in message
    assert not list((here / "cache").glob("python-t*.npy")), "nothing half-made is kept"


def test_an_error_in_a_data_set_is_told_with_the_lines_of_the_users_code(here: Path) -> None:
    body = (
        "def scaled(image):\n    return image / missing\n"
        "class Bad(Pairs):\n    def __getitem__(self, index):\n"
        "        return scaled(self.x[index]) if index == 4 else self.x[index], self.y[index]\n"
        "train, validation, test = parts(x)\nreturn train, Bad(*validation), test"
    )
    write_module(here, body)
    with pytest.raises(UserError) as caught:
        load_built(here)
    assert str(caught.value) == (
        f"{BUILD}: sample 4 of validation cannot be read: NameError: name 'missing' is not defined "
        f"({MODULE}.py, line 20: return scaled(self.x[index]) if index == 4 else self.x[index], self.y[index]; "
        f"{MODULE}.py, line 17: return image / missing)"
    )


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"build": None}, "build: python needs the function that returns its samples, written package.module:function"),
        ({"build": "nowhere"}, "build: must be written package.module:function; got 'nowhere'"),
        ({"build": f"{MODULE}:bild"}, f"build: {MODULE} has no function 'bild'; did you mean 'build'?"),
        ({"build": f"{MODULE}.py:build"}, f"build: names a module, not its file; write {MODULE}:build"),
        ({"build": "no_such_module:build"}, "build: no_such_module could not be imported from "),
        ({"root": "x"}, "root: python has no such option; remove the key"),
        ({"size": (8, 8)}, "size: python has no such option; remove the key"),
        ({"as_events": True}, "as_events: python has no such option; remove the key"),
        ({"classes": 4}, f"classes: {BUILD} has 3 classes (a, b, c), not 4; remove the key"),
    ],
)
def test_options_that_do_not_fit(here: Path, values: dict[str, object], problem: str) -> None:
    write_module(here, "return *parts(x), ['a', 'b', 'c']")
    with pytest.raises(OptionError) as caught:
        describe("python", DataSpace(**{"name": "python", "build": BUILD, **values}))  # type: ignore[arg-type]
    assert str(caught.value).startswith(problem)


def test_build_belongs_to_python_alone() -> None:
    with pytest.raises(OptionError, match=r"^build: nmnist has no such option; remove the key$"):
        describe("nmnist", DataSpace(name="nmnist", build="my_data:build"))
