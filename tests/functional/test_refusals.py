"""What callers and users get when something is wrong: always a problem with a code and a hint."""

from __future__ import annotations

import http.client
import json
import socket
import time
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.peers.receiver import Receiver
from tests.running import Running, eventually

MAX_BODY_BYTES = 1024 * 1024


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "hint", "requestId"}
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"]
    assert problem["hint"]
    assert answer.headers.get_list("x-request-id") == [problem["requestId"]]
    return problem


@pytest.mark.parametrize(
    "path", ["/t/unknown", "/t/a%00b", "/t/" + "x" * 300, "/c/unknown", "/t/%ff", "/t/%F0%9F%98%80"]
)
def test_an_unknown_trigger_url_is_404(pointsman: Running, path: str) -> None:
    answer = httpx.post(pointsman.url + path, trust_env=False)
    assert answer.status_code == 404
    assert answer.json()["hint"]


@pytest.mark.parametrize("path", ["/t//unknown", "//healthz", "/healthz/", "/api//v1/callbacks"])
def test_no_answer_says_the_callers_host_back(pointsman: Running, path: str) -> None:
    """Fails when a path in another spelling is redirected to whatever host the caller made up."""
    answer = httpx.get(pointsman.url + path, headers={"host": "canary.example"}, trust_env=False)
    assert answer.status_code in (200, 404)
    assert "canary" not in answer.text + str(answer.headers)


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/openapi.json", "/nowhere", "/t/unknown"])
def test_each_answer_has_one_id(pointsman: Running, path: str) -> None:
    ids = [
        httpx.get(pointsman.url + path, trust_env=False).headers.get_list("x-request-id") for _ in range(2)
    ]
    assert [len(one) for one in ids] == [1, 1]
    assert ids[0] != ids[1]


def test_header_bytes_of_any_kind_are_accepted(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    target = urlsplit(callback["triggerUrl"])
    with socket.create_connection((target.hostname, target.port), timeout=10) as client:
        client.sendall(
            f"POST {target.path}?q=\xff%00 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n".encode("latin-1")
            + b"x-latin: caf\xe9\r\nx-utf8: \xe2\x82\xac\r\nx-bad: \xff\xfe\r\ncontent-type: \xff\r\n\r\n"
        )
        status = int(client.recv(4096).split(b" ")[1])
    assert status in (202, 400), "accepted, or refused as not HTTP, never a fault of ours"


def test_a_callback_that_is_switched_off_is_403_and_works_again_when_on(
    pointsman: Running, receiver: Receiver
) -> None:
    callback = pointsman.callback(receiver.url("/ok"), activeStatus=False)
    assert_problem(httpx.post(callback["triggerUrl"], trust_env=False), 403, "callback_inactive")

    pointsman.api.patch(f"/api/v1/callbacks/{callback['id']}", json={"activeStatus": True})

    eventually(lambda: httpx.post(callback["triggerUrl"], trust_env=False).status_code == 202, 2, "202")


def test_a_body_over_the_limit_is_413_with_content_length_and_without(
    pointsman: Running, receiver: Receiver
) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    whole = b"x" * MAX_BODY_BYTES

    assert httpx.post(callback["triggerUrl"], content=whole, trust_env=False).status_code == 202
    assert_problem(
        httpx.post(callback["triggerUrl"], content=whole + b"x", trust_env=False), 413, "body_too_large"
    )
    chunked = iter([whole, b"x"])
    assert_problem(
        httpx.post(callback["triggerUrl"], content=chunked, trust_env=False), 413, "body_too_large"
    )
    assert receiver_counts(pointsman, callback) == 1


def receiver_counts(pointsman: Running, callback: dict[str, Any]) -> int:
    listed = pointsman.api.get("/api/v1/triggers", params={"callbackId": callback["id"]}).json()
    return len(listed["items"])


def test_an_endless_chunked_body_is_cut_off(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    target = urlsplit(callback["triggerUrl"])
    with socket.create_connection((target.hostname, target.port), timeout=10) as client:
        client.sendall(
            f"POST {target.path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        sent = 0
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            while sent < 64 * MAX_BODY_BYTES:
                client.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass  # the server closed the connection, as it must
        assert sent < 64 * MAX_BODY_BYTES


@pytest.mark.parametrize(
    "head", ["content-length: 100\r\n\r\npart", "transfer-encoding: chunked\r\n\r\n4\r\npart\r\n"]
)
def test_a_body_that_ends_too_early_is_not_recorded(
    pointsman: Running, receiver: Receiver, head: str
) -> None:
    """Fails when the end of the connection is taken for the end of the body."""
    callback = pointsman.callback(receiver.url("/ok"))
    target = urlsplit(callback["triggerUrl"])
    with socket.create_connection((target.hostname, target.port), timeout=10) as client:
        client.sendall(f"POST {target.path} HTTP/1.1\r\nhost: x\r\n{head}".encode())
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(4096)
    assert b" 202 " not in answer
    assert receiver_counts(pointsman, callback) == 0


def test_a_body_that_does_not_arrive_is_408(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    target = urlsplit(callback["triggerUrl"])
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=10)
    started = time.monotonic()
    connection.putrequest("POST", target.path)
    connection.putheader("content-length", "100")
    connection.endheaders(b"only a part")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (408, "application/problem+json")
    assert time.monotonic() - started < 5
    connection.close()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "x", "callbackUrl": "ftp://example.com"}, "callbackUrl"),
        ({"name": "x", "callbackUrl": "http://user:pw@example.com"}, "callbackUrl"),
        ({"name": "x", "callbackUrl": "http://example.com", "timeoutDuration": 0}, "timeoutDuration"),
        ({"name": "x", "callbackUrl": "http://example.com", "timeoutDuration": 10**9}, "timeoutDuration"),
        ({"name": "x\u0000", "callbackUrl": "http://example.com"}, "name"),
        ({"name": "x", "callbackUrl": "http://example.com", "customPath": "a/b"}, "customPath"),
        ({"name": "x", "callbackUrl": "http://example.com", "surprise": 1}, "surprise"),
    ],
)
def test_a_callback_that_cannot_work_is_422_naming_the_field(
    pointsman: Running, body: dict[str, Any], field: str
) -> None:
    problem = assert_problem(pointsman.api.post("/api/v1/callbacks", json=body), 422, "invalid")
    assert field in problem["detail"]


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ({"type": "HTTP_POST", "config": {}}, "bad_config"),
        ({"type": "HTTP_POST", "config": {"url": "http://x", "headers": {"Host": "y"}}}, "bad_config"),
        ({"type": "HTTP_POST", "config": {"url": "http://x", "headers": {"a": "b\r\nc: d"}}}, "bad_config"),
        ({"type": "HTTP_POST", "config": {"url": "http://x", "headers": {"webhook-id": "1"}}}, "bad_config"),
        ({"type": "HTTP_POST", "config": {"url": "http://x"}, "retry": {"maxAttempts": 0}}, "bad_retry"),
        ({"type": "HTTP_POST", "config": {"url": "http://x", "body": "\u0000"}}, "invalid"),
        ({"type": "STORE", "config": {"surprise": 1}}, "bad_config"),
        ({"type": "STORE", "config": {"value": 1e30}}, "invalid"),
        ({"type": "STORE", "config": {"value": [-(2**63) - 1]}}, "invalid"),
        ({"type": "STORE", "config": {"value": [2**63]}}, "invalid"),
        ({"type": "STORE", "config": {"value": nested(33)}}, "invalid"),
        ({"type": "STORE", "config": {"value": nested(253)}}, "invalid"),
        ({"type": "HTTP_POST", "config": {"url": "http://x", "body": nested(253)}}, "invalid"),
        ({"type": "HTTP_POST", "config": {"url": "http://x", "body": [1e30]}}, "invalid"),
        ({"type": "STORE", "config": {}, "retry": {"schedule": nested(253)}}, "bad_retry"),
        ({"type": "STORE", "config": {}, "retry": {"maxAttempts": 1e30}}, "bad_retry"),
        ({"type": "STORE", "config": {}, "retry": {"initialSeconds": True}}, "bad_retry"),
        ({"type": "STORE", "config": {}, "retry": {"maxAttempts": "3"}}, "bad_retry"),
        ({"type": "SLACK", "config": {}}, "action_type_unavailable"),
        ({"type": "NONSENSE", "config": {}}, "invalid"),
    ],
)
def test_an_action_that_cannot_work_is_422(pointsman: Running, action: dict[str, Any], code: str) -> None:
    callback = pointsman.callback("http://127.0.0.1:9/")
    assert_problem(pointsman.api.post(f"/api/v1/callbacks/{callback['id']}/actions", json=action), 422, code)


NUMBERS = [
    "-9223372036854775808",
    "9223372036854775807",
    "0.1",
    "-1.5e-7",
    "1e3",
    "5e-324",
    "0.30000000000000004",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_in_a_config_comes_back_as_it_was(pointsman: Running, number: str) -> None:
    callback = pointsman.callback("http://127.0.0.1:9/")
    path = f"/api/v1/callbacks/{callback['id']}/actions"
    sent = '{"type": "STORE", "config": {"value": [NUMBER, "0.12345678901234567890"]}}'.replace(
        "NUMBER", number
    )
    headers = {"content-type": "application/json"}
    made = pointsman.api.post(path, content=sent, headers=headers).raise_for_status().json()
    shown = pointsman.api.get(f"/api/v1/actions/{made['id']}").text
    given = json.loads(shown, parse_float=Decimal, parse_int=Decimal)["config"]["value"]
    assert given == [Decimal(number), "0.12345678901234567890"]


@pytest.mark.parametrize("number", ["9007199254740993.5", "0.1234567890123456789", "1e-400", "1e400"])
def test_a_number_that_would_not_come_back_as_it_was_is_refused(pointsman: Running, number: str) -> None:
    """Fails as a number that was changed without a word."""
    callback = pointsman.callback("http://127.0.0.1:9/")
    path = f"/api/v1/callbacks/{callback['id']}/actions"
    sent = '{"type": "STORE", "config": {"value": [NUMBER]}}'.replace("NUMBER", number)
    answer = pointsman.api.post(path, content=sent, headers={"content-type": "application/json"})
    problem = assert_problem(answer, 422, "invalid")
    assert "number" in problem["detail"]


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 100_000, '{"name": ' + "9" * 5000 + "}"])
def test_a_body_that_is_no_object_is_a_clear_error(pointsman: Running, text: str) -> None:
    answer = pointsman.api.post(
        "/api/v1/callbacks", content=text, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 415, 422), answer.text
    assert answer.json()["hint"]


@pytest.mark.parametrize(
    ("moment", "status"),
    [("2020-01-01T00:00:00Z", 200), ("1950-01-01T00:00:00Z", 200), ("2020-01-01T00:00:00", 422), ("x", 422)],
)
def test_times_in_a_query_are_bounds_or_clear_errors(pointsman: Running, moment: str, status: int) -> None:
    for name in ("from", "to"):
        answer = pointsman.api.get("/api/v1/triggers", params={name: moment})
        assert answer.status_code == status, answer.text
        if status == 422:
            assert name in answer.json()["detail"]


def test_a_taken_custom_path_is_409(pointsman: Running) -> None:
    pointsman.callback("http://127.0.0.1:9/", customPath="mine")
    body = {"name": "x", "callbackUrl": "http://127.0.0.1:9/", "customPath": "mine"}
    assert_problem(pointsman.api.post("/api/v1/callbacks", json=body), 409, "custom_path_taken")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer nonsense", "Bearer pm_live_nonsense", "Basic YTpi", "Bearer caf\u00e9"],
)
def test_without_a_valid_token_nothing_is_shown(pointsman: Running, authorization: str | None) -> None:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    for path in ("callbacks", "triggers", "stored-items", "users/me"):
        answer = httpx.get(f"{pointsman.url}/api/v1/{path}", headers=headers, trust_env=False)
        assert_problem(answer, 401, "unauthorized")


def test_a_wrong_password_and_an_unknown_account_look_alike(pointsman: Running) -> None:
    for email in ("admin@example.com", "nobody@example.com"):
        body = {"email": email, "password": "x" * 100}
        answer = httpx.post(f"{pointsman.url}/api/v1/auth/login", json=body, trust_env=False)
        assert_problem(answer, 401, "wrong_credentials")


def test_logging_out_ends_the_session(pointsman: Running) -> None:
    body = {"email": "ADMIN@example.com", "password": "correct horse battery staple"}
    token = httpx.post(f"{pointsman.url}/api/v1/auth/login", json=body, trust_env=False).json()["token"]
    with httpx.Client(
        base_url=pointsman.url, headers={"authorization": f"Bearer {token}"}, trust_env=False
    ) as client:
        assert client.get("/api/v1/users/me").json()["email"] == "admin@example.com"
        assert client.post("/api/v1/auth/logout").status_code == 204
        assert_problem(client.get("/api/v1/users/me"), 401, "unauthorized")


def test_a_deleted_callback_is_gone_at_once_and_its_rows_follow(
    pointsman: Running, receiver: Receiver
) -> None:
    callback = pointsman.callback(receiver.url("/ok"), [{"type": "STORE", "config": {}}])
    trigger_id = pointsman.fire(callback)
    pointsman.ended(trigger_id)

    assert pointsman.api.delete(f"/api/v1/callbacks/{callback['id']}").status_code == 204

    assert_problem(pointsman.api.get(f"/api/v1/callbacks/{callback['id']}"), 404, "not_found")
    assert_problem(pointsman.api.get(f"/api/v1/triggers/{trigger_id}"), 404, "not_found")
    assert (
        pointsman.api.get("/api/v1/stored-items", params={"callbackId": callback["id"]}).json()["items"] == []
    )
    eventually(lambda: httpx.post(callback["triggerUrl"], trust_env=False).status_code == 404, 2, "404")


def test_health_and_metrics_answer(pointsman: Running) -> None:
    assert httpx.get(f"{pointsman.url}/healthz", trust_env=False).json() == {"status": "alive"}
    ready = httpx.get(f"{pointsman.url}/readyz", trust_env=False)
    assert (ready.status_code, ready.json()["checks"]["workers"]) == (200, 1)
    assert "pointsman_triggers_accepted_total" in httpx.get(f"{pointsman.url}/metrics", trust_env=False).text


def test_the_api_describes_itself(pointsman: Running) -> None:
    described = httpx.get(f"{pointsman.url}/api/v1/openapi.json", trust_env=False).json()
    assert described["openapi"].startswith("3.1")
    assert "/api/v1/callbacks/{id}/actions" in described["paths"]


def test_nothing_is_at_an_unknown_address(pointsman: Running) -> None:
    assert_problem(httpx.get(f"{pointsman.url}/nothing/here", trust_env=False), 404, "not_found")
