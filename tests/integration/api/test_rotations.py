"""Rotations of secrets and tokens on a real PostgreSQL, for two tenants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from api.resources import callbacks, rotations
from api.resources.callbacks import NewCallback, ShownCallback
from api.resources.rotations import (
    DAY_SECONDS,
    MAX_IN_FORCE,
    RotatedSecret,
    RotatedToken,
    SecretRotation,
    TokenRotation,
)
from api.work import Workshop
from shared.clock import database_clock
from shared.config import Settings
from shared.crypto import SecretBox, new_key
from shared.errors import Conflict, NotFound
from shared.postgres.connections import open_database
from shared.signatures import Scheme, public_key, scheme_of
from tests.running import eventually
from tests.world import World

BOX = SecretBox(new_key())
SOME = 3_600


@pytest.fixture
def shop(world: World) -> Iterator[Workshop]:
    database = open_database(world.database_url, "test", pool_size=4)
    yield Workshop(database, Settings(secret_keys=SecretStr(new_key())), BOX)
    database.dispose()


class Owner:
    """One tenant's callback, rotated as its owner does it."""

    def __init__(self, shop: Workshop, world: World, schemes: list[Scheme] | None = None) -> None:
        self._shop, self._world = shop, world
        new = NewCallback(name="n", callback_url="http://x.example/", signatures=schemes or ["v1"])
        with shop.open() as work:
            made = callbacks.create(work, world.user_id, new)
        self.id, self.token = made.id, made.trigger_token

    def secret(self, grace: int = SOME, schemes: list[Scheme] | None = None) -> RotatedSecret:
        with self._shop.open() as work:
            given = SecretRotation(grace_seconds=grace, signatures=schemes)
            return rotations.rotate_secret(work, self._world.user_id, self.id, given)

    def tokens(self, grace: int = SOME) -> RotatedToken:
        with self._shop.open() as work:
            given = TokenRotation(grace_seconds=grace)
            return rotations.rotate_token(work, self._world.user_id, self.id, given)

    def shown(self) -> ShownCallback:
        with self._shop.open() as work:
            return callbacks.find(work, self._world.user_id, self.id)

    def plain(self) -> list[str]:
        """The secrets in its row, in their order."""
        return [BOX.decrypt(row["secret"]) for row in self.rows()]

    def rows(self) -> list[dict[str, Any]]:
        ((rows,),) = self._world.ask("SELECT signing_secrets FROM callbacks WHERE id = %s", self.id)
        return list(rows)

    def seconds_left(self) -> list[int | None]:
        """Of each secret in its row, in their order."""
        found = self._world.ask(
            "SELECT round(extract(epoch FROM (s.value->>'expiresAt')::timestamptz - now()) / 60) * 60"
            " FROM callbacks c, jsonb_array_elements(c.signing_secrets) WITH ORDINALITY s"
            " WHERE c.id = %s ORDER BY s.ordinality",
            self.id,
        )
        return [None if seconds is None else int(seconds) for (seconds,) in found]

    def retired(self) -> dict[str, int]:
        """Its retired tokens, and for how many seconds, to the minute, they hold."""
        found = self._world.ask(
            "SELECT token, round(extract(epoch FROM expires_at - now()) / 60) * 60 FROM retired_tokens"
            " WHERE callback_id = %s",
            self.id,
        )
        return {token: int(seconds) for token, seconds in found}

    def retired_rows(self) -> list[tuple[Any, ...]]:
        return self._world.ask("SELECT * FROM retired_tokens WHERE callback_id = %s ORDER BY 1", self.id)


@pytest.fixture
def owner(shop: Workshop, world: World) -> Owner:
    return Owner(shop, world)


@pytest.fixture(autouse=True)
def other(shop: Workshop, stranger: World) -> Iterator[Owner]:
    """Another tenant's callback, with an old secret and an old token: nothing of it changes."""
    other = Owner(shop, stranger)
    other.secret()
    other.tokens()
    before = other.rows(), other.shown(), other.retired_rows()
    yield other
    assert (other.rows(), other.shown(), other.retired_rows()) == before


class TestSecrets:
    def test_the_old_one_stays_behind_the_new_one_until_the_grace_time_is_over(self, owner: Owner) -> None:
        (old,) = owner.plain()
        rotated = owner.secret()
        assert owner.plain() == [rotated.signing_secret, old]
        assert owner.seconds_left() == [None, SOME]
        left = rotated.grace_ends_at - database_clock.now()
        assert timedelta(seconds=SOME - 60) < left <= timedelta(seconds=SOME)

    def test_it_is_a_day_unless_somebody_says_otherwise(self) -> None:
        assert SecretRotation().grace_seconds == TokenRotation().grace_seconds == DAY_SECONDS

    def test_without_a_grace_time_all_old_ones_end_at_once(self, owner: Owner) -> None:
        owner.secret()
        owner.secret()
        rotated = owner.secret(0)
        assert owner.plain() == [rotated.signing_secret]

    def test_a_later_rotation_shortens_and_never_lengthens(self, owner: Owner) -> None:
        owner.secret(600)
        owner.secret(DAY_SECONDS)
        assert owner.seconds_left() == [None, DAY_SECONDS, 600]
        owner.secret(300)
        assert owner.seconds_left() == [None, 300, 300, 300]

    def test_those_of_other_schemes_end_too(self, owner: Owner) -> None:
        """From HMAC to ed25519: the shared secret signs beside it, until the grace time is over."""
        rotated = owner.secret(SOME, ["v1a"])
        assert rotated.signing_secret is None
        assert rotated.signatures == ["v1", "v1a"]
        assert list(map(scheme_of, owner.plain())) == ["v1a", "v1"]
        assert owner.seconds_left() == [None, SOME]
        assert [key.key for key in rotated.public_keys] == [public_key(owner.plain()[0])]
        assert owner.secret(0).signatures == ["v1a"], "what was in its grace time does not come back"

    def test_both_schemes_get_new_ones_and_are_shown(self, owner: Owner) -> None:
        rotated = owner.secret(SOME, ["v1a", "v1"])
        new_secret, new_key, _old = owner.plain()
        assert rotated.signing_secret == new_secret
        shown = owner.shown()
        assert shown.signatures == rotated.signatures == ["v1", "v1a"]
        assert [(key.key, key.expires_at) for key in shown.public_keys] == [(public_key(new_key), None)]
        again = owner.secret()
        assert list(map(scheme_of, owner.plain())) == ["v1", "v1a", "v1", "v1a", "v1"]
        keys = [(key.key, key.expires_at) for key in owner.shown().public_keys]
        assert keys[0][1] is None
        assert keys[1] == (public_key(new_key), again.grace_ends_at), "an old key says when it ends"

    def test_there_are_at_most_five_of_a_scheme(self, owner: Owner) -> None:
        for _ in range(MAX_IN_FORCE - 1):
            owner.secret()
        before = owner.rows()
        with pytest.raises(Conflict) as refused:
            owner.secret()
        assert refused.value.code == "too_many_secrets"
        assert owner.rows() == before
        with pytest.raises(Conflict):
            owner.secret(SOME, ["v1a", "v1"])
        owner.secret(SOME, ["v1a"])
        assert len(owner.plain()) == MAX_IN_FORCE + 1, "of another scheme there is room"
        owner.secret(0)
        assert len(owner.plain()) == 1

    def test_what_has_ended_is_dropped_and_counts_no_more(self, owner: Owner, world: World) -> None:
        for _ in range(MAX_IN_FORCE - 1):
            owner.secret()
        ended = json.dumps(
            [row if row["expiresAt"] is None else row | {"expiresAt": "2020-01-01T00:00:00+00:00"}
             for row in owner.rows()]
        )  # fmt: skip
        world.do("UPDATE callbacks SET signing_secrets = %s WHERE id = %s", ended, owner.id)
        (last, *_) = owner.plain()
        rotated = owner.secret()
        assert owner.plain() == [rotated.signing_secret, last]

    def test_one_that_no_key_opens_is_dropped(self, owner: Owner, world: World) -> None:
        """So a rotation repairs a callback whose deliveries fail for that."""
        lost = [owner.rows()[0] | {"secret": SecretBox(new_key()).encrypt("whsec_AAAA")}]
        world.do("UPDATE callbacks SET signing_secrets = %s WHERE id = %s", json.dumps(lost), owner.id)
        assert owner.shown().signatures == []
        rotated = owner.secret()
        assert (rotated.signatures, owner.plain()) == (["v1"], [rotated.signing_secret])

    def test_a_callback_may_begin_with_ed25519(self, shop: Workshop, world: World) -> None:
        new = NewCallback(name="n", callback_url="http://x.example/", signatures=["v1a"])
        with shop.open() as work:
            made = callbacks.create(work, world.user_id, new)
        assert (made.signatures, made.signing_secret) == (["v1a"], None)
        assert len(made.public_keys) == 1

    def test_nothing_secret_is_in_the_log(self, owner: Owner) -> None:
        with capture_logs() as lines:
            rotated = owner.secret(SOME, ["v1", "v1a"])
            tokens = owner.tokens()
        events = [line["event"] for line in lines]
        assert events == ["secret_rotated", "token_rotated"]
        for secret in (*owner.plain(), tokens.trigger_token, owner.token, rotated.signing_secret):
            assert str(secret) not in str(lines)


class TestTokens:
    def test_the_old_one_is_known_until_the_grace_time_is_over(self, owner: Owner) -> None:
        rotated = owner.tokens()
        assert rotated.trigger_token != owner.token
        assert rotated.trigger_url.endswith(f"/t/{rotated.trigger_token}")
        assert owner.shown().trigger_token == rotated.trigger_token
        assert owner.retired() == {owner.token: SOME}

    def test_without_a_grace_time_all_old_ones_end_at_once(self, owner: Owner) -> None:
        owner.tokens()
        owner.tokens()
        owner.tokens(0)
        assert owner.retired() == {}

    def test_a_later_rotation_shortens_and_never_lengthens(self, owner: Owner) -> None:
        second = owner.tokens(600).trigger_token
        third = owner.tokens(DAY_SECONDS).trigger_token
        assert owner.retired() == {owner.token: 600, second: DAY_SECONDS}
        owner.tokens(300)
        assert owner.retired() == {owner.token: 300, second: 300, third: 300}

    def test_there_are_at_most_five(self, owner: Owner, world: World) -> None:
        for _ in range(MAX_IN_FORCE):
            owner.tokens()
        token = owner.shown().trigger_token
        with pytest.raises(Conflict) as refused:
            owner.tokens()
        assert refused.value.code == "too_many_tokens"
        assert owner.shown().trigger_token == token
        world.do("UPDATE retired_tokens SET expires_at = now() WHERE token = %s", owner.token)
        owner.tokens()
        assert len(owner.retired()) == MAX_IN_FORCE, "one that has ended makes room"
        owner.tokens(0)
        assert owner.retired() == {}

    def test_a_callback_without_a_token_gets_one(self, owner: Owner, world: World) -> None:
        world.do("UPDATE callbacks SET trigger_token = NULL WHERE id = %s", owner.id)
        owner.tokens()
        assert owner.retired() == {}
        assert owner.shown().trigger_token


@pytest.mark.parametrize("rotate", [rotations.rotate_secret, rotations.rotate_token])
def test_nobody_rotates_what_is_anothers(
    shop: Workshop, stranger: World, owner: Owner, rotate: Callable[..., Any]
) -> None:
    before = owner.rows(), owner.shown()
    with pytest.raises(NotFound), shop.open() as work:
        rotate(work, stranger.user_id, owner.id, SecretRotation(grace_seconds=0))
    assert (owner.rows(), owner.shown()) == before


WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


def at_once(world: World, connect: Callable[..., Any], calls: list[Callable[[], Any]]) -> list[Any]:
    """Let these calls meet at the callback's row, and return what they said."""
    answers: list[Any] = []
    holder = connect(autocommit=False)
    threads = [threading.Thread(target=lambda call=call: answers.append(call())) for call in calls]
    with holder.cursor() as cursor:
        cursor.execute("SELECT 1 FROM callbacks FOR UPDATE")
        for thread in threads:
            thread.start()
        eventually(lambda: world.ask(WAITING) == [(len(calls),)], 10, "all of them at the lock")
    holder.rollback()
    for thread in threads:
        thread.join(10)
    return answers


def test_two_rotations_at_the_same_time_come_one_after_the_other(
    world: World, owner: Owner, connect: Callable[..., Any]
) -> None:
    """Fails without the row's lock: the later one writes a list that lacks the earlier one's."""
    (old,) = owner.plain()
    answers = at_once(world, connect, [owner.secret, owner.secret])
    made = {answer.signing_secret for answer in answers}
    assert len(made) == 2
    assert set(owner.plain()) == made | {old}
    assert owner.seconds_left()[0] is None
    assert owner.plain()[0] in made

    answers = at_once(world, connect, [owner.tokens, owner.tokens])
    made = {answer.trigger_token for answer in answers}
    assert made | {owner.token} == {owner.shown().trigger_token, *owner.retired()}


def test_the_ids_of_the_tenants_differ(owner: Owner, other: Owner) -> None:
    """Without it the others would show nothing."""
    assert isinstance(owner.id, UUID)
    assert owner.id != other.id
