"""A study in PostgreSQL, for coordinators on several machines that work on one run.

Optuna brings the tables, among them a table of heartbeats. This module adds what several coordinators need: every call
waits for a server that restarts; one coordinator at a time decides what is tried next; and a trial of a coordinator
that is gone is found, so that another coordinator continues it under its own number.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import DBAPIError

from spquant_search.driver.storage.database import OUTAGE_SECONDS, Database, Lease, Locks, Outages, process_name
from spquant_search.driver.storage.protocol import Result
from spquant_search.errors import UserError

BEAT_SECONDS = 15
GRACE_SECONDS = 90  # after which a coordinator without a heartbeat is taken for dead
LEAST_GRACE = 4  # heartbeats come every fourth part of it, and no oftener than every second
GRACE_VARIABLE = "SPQUANT_GRACE_SECONDS"
PATIENCE_SECONDS = 20  # for which another coordinator may decide before that is said

OWNER = "coordinator"  # the user attribute of a trial that names who works on it


class DecisionLost(Exception):
    """The lock of decisions went with its connection: another coordinator may be deciding."""


def grace_seconds() -> int:
    """Return after how long a coordinator without a heartbeat is taken for dead.

    Raises:
        UserError: the environment says something else than a number of seconds.
    """
    given = os.environ.get(GRACE_VARIABLE, str(GRACE_SECONDS)).strip()
    if not (given.isdecimal() and given.isascii() and LEAST_GRACE <= int(given[:9]) <= 24 * 60 * 60):
        raise UserError(
            f"{GRACE_VARIABLE}={given[:40]}: must be a whole number of seconds from {LEAST_GRACE} to 86400; "
            f"unset it for {GRACE_SECONDS}"
        )
    return int(given)


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
    and a coordinator takes it over as it does any abandoned trial. In a decision no call is made without its lock.
    """

    outages: Outages
    decision: Callable[[], Lease | None]


def _patient(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def call(self: _PatientStorage, *args: Any, **kwargs: Any) -> Any:
        lease = self.decision()

        def checked() -> Any:
            if lease is not None and not lease.is_held():
                raise DecisionLost
            return plain(self, *args, **kwargs)

        before = self.outages.latest
        try:
            return self.outages.patiently(checked)
        except optuna.exceptions.UpdateFinishedTrialError:
            if self.outages.latest == before:
                raise
            return True  # the call whose answer was lost had ended the trial

    return call


# Some have private names, which a version of Optuna may lack: that is no reason to fail where no database is used.
MISSING_CALLS = tuple(name for name in _CALLS if not hasattr(RDBStorage, name))
for _name in set(_CALLS) - set(MISSING_CALLS):
    setattr(_PatientStorage, _name, _patient(getattr(RDBStorage, _name)))


class Postgres:
    """A study in PostgreSQL that several coordinators work on."""

    is_shared = True

    def __init__(
        self, database: Database, study_name: str, *, note: Callable[[str], None] = lambda _words: None
    ) -> None:
        """Open the study, and begin to send heartbeats.

        Raises:
            UserError: the driver is not installed, there is no connection for long, Optuna is of an unknown version,
                or the environment holds a wrong time.
        """
        if MISSING_CALLS:
            raise UserError(
                f"--storage: Optuna {optuna.__version__} lacks {', '.join(MISSING_CALLS)}, with which this program "
                "waits for a server; install the version that its package asks for"
            )
        self.study_name, self._note = study_name, note
        self._outages = Outages(note)
        self._grace = grace_seconds()
        self._beat = min(BEAT_SECONDS, self._grace // 4)
        self._name = f"{process_name()} {secrets.token_hex(8)}"
        self._engine = database.engine()
        self._locks = Locks(engine=self._engine, idle_seconds=self._grace)
        self._began = time.monotonic()
        self._decision: Lease | None = None
        self._stage: Lease | None = None
        self._stage_name = ""
        self._mine: set[int] = set()
        self._first_seen: dict[int, float] = {}  # trials without a heartbeat
        self._stale: tuple[float, set[int]] = (float("-inf"), set())
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beating, daemon=True, name="heartbeats")
        self._heart.start()
        try:
            self._storage = self.decide(lambda: self._opened(database))  # tables are made once
        except BaseException:
            self._ended.set()
            raise
        self.optuna: BaseStorage = self._storage

    def _opened(self, database: Database) -> _PatientStorage:
        arguments = {"pool_pre_ping": True, "connect_args": database.connect_arguments()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = self._outages.patiently(
                lambda: _PatientStorage(
                    database.url, engine_kwargs=arguments, heartbeat_interval=self._beat, grace_period=self._grace
                )
            )
        storage.outages, storage.decision = self._outages, lambda: self._decision
        return storage

    def decide(self, body: Callable[[], Result]) -> Result:
        if self._decision is not None:
            return body()
        while True:
            lease, before = self._turn(), frozenset(self._mine)
            self._decision = lease
            try:
                return body()
            except DecisionLost:
                self._mine &= before  # what was claimed in it may be anyone's
                self._note("the lock of decisions was lost with its connection; this decision is made again")
            finally:
                self._decision = None
                lease.end()

    def _turn(self) -> Lease:
        """Wait until it is this coordinator's turn to decide; say of a long wait for whom it is.

        Raises:
            UserError: another one has been deciding for a quarter of an hour.
        """
        began, told, name = time.monotonic(), False, self._lock_name("deciding")
        patience = min(PATIENCE_SECONDS, self._grace / 2)
        while True:
            lease = self._outages.patiently(lambda: self._locks.take(name, seconds=patience))
            if lease is not None:
                return lease
            holder, waited = self._outages.patiently(lambda: self._locks.holder(name)), time.monotonic() - began
            if waited > OUTAGE_SECONDS:
                raise UserError(
                    f"--storage: {holder} has been deciding for {waited / 60:.0f} minutes; end that process, and start "
                    "the same command again: nothing finished is lost"
                )
            if not told:
                self._note(
                    f"{holder} has been deciding for {waited:.0f} s, and this search waits for its turn; from a "
                    f"process that is stopped it is taken after {self._grace} s"
                )
                told = True

    def _lock_name(self, what: str) -> str:
        return f"spquant-search {self.study_name} {what}"

    @contextmanager
    def exclusive_stage(self, what: str, *, is_done: Callable[[], bool], waiting: Callable[[], None]) -> Iterator[bool]:
        name, lease, others_had_it = self._lock_name(what), None, False
        try:
            while not is_done():
                # While the server was away the lock was lost; whoever had it takes it again before anybody else.
                if not (others_had_it and time.monotonic() - self._outages.latest < self._grace):
                    lease = self._outages.patiently(lambda: self._locks.take(name, seconds=0))
                if lease is not None:
                    break
                others_had_it = True
                waiting()
                time.sleep(1.0)
            self._stage, self._stage_name = lease, name
            yield lease is not None and not is_done()
        finally:
            self._stage = None
            if lease is not None:
                lease.end()

    def claim(self, trial_id: int) -> None:
        self._storage.record_heartbeat(trial_id)
        self._storage.set_trial_user_attr(trial_id, OWNER, self._name)
        self._mine.add(trial_id)

    def is_mine(self, trial: FrozenTrial) -> bool:
        return trial.user_attrs.get(OWNER) == self._name

    def release(self, trial_id: int) -> None:
        self._mine.discard(trial_id)

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        now, number = time.monotonic(), trial._trial_id
        if number in self._mine:
            return False
        if self.is_mine(trial):  # a decision was lost in which it was claimed
            return True
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
            with suppress(Exception):  # the search itself waits for the server, and reports that
                self._keep_leases()
            for trial_id in tuple(self._mine):
                with suppress(Exception):
                    RDBStorage.record_heartbeat(self._storage, trial_id)

    def _keep_leases(self) -> None:
        """Ask for the locks that this process holds, and take that of a stage again, should it be lost and free."""
        decision, stage = self._decision, self._stage
        if decision is not None:
            decision.is_held()
        if stage is not None and not stage.is_held():
            again = self._locks.take(self._stage_name, seconds=0)
            if again is not None:
                stage.replace(again)

    def close(self) -> None:
        self._ended.set()
        self._heart.join(timeout=1.0)
        for engine in (self._engine, self._storage.engine):
            with suppress(DBAPIError):
                engine.dispose()
