"""What the start-up makes, and leaves as users made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from api.resources import actions, callbacks
from api.resources.actions import ActionChange, NewAction
from api.resources.callbacks import CallbackChange
from api.resources.users import NewUser, create
from api.work import Workshop
from deploy.local.bootstrap import Demo, ensure_admin, ensure_demo
from shared.action_types import http_post
from shared.config import Settings
from shared.crypto import SecretBox, new_key
from shared.errors import Conflict
from shared.models import Action, ActionType, ApiKey, Callback, UserRole
from shared.postgres.connections import open_database
from shared.seals import opened_url

OLD, NEW = "http://127.0.0.1:5001", "http://127.0.0.1:5002"


@pytest.fixture
def shop(own_database_url: str) -> Iterator[Workshop]:
    database = open_database(own_database_url, "test", pool_size=1)
    yield Workshop(database, Settings(max_timeout_ms=3_000), SecretBox(new_key()))
    database.dispose()


def started(shop: Workshop, receiver_url: str, known: dict[str, Any]) -> tuple[UUID, Demo | None]:
    with shop.open() as work:
        admin = ensure_admin(work, "admin@example.com", "a password")
        return admin.user_id, ensure_demo(work, admin.user_id, receiver_url, known)


def known_of(demo: Demo | None, receiver_url: str) -> dict[str, Any]:
    assert demo is not None
    return {"callbackId": str(demo.callback_id), "receiverUrl": receiver_url, "apiKey": demo.api_key}


def test_a_second_start_makes_nothing_again(shop: Workshop) -> None:
    owner, demo = started(shop, OLD, {})
    again, demo_again = started(shop, OLD, known_of(demo, OLD))
    assert (owner, demo) == (again, demo_again)
    with shop.open() as work:
        shown = actions.page(work, owner, UUID(str(demo.callback_id if demo else None))).items
        assert [(one.name, one.order, one.parallel) for one in shown] == [
            ("primary", 0, True),
            ("audit", 1, True),
            ("confirm", 2, False),
            ("keep", 3, False),
        ]
        (key,) = work.session.scalars(select(ApiKey))
        assert key.permissions == ["read"]


def test_urls_follow_the_receiver_and_secrets_stay_what_they_are(shop: Workshop) -> None:
    """Fails when a config is written back as it is shown: its secrets would become their masks."""
    owner, demo = started(shop, OLD, {})
    assert demo is not None
    config = {"url": f"{OLD}/mine", "headers": {"Authorization": "Bearer s3cret"}}
    elsewhere = {"url": "http://elsewhere.example/"}
    with shop.open() as work:
        for name, one in (("mine", config), ("elsewhere", elsewhere)):
            new = NewAction(type=ActionType.HTTP_POST, name=name, config=one)
            actions.create(work, owner, demo.callback_id, new)

        mine = CallbackChange(callback_url=f"{OLD}/order?key=s3cret")
        callbacks.change(work, owner, demo.callback_id, mine)
        (primary, *_) = actions.page(work, owner, demo.callback_id).items
        own = {"target": "callback_url", "headers": {"Authorization": "Bearer s3cret"}}
        actions.change(work, owner, primary.id, ActionChange(config=own))

    started(shop, NEW, known_of(demo, OLD))

    with shop.open() as work:
        (url,) = work.session.scalars(select(Callback.callback_url))
        assert opened_url(url, work.secrets.decrypt) == f"{NEW}/order?key=s3cret"
        assert http_post.unseal(work.session.get_one(Action, primary.id).config, work.secrets.decrypt) == own
        configs = work.session.scalars(
            select(Action.config).where(Action.name.in_(("mine", "elsewhere"))).order_by(Action.order)
        )
        opened = [http_post.unseal(one, work.secrets.decrypt) for one in configs]
        assert opened == [config | {"url": f"{NEW}/mine"}, elsewhere]


def test_a_demo_that_was_deleted_stays_deleted(shop: Workshop) -> None:
    owner, demo = started(shop, OLD, {})
    assert demo is not None
    with shop.open() as work:
        callbacks.delete(work, owner, demo.callback_id)
    assert started(shop, NEW, known_of(demo, OLD)) == (owner, None)


def test_what_a_user_changed_is_not_changed_back(shop: Workshop) -> None:
    owner, demo = started(shop, OLD, {})
    assert demo is not None
    with shop.open() as work:
        primary, *_ = actions.page(work, owner, demo.callback_id).items
        actions.change(work, owner, primary.id, ActionChange(enabled=False))
    started(shop, OLD, known_of(demo, OLD))
    with shop.open() as work:
        assert actions.find(work, owner, primary.id).enabled is False


def test_an_address_has_one_account(shop: Workshop) -> None:
    with shop.open() as work:
        made = create(work, NewUser(email=" Ada@example.com ", password="x", role=UserRole.FREE))
        assert made.email == "Ada@example.com"
    with pytest.raises(Conflict) as caught, shop.open() as work:
        create(work, NewUser(email="ada@EXAMPLE.com", password="x"))
    assert caught.value.code == "email_taken"
