"""What an HTTP answer means to every action type that gets one.

Invariants:

- What is kept of a response is bounded and can always be stored as JSON.
- A receiver's Retry-After is seconds from now, never negative and capped.
- Of a receiver's Location only scheme, host and port are kept and said: the rest is often the path
  and the query of our own URL, which may be credentials.
- What a receiver repeats of a credential is a mask, whether it is read as text or not.

Whether a status is a success is the action type's own to say. Source: RFC 9110 §10.2.3 and §5.6.7
for Retry-After.
"""

from __future__ import annotations

import base64
import codecs
import email.utils
from collections.abc import Sequence
from datetime import UTC
from typing import Any
from urllib.parse import urlsplit

from shared.clock import database_clock
from shared.masks import MASK
from worker.actions.contract import MAX_RETRY_AFTER_SECONDS, Outcome
from worker.egress.errors import EgressError
from worker.egress.messages import HttpResponse

KEPT_HEADERS = frozenset({"content-type", "location", "retry-after", "server", "x-request-id"})
MAX_KEPT_HEADER_CHARS = 500
MAX_SHOWN_LOCATION_CHARS = 200

# What stands for a path and a query that are not said.
UNSAID = "/…"

# A shorter text stands in any answer by chance.
LEAST_MASKED_CHARS = 6


def outcome_of_error(error: EgressError) -> Outcome:
    """How an attempt ended whose call failed before a whole response came."""
    return Outcome(
        success=False,
        code=error.code,
        error=error.message,
        retryable=not error.permanent,
        unsent=error.phase == "connect" or error.reused_connection_closed,
    )


def retry_after_seconds(response: HttpResponse) -> float | None:
    """Seconds until the receiver wants the next attempt, capped; None if it does not say."""
    value = _header(response, "retry-after")
    if not value:
        return None
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            date = email.utils.parsedate_to_datetime(value)
            until = date.replace(tzinfo=date.tzinfo or UTC)
            seconds = (until - database_clock.now()).total_seconds()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def shown_location(response: HttpResponse) -> str | None:
    """Where the receiver points to: scheme, host and port, and `/…` if there is more.

    Without a host it is another place on the same one. None if it cannot be said.
    """
    value = _header(response, "location")
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    first = parts.path.partition("/")[0]
    if not value or "\\" in value or (parts.scheme and not parts.netloc) or "@" in first or ":" in first:
        return None
    host = parts.netloc.rpartition("@")[2]
    has_more = parts.path not in ("", "/") or parts.query or parts.fragment
    shown = f"{parts.scheme}:" * bool(parts.scheme) + f"//{host}" * bool(host)
    shown += UNSAID if has_more or not host else parts.path
    return shown if len(shown) <= MAX_SHOWN_LOCATION_CHARS else None


def _header(response: HttpResponse, wanted: str) -> str:
    return next((value for name, value in response.headers if name.lower() == wanted), "").strip()


def without(response: HttpResponse, secrets: Sequence[str]) -> HttpResponse:
    """The response with masks for these texts, and for the beginning of one where it was cut."""
    hidden = [one for one in secrets if len(one) >= LEAST_MASKED_CHARS]
    headers, body = response.headers, response.body
    raws = [raw for one in hidden for raw in _as_sent(one)]
    for one in hidden:
        headers = tuple((name, value.replace(one, MASK)) for name, value in headers)
    for raw in raws:
        body = body.replace(raw, MASK.encode())
    if response.truncated:
        body = _without_beginning(body, raws)
    return response._replace(headers=headers, body=body)


def without_all(response: HttpResponse) -> HttpResponse:
    """The response without anything that could repeat a secret."""
    headers = tuple((name, value) for name, value in response.headers if name.lower() == "retry-after")
    return response._replace(headers=headers, body=MASK.encode())


def _as_sent(text: str) -> list[bytes]:
    """The bytes in which a receiver may repeat a text."""
    if text.isascii():
        return [text.encode()]
    try:
        return [text.encode("utf-8", "surrogatepass"), text.encode("latin-1")]
    except UnicodeEncodeError:
        return [text.encode("utf-8", "surrogatepass")]


def _without_beginning(body: bytes, secrets: Sequence[bytes]) -> bytes:
    """The body without what it ends with, if a secret begins so."""
    for raw in secrets:
        for count in range(len(raw) - 1, LEAST_MASKED_CHARS - 1, -1):
            if body.endswith(raw[:count]):
                return body[:-count] + MASK.encode()
    return body


def kept_response(response: HttpResponse) -> dict[str, Any]:
    """What is stored: the status, a few headers, the body as text, or in base64 if it is none.

    The body is the receiver's own, whatever it holds.
    """
    headers = {
        name.lower(): value[:MAX_KEPT_HEADER_CHARS]
        for name, value in response.headers
        if name.lower() in KEPT_HEADERS
    }
    if headers.pop("location", None) is not None and (location := shown_location(response)):
        headers["location"] = location
    kept: dict[str, Any] = {
        "statusCode": response.status,
        "headers": headers,
        "truncated": response.truncated,
    }
    if response.remark is not None:
        kept["remark"] = response.remark
    text = _as_text(response)
    if text is None:
        kept["body"] = base64.b64encode(response.body).decode()
        kept["bodyEncoding"] = "base64"
    else:
        kept["body"] = text
    return kept


def _as_text(response: HttpResponse) -> str | None:
    """The body as text, None if it is none. A character that a cut went through is left out."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(response.body, final=not response.truncated)
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text
