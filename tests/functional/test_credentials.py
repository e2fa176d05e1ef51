"""Credentials over HTTP: what is made of them, where they go, and that they go nowhere else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx
import psycopg2
import pytest

from shared.ids import new_id
from tests.certificates import Authority, Signed, server_context
from tests.peers.receiver import Receipt, Receiver
from tests.running import Running, eventually

SECRET = "s3cret/value+1"
PATH = "/api/v1/credentials"
ONCE = {"maxAttempts": 1}


@pytest.fixture
def other() -> Iterator[Receiver]:
    """A receiver at another port: another destination."""
    with Receiver() as receiver:
        yield receiver


def origin(receiver: Receiver) -> str:
    return receiver.url("")


def made(pointsman: Running, receiver: Receiver, secret: str = SECRET, **meta: Any) -> dict[str, Any]:
    """A credential for a receiver, by default a bearer token."""
    known = {"kind": "bearer", "origins": [origin(receiver)], **meta}
    new = {"name": "a credential", "provider": "GENERIC", "secret": secret, "meta": known}
    answer = pointsman.api.post(PATH, json=new)
    assert answer.status_code == 201, answer.text
    assert secret not in answer.text
    found: dict[str, Any] = answer.json()
    return found


def using(
    pointsman: Running, receiver: Receiver, credential: dict[str, Any], path: str = "/ok", **fields: Any
) -> tuple[dict[str, Any], str]:
    """A callback with an action that uses a credential, and the path of the action."""
    action = {
        "type": "HTTP_POST",
        "name": "with it",
        "config": {"url": receiver.url(path)},
        "credentialId": credential["id"],
        **fields,
    }
    callback = pointsman.callback(receiver.url("/primary"), [action])
    return callback, f"/api/v1/actions/{callback['actions'][0]['id']}"


def delivered(pointsman: Running, callback: dict[str, Any], receiver: Receiver) -> Receipt:
    """What the further action has sent."""
    trigger = pointsman.ended(pointsman.fire(callback, content=b"x"))
    assert trigger["status"] == "SUCCESS", trigger
    action_id = callback["actions"][0]["id"]
    (found,) = [
        one for one in receiver.receipts if (one.trigger_id, one.action_id) == (trigger["id"], action_id)
    ]
    return found


def failed(pointsman: Running, callback: dict[str, Any]) -> str:
    """Why the further action has failed."""
    trigger = pointsman.ended(pointsman.fire(callback, content=b"x"))
    (found,) = [one for one in trigger["executions"] if one["actionId"] == callback["actions"][0]["id"]]
    assert found["status"] == "FAILED"
    return str(found["error"])


def refused(answer: httpx.Response, code: str, status: int = 422) -> str:
    """The text of a refusal."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert SECRET not in answer.text
    return answer.text


class TestWhatIsSent:
    @pytest.mark.parametrize(
        ("meta", "header", "value"),
        [
            ({"kind": "bearer"}, "authorization", f"Bearer {SECRET}"),
            (
                {"kind": "basic", "username": "me"},
                "authorization",
                "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode(),
            ),
            ({"kind": "header", "header": "X-Key", "prefix": "Key "}, "x-key", f"Key {SECRET}"),
        ],
    )
    def test_it_arrives_in_its_header(
        self, pointsman: Running, receiver: Receiver, meta: dict[str, Any], header: str, value: str
    ) -> None:
        callback, _ = using(pointsman, receiver, made(pointsman, receiver, **meta))
        assert delivered(pointsman, callback, receiver).headers[header] == value

    def test_it_arrives_in_the_query(self, pointsman: Running, receiver: Receiver) -> None:
        credential = made(pointsman, receiver, kind="query", parameter="key")
        callback, _ = using(pointsman, receiver, credential, "/ok?a=1")
        got = delivered(pointsman, callback, receiver)
        assert got.path == "/ok?a=1&key=s3cret%2Fvalue%2B1"
        assert parse_qs(urlsplit(got.path).query) == {"a": ["1"], "key": [SECRET]}

    def test_the_primary_action_can_have_one(self, pointsman: Running, receiver: Receiver) -> None:
        callback = pointsman.callback(receiver.url("/ok"))
        pointsman.primary(callback, credentialId=made(pointsman, receiver)["id"])
        pointsman.ended(pointsman.fire(callback))
        assert receiver.receipts[-1].headers["authorization"] == f"Bearer {SECRET}"

    def test_another_secret_holds_from_the_next_attempt_on(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        credential = made(pointsman, receiver)
        callback, action = using(pointsman, receiver, credential)
        delivered(pointsman, callback, receiver)
        assert pointsman.api.patch(f"{PATH}/{credential['id']}", json={"secret": "new"}).is_success
        assert delivered(pointsman, callback, receiver).headers["authorization"] == "Bearer new"
        assert pointsman.api.patch(action, json={"credentialId": None}).json()["credentialId"] is None
        assert "authorization" not in delivered(pointsman, callback, receiver).headers

    def test_a_step_that_starts_later_has_the_secret_of_then(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        """Fails when what was prepared with the old secret is sent."""
        credential = made(pointsman, receiver)
        callback, _ = using(pointsman, receiver, credential, order=5)
        pointsman.primary(callback, config={"url": receiver.url("/delay/1000")})
        trigger = pointsman.fire(callback, content=b"x")
        eventually(lambda: receiver.receipts, 5, "the first step under way")
        assert pointsman.api.patch(f"{PATH}/{credential['id']}", json={"secret": "new"}).is_success
        assert pointsman.ended(trigger)["status"] == "SUCCESS"
        assert [one.headers.get("authorization") for one in receiver.receipts] == [None, "Bearer new"]

    @pytest.mark.parametrize(
        "meta", [{"kind": "bearer"}, {"kind": "query", "parameter": "key"}], ids=["header", "query"]
    )
    def test_what_a_receiver_repeats_of_it_is_a_mask(
        self, pointsman: Running, receiver: Receiver, meta: dict[str, Any]
    ) -> None:
        """Fails when whoever may read executions reads the credential, or a later step sends it
        on.
        """
        callback, action = using(pointsman, receiver, made(pointsman, receiver, **meta), "/echo?a=1")
        delivered(pointsman, callback, receiver)
        (sent,) = [one for one in receiver.receipts if one.path.startswith("/echo")]
        assert SECRET in unquote(sent.path) + str(sent.headers)
        action_id = action.rpartition("/")[2]
        listed = pointsman.api.get("/api/v1/executions", params={"actionId": action_id})
        (found,) = listed.json()["items"]
        shown = pointsman.api.get(f"/api/v1/executions/{found['id']}").json()
        assert "***" in shown["response"]["body"]
        ((stored,),) = pointsman.query(
            "SELECT response::text FROM action_executions WHERE id = %s", found["id"]
        )
        for text in (json.dumps(shown), stored):
            assert SECRET not in unquote(text)


class TestWhoseItIs:
    def test_another_tenants_is_answered_as_one_that_does_not_exist(
        self, pointsman: Running, other_tenant: Running, receiver: Receiver
    ) -> None:
        credential = made(pointsman, receiver)
        callback = other_tenant.callback(receiver.url("/ok"))
        actions = f"/api/v1/callbacks/{callback['id']}/actions"
        (primary,) = other_tenant.api.get(actions).json()["items"]
        new = {"type": "HTTP_POST", "config": {"url": receiver.url("/ok")}}
        said = set()
        for one in (credential["id"], str(new_id())):
            for answer in (
                other_tenant.api.post(actions, json={**new, "credentialId": one}),
                other_tenant.api.patch(f"/api/v1/actions/{primary['id']}", json={"credentialId": one}),
            ):
                refused(answer, "unknown_credential")
                said.add(json.dumps({**answer.json(), "requestId": ""}))
        assert len(said) == 1
        assert len(other_tenant.api.get(actions).json()["items"]) == 1

    def test_one_that_came_into_a_row_by_hand_is_not_sent(
        self, pointsman: Running, other_tenant: Running, receiver: Receiver
    ) -> None:
        """Fails when a worker reads a credential without asking whose it is."""
        credential = made(other_tenant, receiver)
        action = {"type": "HTTP_POST", "config": {"url": receiver.url("/ok")}}
        callback = pointsman.callback(receiver.url("/primary"), [action])
        pointsman.query(
            "UPDATE actions SET credential_id = %s WHERE id = %s RETURNING 1",
            credential["id"],
            callback["actions"][0]["id"],
        )
        assert "credential is not there" in failed(pointsman, callback)
        assert receiver.got("/ok") == []
        assert pointsman.api.get(f"{PATH}/{credential['id']}").status_code == 404

    def test_a_list_holds_ones_own_newest_first(
        self, pointsman: Running, other_tenant: Running, receiver: Receiver
    ) -> None:
        mine = [made(pointsman, receiver)["id"] for _ in range(3)]
        theirs = made(other_tenant, receiver)["id"]
        first = pointsman.api.get(PATH, params={"limit": 2}).json()
        assert [one["id"] for one in first["items"]] == sorted(mine, reverse=True)[:2]
        second = pointsman.api.get(PATH, params={"limit": 2, "cursor": first["nextCursor"]}).json()
        assert second["items"][0]["id"] == min(mine)
        listed = other_tenant.api.get(PATH).json()["items"]
        assert theirs in [one["id"] for one in listed]
        assert not {one["id"] for one in listed} & set(mine)


class TestWhereItGoes:
    def test_an_action_that_would_send_it_elsewhere_is_refused_when_it_is_saved(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        credential = made(pointsman, receiver)
        callback, action = using(pointsman, receiver, credential)
        actions = f"/api/v1/callbacks/{callback['id']}/actions"
        for url in (other.url("/ok"), f"http://localhost:{receiver.port}/", "http://127.0.0.1/"):
            new = {"type": "HTTP_POST", "config": {"url": url}, "credentialId": credential["id"]}
            refused(pointsman.api.post(actions, json=new), "credential_origin")
            refused(pointsman.api.patch(action, json={"config": {"url": url}}), "credential_origin")
            both = {"config": {"url": url}, "credentialId": credential["id"]}
            refused(pointsman.api.patch(action, json=both), "credential_origin")
        elsewhere = made(pointsman, other)
        refused(pointsman.api.patch(action, json={"credentialId": elsewhere["id"]}), "credential_origin")
        assert delivered(pointsman, callback, receiver).path == "/ok"
        moved = {"config": {"url": other.url("/ok")}, "credentialId": elsewhere["id"]}
        assert pointsman.api.patch(action, json=moved).is_success
        assert delivered(pointsman, callback, other).headers["authorization"] == f"Bearer {SECRET}"

    def test_a_callbacks_url_does_not_take_it_along(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        callback = pointsman.callback(receiver.url("/ok"))
        path = f"/api/v1/callbacks/{callback['id']}"
        primary = pointsman.primary(callback, credentialId=made(pointsman, receiver)["id"])
        moved = {"callbackUrl": other.url("/ok")}
        text = refused(pointsman.api.patch(path, json=moved), "credential_origin")
        assert primary["id"] in text
        assert pointsman.api.get(path).json()["callbackUrl"] == receiver.url("/ok")
        assert pointsman.api.patch(path, json={"callbackUrl": receiver.url("/same")}).is_success
        pointsman.primary(callback, credentialId=None)
        assert pointsman.api.patch(path, json=moved).is_success

    def test_an_action_that_goes_elsewhere_now_is_refused_at_each_attempt(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        """Fails when a row that was changed behind the API's back is believed."""
        callback, _ = using(pointsman, receiver, made(pointsman, receiver))
        pointsman.query(
            "UPDATE actions SET config = %s WHERE id = %s RETURNING 1",
            json.dumps({"url": other.url("/ok?key=s3cret")}),
            callback["actions"][0]["id"],
        )
        error = failed(pointsman, callback)
        assert error.startswith(f"credential_origin: {origin(other)} is no origin")
        assert "s3cret" not in error
        assert other.receipts == []

    @pytest.mark.parametrize(
        "url",
        ["{0}{{{{ body.to }}}}/", "{0}{{{{body.to}}}}", "http://{{{{ body.host }}}}/", "{{{{ body.url }}}}"],
    )
    def test_no_template_stands_where_it_could_lead_it_elsewhere(
        self, pointsman: Running, receiver: Receiver, url: str
    ) -> None:
        callback, action = using(pointsman, receiver, made(pointsman, receiver))
        given = {"url": url.format(origin(receiver))}
        answer = pointsman.api.patch(action, json={"config": given})
        assert answer.status_code == 422
        assert "cannot be templates" in answer.text
        new = {
            "type": "HTTP_POST",
            "config": given,
            "credentialId": pointsman.api.get(action).json()["credentialId"],
        }
        answer = pointsman.api.post(f"/api/v1/callbacks/{callback['id']}/actions", json=new)
        assert answer.status_code == 422

    def test_what_a_caller_says_fills_a_template_and_leads_nowhere_else(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        config = {"url": receiver.url("/json/{{ body.to }}?x={{ query.y }}")}
        callback, _ = using(pointsman, receiver, made(pointsman, receiver), config=config)
        said = f"@127.0.0.1:{other.port}/"
        trigger = pointsman.fire(callback, json={"to": said}, params={"y": f"#@127.0.0.1:{other.port}"})
        assert pointsman.ended(trigger)["status"] == "SUCCESS"
        (got,) = [one for one in receiver.receipts if one.path.startswith("/json/")]
        assert got.path == f"/json/{quote(said, safe='')}?x=%23%40127.0.0.1%3A{other.port}"
        assert got.headers["authorization"] == f"Bearer {SECRET}"
        assert other.receipts == []

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_no_redirect_takes_it_along(
        self, pointsman: Running, receiver: Receiver, other: Receiver, status: int
    ) -> None:
        """Not even to another path of the same origin."""
        receiver.location = other.url("/ok")
        kinds: list[dict[str, Any]] = [
            {"kind": "bearer"},
            {"kind": "basic", "username": "me"},
            {"kind": "header", "header": "X-Key"},
            {"kind": "query", "parameter": "key"},
        ]
        for meta in kinds:
            credential = made(pointsman, receiver, **meta)
            callback, _ = using(pointsman, receiver, credential, f"/status/{status}", retry=ONCE)
            assert f"http_{status}" in failed(pointsman, callback)
        receiver.location = receiver.url("/elsewhere")
        assert f"http_{status}" in failed(pointsman, callback)
        called = [urlsplit(one.path).path for one in receiver.receipts]
        assert called.count(f"/status/{status}") == len(kinds) + 1
        assert (other.receipts, called.count("/elsewhere")) == ([], 0)

    def test_a_preview_is_refused_as_the_delivery_would_be(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        """Fails when a preview shows a credential where it would never go."""
        credential = made(pointsman, receiver, kind="query", parameter="the key")
        callback, _ = using(pointsman, receiver, credential, "/ok?a=1#there")
        given = {"actionId": callback["actions"][0]["id"]}
        shown = pointsman.api.post("/api/v1/actions/preview", json=given).json()["request"]
        assert shown["url"] == receiver.url("/ok?a=***&the%20key=***#***")
        given |= {"config": {"url": other.url("/ok")}}
        refused(pointsman.api.post("/api/v1/actions/preview", json=given), "credential_origin")

    def test_an_origin_that_is_needed_stays(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        credential = made(pointsman, receiver, origins=[origin(receiver), origin(other)])
        callback, _ = using(pointsman, receiver, credential)
        path = f"{PATH}/{credential['id']}"
        without = {"meta": {"kind": "bearer", "origins": [origin(other)]}, "secret": SECRET}
        text = refused(pointsman.api.patch(path, json=without), "credential_origin")
        assert callback["actions"][0]["id"] in text
        fewer = {"meta": {"kind": "bearer", "origins": [origin(receiver)]}, "secret": "new"}
        assert pointsman.api.patch(path, json=fewer).is_success
        assert delivered(pointsman, callback, receiver).headers["authorization"] == "Bearer new"

    def test_one_that_no_action_of_this_type_can_use_is_refused(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        callback = pointsman.callback(receiver.url("/ok"))
        actions = f"/api/v1/callbacks/{callback['id']}/actions"
        bearer = made(pointsman, receiver)
        slack = pointsman.api.post(
            PATH, json={"name": "s", "provider": "SLACK", "secret": f"https://127.0.0.1:{receiver.port}/ok"}
        ).json()
        for kind, config, credential in (
            ("STORE", {}, bearer),
            ("HTTP_POST", {"url": receiver.url("/ok")}, slack),
        ):
            new = {"type": kind, "config": config, "credentialId": credential["id"]}
            refused(pointsman.api.post(actions, json=new), "credential_unsuitable")


class TestChanging:
    def test_what_the_secret_is_bound_to_changes_only_with_the_secret(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        """Fails when a stolen API key can send a secret to a host of its own."""
        meta: dict[str, Any] = {
            "kind": "oauth2",
            "tokenUrl": receiver.url("/token?policy=s3cret"),
            "clientId": "me",
            "scope": "read",
            "origins": [origin(receiver)],
        }
        credential = made(pointsman, receiver, **meta)
        path = f"{PATH}/{credential['id']}"
        shown = pointsman.api.get(path).json()["meta"]
        assert shown == {**meta, "tokenUrl": receiver.url("/token?policy=***")}
        for change in (
            {"origins": [origin(receiver), origin(other)]},
            {"tokenUrl": other.url("/token")},
            {"tokenUrl": receiver.url("/elsewhere?policy=***")},
            {"scope": "read write"},
            {"scope": None},
            {"audience": "x"},
        ):
            given = {name: value for name, value in {**shown, **change}.items() if value is not None}
            refused(pointsman.api.patch(path, json={"meta": given}), "secret_needed_again")
        kind = {"kind": "bearer", "origins": [origin(receiver)]}
        refused(pointsman.api.patch(path, json={"meta": kind}), "secret_needed_again")
        moved = {"meta": {**shown, "tokenUrl": other.url("/token?policy=***")}, "secret": SECRET}
        refused(pointsman.api.patch(path, json=moved), "secret_needed_again")
        assert pointsman.api.get(path).json()["meta"] == shown
        for change in ({"clientId": "you"}, {"authentication": "body"}):
            changed = pointsman.api.patch(path, json={"meta": {**shown, **change}})
            assert changed.json()["meta"] == {**shown, **change}
        header, query = {"kind": "header", "header": "X-Key"}, {"kind": "query", "parameter": "key"}
        for known, field in ((header, "header"), (header, "prefix"), (query, "parameter")):
            placed = made(pointsman, receiver, **known)
            elsewhere = {"meta": {**placed["meta"], field: "X-Request-Id"}}
            answer = pointsman.api.patch(f"{PATH}/{placed['id']}", json=elsewhere)
            text = refused(answer, "secret_needed_again")
            assert f"would change: {field}." in text, "a receiver could send it back"
        wider = {"meta": {**shown, "scope": "read write"}, "secret": SECRET}
        assert pointsman.api.patch(path, json=wider).json()["meta"]["scope"] == "read write"
        ((stored,),) = pointsman.query(
            "SELECT meta::text FROM service_credentials WHERE id = %s", credential["id"]
        )
        assert "s3cret" not in stored

    def test_a_new_name_and_what_it_shows(self, pointsman: Running, receiver: Receiver) -> None:
        credential = made(pointsman, receiver)
        callback, _ = using(pointsman, receiver, credential)
        path = f"{PATH}/{credential['id']}"
        changed = pointsman.api.patch(path, json={"name": "renamed"}).json()
        assert (changed["name"], changed["usedByCount"]) == ("renamed", 1)
        assert changed["usedBy"] == [
            {"actionId": callback["actions"][0]["id"], "callbackId": callback["id"], "name": "with it"}
        ]
        key = (pointsman.folder / "data" / "secret_keys").read_text()
        assert len(changed["keyId"]) == 8
        assert changed["keyId"] not in key, "an id, and not a part of the key"
        for given in (
            {"secret": ""},
            {"secret": "a\nb"},
            {"secret": None},
            {"name": ""},
            {"provider": "SLACK"},
        ):
            assert pointsman.api.patch(path, json=given).status_code == 422

    def test_when_it_was_last_used_is_known_soon(self, pointsman: Running, receiver: Receiver) -> None:
        credential = made(pointsman, receiver)
        path = f"{PATH}/{credential['id']}"
        callback, _ = using(pointsman, receiver, credential)
        before = pointsman.api.get(path).json()
        assert before["lastUsedAt"] is None
        delivered(pointsman, callback, receiver)
        eventually(lambda: pointsman.api.get(path).json()["lastUsedAt"], 5, "a use that is written")
        assert pointsman.api.get(path).json()["updatedAt"] == before["updatedAt"], "a use is no change"

    def test_one_that_is_used_is_not_deleted(self, pointsman: Running, receiver: Receiver) -> None:
        credential = made(pointsman, receiver)
        path = f"{PATH}/{credential['id']}"
        callback, action = using(pointsman, receiver, credential)
        text = refused(pointsman.api.delete(path), "credential_in_use", 409)
        assert callback["actions"][0]["id"] in text
        assert "with it" in text
        assert pointsman.api.delete(action).is_success
        assert pointsman.api.get(path).json()["usedByCount"] == 0
        assert pointsman.api.delete(path).status_code == 204, "although the action's row is not purged yet"
        assert pointsman.api.get(path).status_code == 404
        assert pointsman.api.delete(path).status_code == 404

    def test_a_deleted_callback_holds_none(self, pointsman: Running, receiver: Receiver) -> None:
        credential = made(pointsman, receiver)
        callback, _ = using(pointsman, receiver, credential)
        assert pointsman.api.delete(f"/api/v1/callbacks/{callback['id']}").is_success
        assert pointsman.api.delete(f"{PATH}/{credential['id']}").status_code == 204

    def test_a_run_whose_credential_went_with_its_callback_sends_nothing_without_it(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        """Fails when an action of a deleted callback goes on without the credential it had."""
        credential = made(pointsman, receiver)
        callback, _ = using(pointsman, receiver, credential, order=5)
        pointsman.primary(callback, config={"url": receiver.url("/delay/1500")})
        trigger = pointsman.fire(callback, content=b"x")
        eventually(lambda: receiver.receipts, 5, "the first step under way")
        assert pointsman.api.delete(f"/api/v1/callbacks/{callback['id']}").is_success
        assert pointsman.api.delete(f"{PATH}/{credential['id']}").status_code == 204
        settled = "SELECT 1 FROM logs WHERE id = %s UNION ALL SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM runs WHERE trigger_id = %s)"
        eventually(lambda: pointsman.query(settled, trigger, trigger), 10, "the run's end")
        assert receiver.got("/ok") == []


def meanwhile(
    pointsman: Running, statement: str, values: tuple[Any, ...], call: Callable[[], httpx.Response]
) -> httpx.Response:
    """The answer to a call that comes while somebody else has done this and not committed yet."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%credential%%'"
    connection = psycopg2.connect(pointsman.database_url)
    with closing(connection), connection.cursor() as cursor, ThreadPoolExecutor(1) as thread:
        cursor.execute(statement, values)
        answer = thread.submit(call)
        eventually(lambda: answer.done() or pointsman.query(waiting), 5, "a call that waits")
        connection.commit()
        return answer.result(10)


class TestAtOnce:
    """An action that is saved and its credential that is deleted do not pass one another."""

    def test_a_deletion_waits_for_an_action_that_is_being_saved(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        """Fails with 500, or deletes what is used, when the foreign key is all there is."""
        credential = made(pointsman, receiver)
        callback, path = pointsman.callback(receiver.url("/ok")), f"{PATH}/{credential['id']}"
        answer = meanwhile(
            pointsman,
            "UPDATE actions SET credential_id = %s WHERE callback_id = %s",
            (credential["id"], callback["id"]),
            lambda: pointsman.api.delete(path),
        )
        refused(answer, "credential_in_use", 409)
        assert pointsman.api.get(path).json()["usedByCount"] == 1

    @pytest.mark.parametrize(
        ("statement", "code"),
        [
            ("DELETE FROM service_credentials WHERE id = %s", "unknown_credential"),
            (
                """UPDATE service_credentials SET meta = '{"kind": "bearer", "origins": ["http://127.0.0.1"]}' WHERE id = %s""",
                "credential_origin",
            ),
        ],
        ids=["deleted", "taken away from its origin"],
    )
    def test_an_action_waits_for_a_credential_that_is_being_changed(
        self, pointsman: Running, receiver: Receiver, statement: str, code: str
    ) -> None:
        """Fails when what an action is checked against is older than its lock."""
        credential = made(pointsman, receiver)
        callback = pointsman.callback(receiver.url("/ok"))
        path = f"/api/v1/callbacks/{callback['id']}/actions"
        new = {"type": "HTTP_POST", "config": {"url": receiver.url("/ok")}, "credentialId": credential["id"]}
        call = lambda: pointsman.api.post(path, json=new)  # noqa: E731
        refused(meanwhile(pointsman, statement, (credential["id"],), call), code)

    def test_a_credential_waits_for_an_action_that_is_being_saved(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        """Fails when an origin is taken away that an action has just begun to need."""
        credential = made(pointsman, receiver, origins=[origin(receiver), origin(other)])
        callback, _ = using(pointsman, receiver, {"id": None})
        change = {"meta": {"kind": "bearer", "origins": [origin(other)]}, "secret": SECRET}
        answer = meanwhile(
            pointsman,
            "UPDATE actions SET credential_id = %s WHERE id = %s",
            (credential["id"], callback["actions"][0]["id"]),
            lambda: pointsman.api.patch(f"{PATH}/{credential['id']}", json=change),
        )
        text = refused(answer, "credential_origin")
        assert callback["actions"][0]["id"] in text

    def test_a_callbacks_url_waits_for_a_credential_that_is_being_changed(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        credential = made(pointsman, receiver, origins=[origin(receiver), origin(other)])
        callback = pointsman.callback(receiver.url("/ok"))
        pointsman.primary(callback, credentialId=credential["id"])
        meta = json.dumps({"kind": "bearer", "origins": [origin(receiver)]})
        answer = meanwhile(
            pointsman,
            "UPDATE service_credentials SET meta = %s WHERE id = %s",
            (meta, credential["id"]),
            lambda: pointsman.api.patch(
                f"/api/v1/callbacks/{callback['id']}", json={"callbackUrl": other.url("/ok")}
            ),
        )
        refused(answer, "credential_origin")


class TestClientCertificates:
    OURS = Authority("ours")

    @pytest.fixture
    def strict(self) -> Iterator[Receiver]:
        """A server of our authority that speaks only to clients of it."""
        with Receiver(tls=server_context(self.OURS.sign("server", "127.0.0.1"), trusted=self.OURS)) as found:
            yield found

    def certificate(
        self, pointsman: Running, strict: Receiver, signed: Signed, **more: Any
    ) -> dict[str, Any]:
        known = {"certificate": signed.certificate, "ca": self.OURS.certificate, **more}
        return made(pointsman, strict, signed.key, kind="clientCertificate", **known)

    def test_each_credential_shows_its_own_certificate_to_the_same_server(
        self, pointsman: Running, strict: Receiver
    ) -> None:
        """Fails when a connection that was made with one is used for another."""
        callbacks = {
            name: using(pointsman, strict, self.certificate(pointsman, strict, self.OURS.sign(name)))[0]
            for name in ("one", "another")
        }
        for callback in callbacks.values():
            pointsman.primary(callback, enabled=False)
        for _ in range(2):
            for name, callback in callbacks.items():
                assert delivered(pointsman, callback, strict).client == name
        assert {receipt.client for receipt in strict.receipts} == set(callbacks)

    def test_without_a_certificate_the_server_is_not_reached(
        self, pointsman: Running, strict: Receiver
    ) -> None:
        signed = self.OURS.sign("one")
        callback, action = using(pointsman, strict, self.certificate(pointsman, strict, signed), retry=ONCE)
        pointsman.primary(callback, enabled=False)
        assert delivered(pointsman, callback, strict).client == "one"
        assert pointsman.api.patch(action, json={"credentialId": None}).is_success
        assert failed(pointsman, callback).startswith("tls_failed: ")
        usual = self.certificate(pointsman, strict, signed)
        meta = {name: value for name, value in usual["meta"].items() if name != "ca"}
        assert pointsman.api.patch(f"{PATH}/{usual['id']}", json={"meta": meta}).is_success
        assert pointsman.api.patch(action, json={"credentialId": usual["id"]}).is_success
        assert failed(pointsman, callback).startswith("tls_failed: "), "its authority is none of the usual"
        assert len(strict.receipts) == 1

    def test_a_key_and_a_certificate_change_together(self, pointsman: Running, strict: Receiver) -> None:
        credential = self.certificate(pointsman, strict, self.OURS.sign("old"))
        path, new = f"{PATH}/{credential['id']}", self.OURS.sign("new")
        meta = {**credential["meta"], "certificate": new.certificate}
        for given in ({"secret": new.key}, {"meta": meta}, {"meta": meta, "secret": self.OURS.sign("x").key}):
            text = refused(pointsman.api.patch(path, json=given), "bad_credential")
            assert "does not belong" in text
        callback, _ = using(pointsman, strict, credential)
        pointsman.primary(callback, enabled=False)
        assert delivered(pointsman, callback, strict).client == "old"
        assert pointsman.api.patch(path, json={"meta": meta, "secret": new.key}).is_success
        assert delivered(pointsman, callback, strict).client == "new"
