"""The process that has fake GPUs: runs as JSON in, what they found as JSON out.

    python -m fake_gpu.child LIBRARY < runs.json > found.json

Every run is a fork, so that torch is imported once, and the package for each run anew.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import multiprocessing
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fake_gpu.loading import load

PACKAGE = "spquant_search"


class Edited(importlib.abc.MetaPathFinder):
    """Finds the package's modules, one of them with another line."""

    def __init__(self, *, file: str, old: str, new: str) -> None:
        self._module = f"{PACKAGE}/{file}".removesuffix(".py").replace("/", ".")
        self._old, self._new = old, new

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == self._module else None
        if spec is not None and spec.origin is not None:
            text = Path(spec.origin).read_text(encoding="utf-8")
            if text.count(self._old) != 1:
                raise ValueError(f"{spec.origin} has {text.count(self._old)} times, not once: {self._old}")
            spec.loader = _Loader(name, spec.origin, text.replace(self._old, self._new))
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._text, self.path, "exec", dont_inherit=True)
        return code


def _run(answer: Connection, run: dict[str, Any]) -> None:
    if run["edit"] is not None:
        sys.meta_path.insert(0, Edited(**run["edit"]))
    from fake_gpu.scenarios import measure

    answer.send(measure(run["space"], run["device"], run["scenarios"]))


def _forked(run: dict[str, Any]) -> Any:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, run))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"a run ended with {process.exitcode} and found nothing: {run}") from None
    finally:
        process.join()


if __name__ == "__main__":
    load(Path(sys.argv[1]))
    # What every run needs, before the first fork.
    import torch._subclasses.fake_tensor  # noqa: F401

    json.dump([_forked(run) for run in json.load(sys.stdin)], sys.stdout)
