"""What is said of a database that cannot be used; none is needed for that."""

from __future__ import annotations

import os

import pytest

from spquant_search.driver.storage import database, postgres
from spquant_search.driver.storage.database import Database
from spquant_search.driver.storage.postgres import Postgres, grace_seconds
from spquant_search.errors import UserError

QUOTED = "a-secret%3Aof%2Fits%40own"
NOBODY = f"postgresql://searcher:{QUOTED}@127.0.0.1:1/postgres"  # a port that nothing listens on


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///study.db", "must be postgresql"),
        ("study.db", "is no database URL"),
        (NOBODY, "no connection to postgresql://searcher:***@127.0.0.1:1"),
    ],
)
def test_a_storage_that_many_machines_cannot_use_is_refused(url, words, monkeypatch):
    monkeypatch.setattr(database, "RESTART_SECONDS", 0.3)
    with pytest.raises(UserError, match="--storage") as caught:
        Database.of(url).require_connection()
    assert words in str(caught.value)
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["soon", "", "3", "-90", "1.5", "1e3", "86401", "90s", "\u0669\u0660"])
def test_a_grace_that_is_no_number_of_seconds(monkeypatch, given):
    monkeypatch.setenv("SPQUANT_GRACE_SECONDS", given)
    with pytest.raises(UserError) as caught:
        Postgres(Database.of(NOBODY), "study")
    assert str(caught.value) == (
        f"SPQUANT_GRACE_SECONDS={given}: must be a whole number of seconds from 4 to 86400; unset it for 90"
    )


def test_the_grace_is_what_the_environment_says(monkeypatch):
    monkeypatch.delenv("SPQUANT_GRACE_SECONDS", raising=False)
    assert grace_seconds() == 90
    monkeypatch.setenv("SPQUANT_GRACE_SECONDS", " 4 ")
    assert grace_seconds() == 4


def test_an_optuna_that_lacks_a_name_is_said_where_a_database_is_used(monkeypatch):
    monkeypatch.setattr(postgres, "MISSING_CALLS", ("_create_new_trial",))
    with pytest.raises(UserError, match=r"--storage: Optuna 5\..* lacks _create_new_trial, with which"):
        Postgres(Database.of(NOBODY), "study")
    assert not set(postgres._CALLS) - set(dir(postgres.RDBStorage))


def test_a_process_is_named_in_the_servers_list_of_sessions_unless_the_url_names_it():
    named = Database.of(NOBODY).connect_arguments()["application_name"]
    assert named.startswith(f"spquant-search: process {os.getpid()} on ")
    assert len(named) <= 63
    assert "application_name" not in Database.of(f"{NOBODY}?application_name=mine").connect_arguments()
