"""Which errors say that a connection is lost, whatever class the driver makes of them."""

from __future__ import annotations

import psycopg2
import psycopg2.errors
import pytest

from shared.postgres.group_commit import is_transient
from shared.postgres.sqlstates import LOST, is_lost


def pg_error(sqlstate: str) -> psycopg2.Error:
    try:
        kind: type[psycopg2.Error] = psycopg2.errors.lookup(sqlstate)
    except KeyError:  # newer than the driver's list
        kind = psycopg2.Error
    return type("Raised", (kind,), {"pgcode": sqlstate})()


LOST_STATES = ["08000", "08003", "08006", "08P01", *(state for state in LOST if len(state) == 5)]


@pytest.mark.parametrize("sqlstate", LOST_STATES)
def test_after_these_the_connection_is_replaced_and_the_batch_repeated(sqlstate: str) -> None:
    """Fails when a batch is given up, or halved, because a server has changed its part."""
    assert is_lost(pg_error(sqlstate))
    assert is_transient(pg_error(sqlstate))


@pytest.mark.parametrize(
    "sqlstate", ["25P02", "25001", "23505", "22P05", "40001", "40P01", "42501", "42P01", "55P03", "57014"]
)
def test_after_these_the_connection_is_as_good_as_before(sqlstate: str) -> None:
    assert not is_lost(pg_error(sqlstate))


def test_what_did_not_come_from_postgresql_says_nothing_of_a_connection() -> None:
    for error in (ValueError("25006"), psycopg2.InterfaceError("closed"), psycopg2.Error()):
        assert not is_lost(error)


def test_each_entry_is_a_class_or_a_whole_state_with_its_reason() -> None:
    assert {len(state) for state in LOST} == {2, 5}
    assert all(LOST.values())
