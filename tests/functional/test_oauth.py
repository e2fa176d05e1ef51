"""OAuth 2.0 client credentials against a real authorization server: how often a token is fetched,
and what becomes of a delivery when there is none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Response

from tests.peers.oauth_server import CLIENT_ID, CLIENT_SECRET, SCOPE, Client, OAuthServer
from tests.peers.receiver import Receiver
from tests.running import Running, eventually


@pytest.fixture
def server() -> Iterator[OAuthServer]:
    with OAuthServer() as server:
        yield server


def credential(
    pointsman: Running, server: OAuthServer, secret: str = CLIENT_SECRET, **meta: Any
) -> dict[str, Any]:
    known = {
        "kind": "oauth2",
        "tokenUrl": server.url("/token"),
        "clientId": CLIENT_ID,
        "scope": SCOPE,
        "origins": [server.url("")],
        **meta,
    }
    new = {"name": "machine", "provider": "GENERIC", "secret": secret, "meta": known}
    answer = pointsman.api.post("/api/v1/credentials", json=new)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def callback_with(
    pointsman: Running, server: OAuthServer, used: dict[str, Any], **changes: Any
) -> dict[str, Any]:
    """A callback that delivers to the server's resource."""
    callback = pointsman.callback(server.url())
    pointsman.primary(callback, credentialId=used["id"], **changes)
    return callback


def execution(trigger: dict[str, Any]) -> dict[str, Any]:
    (found,) = trigger["executions"]
    return dict(found)


def test_a_hundred_deliveries_are_one_token(pointsman: Running, server: OAuthServer) -> None:
    callback = callback_with(pointsman, server, credential(pointsman, server))
    with ThreadPoolExecutor(10) as threads:
        triggers = list(threads.map(lambda _: pointsman.fire(callback, content=b"x"), range(100)))
    ended = [pointsman.ended(trigger, 30) for trigger in triggers]
    assert {trigger["status"] for trigger in ended} == {"SUCCESS"}
    assert {execution(trigger)["attempt"] for trigger in ended} == {1}
    assert len(server.deliveries) == 100
    assert {delivery.client_id for delivery in server.deliveries} == {CLIENT_ID}
    (asked,) = server.asked
    assert (asked["grant_type"], asked["scope"]) == ("client_credentials", SCOPE)
    assert "client_secret" not in asked
    assert asked["header"].startswith("Basic ")


def test_a_client_may_show_itself_in_the_form(pointsman: Running, server: OAuthServer) -> None:
    server.clients["form"] = Client("form", CLIENT_SECRET, in_body=True)
    used = credential(pointsman, server, clientId="form", authentication="body", audience="https://api")
    trigger = pointsman.ended(pointsman.fire(callback_with(pointsman, server, used)))
    assert trigger["status"] == "SUCCESS"
    (asked,) = server.asked
    assert (asked["client_secret"], asked["audience"], asked["header"]) == (CLIENT_SECRET, "https://api", "")


def test_a_token_is_fetched_anew_before_it_expires(pointsman: Running) -> None:
    """Fails when a delivery is refused because its token has just expired, or when each one fetches
    a token of its own.
    """
    with OAuthServer(life_seconds=3) as server:
        callback = callback_with(pointsman, server, credential(pointsman, server))
        until = time.monotonic() + 8
        while time.monotonic() < until:
            trigger = pointsman.ended(pointsman.fire(callback, content=b"x"))
            assert (trigger["status"], execution(trigger)["attempt"]) == ("SUCCESS", 1)
        assert {delivery.status for delivery in server.deliveries} == {200}
        assert 3 <= len(server.asked) <= 5
        assert server.most_at_once == 1


def test_a_refused_token_is_dropped_and_the_next_attempt_comes_at_once(
    pointsman: Running, server: OAuthServer
) -> None:
    callback = callback_with(pointsman, server, credential(pointsman, server))
    pointsman.ended(pointsman.fire(callback))
    server.revoke_all()
    started = time.monotonic()
    trigger = pointsman.ended(pointsman.fire(callback, content=b"x"))
    assert time.monotonic() - started < 4, "the schedule's first delay is 5 s"
    ended = execution(trigger)
    assert (ended["status"], ended["attempt"]) == ("SUCCESS", 2)
    (first,) = ended["history"]
    assert (first["attempt"], first["outcome"], first["statusCode"]) == (1, "http_401", 401)
    mine = [delivery for delivery in server.deliveries if delivery.trigger_id == trigger["id"]]
    assert [(one.attempt, one.status) for one in mine] == [(1, 401), (2, 200)]
    assert mine[0].token != mine[1].token
    assert len(server.asked) == 2


def test_many_refused_deliveries_fetch_one_new_token(pointsman: Running, server: OAuthServer) -> None:
    """Fails when a token that came meanwhile is dropped for the old one."""
    callback = callback_with(pointsman, server, credential(pointsman, server))
    pointsman.ended(pointsman.fire(callback))
    server.revoke_all()
    with ThreadPoolExecutor(10) as threads:
        triggers = list(threads.map(lambda _: pointsman.fire(callback, content=b"x"), range(40)))
    assert {pointsman.ended(trigger)["status"] for trigger in triggers} == {"SUCCESS"}
    assert len(server.asked) == 2


def test_a_receiver_that_takes_no_token_is_asked_again_at_once_only_once(
    pointsman: Running, server: OAuthServer
) -> None:
    server.refuses_all = True
    retry = {"maxAttempts": 3, "schedule": [3600]}
    callback = callback_with(pointsman, server, credential(pointsman, server), retry=retry)
    trigger = pointsman.fire(callback, content=b"x")

    def waits() -> bool:
        return any(one["nextAttemptAt"] for one in pointsman.trigger(trigger)["executions"])

    eventually(waits, 5, "a retry that waits")
    waiting = execution(pointsman.trigger(trigger))
    assert [delivery.attempt for delivery in server.deliveries] == [1, 2]
    assert (waiting["status"], waiting["attempt"], len(waiting["history"])) == ("PENDING", 2, 2)
    assert waiting["error"].startswith("http_401: ")


def test_a_changed_secret_or_scope_asks_anew(pointsman: Running, server: OAuthServer) -> None:
    """Fails when the token that the old secret bought goes on being used."""
    used = credential(pointsman, server)
    callback = callback_with(pointsman, server, used)
    pointsman.ended(pointsman.fire(callback))
    server.clients["other"] = Client("other", CLIENT_SECRET)
    meta = {**used["meta"], "clientId": "other"}
    path = f"/api/v1/credentials/{used['id']}"
    assert pointsman.api.patch(path, json={"meta": meta}).is_success
    pointsman.ended(pointsman.fire(callback))
    assert [delivery.client_id for delivery in server.deliveries] == [CLIENT_ID, "other"]


def test_no_tenant_is_served_with_anothers_token(
    pointsman: Running, other_tenant: Running, server: OAuthServer
) -> None:
    server.clients["theirs"] = Client("theirs", CLIENT_SECRET)
    mine = callback_with(pointsman, server, credential(pointsman, server))
    theirs = callback_with(other_tenant, server, credential(other_tenant, server, clientId="theirs"))
    triggers = {mine["id"]: pointsman.fire(mine), theirs["id"]: other_tenant.fire(theirs)}
    pointsman.ended(triggers[mine["id"]])
    other_tenant.ended(triggers[theirs["id"]])
    by_trigger = {delivery.trigger_id: delivery.client_id for delivery in server.deliveries}
    assert by_trigger == {triggers[mine["id"]]: CLIENT_ID, triggers[theirs["id"]]: "theirs"}


def test_what_the_token_server_refuses_ends_the_execution_and_is_told_without_the_secret(
    pointsman: Running, server: OAuthServer
) -> None:
    for wrong, said in (
        ({"secret": "wr0ng-s3cret"}, "answered 401 (invalid_client"),
        ({"scope": "orders:delete"}, "answered 400 (invalid_scope"),
    ):
        used = credential(pointsman, server, **wrong)
        trigger = pointsman.ended(pointsman.fire(callback_with(pointsman, server, used)))
        ended = execution(trigger)
        assert (ended["status"], ended["attempt"]) == ("FAILED", 1)
        assert ended["error"].startswith("oauth_failed: The token server ")
        assert said in ended["error"]
        assert "s3cret" not in str(trigger)
    assert server.deliveries == [], "nothing is sent without a token"


def test_a_token_server_that_repeats_the_secret_is_not_quoted(
    pointsman: Running, server: OAuthServer
) -> None:
    def repeat() -> Response:
        said = f"no client with {CLIENT_SECRET} or {server.asked[-1]['header']}"
        answer = {"error": "invalid_client", "error_description": said}
        return Response(json.dumps(answer), 400, content_type="application/json")

    server.behave = repeat
    trigger = pointsman.ended(pointsman.fire(callback_with(pointsman, server, credential(pointsman, server))))
    assert "(invalid_client: no client with *** or Basic ***)" in execution(trigger)["error"]
    assert server.asked[0]["header"].removeprefix("Basic ") not in str(trigger) + pointsman.log()


def test_a_token_server_that_is_down_is_asked_again(pointsman: Running, server: OAuthServer) -> None:
    server.behave = lambda: Response("busy", 503) if len(server.asked) == 1 else None
    used = credential(pointsman, server)
    callback = callback_with(pointsman, server, used, retry={"maxAttempts": 3, "schedule": [1.2]})
    ended = execution(pointsman.ended(pointsman.fire(callback)))
    assert (ended["status"], ended["attempt"]) == ("SUCCESS", 2)
    (first,) = ended["history"]
    assert (first["outcome"], first["statusCode"]) == ("oauth_failed", None)
    assert [delivery.attempt for delivery in server.deliveries] == [2]


class TestTheDoor:
    """Token servers are asked through the same guarded door as receivers."""

    def ended(
        self, pointsman: Running, server: OAuthServer, token_url: str, retry: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        used = credential(pointsman, server, tokenUrl=token_url)
        callback = callback_with(pointsman, server, used, retry=retry or {"maxAttempts": 1})
        found = execution(pointsman.ended(pointsman.fire(callback), 20))
        assert found["status"] == "FAILED"
        assert found["error"].startswith("oauth_failed: ")
        assert server.deliveries == []
        return found

    @pytest.mark.parametrize(
        "host", ["10.1.2.3", "169.254.169.254", "[::ffff:10.1.2.3]", "[fd00::1]", "192.168.1.1:8080"]
    )
    def test_a_token_url_leads_to_no_private_network(
        self, pointsman: Running, server: OAuthServer, host: str
    ) -> None:
        found = self.ended(pointsman, server, f"http://{host}/token", retry={"maxAttempts": 5})
        assert "deliveries to it are not allowed" in found["error"]
        assert found["attempt"] == 1

    def test_a_redirect_is_not_followed(
        self, pointsman: Running, server: OAuthServer, receiver: Receiver
    ) -> None:
        server.behave = lambda: Response("", 307, {"location": receiver.url("/canary")})
        assert "answered 307" in self.ended(pointsman, server, server.url("/token"))["error"]
        assert receiver.receipts == []

    def test_an_answer_without_end_is_cut(self, pointsman: Running, server: OAuthServer) -> None:
        server.behave = lambda: Response('{"access_token": "%s"}' % ("x" * 200_000))
        assert "without a token" in self.ended(pointsman, server, server.url("/token"))["error"]

    @pytest.mark.parametrize("path", ["/hang", "/drip"])
    def test_one_that_does_not_answer_is_given_up_after_five_seconds(
        self, pointsman: Running, server: OAuthServer, receiver: Receiver, path: str
    ) -> None:
        started = time.monotonic()
        found = self.ended(pointsman, server, receiver.url(path))
        assert 5 <= time.monotonic() - started < 8
        assert "took too long" in found["error"]
        assert 5_000 <= found["durationMs"] < 6_000
