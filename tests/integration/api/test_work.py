"""The unit of work of a management call, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from api.patience import Patience
from api.resources import users
from api.resources.users import NewUser
from api.work import Actor, Work, Workshop
from shared.config import Settings
from shared.errors import Conflict, Unauthorized, Unavailable
from shared.ids import new_id
from shared.models import UserRole
from shared.postgres.connections import open_database


@pytest.fixture
def told() -> dict[str, list[UUID]]:
    return {"hint": [], "settled": []}


@pytest.fixture
def shop(own_database_url: str, told: dict[str, list[UUID]]) -> Iterator[Workshop]:
    database = open_database(own_database_url, "test", pool_size=2)
    yield Workshop(
        database,
        Settings(),
        hint=told["hint"].extend,
        tell_settled=told["settled"].extend,
    )
    database.dispose()


def new_user(work: Work, email: str = "ada@example.com") -> UUID:
    return users.create(work, NewUser(email=email, password="x")).id


def count(connect: Callable[..., Any]) -> int:
    cursor = connect().cursor()
    cursor.execute("SELECT count(*) FROM users")
    found: int = cursor.fetchone()[0]
    return found


def test_all_is_committed_and_then_told(
    shop: Workshop, told: dict[str, list[UUID]], connect: Callable[..., Any]
) -> None:
    """Fails when a hint leaves before the commit: a worker would look for a run that is not
    there.
    """
    one, other = new_id(), new_id()
    seen: list[int] = []
    with shop.open() as work:
        new_user(work)
        work.hint([one])
        work.tell_settled([other])
        work.after_commit(lambda: seen.append(count(connect)))
        assert told == {"hint": [], "settled": []}
        assert count(connect) == 0
    assert told == {"hint": [one], "settled": [other]}
    assert seen == [1]


@pytest.mark.parametrize("error", [Conflict("no"), KeyboardInterrupt()])
def test_an_error_leaves_nothing_behind(
    shop: Workshop, told: dict[str, list[UUID]], connect: Callable[..., Any], error: BaseException
) -> None:
    with capture_logs() as lines, pytest.raises(type(error)), shop.open() as work:
        new_user(work)
        work.hint([new_id()])
        raise error
    assert count(connect) == 0
    assert told["hint"] == []
    assert [line for line in lines if line["event"] == "user_created"] == [], (
        "nothing was done that could be audited"
    )


def test_a_caller_that_was_told_503_finds_nothing_changed(
    shop: Workshop, told: dict[str, list[UUID]], connect: Callable[..., Any]
) -> None:
    patience = Patience()
    with pytest.raises(Unavailable), shop.open(patience) as work:
        new_user(work)
        work.hint([new_id()])
        assert patience.run_out()
    assert count(connect) == 0
    assert told["hint"] == []


def test_what_follows_cannot_undo_the_answer(shop: Workshop, connect: Callable[..., Any]) -> None:
    done: list[str] = []

    def fails() -> None:
        raise OSError

    with capture_logs() as lines, shop.open() as work:
        new_user(work)
        work.after_commit(fails)
        work.after_commit(lambda: done.append("second"))
    assert (count(connect), done) == (1, ["second"])
    assert [line["error"] for line in lines if line["event"] == "follow_up_failed"] == ["OSError"]


def test_a_commit_that_is_cut_off_says_that_nobody_knows(
    shop: Workshop, own_database_url: str, connect: Callable[..., Any]
) -> None:
    """Fails when a lost COMMIT is answered «nothing was accepted»."""
    cursor = connect().cursor()
    cursor.execute(
        "CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
    )
    cursor.execute(
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON users INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION stall()"
    )
    with pytest.raises(Unavailable) as caught, shop.open() as work:
        new_user(work)
    assert caught.value.code == "outcome_unknown"
    assert "Idempotency-Key" in caught.value.hint


def test_what_was_done_is_in_the_log_with_who_did_it(shop: Workshop) -> None:
    actor = Actor(
        "key", new_id(), UserRole.ADMIN, through_id=new_id(), address="203.0.113.7", request_id="r1"
    )
    with capture_logs() as lines, shop.open(actor=actor) as work:
        made = new_user(work)
    (line,) = [line for line in lines if line["event"] == "user_created"]
    assert line["account"] == str(made)
    assert (line["user"], line["through"], line["address"], line["request"]) == (
        str(actor.user_id),
        "key",
        "203.0.113.7",
        "r1",
    )
    assert "x" not in [value for value in line.values() if isinstance(value, str)], "no password"


def test_without_an_actor_there_is_no_owner(shop: Workshop) -> None:
    with shop.open() as work, pytest.raises(Unauthorized):
        work.owner  # noqa: B018
