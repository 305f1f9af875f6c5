"""Recordings as text: every separator, with names and without, event for event."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, made_up_events
from data.read_events import failure, is_read_or_named, read
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

ROWS = made_up_events(1, WIDTH, HEIGHT)
LATE = ROWS + np.array([0, 0, 1_700_000_000_000_000_000, 0])  # more than floating point holds exactly


def text(rows: NDArray[np.int64], order: str, separator: str) -> str:
    picked = rows[:, ["xytp".index(axis) for axis in order]].tolist()
    return "".join(separator.join(map(str, row)) + "\n" for row in picked)


@pytest.mark.parametrize("separator", [",", ", ", ";", "\t", " ", "   "])
@pytest.mark.parametrize("suffix", ["csv", "txt", "CSV"])
@given(order=st.permutations("xytp"))
def test_every_event_of_every_separator(
    tmp_path_factory: pytest.TempPathFactory, separator: str, suffix: str, order: list[str]
) -> None:
    path = tmp_path_factory.mktemp("text") / f"a.{suffix}"
    for heading in (
        separator.join(order),
        "# " + separator.join(order),
        '% recorded by hand\n"' + f'"{separator}"'.join(order) + '"',
    ):
        path.write_text(f"{heading}\n{text(ROWS, ''.join(order), separator)}")
        np.testing.assert_array_equal(read(path), ROWS)
    path.write_text(text(ROWS, "".join(order), separator))
    np.testing.assert_array_equal(read(path, columns="".join(order)), ROWS)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_programs_put_around_lines(tmp_path: Path, ending: str, mark: str) -> None:
    path = tmp_path / "a.csv"
    lines = f"{mark}index,Timestamp,X,Y,Polarity\n" + "".join(
        f"{number},{t},{x},{y},{p}\n" for number, (x, y, t, p) in enumerate(ROWS.tolist())
    )
    path.write_bytes(lines.replace("\n", ending).encode())
    np.testing.assert_array_equal(read(path), ROWS)


def test_whole_numbers_are_read_exactly(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text(LATE, "txyp", " "))
    found = read(tmp_path / "a.txt", time_unit="ns", columns="txyp")
    assert found[:, 2].tolist() == [t // 1000 for t in LATE[:, 2].tolist()]


def test_times_in_seconds(tmp_path: Path) -> None:
    """The lines of the event camera data set of the University of Zurich: t x y p."""
    (tmp_path / "events.txt").write_text("0.003811000 96 133 0\n0.003820001 127 171 1\n1.5 0 1 1\n")
    expected = [[96, 133, 3811, 0], [127, 171, 3820, 1], [0, 1, 1_500_000, 1]]
    assert read(tmp_path / "events.txt", time_unit="s", columns="txyp").tolist() == expected


def test_places_written_as_fractions(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,t,p\n1.0,2.0,3e2,-1\n1.0,2.0,4e2,1\n")
    assert read(tmp_path / "a.csv").tolist() == [[1, 2, 300, 0], [1, 2, 400, 1]]
    (tmp_path / "a.csv").write_text("x,y,t,p\n1.5,2.0,3,1\n")
    assert "x holds values that are no whole numbers" in failure(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "it holds no events"),
        ("# x y t p\n", "it holds no events"),
        ("some notes\non this recording\n", "it holds no events"),
        ("1,2,3,0\n", "has four columns without names; say which is which by data.columns"),
        ("1,2,3\n", "it must have columns called x, y, t, p, or four columns; it has 3 columns without names"),
        ("a,b,c\n1,2,3\n", "or four columns; it has the columns a, b, c"),
        ("x,y,t,p\n1,2,3,0\n1,2\n", "cannot be read: "),
        ("x,y,t,p\n1,2,three,0\n", "cannot be read: "),
        ("x,y,t,p\n1,2,,0\n", "cannot be read: "),
        ("x,y,t,p\n1,2,99999999999999999999999,0\n", "it has times beyond"),
        ("x,y,t,p\n1,2,nan,0\n", "t holds values that are no finite numbers"),
    ],
)
def test_text_that_holds_no_events(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    message = failure(tmp_path / "a.csv")
    assert message.startswith(f"{tmp_path / 'a.csv'}: ")
    assert words in message


def test_damaged_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    whole = b"x,y,t,p\n" + text(ROWS, "xytp", ",").encode()
    generator = np.random.default_rng(0)
    for _ in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[generator.integers(0, len(whole), 3)] = generator.integers(0, 256, 3)
        path.write_bytes(content.tobytes()[: generator.integers(1, len(whole) + 1)])
        assert is_read_or_named(path)
