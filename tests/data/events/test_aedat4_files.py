"""AEDAT 4: every event, another sensor, and what becomes of a decoder that panics or would end the process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, made_up_events, write_aedat4
from data.published import CIFAR10_DVS, load_recorded, write_set
from data.read_events import failure, read

from spquant_search.data.events.aedat4_files import read_aedat4
from spquant_search.errors import UserError

ROWS = made_up_events(1, WIDTH, HEIGHT)


def test_every_event_of_an_aedat4_file(tmp_path: Path) -> None:
    write_aedat4(tmp_path / "a.aedat4", ROWS)
    found = read(tmp_path / "a.aedat4", sensor=(128, 128))
    np.testing.assert_array_equal(found - [0, 0, found[0, 2] - ROWS[0, 2], 0], ROWS)
    assert failure(tmp_path / "a.aedat4", sensor=(260, 346)).startswith(
        f"{tmp_path / 'a.aedat4'}: is a recording of [128, 128] pixels [height, width], and data.sensor says [260, 346]"
    )


def test_an_aedat4_file_without_events_holds_none(tmp_path: Path) -> None:
    write_set(tmp_path / "files", CIFAR10_DVS, per_class=3)
    path = tmp_path / "files" / "cat" / "cifar10_1.aedat4"
    write_aedat4(path, np.empty((0, 4), np.int64))
    with pytest.raises(UserError, match=rf"^{path}: holds no events; get the file again, or remove it$"):
        load_recorded(CIFAR10_DVS, tmp_path / "files", tmp_path / "cache")


class PanicException(BaseException):
    """As the decoder's, which is written in Rust."""


@pytest.mark.parametrize("error", [PanicException("out of range"), RuntimeError("out of range"), KeyboardInterrupt()])
def test_a_decoder_that_panics_is_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: BaseException
) -> None:
    def broken(path: str) -> None:
        os.write(2, b"thread panicked at src/lib.rs")
        raise error

    path = tmp_path / "a.aedat4"
    write_aedat4(path, ROWS)
    monkeypatch.setitem(sys.modules, "aedat", SimpleNamespace(Decoder=broken))
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
    with pytest.raises(expected) as caught:
        read_aedat4(path)
    assert expected is KeyboardInterrupt or str(caught.value).startswith(f"{path}: cannot be read: out of range. It is")
    assert capfd.readouterr().err == ""


def test_a_description_that_is_no_text_is_not_decoded(tmp_path: Path) -> None:
    """At such a file aedat 2.3 ends the process."""
    path = tmp_path / "a.aedat4"
    write_aedat4(path, ROWS)
    whole = path.read_bytes()
    for part in (b"MonoCameraWriter", b"EVTS", b"</dv>", b"compression"):
        path.write_bytes(whole.replace(part, b"\xde" + part[1:], 1))
        assert failure(path).startswith(f"{path}: cannot be read: the description of its streams is no text. It is")
    path.write_bytes(b"#!AER-DAT4.0\r\n")
    assert failure(path).startswith(f"{path}: cannot be read: the description of its streams is no text")
    path.write_bytes(b"#!AER-DAT3.1")
    with pytest.raises(UserError, match="cannot be read: it does not begin with the line of an AEDAT 4 file"):
        read_aedat4(path)


def test_aedat_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_aedat4(tmp_path / "a.aedat4", ROWS)
    monkeypatch.setitem(sys.modules, "aedat", None)
    message = failure(tmp_path / "a.aedat4")
    assert message.startswith(f"{tmp_path / 'a.aedat4'}: reading it needs aedat, which cannot be imported (")
    assert message.endswith("; pip install aedat")
