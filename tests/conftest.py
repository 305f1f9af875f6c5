"""What every test starts from: one thread, no compiler unless a test asks for it, a cache of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

# Before torch is imported by any test: its threads, and those of the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings
from shape_checking import check_shapes

check_shapes()

# A shell has what it starts in the background ignore Ctrl-C, and what that starts in turn: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that does something else meanwhile is no fault of what is tested.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")

if TYPE_CHECKING:
    from data.server import Server


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Recordings are simulated and neurons compiled once for all tests, and never into the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SPQUANT_CACHE"] = str(folder)
    yield folder
    del os.environ["SPQUANT_CACHE"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            # The compiler's own: as errors they would end compilation, which the fixture below does notice.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(autouse=True)
def all_is_compiled_on_a_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test that needs a GPU fail where functions ran uncompiled: it would have tested nothing of the GPU's."""
    if request.node.get_closest_marker("gpu") is None:
        yield
        return
    from on_a_gpu import all_compiled

    with all_compiled():
        yield


@pytest.fixture
def plain_neurons() -> Iterator[None]:
    """Neurons run as they stand: a test of seconds must not wait for a compiler."""
    from spquant_search.snn.kernels.compile import uncompiled

    with uncompiled():
        yield


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server on 127.0.0.1 that stands in for the publisher of a data set."""
    from data.server import running_server

    with running_server() as running:
        yield running


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""
    from spquant_search.cli.app import main

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "unused")  # which a search would set for its trainers

    def run(*words: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["spquant-search", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        return Answer(int(caught.value.code or 0), printed.out, printed.err)

    return run
