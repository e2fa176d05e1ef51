"""Credentials of two tenants on a real PostgreSQL: who uses one, and what no key opens any
more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError

from api.resources import actions, bindings, callbacks, credentials
from api.resources.actions import ActionChange, NewAction
from api.resources.bindings import MAX_COUNTED_USES, MAX_NAMED_USES
from api.resources.callbacks import CallbackChange
from api.resources.credentials import CredentialChange, NewCredential
from api.resources.shapes import PageQuery
from api.work import Workshop
from shared.config import Settings
from shared.crypto import SecretBox, key_id, new_key
from shared.errors import Conflict, Invalid, NotFound, PointsmanError
from shared.ids import new_id
from shared.models import ActionType, ServiceProvider
from shared.postgres.connections import open_database
from tests.world import World

SECRET = "s3cret-value"
ORIGIN = "https://api.example.com"
OAUTH = {
    "kind": "oauth2",
    "tokenUrl": "https://login.example.com/token?p=s3cret",
    "clientId": "me",
    "origins": [ORIGIN],
}
KEY = new_key()


@pytest.fixture
def shop(world: World) -> Iterator[Workshop]:
    database = open_database(world.database_url, "test", pool_size=2)
    yield Workshop(database, Settings(), SecretBox(KEY))
    database.dispose()


class Owner:
    """A tenant who calls."""

    def __init__(self, shop: Workshop, world: World) -> None:
        self.shop, self.world, self.id = shop, world, world.user_id

    def new(
        self, meta: dict[str, Any] | None = None, provider: str = "GENERIC", secret: str = SECRET
    ) -> UUID:
        known = {"kind": "bearer", "origins": [ORIGIN]} if meta is None else meta
        given = NewCredential(name="n", provider=ServiceProvider(provider), secret=secret, meta=known)
        with self.shop.open() as work:
            return credentials.create(work, self.id, given).id

    def change(self, credential_id: UUID, **given: Any) -> None:
        with self.shop.open() as work:
            credentials.change(work, self.id, credential_id, CredentialChange.model_validate(given))

    def delete(self, credential_id: UUID) -> None:
        with self.shop.open() as work:
            credentials.delete(work, self.id, credential_id)

    def shown(self, credential_id: UUID) -> dict[str, Any]:
        with self.shop.open(one_moment=True) as work:
            return credentials.find(work, self.id, credential_id).rendered()

    def listed(self) -> dict[UUID, tuple[int, list[UUID]]]:
        with self.shop.open(one_moment=True) as work:
            items = credentials.page(work, self.id, PageQuery()).items
            return {one.id: (one.used_by_count, [use.action_id for use in one.used_by]) for one in items}

    def action(self, credential_id: UUID | None, url: str = f"{ORIGIN}/x", **fields: Any) -> UUID:
        """An action, written past the API."""
        return self.world.action(credential_id=credential_id, config=json.dumps({"url": url}), **fields)


@pytest.fixture
def owner(shop: Workshop, world: World) -> Owner:
    return Owner(shop, world)


@pytest.fixture
def other(shop: Workshop, stranger: World) -> Owner:
    return Owner(shop, stranger)


def refusal(call: Callable[[], Any]) -> PointsmanError:
    with pytest.raises(PointsmanError) as error:
        call()
    assert "s3cret" not in error.value.message + error.value.hint
    return error.value


def test_nobody_finds_changes_or_deletes_what_is_anothers(owner: Owner, other: Owner) -> None:
    mine = owner.new()
    for call in (
        lambda: other.shown(mine),
        lambda: other.change(mine, name="theirs"),
        lambda: other.delete(mine),
    ):
        assert isinstance(refusal(call), NotFound)
    assert other.listed() == {}
    assert owner.shown(mine)["name"] == "n"


def test_anothers_credential_is_given_to_no_action(owner: Owner, other: Owner) -> None:
    theirs = other.new()
    new = NewAction(type=ActionType.HTTP_POST, config={"url": f"{ORIGIN}/x"}, credential_id=theirs)
    with owner.shop.open() as work:
        error = refusal(lambda: actions.create(work, owner.id, owner.world.callback_id, new))
    assert (error.code, error.status) == ("unknown_credential", 422)
    mine = owner.action(None)
    with owner.shop.open() as work:
        change = ActionChange(credential_id=theirs)
        assert refusal(lambda: actions.change(work, owner.id, mine, change)).code == "unknown_credential"
    assert owner.world.ask("SELECT 1 FROM actions WHERE credential_id IS NOT NULL") == []


def test_what_is_stored_is_sealed_and_names_its_key(owner: Owner) -> None:
    made = owner.new(OAUTH)
    ((secret, meta),) = owner.world.ask("SELECT secret, meta::text FROM service_credentials")
    assert "s3cret" not in secret + meta
    assert SecretBox(KEY).decrypt(secret) == SECRET
    shown = owner.shown(made)
    assert shown["keyId"] == key_id(KEY)
    assert shown["meta"] == {**OAUTH, "tokenUrl": "https://login.example.com/token?p=***"}


def test_who_uses_it_is_counted_and_the_first_are_named(owner: Owner, other: Owner) -> None:
    used, unused, theirs = owner.new(), owner.new(), other.new()
    found = [owner.action(used) for _ in range(MAX_NAMED_USES + 3)]
    owner.action(used, deleted_at="now")
    owner.action(None)
    other_action = other.action(theirs)
    assert owner.listed() == {used: (len(found), found[:MAX_NAMED_USES]), unused: (0, [])}
    assert other.listed() == {theirs: (1, [other_action])}
    error = refusal(lambda: owner.delete(used))
    assert isinstance(error, Conflict)
    assert all(str(one) in error.message for one in found[:MAX_NAMED_USES])
    assert "and 3 more" in error.message
    owner.delete(unused)


def test_no_more_than_a_bound_are_counted(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_COUNTED_USES >= 1_000
    monkeypatch.setattr(bindings, "MAX_COUNTED_USES", 5)
    used, also = owner.new(), owner.new()
    for _ in range(8):
        owner.action(used)
    owner.action(also)
    counts = {one: count for one, (count, _) in owner.listed().items()}
    assert counts == {used: 5, also: 1}


def test_what_a_deleted_callback_has_uses_nothing(owner: Owner) -> None:
    used = owner.new()
    action = owner.action(used)
    owner.world.do("UPDATE callbacks SET deleted_at = now() WHERE id = %s", owner.world.callback_id)
    assert owner.listed() == {used: (0, [])}
    owner.delete(used)
    ((credential_id, marked),) = owner.world.ask(
        "SELECT credential_id, deleted_at IS NOT NULL FROM actions WHERE id = %s", action
    )
    assert (credential_id, marked) == (None, True), "no run may send it without its credential"


def test_an_action_that_nobody_saw_coming_keeps_it(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of an earlier version takes no lock: the foreign key has the last word, as 409."""
    used = owner.new()
    owner.action(used)
    monkeypatch.setattr(bindings, "uses", lambda _session, ids: {one: bindings.Uses() for one in ids})
    error = refusal(lambda: owner.delete(used))
    assert (error.code, error.status) == ("credential_in_use", 409)
    assert owner.world.ask("SELECT count(*) FROM service_credentials") == [(1,)]


def test_other_clashes_are_no_use(owner: Owner) -> None:
    used = owner.new()
    with pytest.raises(IntegrityError), owner.shop.open() as work, credentials._unless_used():
        work.session.connection().exec_driver_sql(
            "UPDATE service_credentials SET user_id = %s", (str(new_id()),)
        )
    assert owner.shown(used)


class TestLostKeys:
    """What no key opens costs the secret and nothing around it."""

    @pytest.fixture
    def lost(self, owner: Owner) -> UUID:
        made = owner.new(OAUTH)
        box = SecretBox(new_key())
        meta = {**OAUTH, "tokenUrl": f"https://login.example.com {box.encrypt('/token')}"}
        owner.world.do(
            "UPDATE service_credentials SET secret = %s, meta = %s", box.encrypt("x"), json.dumps(meta)
        )
        return made

    def test_it_is_shown_masked_and_can_be_renamed(self, owner: Owner, lost: UUID) -> None:
        assert owner.shown(lost)["meta"] == {**OAUTH, "tokenUrl": "https://login.example.com/***"}
        owner.change(lost, name="lost")
        assert owner.shown(lost)["name"] == "lost"

    def test_a_secret_alone_does_not_mend_a_meta_that_nobody_can_read(self, owner: Owner, lost: UUID) -> None:
        assert refusal(lambda: owner.change(lost, secret="new")).code == "secret_unreadable"
        shown = owner.shown(lost)["meta"]
        assert refusal(lambda: owner.change(lost, meta=shown, secret="new")).code == "mask_without_secret"
        assert refusal(lambda: owner.change(lost, meta=OAUTH)).code == "secret_needed_again"
        owner.change(lost, meta=OAUTH, secret="new")
        assert owner.shown(lost)["keyId"] == key_id(KEY)

    def test_a_certificate_cannot_change_without_a_key_to_compare_it_with(self, owner: Owner) -> None:
        made = owner.new({"kind": "basic", "username": "me", "origins": [ORIGIN]})
        owner.world.do("UPDATE service_credentials SET secret = %s", SecretBox(new_key()).encrypt("x"))
        meta = {"kind": "basic", "username": "you", "origins": [ORIGIN]}
        assert refusal(lambda: owner.change(made, meta=meta)).code == "secret_needed_again"

    @pytest.mark.parametrize(
        ("provider", "meta"), [("GENERIC", '{"kind": "from-a-newer-version"}'), ("GENERIC", "{}")]
    )
    def test_one_of_an_unknown_kind_is_shown_without_its_meta(
        self, owner: Owner, provider: str, meta: str
    ) -> None:
        made = owner.new()
        owner.world.do("UPDATE service_credentials SET provider = %s, meta = %s", provider, meta)
        assert owner.shown(made)["meta"] is None
        with pytest.raises(Invalid):
            owner.change(made, secret="new")


@pytest.mark.parametrize(
    ("provider", "secret", "meta"),
    [
        ("SENDGRID", "SG.s3cret", {}),
        ("TWILIO", "s3cret", {"accountSid": "AC1", "apiKeySid": "SK1"}),
        ("SLACK", "https://hooks.slack.com/services/T/B/s3cret", {}),
        ("DISCORD", "https://discord.com/api/webhooks/1/s3cret", {}),
    ],
)
def test_the_other_providers_are_kept(owner: Owner, provider: str, secret: str, meta: dict[str, Any]) -> None:
    made = owner.new(meta, provider, secret)
    shown = owner.shown(made)
    assert (shown["provider"], shown["meta"]) == (provider, meta or None)
    owner.change(made, secret=secret + "x")
    if meta:
        bound = {**meta, "accountSid": "AC2"}
        assert refusal(lambda: owner.change(made, meta=bound)).code == "secret_needed_again"


def test_a_callbacks_url_is_looked_at_for_its_primary_action_alone(owner: Owner) -> None:
    used = owner.new()
    owner.action(used)
    path = "UPDATE callbacks SET callback_url = %s WHERE id = %s"
    owner.world.do(path, f"{ORIGIN}/primary", owner.world.callback_id)
    moved = CallbackChange(callback_url="https://elsewhere.example/")
    with owner.shop.open() as work:
        callbacks.change(work, owner.id, owner.world.callback_id, moved)
    owner.world.do(path, f"{ORIGIN}/primary", owner.world.callback_id)
    primary = owner.world.action(credential_id=used, config='{"target": "callback_url"}', name="first")
    with owner.shop.open() as work:
        error = refusal(lambda: callbacks.change(work, owner.id, owner.world.callback_id, moved))
    assert error.code == "credential_origin"
    assert f"the action first ({primary})" in error.message
