"""Tell by its first bytes what a recording is, where its suffix says something else."""

from __future__ import annotations

import re
from pathlib import Path

from spquant_search.errors import UserError

_HEAD = 4096  # bytes
_READ = (  # the beginning of a file, what it is, and the suffixes that it may have
    (re.compile(rb"\x93NUMPY"), "an array of numpy", (".npy",)),
    (re.compile(rb"PK\x03\x04.{1,2}\x00", re.DOTALL), "a zip archive, as np.savez writes it", (".npz",)),
    (re.compile(rb"\x89HDF\r\n\x1a\n"), "an HDF5 file", (".h5", ".hdf5")),
    (re.compile(rb"#!AER-DAT4"), "an AEDAT 4 recording", (".aedat4",)),
    (re.compile(rb"#!AER-DAT"), "an AEDAT recording of an older version than 4", (".aedat",)),
    (re.compile(rb"(% [ -~]*\r?\n)*% (evt [0-9]\.[0-9]|format EVT)"), "a Prophesee recording", (".raw",)),
    (re.compile(rb"% Data file containing [A-Z]+ events"), "a Prophesee recording of decoded events", (".dat",)),
)
_OTHERS = (
    (re.compile(rb"\x1f\x8b\x08[\x00-\x1f]"), "is packed by gzip; unpack it"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "is packed by bzip2; unpack it"),
    (re.compile(rb"\xfd7zXZ\x00"), "is packed by xz; unpack it"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "is a 7z archive; unpack it"),
    (re.compile(rb"#ROSBAG V"), "is a ROS bag, which is not read; convert it to .csv or HDF5"),
    (re.compile(rb"MATLAB 5\.0 MAT-file"), "is a file of MATLAB, which is not read; save x, y, t, p as .csv or HDF5"),
)


def require_kind(path: Path) -> None:
    """Refuse a file whose first bytes are those of another format than its suffix names.

    Raises:
        UserError: they are; it says what the file is, and what to do.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return  # its reader says why
    suffix = path.suffix.lower()
    for beginning, kind, suffixes in _READ:
        if beginning.match(head):
            if suffix not in suffixes:
                renamed = path.with_suffix(suffixes[0]).name
                raise UserError(
                    f"{path}: is {kind}, and its suffix {path.suffix} names another format; call it {renamed}"
                )
            return
    for beginning, words in _OTHERS:
        if beginning.match(head):
            raise UserError(f"{path}: {words}")
