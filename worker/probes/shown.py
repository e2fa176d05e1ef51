"""What a probe's user sees of it: a result, as JSON.

Invariants:

- No secret of ours is in it: of what was sent, header values are masks but those of harmless
  headers and of our own, and so is every value in the URL's query. What was masked is a mask in the
  answer's text, too: a receiver may repeat it.
- Of the answer it has the headers that any answer keeps, and at most MAX_BODY_BYTES of the body.
- Of an address that is refused the texts say nothing but that. It stands in `address` alone, which
  the API shows to an ADMIN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from shared import via
from shared.masks import HARMLESS_HEADERS, MASK, masked_url
from shared.seals import origin_of
from worker.actions.contract import Outcome
from worker.actions.http_answers import UNSAID, kept_response
from worker.egress.messages import HttpRequest, HttpResponse
from worker.probes.watched import Watched

MAX_BODY_BYTES = 4_096
REFUSED = "refused: private network"
BLOCKED = "blocked_address"

# What every delivery says of itself.
OWN_HEADERS = frozenset(
    {
        "webhook-id",
        "webhook-timestamp",
        "pointsman-trigger-id",
        "pointsman-action-id",
        "pointsman-attempt",
        via.HEADER,
    }
)

# Of others the whole URL may be the credential.
SHOWN_PATHS = frozenset({"HTTP_POST"})

# A shorter text stands in any answer by chance.
LEAST_SECRET_CHARS = 6


def result_of(
    outcome: Outcome,
    watched: Watched,
    *,
    kind: str,
    duration_ms: int,
    secrets: Sequence[str] = (),
    skipped: bool = False,
) -> dict[str, Any]:
    """What is stored of a probe that has ended. secrets: further texts that stand nowhere in it."""
    sent = watched.request
    refused = not outcome.success and (outcome.code == BLOCKED or watched.is_refused)
    hidden = [*secrets, *([] if sent is None else secrets_of(sent))]
    result: dict[str, Any] = {
        "outcome": "skipped" if skipped else "success" if outcome.success else "failure",
        "code": outcome.code,
        "error": REFUSED if refused else _without(outcome.error, hidden),
        "dialled": watched.dialled.named,
        "address": watched.dialled.address,
        "durationMs": duration_ms,
        "statusCode": outcome.status_code,
        "request": None if sent is None or refused else shown_request(sent, kind, secrets),
        "response": None,
    }
    if watched.response is not None:
        result["response"] = shown_response(watched.response, hidden)
    return result


def shown_request(sent: HttpRequest, kind: str, secrets: Sequence[str] = ()) -> dict[str, Any]:
    """What left, secrets masked: also a credential in a header that is harmless elsewhere."""
    path_is_shown = kind in SHOWN_PATHS
    return {
        "method": sent.method,
        "url": masked_url(sent.url) if path_is_shown else origin_of(sent.url) + UNSAID,
        "headers": {
            **{
                name: (_without(value, secrets) or "") if _is_shown(name) else MASK
                for name, value in sent.headers.items()
            },
            **dict.fromkeys(sent.opaque, MASK),
        },
        "bodyBytes": len(sent.body),
    }


def shown_response(response: HttpResponse, hidden: list[str]) -> dict[str, Any]:
    """What came: its kept headers and the beginning of its body."""
    body = response.body[:MAX_BODY_BYTES]
    is_cut = response.truncated or len(body) < len(response.body)
    kept = kept_response(response._replace(body=body, truncated=is_cut))
    return {
        "headers": {name: _without(value, hidden) for name, value in kept["headers"].items()},
        "body": _without(kept["body"], hidden),
        "bodyEncoding": kept.get("bodyEncoding", "text"),
        "bodyBytes": len(response.body),
        "truncated": kept["truncated"],
        "remark": kept.get("remark"),
    }


def secrets_of(sent: HttpRequest) -> list[str]:
    """The texts in a request that are shown as masks, the longest first."""
    values = [value for name, value in sent.headers.items() if not _is_shown(name)]
    values += [raw.decode("latin-1") for lines in sent.opaque.values() for raw in lines]
    parts = urlsplit(sent.url)
    values += [value for _, value in parse_qsl(parts.query)]
    values += [one.partition("=")[2] or one for one in (*parts.query.split("&"), parts.fragment)]
    # «Bearer …» and «Basic …»: the credential is the second word
    words = {word for value in values for word in (value, *value.split(" "))}
    return sorted((word for word in words if len(word) >= LEAST_SECRET_CHARS), key=len, reverse=True)


def _without(text: str | None, hidden: Sequence[str]) -> str | None:
    for one in hidden if text else ():
        text = (text or "").replace(one, MASK)
    return text


def _is_shown(name: str) -> bool:
    return name.lower() in HARMLESS_HEADERS or name.lower() in OWN_HEADERS
