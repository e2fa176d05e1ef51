"""What a probe's user sees of it: a result, as JSON.

Invariants:

- No secret of ours is in it: of what was sent, header values are masks but those of harmless
  headers and of our own, and so is every value in the URL's query. What was masked is a mask in the
  answer, too: a receiver may repeat it (echoes.py).
- Of the answer it has the headers that any answer keeps, and at most MAX_BODY_BYTES of the body. A
  body that is no text, or is encoded, is not shown: nobody finds a secret in it.
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
from worker.probes.echoes import Secrets
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
    sent, own = watched.request, [one.encode() for one in secrets]
    refused = not outcome.success and (outcome.code == BLOCKED or watched.is_refused)
    hidden = Secrets(own if sent is None else [*own, *secrets_of(sent, kind)])
    error = None if outcome.error is None else hidden.masked(outcome.error)
    return {
        "outcome": "skipped" if skipped else "success" if outcome.success else "failure",
        "code": outcome.code,
        "error": REFUSED if refused else error,
        "dialled": watched.dialled.named,
        "address": watched.dialled.address,
        "durationMs": duration_ms,
        "statusCode": outcome.status_code,
        "request": None if sent is None or refused else shown_request(sent, kind, Secrets(own)),
        "response": None if watched.response is None else shown_response(watched.response, hidden),
    }


def shown_request(sent: HttpRequest, kind: str, hidden: Secrets) -> dict[str, Any]:
    """What left, secrets masked: also a credential in a header that is harmless elsewhere."""
    shown = {name: hidden.masked(value) if _is_shown(name) else MASK for name, value in sent.headers.items()}
    return {
        "method": sent.method,
        "url": masked_url(sent.url) if kind in SHOWN_PATHS else origin_of(sent.url) + UNSAID,
        "headers": {**shown, **dict.fromkeys(sent.opaque, MASK)},
        "bodyBytes": len(sent.body),
    }


def shown_response(response: HttpResponse, hidden: Secrets) -> dict[str, Any]:
    """What came: its kept headers and the beginning of its body."""
    size = len(response.body)
    masked = response._replace(
        headers=tuple((name, hidden.masked(value)) for name, value in response.headers),
        body=hidden.masked_bytes(response.body, MAX_BODY_BYTES, is_cut=response.truncated),
        truncated=response.truncated or size > MAX_BODY_BYTES,
    )
    kept = kept_response(masked)
    is_text = "bodyEncoding" not in kept and not _is_coded(response)
    return {
        "headers": kept["headers"],
        "body": kept["body"] if is_text else None,
        "bodyBytes": size,
        "truncated": kept["truncated"],
        "remark": kept.get("remark"),
    }


def secrets_of(sent: HttpRequest, kind: str) -> list[bytes]:
    """What of a request is shown as masks."""
    values = [value.encode() for name, value in sent.headers.items() if not _is_shown(name)]
    values += [raw for lines in sent.opaque.values() for raw in lines]
    parts = urlsplit(sent.url)
    values += [value.encode() for _, value in parse_qsl(parts.query)]
    texts = [one.partition("=")[2] or one for one in (*parts.query.split("&"), parts.fragment)]
    if kind not in SHOWN_PATHS:
        texts += [parts.path, *parts.path.split("/")]
    return [*values, *(text.encode() for text in texts)]


def _is_coded(response: HttpResponse) -> bool:
    codings = ",".join(value for name, value in response.headers if name.lower() == "content-encoding")
    return any(one.strip().lower() not in ("", "identity") for one in codings.split(","))


def _is_shown(name: str) -> bool:
    return name.lower() in HARMLESS_HEADERS or name.lower() in OWN_HEADERS
