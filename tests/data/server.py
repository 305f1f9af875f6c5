"""A server on 127.0.0.1 that stands in for where data sets are published."""

from __future__ import annotations

import gc
import hashlib
import io
import threading
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from data.published import NMNIST, write_set

from spquant_search.data import catalog


class Server(ThreadingHTTPServer):
    """A server of ``content``, by path; of the paths in ``cut`` it sends only the first half."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.content.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if content is not None:
            self.wfile.write(content[: len(content) // 2] if self.path in self.server.cut else content)

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def running_server() -> Iterator[Server]:
    """Run a server for the time of a test."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()
    with warnings.catch_warnings():
        # pooch leaves the connection of a download that failed to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def publish(server: Server, monkeypatch: pytest.MonkeyPatch, name: str, packed: dict[str, bytes]) -> None:
    """Let the server stand in for the publisher of a set, with these files and their checksums."""
    archives = []
    for archive in catalog.SETS[name].archives:
        content = packed[archive.file]
        server.content[f"/{archive.file}"] = content
        md5 = hashlib.md5(content).hexdigest()
        archives.append(replace(archive, url=f"{server.address}/{archive.file}", md5=md5))
    monkeypatch.setitem(catalog.SETS, name, replace(catalog.SETS[name], archives=tuple(archives)))


def zipped(folder: Path, *, below: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, f"{below}{file.relative_to(folder)}")
    return packed.getvalue()


def publish_nmnist(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    source = tmp_path / "source"
    write_set(source, NMNIST, per_class=2)
    packed = {f"{part.lower()}.zip": zipped(source / part, below=f"{part}/") for part in ("Train", "Test")}
    publish(server, monkeypatch, "nmnist", packed)
    return source
