"""Recordings that a function of the user's reads: the same frames as from files that are known, or a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from data.user_data import MODULE, forget_module, in_folder

from spquant_search.data import loading
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

HEAD = """\
import numpy as np
def read(path):
    t, x, y, p = np.loadtxt(path, delimiter=":", ndmin=2).T
"""
READER = f"{MODULE}:read"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two folders with the same recordings: of lines t:x:y:p, and of tables that are known."""
    generator = np.random.default_rng(0)
    for name in "ab":
        for root in ("odd", "known"):
            (tmp_path / root / name).mkdir(parents=True)
        (tmp_path / "odd" / name / ".hidden").write_text("no recording")
        (tmp_path / "odd" / name / "folder.any").mkdir()
        for number in range(4):
            t = np.sort(generator.integers(0, 5000, 60))
            table = np.stack([t, *generator.integers(0, 16, (2, 60)), generator.integers(0, 2, 60)], axis=1)
            np.save(tmp_path / "known" / name / f"{number}.npy", table)
            suffix = ("", ".txt", ".any", ".npy")[number]
            lines = [":".join(map(str, row)) for row in table.tolist()]
            (tmp_path / "odd" / name / f"{number}{suffix}").write_text("\n".join(lines))
    with in_folder(tmp_path, monkeypatch) as folder:
        yield folder


def load(folder: Path, root: str, **values: str) -> loading.DataSet:
    options = DataSpace(name="event-folder", root=str(folder / root), sensor=(16, 16), **values)  # type: ignore[arg-type]
    return loading.load("event-folder", time_steps=3, options=options, cache_dir=folder / "cache")


def write_reader(folder: Path, returned: str) -> None:
    (folder / f"{MODULE}.py").write_text(f"{HEAD}    {returned}\n")
    forget_module()


def frames_of(loaded: loading.DataSet) -> list[tuple[int, bytes]]:
    splits = (loaded.train, loaded.validation, loaded.test)
    return sorted((int(y), x.tobytes()) for split in splits for x, y in zip(split.frames, split.labels, strict=True))


@pytest.mark.parametrize(
    ("returned", "values"),
    [
        ("return x, y, t, p", {}),
        ("return x, y, t / 1000, 2 * p - 1", {"time_unit": "ms"}),
        ("print(path.name); return {'polarity': p, 'Y': y, 'x': x, 'timestamp': t}", {}),
        ("return np.stack([x, y, t, p], axis=1)", {"columns": "xytp"}),
        ("return np.rec.fromarrays([x, y, t, p], names='x,y,t,p')", {}),
        ("return list(x), list(y), list(t), list(p > 0)", {}),
    ],
)
def test_frames_are_those_of_the_same_recordings_in_a_known_format(
    here: Path, returned: str, values: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_reader(here, returned)
    assert frames_of(load(here, "odd", reader=READER, **values)) == frames_of(load(here, "known", columns="txyp"))
    assert capsys.readouterr().out == ""


def test_other_code_makes_other_frames(here: Path) -> None:
    write_reader(here, "return x, y, t, p")
    before = load(here, "odd", reader=READER)
    write_reader(here, "return x, y, t, 1 - p")
    after = load(here, "odd", reader=READER)
    np.testing.assert_array_equal(before.train.frames[:, :, ::-1], after.train.frames)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("return t", "it has the shape [60]"),
        ("return x, y, t", f"{READER} must return four arrays (x, y, t, p), a dict of them, or an array with these"),
        ("return None", "got an object of type NoneType"),
        ("return {'x': x, 'y': y}", "got an object of type dict with x, y"),
        ("return x, y[:5], t, p", "x, y, t and p must be of one length"),
        ("return x + 1, y, t, p", "has x 16, where 0 to 15 are possible"),
        ("return x, y, t[::-1], p", "time runs backwards"),
        ("return x / 2, y, t, p", "x holds values that are no whole numbers"),
        ("return x, y, t * np.nan, p", "t holds values that are no finite numbers"),
        (
            "return missing",
            f"{READER} failed: NameError: name 'missing' is not defined ({MODULE}.py, line 4: return missing)",
        ),
        ("raise SystemExit(3)", f"{READER} failed: SystemExit: 3"),
        ("return x[:0], y[:0], t[:0], p[:0]", "holds no events"),
        ("return 'xx', y, t, p", "x, y, t and p must be of one length"),
        ("return [str(v) for v in x], y, t, p", "x holds no numbers but <U"),
    ],
)
def test_what_is_no_recording_is_told_with_its_file(here: Path, returned: str, words: str) -> None:
    write_reader(here, returned)
    with pytest.raises(UserError) as caught:
        load(here, "odd", reader=READER)
    assert str(caught.value).startswith(str(here / "odd"))
    assert words in str(caught.value)


def test_a_function_that_is_not_there(here: Path) -> None:
    write_reader(here, "return x, y, t, p")
    with pytest.raises(UserError, match=rf"^data.reader: {MODULE} has no function 'reed'; did you mean 'read'\?$"):
        load(here, "odd", reader=f"{MODULE}:reed")
    with pytest.raises(UserError, match=r"^reader: image-folder has no such option; remove the key$"):
        loading.load("image-folder", time_steps=2, options=DataSpace(name="image-folder", size=(8, 8), reader="a:b"))
