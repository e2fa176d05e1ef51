"""What is shown of what an action would do with a call, on a real PostgreSQL. Nothing is sent."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from api.resources import previews
from api.resources.previews import NewPreview, PreviewedRequest
from api.work import Actor, Workshop
from shared.config import Settings
from shared.errors import Invalid, NotFound
from shared.models import UserRole
from shared.postgres.connections import open_database
from tests.probing import BOX, KEY
from tests.security.test_address_guard import BLOCKED_HOSTS
from tests.world import World

SECRET = "canary-of-a-preview"


@pytest.fixture
def shop(world: World) -> Iterator[Workshop]:
    settings = Settings(
        database_url=SecretStr(world.database_url),
        redis_url=SecretStr("redis://127.0.0.1:1/0"),
        secret_keys=SecretStr(KEY),
    )
    database = open_database(world.database_url, "test", pool_size=2)
    yield Workshop(database, settings, BOX)
    database.dispose()


def preview(shop: Workshop, world: World, **given: Any) -> PreviewedRequest:
    actor = Actor("session", world.user_id, UserRole.FREE, frozenset({"read", "write"}))
    with shop.open(actor=actor) as work:
        shown = previews.create(work, world.user_id, NewPreview.model_validate(given)).request
    assert shown is not None
    return shown


def action_with(world: World, kind: str, url: str = "https://api.example.com/x?a=1#f", **meta: Any) -> UUID:
    credential = world.rows.insert(
        "service_credentials",
        user_id=world.user_id,
        provider="GENERIC",
        secret=BOX.encrypt(SECRET),
        meta=json.dumps({"kind": kind, "origins": ["https://api.example.com"], **meta}),
    )
    config = json.dumps({"url": url, "headers": {"Authorization": SECRET, "X-Own": SECRET}})
    return world.action(config=config, credential_id=credential["id"])


@pytest.mark.parametrize(
    ("kind", "meta", "url", "headers"),
    [
        ("bearer", {}, "https://api.example.com/x?a=***#***", {"authorization": "***"}),
        ("basic", {"username": "me"}, "https://api.example.com/x?a=***#***", {"authorization": "***"}),
        ("header", {"header": "X-Key"}, "https://api.example.com/x?a=***#***", {"x-key": "***"}),
        ("query", {"parameter": "k=y"}, "https://api.example.com/x?a=***&k%3Dy=***#***", {}),
    ],
)
def test_a_credential_stands_where_it_would_and_is_a_mask(
    shop: Workshop, world: World, kind: str, meta: dict[str, Any], url: str, headers: dict[str, str]
) -> None:
    """Fails when a parameter stands in the fragment, which is never sent."""
    shown = preview(shop, world, actionId=str(action_with(world, kind, **meta)))
    assert shown.url == url
    assert (shown.headers or {}).items() >= {**headers, "x-own": "***"}.items()
    assert SECRET not in shown.model_dump_json()


@pytest.mark.parametrize("kind", ["bearer", "query"])
def test_what_would_not_be_sent_is_not_shown(shop: Workshop, world: World, kind: str) -> None:
    """Fails when a preview shows a credential where an attempt would fail."""
    action = str(action_with(world, kind, parameter="key"))
    elsewhere = {"url": "https://api.example.com.evil/x"}
    with pytest.raises(Invalid) as refused:
        preview(shop, world, actionId=action, config=elsewhere)
    assert refused.value.code == "credential_origin"
    assert preview(shop, world, actionId=action).url


def test_a_credential_of_a_sample_is_a_mask(shop: Workshop, world: World) -> None:
    """Also where the action forwards it, or a template names it."""
    config = {
        "url": "http://x.example/",
        "body": "{{ headers.authorization }} {{ headers.x-plain }}",
        "forwardHeaders": ["authorization", "x-*"],
    }
    shown = preview(
        shop,
        world,
        callbackId=str(world.callback_id),
        type="HTTP_POST",
        config=config,
        sample={"headers": {"Authorization": SECRET, "X-Plain": "told"}},
    )
    assert shown.body == "*** told"
    assert (shown.headers or {}).items() >= {"authorization": "***", "x-plain": "told"}.items()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", *BLOCKED_HOSTS[:6]])
def test_nothing_is_sent_and_no_name_is_looked_up(
    shop: Workshop, world: World, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Whatever the address. Fails when a preview connects to anything but PostgreSQL."""

    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("a preview asks nobody")

    preview(shop, world, callbackId=str(world.callback_id), type="STORE", config={})  # connects to PostgreSQL
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        url = f"http://{host}:{canary.getsockname()[1]}/{{{{ body.id }}}}"
        shown = preview(
            shop,
            world,
            callbackId=str(world.callback_id),
            type="HTTP_POST",
            config={"url": url},
            sample={"body": {"id": 7}},
        )
        assert (shown.url or "").endswith("/7")
        with pytest.raises(BlockingIOError):
            canary.accept()


def test_what_is_refused_says_nothing_back(shop: Workshop, world: World) -> None:
    """Of a secret in a config that nobody has saved."""
    made_up = {"callbackId": str(world.callback_id), "type": "HTTP_POST"}
    for config in (
        {"url": "http://x.example/", "headers": {"Host": SECRET}},
        {"url": "http://x.example/", "headers": {"X-Own": SECRET + "\n"}},
        {"url": f"ftp://x.example/{SECRET}"},
        {"url": f"http://x.example/?a={SECRET}&b={{{{ bodi.x }}}}"},
    ):
        with pytest.raises(Invalid) as refused:
            preview(shop, world, **made_up, config=config)
        assert SECRET not in str(refused.value) + str(vars(refused.value))


def test_another_tenants_things_are_not_there(shop: Workshop, world: World, stranger: World) -> None:
    theirs = {"callbackId": str(stranger.callback_id), "type": "STORE", "config": {}}
    own = {"callbackId": str(world.callback_id), "type": "STORE", "config": {}}
    for given in (
        theirs,
        {"actionId": str(stranger.action())},
        {**own, "triggerId": str(stranger.trigger())},
    ):
        with pytest.raises(NotFound):
            preview(shop, world, **given)
