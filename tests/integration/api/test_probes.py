"""Who may have a probe, and what of it is shown, on a real PostgreSQL."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from api.app import make_app
from api.resources import callbacks, probes, subjects
from api.resources.probe_calls import MAX_BODY_BYTES, NewCredentialProbe, NewProbe
from api.resources.probes import MOST_A_MINUTE, ShownProbe
from api.resources.subjects import Sample
from api.services import make_services
from api.work import Actor, Workshop
from shared.config import Settings
from shared.crypto import token_hash
from shared.errors import Invalid, NotFound, TooMany, Unavailable
from shared.models import UserRole
from shared.postgres.connections import open_database
from shared.probes.request import ActionProbe, CredentialProbe, ProbeCall, opened_request
from tests.probing import BOX, KEY, row_of
from tests.running import eventually
from tests.world import World

SECRET = "canary-of-a-call"


@pytest.fixture
def hinted() -> list[int]:
    return []


@pytest.fixture
def settings(world: World) -> Settings:
    return Settings(
        database_url=SecretStr(world.database_url),
        redis_url=SecretStr("redis://127.0.0.1:1/0"),
        secret_keys=SecretStr(KEY),
    )


@pytest.fixture
def shop(world: World, settings: Settings, hinted: list[int]) -> Iterator[Workshop]:
    database = open_database(world.database_url, "test", pool_size=10)
    world.rows.insert("workers")
    yield Workshop(database, settings, BOX, hint_probe=lambda: hinted.append(world.rows.count("probes")))
    database.dispose()


def actor(world: World, *, admin: bool = False) -> Actor:
    granted = {"read", "write"} | ({"admin"} if admin else set())
    return Actor("session", world.user_id, UserRole.ADMIN if admin else UserRole.FREE, frozenset(granted))


def begin(shop: Workshop, world: World, action_id: UUID, **given: Any) -> ShownProbe:
    with shop.open(actor=actor(world)) as work:
        return probes.of_action(work, world.user_id, action_id, NewProbe(**given))


def find(shop: Workshop, world: World, probe_id: UUID, *, admin: bool = False) -> ShownProbe:
    with shop.open(actor=actor(world, admin=admin)) as work:
        return probes.find(work, world.user_id, probe_id)


def call_in(request: str) -> ProbeCall:
    opened = opened_request(request, BOX)
    assert isinstance(opened, ActionProbe)
    return opened.call


def test_a_probe_is_sealed_committed_and_then_hinted(shop: Workshop, world: World, hinted: list[int]) -> None:
    probe = begin(
        shop, world, world.action(), sample={"body": {"a": SECRET}, "headers": {"Authorization": SECRET}}
    )
    assert hinted == [1], "its row was there when it was hinted"
    request = row_of(world, probe.id)["request"]
    assert request.startswith("sealed:")
    call = call_in(request)
    assert json.loads(call.body) == {"a": SECRET}
    headers = dict(call.headers)
    assert headers["content-type"] == call.content_type == "application/json"
    assert BOX.decrypt(headers["authorization"]) == SECRET, "as a recorded call has it"


WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"


def test_a_call_waits_for_the_one_before_it(shop: Workshop, world: World, stranger: World) -> None:
    """Fails without the lock: it would not see what is not committed yet. Another user's call does
    not wait.
    """
    action, ends = world.action(), list[str]()

    def ask() -> None:
        try:
            begin(shop, world, action)
        except TooMany as error:
            ends.append(error.code)

    second = threading.Thread(target=ask)
    with shop.open(actor=actor(world)) as work:
        probes.of_action(work, world.user_id, action, NewProbe())
        second.start()
        eventually(lambda: world.ask(WAITING), 5, "the second call at the lock")
        assert begin(shop, stranger, stranger.action()).state == "PENDING"
        assert ends == []
    second.join(10)
    assert ends == ["too_many_probes"]


def test_of_calls_at_once_one_passes(
    shop: Workshop, world: World, stranger: World, settings: Settings
) -> None:
    """Of two API processes."""
    action = world.action()
    barrier, ends = threading.Barrier(8), []
    others = open_database(world.database_url, "test", pool_size=10)
    other_shop = Workshop(others, settings, BOX)

    def ask(number: int) -> None:
        barrier.wait(10)
        try:
            begin((shop, other_shop)[number % 2], world, action)
        except TooMany as error:
            ends.append((error.code, error.retry_after_seconds or 0))
        else:
            ends.append(("made", 0))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    others.dispose()
    codes = sorted(code for code, _ in ends)
    assert codes == ["made"] + ["too_many_probes"] * 7
    assert all(seconds >= 1 for code, seconds in ends if code != "made")
    assert begin(shop, stranger, stranger.action()).state == "PENDING", "another user has one, too"


def test_ten_in_any_minute(shop: Workshop, world: World) -> None:
    """The eleventh waits until the first is a minute old, and no longer."""
    action = world.action()
    for age in range(MOST_A_MINUTE):
        probe = begin(shop, world, action)
        world.do(
            "UPDATE probes SET state = 'DONE', created_at = now() - make_interval(secs => %s) WHERE id = %s",
            50 - age,
            probe.id,
        )
    with pytest.raises(TooMany) as refused:
        begin(shop, world, action)
    assert 8 <= (refused.value.retry_after_seconds or 0) <= 11
    world.do("UPDATE probes SET created_at = created_at - interval '11 s'")
    assert begin(shop, world, action).state == "PENDING"


@pytest.mark.parametrize("why", ["none", "stale", "suspects"])
def test_without_a_worker_nothing_is_recorded(
    shop: Workshop, world: World, hinted: list[int], why: str
) -> None:
    """A process of suspects takes no probes."""
    changes = {
        "none": "DELETE FROM workers",
        "stale": "UPDATE workers SET heartbeat_at = now() - interval '1 day'",
        "suspects": "UPDATE workers SET lanes = '{}'",
    }
    world.do(changes[why])
    with pytest.raises(Unavailable) as refused:
        begin(shop, world, world.action())
    assert (refused.value.code, refused.value.status) == ("no_worker", 503)
    assert (world.rows.count("probes"), hinted) == (0, [])


def test_without_a_worker_an_open_probe_is_not_called_under_way(shop: Workshop, world: World) -> None:
    """Nobody has it. Fails when who waits for a worker is told to wait for a probe."""
    action = world.action()
    begin(shop, world, action)
    world.do("DELETE FROM workers")
    with pytest.raises(Unavailable) as refused:
        begin(shop, world, action)
    assert refused.value.code == "no_worker"


def test_nothing_large_is_read_for_who_is_refused(shop: Workshop, world: World) -> None:
    """Nor without asking. Fails when many calls at once fill the process."""
    action, held = world.action(), list[int]()
    trigger = world.trigger()
    world.do("UPDATE triggers SET body = %s", b"x" * (MAX_BODY_BYTES + 1))

    def ask() -> None:
        with shop.open(actor=actor(world), hold=held.append) as work:
            probes.of_action(work, world.user_id, action, NewProbe(trigger_id=trigger))

    with pytest.raises(Invalid, match="more than 1048576 bytes"):
        ask()
    assert held == [MAX_BODY_BYTES]
    assert world.rows.count("probes") == 0
    begin(shop, world, action)
    with pytest.raises(TooMany):
        ask()
    assert held == [MAX_BODY_BYTES]


@pytest.mark.parametrize(
    ("sample", "content_type", "body"),
    [
        ({}, "application/json", b"{}"),
        ({"body": None}, "application/json", b"null"),
        ({"body": "a=1"}, "text/plain; charset=utf-8", b"a=1"),
        ({"body": "a=1", "headers": {"Content-Type": "x/y"}}, "x/y", b"a=1"),
        ({"body": "a=1", "headers": {"Content-Type": "x/y"}, "contentType": "z/z"}, "z/z", b"a=1"),
    ],
)
def test_a_sample_is_the_same_call_for_a_probe_and_a_preview(
    shop: Workshop, world: World, sample: dict[str, Any], content_type: str, body: bytes
) -> None:
    call = call_in(row_of(world, begin(shop, world, world.action(), sample=sample).id)["request"])
    assert (call.content_type, call.body) == (content_type, body)
    assert dict(call.headers) == {"content-type": content_type}
    with shop.open(actor=actor(world)) as work:
        callback = callbacks.own(work.session, world.user_id, world.callback_id)
        subject = subjects.of_sample(work, callback, Sample.model_validate(sample))
    assert (subject.content_type, subject.body, subject.path) == (content_type, body, call.path)
    assert json.loads(subject.headers) == [["content-type", content_type]]


def test_what_is_not_the_owners_is_not_there(shop: Workshop, world: World, stranger: World) -> None:
    theirs = begin(shop, stranger, stranger.action())
    trigger = stranger.trigger()
    with pytest.raises(NotFound):
        begin(shop, world, stranger.action())
    with pytest.raises(NotFound):
        find(shop, world, theirs.id)
    with pytest.raises(NotFound):
        begin(shop, world, world.action(), trigger_id=trigger)
    world.do("UPDATE probes SET expires_at = now() WHERE id = %s", theirs.id)
    with pytest.raises(NotFound):
        find(shop, stranger, theirs.id)


def test_a_trigger_of_another_callback_is_not_this_ones(shop: Workshop, world: World) -> None:
    other = world.rows.insert("callbacks", user_id=world.user_id)["id"]
    foreign = world.action(callback_id=other)
    with pytest.raises(NotFound):
        begin(shop, world, foreign, trigger_id=world.trigger())


def test_a_recorded_credential_is_not_sent_again(shop: Workshop, world: World) -> None:
    """Not even one that an action forwards, for which it is kept, sealed."""
    trigger = world.trigger()
    recorded = [["authorization", BOX.encrypt(SECRET)], ["x-plain", "kept"]]
    world.do("UPDATE triggers SET headers = %s, body = %s", json.dumps(recorded), b"\x00\xff")
    probe = begin(shop, world, world.action(), trigger_id=trigger)
    call = call_in(row_of(world, probe.id)["request"])
    assert call.headers == [("authorization", "***"), ("x-plain", "kept")]
    assert (call.body, call.trigger_id, call.path) == (b"\x00\xff", trigger, "/t/x")


def test_an_address_is_shown_to_an_admin_alone(shop: Workshop, world: World) -> None:
    probe = begin(shop, world, world.action())
    told = {"outcome": "failure", "code": "blocked_address", "error": "refused", "address": "10.1.2.3"}
    world.do(
        "UPDATE probes SET state = 'DONE', result = %s WHERE id = %s",
        BOX.encrypt(json.dumps(told)),
        probe.id,
    )
    for admin, shown in ((False, None), (True, "10.1.2.3")):
        result = find(shop, world, probe.id, admin=admin).result
        assert result is not None
        assert result.address == shown


@pytest.mark.parametrize("failure", ["worker_lost", "no_worker"])
def test_why_there_is_no_result_is_said(shop: Workshop, world: World, failure: str) -> None:
    probe = begin(shop, world, world.action())
    world.do("UPDATE probes SET state = 'DONE', failure = %s, request = NULL", failure)
    result = find(shop, world, probe.id).result
    assert result is not None
    assert (result.outcome, result.code) == ("failure", failure)
    assert result.error
    assert result.error.endswith(".")


def test_under_plain_wsgi_nobody_waits(world: World, settings: Settings, connect: Callable[..., Any]) -> None:
    world.rows.insert("workers")
    world.rows.insert(
        "api_keys", user_id=world.user_id, key=token_hash("pm_live_x"), permissions=["read", "write"]
    )
    services = make_services(settings)
    client = make_app(services).test_client()
    given = {"headers": {"authorization": "Bearer pm_live_x"}, "json": {}}
    answer = client.post(f"/api/v1/actions/{world.action()}/test", **given)
    assert (answer.status_code, answer.get_json()["state"]) == (202, "PENDING")
    services.database.dispose()


def credential(world: World, kind: str = "bearer", provider: str = "GENERIC", **meta: Any) -> UUID:
    given = {"kind": kind, "origins": ["https://api.example.com"], **meta} if provider == "GENERIC" else {}
    row = world.rows.insert(
        "service_credentials",
        user_id=world.user_id,
        provider=provider,
        secret=BOX.encrypt(SECRET),
        meta=json.dumps(given),
    )
    return UUID(row["id"])


def begin_with_credential(shop: Workshop, world: World, credential_id: UUID, **given: Any) -> CredentialProbe:
    with shop.open(actor=actor(world)) as work:
        probe = probes.of_credential(work, world.user_id, credential_id, NewCredentialProbe(**given))
    opened = opened_request(row_of(world, probe.id)["request"], BOX)
    assert isinstance(opened, CredentialProbe)
    return opened


def test_a_credential_is_shown_to_its_first_origin_unless_told(shop: Workshop, world: World) -> None:
    one = credential(world)
    asked = begin_with_credential(shop, world, one)
    assert (asked.url, asked.method, asked.credential_id) == ("https://api.example.com/", "GET", one)
    world.do("DELETE FROM probes")
    given = {"url": "https://api.example.com/me?a=1", "method": "POST"}
    asked = begin_with_credential(shop, world, one, **given)
    assert (asked.url, asked.method) == ("https://api.example.com/me?a=1", "POST")


@pytest.mark.parametrize(
    "url", ["https://api.example.com.evil/", "http://api.example.com/", "https://api.example.com:444/"]
)
def test_a_credential_is_shown_nowhere_else(shop: Workshop, world: World, url: str) -> None:
    with pytest.raises(Invalid) as refused:
        begin_with_credential(shop, world, credential(world), url=url)
    assert refused.value.code == "credential_origin"
    assert world.rows.count("probes") == 0


def test_a_credential_that_only_an_action_can_use_cannot_be_tested(shop: Workshop, world: World) -> None:
    with pytest.raises(Invalid) as refused:
        begin_with_credential(shop, world, credential(world, provider="SLACK"))
    assert refused.value.code == "not_testable"


def test_another_users_credential_is_not_there(shop: Workshop, world: World, stranger: World) -> None:
    with pytest.raises(NotFound):
        begin_with_credential(shop, world, credential(stranger))
