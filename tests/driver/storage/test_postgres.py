"""Several coordinators on one PostgreSQL server, which they and the test alike maltreat: `make test-postgres`."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from long_forms import LONG
from optuna.study import StudyDirection
from processes import children_of, is_alive
from sqlalchemy import text

from spquant_search.driver.storage import database
from spquant_search.driver.storage.database import Database, Locks
from spquant_search.driver.storage.postgres import OWNER, Postgres
from spquant_search.driver.study import study_in
from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_results, read_shared_study
from spquant_search.runs.results import Outcome

pytestmark = pytest.mark.postgres

TINY = Path(__file__).parents[3] / "spaces" / "tiny.yaml"
PASSWORD = "a-secret:of/its@own"
QUOTED = "a-secret%3Aof%2Fits%40own"
TRIALS = 8
EPOCHS = 12  # of a baseline that changes hands
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
def server() -> Iterator[Server]:
    tools = programs()
    if tools is None:
        pytest.fail("PostgreSQL is not installed; `make test-postgres` installs it")
    # Not among pytest's own folders: every start of pytest closes those to other users, as one is that the server
    # runs as, and a server that is restarted then does not find its data.
    home = Path(tempfile.mkdtemp(prefix="spquant-postgres-"))
    home.chmod(0o755)
    user = []
    if os.getuid() == 0:  # the server refuses to run as root
        owner = pwd.getpwnam("postgres")
        user = ["runuser", "-u", "postgres", "--"]
        os.chown(home, owner.pw_uid, owner.pw_gid)
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
        shutil.rmtree(home)


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
    words = ("--set", "search.strategy=warm-start", "--set", f"train.baseline_epochs={EPOCHS}", "--trials", "1")
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
    assert len(results[0].epochs) == EPOCHS


@pytest.mark.parametrize("strategy", ["supernet", "warm-start"] if LONG else ["supernet"])
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
    name = read_shared_study(run)
    assert name is not None
    storage = Postgres(Database.of(server.url), name)
    owners = {trial.user_attrs[OWNER] for trial in study_in(storage).trials}
    storage.close()
    assert len(owners) == 2


def test_the_server_asks_after_whoever_holds_a_lock(server: Server) -> None:
    """Otherwise that of a machine without power would last for the two hours that systems wait by themselves."""
    locks = Locks(engine=Database.of(server.url).engine(), idle_seconds=50)
    for seconds in (0, 1):
        lease = locks.take("testing", seconds=seconds)
        assert lease is not None
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "idle_session_timeout")
        found = [str(lease._connection.execute(text(f"SHOW {name}")).scalar()) for name in names]
        assert found == ["30", "10", "3", "50s"]
        lease.end()
        assert not lease.is_held()
    locks.engine.dispose()


@contextmanager
def opened(server: Server, study: str, note: Callable[[str], None] = print) -> Iterator[Postgres]:
    storage = Postgres(Database.of(server.url), study, note=note)
    try:
        yield storage
    finally:
        storage.close()


def with_study(storage: Postgres) -> int:
    """Begin the study, and return its number in the database."""
    return storage.optuna.create_new_study([StudyDirection.MAXIMIZE], storage.study_name)


STOPPED = """
import sys
from spquant_search.driver.storage.database import Database
from spquant_search.driver.storage.postgres import Postgres
storage = Postgres(Database.of(sys.argv[1]), "stopped", note=lambda words: print(words, flush=True))
calls = []
def body():
    calls.append(1)
    print("deciding", flush=True)
    if len(calls) == 1:
        sys.stdin.readline()
    storage.optuna.set_study_user_attr(int(sys.argv[2]), f"call {len(calls)}", True)
storage.decide(body)
storage.close()
"""


def test_a_coordinator_that_is_stopped_does_not_hold_others_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others say for whom they wait; and what it had begun to decide is not written when it goes on."""
    monkeypatch.setenv("SPQUANT_GRACE_SECONDS", "4")
    notes: list[str] = []
    with opened(server, "stopped", notes.append) as storage:
        number = with_study(storage)
        stopped = subprocess.Popen(
            [sys.executable, "-c", STOPPED, server.url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert stopped.stdin is not None
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == "deciding\n"
        time.sleep(5)  # a process that runs keeps its turn, however long it takes
        stopped.send_signal(signal.SIGSTOP)
        storage.decide(lambda: storage.optuna.set_study_user_attr(number, "other", True))
        assert len(notes) == 1
        assert re.match(
            rf"spquant-search: process {stopped.pid} on .* \(address 127\.0\.0\.1\) has been deciding for \d+ s, and "
            r"this search waits for its turn; from a process that is stopped it is taken after 4 s",
            notes[0],
        )
        assert set(storage.optuna.get_study_user_attrs(number)) == {"other"}
        stopped.send_signal(signal.SIGCONT)
        said, _ = stopped.communicate("\n", timeout=60)
        assert stopped.returncode == 0
        assert said.splitlines() == [
            "the lock of decisions was lost with its connection; this decision is made again",
            "deciding",
        ]
        assert set(storage.optuna.get_study_user_attrs(number)) == {"other", "call 2"}


def end_sessions(server: Server, where: str) -> int:
    """Let the server end other sessions; return how many."""
    engine = Database.of(server.url).engine()
    with engine.connect() as connection:
        words = text(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {where}"
        )
        count = len(connection.execute(words).all())
    engine.dispose()
    return count


HOLDS_A_LOCK = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)"


@pytest.mark.parametrize("where", [HOLDS_A_LOCK, "backend_type = 'client backend'"])
def test_a_decision_whose_connection_is_lost_is_made_again(server: Server, where: str) -> None:
    notes: list[str] = []
    with opened(server, f"lost {len(where)}", notes.append) as storage:
        number = with_study(storage)
        calls: list[bool] = []

        def decides() -> int:
            calls.append(True)
            storage.optuna.set_study_user_attr(number, f"first of call {len(calls)}", True)
            if len(calls) == 1:
                assert end_sessions(server, where) >= 1
            storage.decide(lambda: storage.optuna.set_study_user_attr(number, f"second of call {len(calls)}", True))
            return len(calls)

        assert storage.decide(decides) == 2
        assert set(storage.optuna.get_study_user_attrs(number)) == {
            *("first of call 1", "first of call 2", "second of call 2"),
        }
        assert notes == ["the lock of decisions was lost with its connection; this decision is made again"]


def test_a_lost_connection_that_holds_no_lock_costs_no_decision(server: Server) -> None:
    notes: list[str] = []
    with opened(server, "kept", notes.append) as storage:
        number = with_study(storage)

        def decides() -> None:
            assert end_sessions(server, f"NOT {HOLDS_A_LOCK} AND backend_type = 'client backend'") >= 1
            storage.optuna.set_study_user_attr(number, "kept", True)

        storage.decide(decides)
        assert set(storage.optuna.get_study_user_attrs(number)) == {"kept"}
        assert notes == []


def test_what_was_claimed_in_a_lost_decision_is_taken_over_at_once(server: Server) -> None:
    with opened(server, "claimed") as storage:
        number = with_study(storage)
        storage._began = float("-inf")
        trials: list[int] = []

        def claims() -> None:
            if not trials:
                trials.append(storage.optuna.create_new_trial(number))
                storage.claim(trials[0])
                end_sessions(server, HOLDS_A_LOCK)
                storage.optuna.set_trial_user_attr(trials[0], "more", True)

        storage.decide(claims)
        assert not storage._mine
        assert storage.is_abandoned(storage.optuna.get_trial(trials[0]))


def test_the_lock_of_a_stage_is_taken_again_once_the_server_is_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQUANT_GRACE_SECONDS", "4")
    waits: list[bool] = []
    with opened(server, "stage") as first, opened(server, "stage") as second, ThreadPoolExecutor(1) as pool:
        done = threading.Event()

        def does() -> bool:
            with second.exclusive_stage("it", is_done=done.is_set, waiting=lambda: waits.append(True)) as is_to_do:
                return is_to_do

        with first.exclusive_stage("it", is_done=done.is_set, waiting=lambda: None) as is_to_do:
            assert is_to_do
            other = pool.submit(does)
            deadline = time.monotonic() + 30
            while not waits:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert first._stage is not None
            end_sessions(server, HOLDS_A_LOCK)
            second._outages.latest = time.monotonic()  # as a server that restarts makes of everybody
            while not first._stage.is_held():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(5)  # more than the server leaves to a stopped one
            assert first._stage.is_held()
            done.set()
        assert other.result() is False


def test_a_command_that_begins_while_the_server_restarts_waits_for_it(server: Server) -> None:
    server.control("stop", "-m", "fast")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(Database.of(server.url).require_connection)
        time.sleep(1)
        assert not asked.done()
        server.control("start")
        asked.result()


def test_a_server_that_cannot_take_its_locks_back_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "OLDEST_SERVER", 99)
    with pytest.raises(UserError, match=r"is PostgreSQL \d+; use version 99 or a later one"):
        Database.of(server.url).require_connection()


def test_a_wrong_password_is_said_without_showing_it(server: Server) -> None:
    database = Database.of(server.url.replace("own", "other"))
    with pytest.raises(UserError, match="password authentication failed") as caught:
        database.require_connection()
    assert "a-secret" not in str(caught.value) + repr(database)
