"""Receivers that answer untidily: what their status says is what happens, once."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.peers.raw import OK, RawReceiver
from tests.running import Running

H204 = b"HTTP/1.1 204 No Content\r\n"
H200 = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"

# A request of this size leaves in pieces, a smaller one in one write.
LARGE = b"x" * 200_000


class Untidy(NamedTuple):
    """An answer. body: what is kept of it; remark: a word of what is noted."""

    name: str
    answer: bytes
    body: str
    remark: str


UNTIDY = [
    Untidy("204 with a body", H204 + LENGTH + b"\r\n{}", "", "behind"),
    Untidy("204 with a body and no length", H204 + b"\r\n{}", "", "behind"),
    Untidy("204 with chunks", H204 + CHUNKED + b"\r\n" + CHUNKS, "", "behind"),
    Untidy("204 with a last chunk", H204 + CHUNKED + b"\r\n0\r\n\r\n", "", "behind"),
    Untidy("the length twice", H200 + LENGTH + LENGTH + b"\r\n{}", "{}", "length"),
    Untidy("the length twice in one line", H200 + b"Content-Length: 2, 2\r\n\r\n{}", "{}", "length"),
    Untidy("length and chunks", H200 + LENGTH + CHUNKED + b"\r\n" + CHUNKS, "{}", "length"),
    Untidy("chunks and length", H200 + CHUNKED + LENGTH + b"\r\n" + CHUNKS, "{}", "length"),
    *(
        Untidy(
            f"length and chunks, and behind it {body!r}",
            H200 + b"Content-Length: %d\r\n" % len(body) + CHUNKED + b"\r\n" + body,
            body.decode(),
            "length",
        )
        for body in (b"{}", b"1", b"42", b"ok", b"")
    ),
    Untidy("length and chunks, and nothing behind it", H200 + LENGTH + CHUNKED + b"\r\n", "", "length"),
    Untidy("the length twice and half a body", H200 + LENGTH + LENGTH + b"\r\n{", "{", "length"),
    Untidy("no end of a body that has none", b"HTTP/1.1 205 Reset\r\n\r\n", "", "where its body ends"),
    Untidy(
        "a trailer that is none",
        H200 + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"none\r\n\r\n",
        "{}",
        "what its head said",
    ),
    Untidy("the beginning of an answer behind it", H204 + b"\r\n" + OK[:10], "", "behind"),
    Untidy("bytes behind the length", H200 + LENGTH + b"\r\n{}more", "{}", "behind"),
    Untidy("a length of none and a body", H200 + b"Content-Length: 0\r\n\r\n{}", "", "behind"),
    Untidy("another answer behind the first", H200 + LENGTH + b"\r\n{}" + OK, "{}", "behind"),
    Untidy(
        "bytes behind the length before a close",
        H200 + LENGTH + b"Connection: close\r\n\r\n{}more",
        "{}",
        "behind",
    ),
    Untidy("bytes behind the last chunk", H200 + CHUNKED + b"\r\n" + CHUNKS + b"more", "{}", "behind"),
    Untidy("identity", H200 + b"Transfer-Encoding: identity\r\n\r\n{}", "{}", "coding"),
    Untidy(
        "identity and a length",
        H200 + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n{}",
        "{}",
        "coding",
    ),
    Untidy(
        "an interim answer before it",
        b"HTTP/1.1 100 Continue\r\n\r\n" + H204 + LENGTH + b"\r\n{}",
        "",
        "behind",
    ),
    Untidy(
        "the length twice, lines ended by LF",
        b"HTTP/1.1 200 OK\n" + b"Content-Length: 2\n" * 2 + b"\n{}",
        "{}",
        "length",
    ),
]


def once(pointsman: Running, url: str) -> dict[str, Any]:
    """A callback that tries once, so that a delivery that fails has an end."""
    callback = pointsman.callback(url)
    pointsman.primary(callback, retry={"maxAttempts": 1})
    return callback


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("case", UNTIDY, ids=[case.name for case in UNTIDY])
def test_a_receiver_that_took_the_event_is_called_once(pointsman: Running, case: Untidy, large: bool) -> None:
    """Fails when an answer whose head came whole is thrown away for what stands behind it."""
    body = case.name.encode() + (LARGE if large else b"")
    with RawReceiver({"/": [case.answer]}) as receiver:
        trigger = pointsman.ended(pointsman.fire(once(pointsman, receiver.url()), content=body))

        (execution,) = trigger["executions"]
        assert (trigger["status"], execution["attempt"]) == ("SUCCESS", 1), execution["error"]
        response = execution["response"]
        assert response["statusCode"] == next(
            code for code in (204, 205, 200) if b" %d " % code in case.answer
        )
        assert (response["body"], response["truncated"]) == (case.body, False)
        assert case.remark in response["remark"]
        (request,) = receiver.requests
        assert request.body == body


def test_a_tidy_answer_has_no_remark(pointsman: Running) -> None:
    with RawReceiver() as receiver:
        trigger = pointsman.ended(pointsman.fire(once(pointsman, receiver.url())))
        assert "remark" not in trigger["executions"][0]["response"]


@pytest.mark.parametrize(
    ("head", "code"), [(b"HTTP/1.1 500 Oops\r\n", "http_500"), (b"HTTP/1.1 422 No\r\n", "http_422")]
)
def test_an_untidy_refusal_is_judged_by_its_status(pointsman: Running, head: bytes, code: str) -> None:
    with RawReceiver({"/": [head + LENGTH + LENGTH + b"\r\n{}more"]}) as receiver:
        (execution,) = pointsman.ended(pointsman.fire(once(pointsman, receiver.url())))["executions"]
        assert execution["error"].startswith(code + ": ")
        assert execution["response"]["body"] == "{}"
        assert "behind" in execution["response"]["remark"]


def test_an_untidy_410_switches_the_action_off(pointsman: Running) -> None:
    with RawReceiver({"/": [b"HTTP/1.1 410 Gone\r\n" + LENGTH + CHUNKED + b"\r\n" + CHUNKS]}) as receiver:
        callback = pointsman.callback(receiver.url())
        (execution,) = pointsman.ended(pointsman.fire(callback))["executions"]
        assert execution["error"].startswith("http_410: ")
        assert pointsman.ended(pointsman.fire(callback))["reason"] == "no_enabled_action"
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        H200 + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        H200 + b"Content-Length: two\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: y\r\n garbage without a colon\r\nnone\r\n\r\n",
        b"garbage\r\n\r\n",
    ],
    ids=["two lengths", "no number", "a broken header", "garbage"],
)
def test_a_head_that_says_no_one_thing_is_no_answer(pointsman: Running, answer: bytes) -> None:
    with RawReceiver({"/": [answer]}) as receiver:
        (execution,) = pointsman.ended(pointsman.fire(once(pointsman, receiver.url())))["executions"]
        assert execution["error"].startswith("bad_response: ")


def test_what_stands_behind_an_answer_is_given_to_nobody_else(
    pointsman: Running, other_tenant: Running
) -> None:
    """Fails when the next tenant's request takes it for its own answer."""
    forged = b"HTTP/1.1 410 Gone\r\nContent-Length: 6\r\n\r\nforged"
    with RawReceiver({"/one": [H204 + LENGTH + b"\r\n{}" + forged], "/two": [OK]}) as receiver:
        ours, theirs = once(pointsman, receiver.url("/one")), once(other_tenant, receiver.url("/two"))
        for n in range(3):
            first = pointsman.ended(pointsman.fire(ours, content=b"one %d" % n))
            second = other_tenant.ended(pointsman.fire(theirs, content=b"two %d" % n))
            assert (first["status"], second["status"]) == ("SUCCESS", "SUCCESS")
            assert second["executions"][0]["response"]["body"] == "ok"
        assert {request.body.split()[0] for request in receiver.got("/two")} == {b"two"}
        spoiled: set[int] = set()
        for request in receiver.requests:
            assert request.connection not in spoiled, "a connection that spoke too much is closed"
            if request.target == b"/one":
                spoiled.add(request.connection)
        assert len(spoiled) == 3


def status(code: int, *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {code} X\r\n{head}Content-Length: 0\r\n\r\n".encode()


def retried(pointsman: Running, url: str, **retry: Any) -> dict[str, Any]:
    callback = pointsman.callback(url)
    pointsman.primary(callback, retry={"maxAttempts": 3, "schedule": [0.1], **retry})
    return callback


@pytest.mark.parametrize("code", [301, 304, 401, 403, 404, 408, 409, 425, 429, 451, 499, 500, 502, 599])
def test_a_receiver_that_is_wrong_for_a_while_gets_the_event_all_the_same(
    pointsman: Running, other_tenant: Running, code: int
) -> None:
    """Fails when a proxy's 404 during a deployment ends a delivery for good."""
    with RawReceiver({"/ours": [status(code), OK], "/theirs": [status(code), status(code), OK]}) as receiver:
        ours, theirs = (
            retried(pointsman, receiver.url("/ours")),
            retried(other_tenant, receiver.url("/theirs")),
        )
        first = pointsman.fire(ours, content=b"ours")
        second = other_tenant.fire(theirs, content=b"theirs")
        for tenant, trigger_id, attempts in ((pointsman, first, 2), (other_tenant, second, 3)):
            (execution,) = tenant.ended(trigger_id)["executions"]
            assert (execution["status"], execution["attempt"]) == ("SUCCESS", attempts)
            assert {earlier["statusCode"] for earlier in execution["history"]} == {code}
        assert [request.body for request in receiver.got("/ours")] == [b"ours"] * 2
        assert [request.body for request in receiver.got("/theirs")] == [b"theirs"] * 3


@pytest.mark.parametrize("code", [400, 405, 413, 414, 415, 422, 431, 501, 505, 508])
def test_what_no_repetition_can_change_ends_at_once(pointsman: Running, code: int) -> None:
    with RawReceiver({"/": [status(code, "Retry-After: 1"), OK]}) as receiver:
        (execution,) = pointsman.ended(pointsman.fire(retried(pointsman, receiver.url())))["executions"]
        assert (execution["status"], execution["attempt"]) == ("FAILED", 1)
        assert execution["error"].startswith("loop: " if code == 508 else f"http_{code}: ")


def test_which_statuses_end_at_once_is_the_actions_to_say(pointsman: Running) -> None:
    answers = {"/none": [status(400), OK], "/own": [status(400), status(404), OK]}
    with RawReceiver(answers) as receiver:
        none = retried(pointsman, receiver.url("/none"), permanentStatuses=[])
        own = retried(pointsman, receiver.url("/own"), permanentStatuses=[301, 404])
        ended = [pointsman.ended(pointsman.fire(callback))["executions"][0] for callback in (none, own)]
        assert [(e["status"], e["attempt"]) for e in ended] == [("SUCCESS", 2), ("FAILED", 2)]
        assert ended[1]["error"].startswith("http_404: ")


@pytest.mark.parametrize("statuses", [[200], [299], [600], ["404"], [404.5], [True], 404, None])
def test_only_statuses_of_failures_can_be_permanent(pointsman: Running, statuses: Any) -> None:
    callback = pointsman.callback("http://127.0.0.1:1/")
    action = {
        "type": "HTTP_POST",
        "config": {"target": "callback_url"},
        "retry": {"permanentStatuses": statuses},
    }
    answer = pointsman.api.post(f"/api/v1/callbacks/{callback['id']}/actions", json=action)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_retry")
    assert "permanentStatuses" in answer.json()["detail"]


def test_a_410_switches_off_though_every_status_may_be_repeated(pointsman: Running) -> None:
    with RawReceiver({"/": [status(410), OK]}) as receiver:
        callback = retried(pointsman, receiver.url(), permanentStatuses=[])
        (execution,) = pointsman.ended(pointsman.fire(callback))["executions"]
        assert (execution["status"], execution["attempt"]) == ("FAILED", 1)
        assert pointsman.ended(pointsman.fire(callback))["reason"] == "no_enabled_action"


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://new.example:8443/canary?token=canary#canary", "https://new.example:8443/…"),
        ("https://user:canary@new.example/hook", "https://new.example/…"),
        ("/canary?canary", "the same host"),
        ("//user:canary@new.example/other", "//new.example/…"),
        ("https://new.example/" + "x" * 3_000, "https://new.example/…"),
    ],
)
def test_a_redirect_is_tried_again_and_says_where_to(pointsman: Running, location: str, named: str) -> None:
    with RawReceiver({"/": [status(307, f"Location: {location}")]}) as receiver:
        (execution,) = pointsman.ended(pointsman.fire(retried(pointsman, receiver.url())))["executions"]
        assert (execution["status"], execution["attempt"]) == ("FAILED", 3)
        assert f"to {named}" in execution["error"]
        assert "canary" not in str(execution)
        assert len(execution["error"]) < 500
