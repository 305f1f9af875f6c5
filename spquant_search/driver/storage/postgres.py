"""A study in PostgreSQL, for coordinators on several machines that work on one run.

Optuna brings the tables, among them a table of heartbeats. This module adds what several coordinators need: every call
waits for a server that restarts; one coordinator at a time decides what is tried next; and a trial of a coordinator
that is gone is found, so that another coordinator continues it under its own number.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from spquant_search.errors import UserError

DRIVER = "postgresql+psycopg"
BEAT_SECONDS = 15
GRACE_SECONDS = 90  # after which a coordinator without a heartbeat is taken for dead
OUTAGE_SECONDS = 15 * 60  # for which a server may be away before the search gives up
GRACE_VARIABLE = "SPQUANT_GRACE_SECONDS"

# A lock ends with its connection. A machine that loses power or network does not close its connections: the server is
# to ask after half a minute of silence, not after the system's two hours.
_NOTICES_DEATH = text(
    "SELECT set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false), "
    "set_config('tcp_keepalives_count', '3', false)"
)

Result = TypeVar("Result")
OWNER = "coordinator"  # the user attribute of a trial that names who works on it


def _grace_seconds() -> int:
    """Return the seconds after which a coordinator without a heartbeat is taken for dead."""
    text = os.environ.get(GRACE_VARIABLE, str(GRACE_SECONDS))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 10**6):
        raise UserError(
            f"{GRACE_VARIABLE}={text[:40]}: must be a whole number of seconds, such as {GRACE_SECONDS}; "
            "correct the variable, or unset it"
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL database by its URL, which may hold a password: it is shown without."""

    url: str

    @classmethod
    def of(cls, url: str) -> Database:
        """Return the database that `--storage` names.

        Raises:
            UserError: it is no PostgreSQL URL.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise UserError(
                "--storage: is no database URL; write postgresql://USER@HOST/DATABASE, with the password in ~/.pgpass "
                "or in the environment's PGPASSWORD"
            ) from None
        if parsed.get_backend_name() != "postgresql":
            raise UserError(
                f"--storage: must be postgresql://USER@HOST/DATABASE, which several machines can use at once; got "
                f"{parsed.render_as_string(hide_password=True)}. A file is not safe there: file systems shared by "
                "machines do not lock dependably. On one machine omit --storage: the study then lies in the "
                "run's folder, and --workers uses every core"
            )
        return cls(parsed.set(drivername=DRIVER).render_as_string(hide_password=False))

    def require_connection(self) -> None:
        """Check that there is a connection.

        Raises:
            UserError: there is none, or the driver is not installed.
        """
        engine = _engine(self)
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            reason = str(error.orig).strip().splitlines()[0]
            raise UserError(
                f"--storage: no connection to {self}: {reason}; check host, user and database, and give the password "
                "in ~/.pgpass or in the environment's PGPASSWORD"
            ) from None
        finally:
            engine.dispose()

    def __str__(self) -> str:
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Database({str(self)!r})"


class _Outages:
    """The times when the server was away; calls that fail because of it are repeated."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.latest = float("-inf")  # of time.monotonic()
        self._note = note

    def patiently(self, call: Callable[[], Result]) -> Result:
        """Return the result of ``call``, which is repeated as long as there is no connection.

        Raises:
            UserError: there was none for a quarter of an hour.
        """
        began, pause, told = time.monotonic(), 0.1, False
        while True:
            try:
                return call()
            except (DBAPIError, optuna.exceptions.StorageInternalError) as error:
                reason = _connection_fault(error)
                if reason is None:
                    raise
                self.latest = time.monotonic()
                if self.latest - began > OUTAGE_SECONDS:
                    raise UserError(
                        f"--storage: no connection for {OUTAGE_SECONDS // 60} minutes: {reason}; "
                        "nothing finished is lost: start the same command again once the server is back"
                    ) from None
                if not told and self.latest - began > 1.0:
                    self._note(f"the database is away ({reason}); the search waits for it")
                    told = True
                time.sleep(pause)
                pause = min(2 * pause, 5.0)


def _connection_fault(error: BaseException) -> str | None:
    """Return what is wrong with the connection, in a line; None where something else is wrong."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__cause__ or cause.__context__
    if cause is None or not (cause.connection_invalidated or type(cause).__name__ == "OperationalError"):
        return None
    return str(cause.orig).strip().splitlines()[0] if str(cause.orig).strip() else type(cause.orig).__name__


_CALLS = (
    *("create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name"),
    *("get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs"),
    *("get_all_studies", "_create_new_trial", "_set_trial_param", "set_trial_state_values", "get_trial"),
    *("set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr", "_get_trials"),
    *("get_trial_id_from_study_id_trial_number", "record_heartbeat", "_get_stale_trial_ids", "get_trial_param"),
    *("get_trial_user_attrs", "get_trial_system_attrs", "get_all_trials"),
)


class _PatientStorage(RDBStorage):
    """Optuna's storage, with calls that wait for a server that restarts.

    A call whose answer was lost is repeated. Where that makes a trial twice, the first of the two gets no heartbeat,
    and a coordinator takes it over as it does any abandoned trial.
    """

    outages: _Outages


def _patient(name: str) -> Callable[..., Any]:
    plain = getattr(RDBStorage, name)

    @wraps(plain)
    def call(self: _PatientStorage, *args: Any, **kwargs: Any) -> Any:
        before = self.outages.latest
        try:
            return self.outages.patiently(lambda: plain(self, *args, **kwargs))
        except optuna.exceptions.UpdateFinishedTrialError:
            if self.outages.latest == before:
                raise
            return True  # the call whose answer was lost had ended the trial

    return call


for _name in _CALLS:
    setattr(_PatientStorage, _name, _patient(_name))


class Postgres:
    """A study in PostgreSQL that several coordinators work on."""

    is_shared = True

    def __init__(
        self, database: Database, study_name: str, *, note: Callable[[str], None] = lambda _words: None
    ) -> None:
        """Open the study, and begin to send heartbeats.

        Raises:
            UserError: the driver is not installed, or there is no connection for long.
        """
        self.study_name = study_name
        self._outages = _Outages(note)
        self._engine = _engine(database)
        self._grace = _grace_seconds()
        self._beat = max(1, min(BEAT_SECONDS, self._grace // 4))
        self._began, self._depth = time.monotonic(), 0
        self._decision: Connection | None = None
        self._mine: set[int] = set()
        self._first_seen: dict[int, float] = {}  # trials without a heartbeat
        self._stale: tuple[float, set[int]] = (float("-inf"), set())
        with self.decision_lock(), warnings.catch_warnings():  # tables are made once
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._storage = self._outages.patiently(
                lambda: _PatientStorage(
                    database.url,
                    engine_kwargs={"pool_pre_ping": True},
                    heartbeat_interval=self._beat,
                    grace_period=self._grace,
                )
            )
        self._storage.outages = self._outages
        self.optuna: BaseStorage = self._storage
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beating, daemon=True, name="heartbeats")
        self._heart.start()

    @contextmanager
    def decision_lock(self) -> Iterator[None]:
        if self._depth == 0:
            self._decision = self._locked("deciding")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and self._decision is not None:
                _end(self._decision)
                self._decision = None

    def _locked(self, what: str) -> Connection:
        def lock() -> Connection:
            connection = self._engine.connect()
            try:
                connection.execute(_NOTICES_DEATH)
                connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), self._lock_name(what))
            except BaseException:
                _end(connection)
                raise
            return connection

        return self._outages.patiently(lock)

    def _lock_name(self, what: str) -> dict[str, str]:
        return {"name": f"spquant-search {self.study_name} {what}"}

    @contextmanager
    def exclusive_stage(self, what: str, *, is_done: Callable[[], bool], waiting: Callable[[], None]) -> Iterator[bool]:
        connection: Connection | None = None
        try:
            while not is_done():
                connection = self._outages.patiently(lambda: self._tried(what))
                if connection is not None:
                    break
                waiting()
                time.sleep(1.0)
            yield connection is not None and not is_done()
        finally:
            if connection is not None:
                _end(connection)

    def _tried(self, what: str) -> Connection | None:
        connection = self._engine.connect()
        try:
            connection.execute(_NOTICES_DEATH)
            answer = connection.execute(
                text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), self._lock_name(what)
            )
            if answer.scalar():
                connection.commit()  # the connection keeps the lock; an open transaction would block others
                return connection
        except BaseException:
            _end(connection)
            raise
        _end(connection)
        return None

    def claim(self, trial_id: int) -> None:
        self._storage.record_heartbeat(trial_id)
        self._storage.set_trial_user_attr(trial_id, OWNER, self._name)
        self._mine.add(trial_id)

    @property
    def _name(self) -> str:
        return f"{os.uname().nodename}:{os.getpid()}:{id(self):x}"

    def is_mine(self, trial: FrozenTrial) -> bool:
        return trial.user_attrs.get(OWNER) == self._name

    def release(self, trial_id: int) -> None:
        self._mine.discard(trial_id)

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        now, number = time.monotonic(), trial._trial_id
        if number in self._mine:
            return False
        # While the server was away no coordinator could send a heartbeat, and all have the grace time to do so again.
        # This process does not know either which heartbeats there were before it began.
        if now - self._outages.latest < self._grace or now - self._began < 2 * self._beat:
            return False
        if OWNER not in trial.user_attrs:  # its coordinator died before it claimed the trial
            return now - self._first_seen.setdefault(number, now) > self._grace
        taken, stale = self._stale
        if now - taken > 1.0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stale = set(self._storage._get_stale_trial_ids(self._study_id()))
            self._stale = (now, stale)
        return number in stale

    def _study_id(self) -> int:
        return self._storage.get_study_id_from_name(self.study_name)

    def _beating(self) -> None:
        while not self._ended.wait(self._beat):
            for trial_id in tuple(self._mine):
                with suppress(Exception):  # the search itself waits for the server, and reports that
                    RDBStorage.record_heartbeat(self._storage, trial_id)

    def close(self) -> None:
        self._ended.set()
        self._heart.join(timeout=1.0)
        for engine in (self._engine, self._storage.engine):
            with suppress(DBAPIError):
                engine.dispose()


def _engine(database: Database) -> Engine:
    try:
        return create_engine(database.url, pool_pre_ping=True)
    except (ImportError, NoSuchModuleError):
        raise UserError("--storage: needs the PostgreSQL driver: pip install 'spquant-search[postgresql]'") from None


def _end(connection: Connection) -> None:
    """Close a connection for good: back in its pool it would keep its locks."""
    with suppress(DBAPIError):
        connection.invalidate()
        connection.close()
