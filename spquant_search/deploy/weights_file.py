"""Pack numbers into ``weights.bin``, and read it and ``manifest.json`` back.

The program ``reference.py`` of an artifact begins with what follows the imports here, so that it needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# ---------------------------------------------------------------- files

FORMAT = 4
MANIFEST_FILE, WEIGHTS_FILE, VECTORS_FILE = "manifest.json", "weights.bin", "test_vectors.npz"
Integers = NDArray[np.int64]


class DamagedArtifact(Exception):
    """The files are not those that were written, or not all of them are there."""


# ---------------------------------------------------------------- packing


def fields_of(bits: int) -> tuple[int, ...]:
    """Return the bit fields that store a code of so many bits, lowest first; the size of each divides a byte."""
    return {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 8: (8,)}[bits]


def row_bytes(columns: int, bits: int) -> int:
    """Return the bytes of one packed row."""
    return sum(-(-columns * field // 8) for field in fields_of(bits))


def pack_rows(codes: NDArray[Any], bits: int) -> bytes:
    """Pack rows of codes 0 .. 2^bits - 1; ``codes`` is [row, column].

    A row is stored field by field. A field takes q bytes, and its byte j holds columns j, j + q, j + 2 q .. from the
    lowest bits on: neighbouring bytes hold neighbouring columns, and a loop over bytes works on whole vectors of them.
    """
    rows, columns = codes.shape
    parts = []
    shift = 0
    for field in fields_of(bits):
        q, slots = -(-columns * field // 8), 8 // field
        part = np.zeros((rows, slots * q), dtype=np.uint8)
        part[:, :columns] = (codes >> shift) & (2**field - 1)
        by_slot = part.reshape(rows, slots, q)
        packed = np.zeros((rows, q), dtype=np.uint8)
        for slot in range(slots):
            packed |= by_slot[:, slot] << (slot * field)
        parts.append(packed)
        shift += field
    return np.concatenate(parts, axis=1).tobytes()


def unpack_rows(data: bytes, *, rows: int, columns: int, bits: int) -> Integers:
    """Return the codes [row, column] that :func:`pack_rows` packed."""
    raw = np.frombuffer(data, dtype=np.uint8).reshape(rows, row_bytes(columns, bits))
    codes = np.zeros((rows, columns), dtype=np.int64)
    begin = shift = 0
    for field in fields_of(bits):
        q, slots = -(-columns * field // 8), 8 // field
        part = raw[:, begin : begin + q]
        by_slot = [(part >> (slot * field)) & (2**field - 1) for slot in range(slots)]
        codes |= np.concatenate(by_slot, axis=1)[:, :columns].astype(np.int64) << shift
        begin, shift = begin + q, shift + field
    return codes


def weight_of(codes: Integers, bits: int) -> Integers:
    """Return the integer weights of stored codes: the sign for 1 bit, otherwise the code less the largest weight."""
    return 2 * codes - 1 if bits == 1 else codes - code_offset(bits)


def code_offset(bits: int) -> int:
    """Return the largest weight, which is added to every weight of 2 bits and more to store it as a code."""
    return 1 if bits <= 2 else 2 ** (bits - 1) - 1


def decode(segment: dict[str, Any], data: bytes) -> Integers:
    """Return the whole numbers [row, column] of one segment of ``weights.bin``."""
    rows, columns, kind = segment["rows"], segment["columns"], segment["type"]
    if kind == "packed":
        return unpack_rows(data, rows=rows, columns=columns, bits=segment["bits"])
    return np.frombuffer(data, dtype=np.dtype(kind).newbyteorder("<")).reshape(rows, columns).astype(np.int64)


# ---------------------------------------------------------------- reading


def checksum(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its own checksum."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Return the content of the file that holds a manifest."""
    return (json.dumps(manifest, indent=1) + "\n").encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder, and compare it and every file that it names with their checksums.

    Raises:
        DamagedArtifact: a file is missing or differs from what was written.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise DamagedArtifact(f"{file}: is missing")
    try:
        content = file.read_bytes()
        manifest = json.loads(content)
        expected, files, version = manifest["checksum"], dict(manifest["files"]), manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise DamagedArtifact(f"{file}: is not a manifest") from None
    if checksum(manifest) != expected or manifest_bytes(manifest) != content:
        raise DamagedArtifact(f"{file}: was changed after it was written")
    if version != FORMAT:
        raise DamagedArtifact(f"{file}: has format {version}; this program reads {FORMAT}")
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise DamagedArtifact(f"{folder / name}: is missing")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise DamagedArtifact(f"{folder / name}: was changed after it was written")
    return dict(manifest)
