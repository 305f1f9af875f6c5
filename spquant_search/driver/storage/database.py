"""A PostgreSQL server by its URL: its connections, its outages, and the locks that its sessions hold."""

from __future__ import annotations

import errno
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from spquant_search.driver.storage.protocol import Result
from spquant_search.errors import UserError

DRIVER = "postgresql+psycopg"
OLDEST_SERVER = 14  # the first version that ends a session of its own accord that is idle for long
OUTAGE_SECONDS = 15 * 60  # for which a server may be away before the search gives up
RESTART_SECONDS = 10.0  # for which a server may refuse connections before a command that begins takes it for absent
LOCK_NOT_AVAILABLE = "55P03"  # the server's code of a lock that was waited for too long
_LONGEST_NAME = 63  # that the server keeps of an application's name
# A server whose machine loses power or network does not close its connections, and neither does such a client: both
# are to ask after half a minute of silence, not after the two hours that systems wait by themselves.
_IDLE_S, _INTERVAL_S, _COUNT = 30, 10, 3


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
        """Check that there is a connection to a server that is recent enough; one that restarts is waited for.

        Raises:
            UserError: there is none, the server is too old, or the driver is not installed.
        """
        engine, end = self.engine(), time.monotonic() + RESTART_SECONDS
        try:
            while not self._connects(engine, is_last=time.monotonic() >= end):
                time.sleep(0.2)
        finally:
            engine.dispose()

    def _connects(self, engine: Engine, *, is_last: bool) -> bool:
        """Return whether a server answers; False where it may be one that restarts."""
        try:
            with engine.connect() as connection:
                version = int((connection.dialect.server_version_info or (0,))[0])
        except DBAPIError as error:
            reason = first_line(error)
            if not is_last and _may_be_restarting(str(error.orig)):
                return False
            raise UserError(
                f"--storage: no connection to {self}: {reason}; check host, user and database, and give the password "
                "in ~/.pgpass or in the environment's PGPASSWORD"
            ) from None
        if version < OLDEST_SERVER:
            raise UserError(
                f"--storage: {self} is PostgreSQL {version}; use version {OLDEST_SERVER} or a later one, which takes "
                "its locks back from a coordinator that is stopped"
            )
        return True

    def connect_arguments(self) -> dict[str, Any]:
        """Return what every connection is opened with, unless the URL says otherwise."""
        ours = {
            "application_name": process_name()[:_LONGEST_NAME],
            "keepalives_idle": _IDLE_S,
            "keepalives_interval": _INTERVAL_S,
            "keepalives_count": _COUNT,
        }
        given = make_url(self.url).query
        return {name: value for name, value in ours.items() if name not in given}

    def engine(self) -> Engine:
        """Return a source of connections.

        Raises:
            UserError: the driver is not installed.
        """
        try:
            return create_engine(self.url, pool_pre_ping=True, connect_args=self.connect_arguments())
        except (ImportError, NoSuchModuleError):
            raise UserError(
                "--storage: needs the PostgreSQL driver: pip install 'spquant-search[postgresql]'"
            ) from None

    def __str__(self) -> str:
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Database({str(self)!r})"


def process_name() -> str:
    """Return what a server's list of sessions calls this process."""
    return f"spquant-search: process {os.getpid()} on {platform.node()}"


def first_line(error: DBAPIError) -> str:
    """Return what is wrong in a line."""
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def _may_be_restarting(reason: str) -> bool:
    """Return whether a server that restarts may be the reason why it gives no connection."""
    # The system's words for a refused connection are those of this machine; the server's may be in another language,
    # but then the connection is refused before or after.
    words = (os.strerror(errno.ECONNREFUSED), "starting up", "shutting down", "closed the connection unexpectedly")
    return any(word in reason for word in words)


class Outages:
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
    return first_line(cause)


class Lease:
    """A lock that a session of the server holds for this process.

    The server ends a session that is idle for long, and the lock with it: from a process that is stopped it takes the
    lock back. So the process must ask for it, or :meth:`is_held` be called, now and then.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._is_lost, self._is_over = connection, False, False
        self._mutex = threading.Lock()  # heartbeats keep a lease that another thread uses

    def is_held(self) -> bool:
        """Ask the server whether the lock is still held."""
        with self._mutex:
            if not self._is_lost:
                try:
                    self._connection.execute(text("SELECT 1"))
                except DBAPIError:
                    self._is_lost = True
            return not self._is_lost

    def replace(self, again: Lease) -> None:
        """Hold the lock by the session of another lease, which was taken after this one was lost."""
        with self._mutex:
            if self._is_over:
                end_session(again._connection)
                return
            end_session(self._connection)
            self._connection, self._is_lost = again._connection, False

    def end(self) -> None:
        """Give the lock back."""
        with self._mutex:
            self._is_lost = self._is_over = True
            end_session(self._connection)


def end_session(connection: Connection) -> None:
    """Close a connection for good: back in its pool it would keep its locks."""
    with suppress(DBAPIError):
        connection.invalidate()
        connection.close()


# The server asks after the process as often as that asks after the server.
_SETTINGS = text(
    "SELECT set_config('idle_session_timeout', :idle, false), set_config('lock_timeout', :wait, false), "
    f"set_config('tcp_keepalives_idle', '{_IDLE_S}', false), "
    f"set_config('tcp_keepalives_interval', '{_INTERVAL_S}', false), "
    f"set_config('tcp_keepalives_count', '{_COUNT}', false)"
)
# An advisory lock of one number is listed by the halves of that number.
_HOLDER = text(
    "SELECT application_name, client_addr FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND ((classid::bigint << 32) | objid::bigint) = hashtextextended(:name, 0)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Locks:
    """The locks of a database by name, each held by one session."""

    engine: Engine
    idle_seconds: int  # after which the server takes a lock back that is not asked for

    def take(self, name: str, *, seconds: float) -> Lease | None:
        """Take a lock; return None where another session still holds it after so many seconds; 0: do not wait."""
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            wait = {"idle": f"{self.idle_seconds}s", "wait": f"{round(1000 * seconds)}ms"}
            connection.execute(_SETTINGS, wait)
            function = "pg_advisory_lock" if seconds > 0 else "pg_try_advisory_lock"
            answer = connection.execute(text(f"SELECT {function}(hashtextextended(:name, 0))"), {"name": name}).scalar()
        except DBAPIError as error:
            end_session(connection)
            if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                return None
            raise
        except BaseException:
            end_session(connection)
            raise
        if answer is False:
            end_session(connection)
            return None
        return Lease(connection)

    def holder(self, name: str) -> str:
        """Say in words who holds a lock."""
        with self.engine.connect() as connection:
            found = connection.execute(_HOLDER, {"name": name}).first()
        if found is None:
            return "another coordinator"
        application, address = found
        return f"{application or 'another coordinator'} (address {address or 'unknown'})"
