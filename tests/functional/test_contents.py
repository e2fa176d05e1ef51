"""Bodies and stored values: shown as the text that came, and given back byte for byte."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from tests.peers.receiver import Receiver
from tests.running import Running

SHOWN_BYTES = 64 * 1024

TEXTS = [
    b"",
    b"[" * 300,
    b"[" * 300 + b"]" * 300,
    b'{"a":' * 5_000,
    b"25000000000000000000",
    b'{"price": 10.00, "price": 1E2, "n": -0}',
    b'{ "b" : 1,\r\n\t"a":2 }',
    b'"\\ud800"',
    b"NaN",
    '\ufeff{"caf\u00e9": "\u20ac\U0001f511\u2028\x01"}'.encode(),
]
BYTES = [b"\xff\xfe", b'{"a": "\x00"}', b"caf\xe9", b"\xed\xa0\x80", b"\x1f\x8b\x08\x00"]


@pytest.fixture(scope="module")
def keeping(pointsman: Running) -> dict[str, Any]:
    """A callback that only keeps what comes."""
    callback = pointsman.callback("http://127.0.0.1:9/", [{"type": "STORE", "config": {}}])
    pointsman.primary(callback, enabled=False)
    return callback


def recorded(
    pointsman: Running, keeping: dict[str, Any], body: bytes
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trigger of such a call, and the item that it left."""
    trigger = pointsman.ended(
        pointsman.fire(keeping, content=body, headers={"content-type": "application/json"})
    )
    listed = pointsman.api.get("/api/v1/stored-items", params={"callbackId": keeping["id"]}).json()["items"]
    (item_id,) = [item["id"] for item in listed if item["triggerId"] == trigger["id"]]
    item = pointsman.api.get(f"/api/v1/stored-items/{item_id}")
    assert item.status_code == 200, item.text
    return trigger, item.json()


def assert_given_back(answer: httpx.Response, body: bytes) -> None:
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("body", TEXTS + BYTES, ids=lambda body: repr(body[:20]))
def test_what_came_is_shown_as_it_came(pointsman: Running, keeping: dict[str, Any], body: bytes) -> None:
    """Fails when a body is read as JSON and written again: numbers, keys and spaces change, and
    deep nesting cannot be written at all.
    """
    encoding, text = ("text", body.decode()) if body in TEXTS else ("base64", base64.b64encode(body).decode())

    trigger, item = recorded(pointsman, keeping, body)

    request = trigger["request"]
    assert (request["body"], request["bodyEncoding"]) == (text, encoding)
    assert (request["bodyBytes"], request["truncated"]) == (len(body), False)
    assert (item["value"], item["valueEncoding"]) == (text, encoding)
    assert (item["bytes"], item["truncated"]) == (len(body), False)
    assert_given_back(pointsman.api.get(f"/api/v1/triggers/{trigger['id']}/body"), body)
    assert_given_back(pointsman.api.get(f"/api/v1/stored-items/{item['id']}/content"), body)


@pytest.mark.parametrize(("coding", "encoding"), [("gzip", "base64"), ("identity", "text"), (None, "text")])
def test_a_coded_item_is_no_text_and_says_its_coding(
    pointsman: Running, keeping: dict[str, Any], coding: str | None, encoding: str
) -> None:
    headers = {"content-language": "de"} | ({"content-encoding": coding} if coding else {})
    trigger = pointsman.ended(pointsman.fire(keeping, content=b"coded", headers=headers))
    listed = pointsman.api.get("/api/v1/stored-items", params={"callbackId": keeping["id"]}).json()["items"]
    (item,) = [item for item in listed if item["triggerId"] == trigger["id"]]
    shown = pointsman.api.get(f"/api/v1/stored-items/{item['id']}").json()
    for one in (item, shown):
        assert (one["contentEncoding"], one["contentLanguage"]) == (coding, "de")
    assert shown["valueEncoding"] == trigger["request"]["bodyEncoding"] == encoding
    assert shown["value"] == ("coded" if encoding == "text" else base64.b64encode(b"coded").decode())
    assert_given_back(pointsman.api.get(f"/api/v1/stored-items/{item['id']}/content"), b"coded")


@pytest.mark.parametrize(
    ("body", "encoding", "shown_bytes"),
    [
        (b"x" * SHOWN_BYTES, "text", SHOWN_BYTES),
        (b"x" * (SHOWN_BYTES + 1), "text", SHOWN_BYTES),
        (b"x" * (SHOWN_BYTES - 1) + "\u20ac".encode() * 50_000, "text", SHOWN_BYTES - 1),
        (b"\xff" * (SHOWN_BYTES + 1), "base64", SHOWN_BYTES),
    ],
    ids=["just whole", "one more", "cut through a character", "bytes"],
)
def test_of_a_large_one_the_beginning_is_shown_and_all_of_it_given(
    pointsman: Running, keeping: dict[str, Any], body: bytes, encoding: str, shown_bytes: int
) -> None:
    trigger, item = recorded(pointsman, keeping, body)

    beginning = body[:shown_bytes]
    text = beginning.decode() if encoding == "text" else base64.b64encode(beginning).decode()
    is_cut = len(body) > SHOWN_BYTES
    request = trigger["request"]
    assert (request["bodyEncoding"], request["truncated"]) == (encoding, is_cut)
    assert request["body"] == text
    assert request["bodyBytes"] == len(body)
    assert (item["value"], item["valueEncoding"], item["truncated"]) == (text, encoding, is_cut)
    assert_given_back(pointsman.api.get(f"/api/v1/triggers/{trigger['id']}/body"), body)
    assert_given_back(pointsman.api.get(f"/api/v1/stored-items/{item['id']}/content"), body)


def test_a_body_of_the_largest_size_is_given_back(pointsman: Running, receiver: Receiver) -> None:
    body = bytes(range(256)) * 4096
    trigger = pointsman.fire(pointsman.callback(receiver.url("/ok")), content=body)
    assert_given_back(pointsman.api.get(f"/api/v1/triggers/{trigger}/body"), body)


def test_what_is_kept_of_an_actions_own_value_is_its_json(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(
        receiver.url("/ok"), [{"type": "STORE", "config": {"value": {"a": [1, None]}}}]
    )
    pointsman.ended(pointsman.fire(callback))
    (item,) = pointsman.api.get("/api/v1/stored-items", params={"callbackId": callback["id"]}).json()["items"]
    shown = pointsman.api.get(f"/api/v1/stored-items/{item['id']}").json()
    assert (shown["value"], shown["contentType"]) == ('{"a":[1,null]}', "application/json")
