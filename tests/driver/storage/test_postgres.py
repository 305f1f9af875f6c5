"""Several coordinators on one PostgreSQL server, which they and the test alike maltreat: `make test-postgres`."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import children_of, is_alive

from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_results, read_shared_study
from spquant_search.runs.results import Outcome

pytestmark = pytest.mark.postgres

TINY = Path(__file__).parents[3] / "spaces" / "tiny.yaml"
PASSWORD = "a-secret:of/its@own"
QUOTED = "a-secret%3Aof%2Fits%40own"
TRIALS = 8
GRACE = 6


def programs() -> Path | None:
    """The folder with `initdb` and `pg_ctl`, which Debian leaves out of PATH."""
    found = shutil.which("pg_ctl")
    if found is not None:
        return Path(found).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return debian[-1].parent if debian else None


@dataclass(frozen=True)
class Server:
    data: Path
    port: int
    user: list[str]  # a command that runs another as a user who is not root

    @property
    def url(self) -> str:
        return f"postgresql://searcher:{QUOTED}@127.0.0.1:{self.port}/postgres"

    def control(self, *words: str) -> None:
        tools = programs()
        assert tools is not None
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        rest = ["-o", options, "-l", str(self.data.parent / "log.txt")] if words[0] != "stop" else []
        command = [*self.user, str(tools / "pg_ctl"), "-D", str(self.data), "-w", *words, *rest]
        subprocess.run(command, check=True, capture_output=True, cwd="/")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tools = programs()
    if tools is None:
        pytest.fail("PostgreSQL is not installed; `make test-postgres` installs it")
    home = tmp_path_factory.mktemp("postgres")
    user = []
    if os.getuid() == 0:  # the server refuses to run as root
        owner = pwd.getpwnam("postgres")
        user = ["runuser", "-u", "postgres", "--"]
        os.chown(home, owner.pw_uid, owner.pw_gid)
        for parent in home.parents[:3]:
            parent.chmod(0o755)
    secret = home / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Server(data=home / "data", port=port, user=user)
    words = ["-U", "searcher", "-A", "scram-sha-256", "--pwfile", str(secret), "-D", str(found.data)]
    subprocess.run([*user, str(tools / "initdb"), *words], check=True, capture_output=True, cwd="/")
    found.control("start")
    try:
        yield found
    finally:
        found.control("stop", "-m", "immediate")


def search(server: Server, folder: Path, *more: str, log: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "SPQUANT_COMPILE": "0",
        "OMP_NUM_THREADS": "1",
        "SPQUANT_GRACE_SECONDS": str(GRACE),
        "SPQUANT_STORAGE": server.url,
    }
    command = [
        *(sys.executable, "-m", "spquant_search.cli", "--space", str(TINY), "--run", "shared"),
        *("--trials", str(TRIALS), "--workers", "1", *more),
    ]
    with (folder / log).open("ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )


class Keeper(threading.Thread):
    """Sees to it that what is finished once never changes again."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(daemon=True)
        self.run_folder, self.known, self.changed = run, dict[str, str](), ""
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            for file in (self.run_folder.path / "trials").glob("*.json"):
                text = file.read_text()
                if self.known.setdefault(file.name, text) != text:
                    self.changed = file.name

    def wait_for(self, count: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(self.known) < count:
            assert time.monotonic() < deadline, f"only {len(self.known)} of {count} trials after {seconds} s"
            time.sleep(0.05)


def test_a_baseline_whose_coordinator_is_killed_is_trained_on_by_another(server: Server, tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path / "runs" / "shared")
    words = ("--set", "search.strategy=warm-start", "--set", "train.baseline_epochs=30", "--trials", "1")
    first = search(server, tmp_path, *words, log="first.txt")
    deadline = time.monotonic() + 120
    while not run.checkpoint_file(0).is_file():
        assert time.monotonic() < deadline, (tmp_path / "first.txt").read_text()
        time.sleep(0.02)
    second = search(server, tmp_path, *words, log="second.txt")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=240) == 0, (tmp_path / "second.txt").read_text()
    results = read_results(run)
    assert [result.outcome for result in results] == [Outcome.COMPLETE] * 2
    assert len(results[0].epochs) == 30


@pytest.mark.parametrize("strategy", ["warm-start", "supernet"])
def test_two_coordinators_outlive_each_other_and_the_server(server: Server, tmp_path: Path, strategy: str) -> None:
    run = RunFolder(path=tmp_path / "runs" / "shared")
    keeper = Keeper(run)
    keeper.start()
    words = ("--set", f"search.strategy={strategy}")
    first = search(server, tmp_path, *words, log="first.txt")
    keeper.wait_for(1, 120)  # the baseline
    second = search(server, tmp_path, *words, log="second.txt")
    keeper.wait_for(3, 120)
    server.control("restart", "-m", "fast")
    keeper.wait_for(5, 120)
    trainers = children_of(first.pid)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=240) == 0, (tmp_path / "second.txt").read_text()
    keeper.ended.set()
    keeper.join()
    assert not keeper.changed
    assert not any(map(is_alive, trainers))

    results = read_results(run)
    tried = [result for result in results if result.is_candidate and result.outcome is not Outcome.DUPLICATE]
    assert len(tried) == TRIALS
    assert len({result.config for result in tried}) == TRIALS, "no configuration twice"
    assert [result.number for result in results] == list(range(len(results))), "no trial is lost"
    assert not [result for result in results if result.outcome is Outcome.FAILED]
    for result in results:
        assert result.reason != f"same configuration as trial {result.number}", "what is taken over is trained"
    front = json.loads((run.path / "front.json").read_text())
    assert front["members"]

    again = search(server, tmp_path, *words, log="again.txt")  # nothing is left to do
    assert again.wait(timeout=120) == 0
    assert read_results(run) == results
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in written if b"a-secret" in file.read_bytes()], "the password is kept nowhere"


def test_coordinators_share_the_work(server: Server, tmp_path: Path) -> None:
    """Both finish trials: a coordinator says of each that it begins, and of no other's."""
    both = [search(server, tmp_path, "--run", "both", log=f"{index}.txt") for index in range(2)]
    assert [one.wait(timeout=240) for one in both] == [0, 0]
    run = RunFolder(path=tmp_path / "runs" / "both")
    assert len([result for result in read_results(run) if result.is_candidate]) >= TRIALS
    from spquant_search.driver.storage.postgres import OWNER, Database, Postgres
    from spquant_search.driver.study import study_in

    name = read_shared_study(run)
    assert name is not None
    storage = Postgres(Database.of(server.url), name)
    owners = {trial.user_attrs[OWNER] for trial in study_in(storage).trials}
    storage.close()
    assert len(owners) == 2


def test_the_server_asks_after_whoever_holds_a_lock(server: Server) -> None:
    """Otherwise that of a machine without power would last for the two hours that systems wait by themselves."""
    from sqlalchemy import Connection, text

    from spquant_search.driver.storage.postgres import Database, Postgres

    def patience(connection: Connection | None) -> list[str]:
        assert connection is not None
        names = ("idle", "interval", "count")
        return [str(connection.execute(text(f"SHOW tcp_keepalives_{name}")).scalar()) for name in names]

    storage = Postgres(Database.of(server.url), "locks")
    try:
        for connection in (storage._tried("testing"), storage._locked("deciding")):
            assert patience(connection) == ["30", "10", "3"]
            assert connection is not None
            connection.invalidate()
    finally:
        storage.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///study.db", "must be postgresql"),
        ("study.db", "is no database URL"),
        (
            f"postgresql://searcher:{QUOTED}@127.0.0.1:1/postgres",
            "no connection to postgresql://searcher:***@127.0.0.1:1",
        ),
    ],
)
def test_a_storage_that_many_machines_cannot_use_is_refused(
    url: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spquant_search.driver.storage.postgres import Database

    with pytest.raises(UserError, match="--storage") as caught:
        Database.of(url).require_connection()
    assert words in str(caught.value)
    assert "a-secret" not in str(caught.value)


def test_a_wrong_password_is_said_without_showing_it(server: Server) -> None:
    from spquant_search.driver.storage.postgres import Database

    database = Database.of(server.url.replace("own", "other"))
    with pytest.raises(UserError, match="password authentication failed") as caught:
        database.require_connection()
    assert "a-secret" not in str(caught.value) + repr(database)
