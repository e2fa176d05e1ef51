"""OAuth 2.0 client credentials: what is sent to a token server, and what its answer means. Pure.

Invariants:

- Of what a token server says of a failure only its `error` and `error_description` are told, cut,
  and with everything that was sent to it masked.
- Only what the token server refuses in the words of RFC 6749 is for its owner to mend. Asking again
  could help with all else: what stands before a token server answers 404 as well.

Source: RFC 6749 §2.3.1, §4.4, §5.1 and §5.2.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

from shared.masks import MASK, spellings
from worker.actions.http_answers import retry_after_seconds
from worker.egress.errors import EgressError
from worker.egress.messages import HttpRequest, HttpResponse
from worker.egress.tokens import NoToken, Token

TIMEOUT_MS = 5_000
MAX_RESPONSE_BYTES = 64 * 1024

# Most servers refuse a larger header.
MAX_TOKEN_CHARS = 8_000

# Where the token server does not say how long its token is good.
DEFAULT_LIFE_SECONDS = 300.0
MAX_LIFE_SECONDS = 24 * 3600.0

# With fewer characters a secret cannot be masked without masking every other word.
LEAST_MASKED_CHARS = 4
MAX_TOLD_CHARS = 200

# What RFC 6749 lets a token server say: nothing that was sent to it.
_STANDARD = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
_RETRYABLE = frozenset({408, 425, 429})
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Grant(NamedTuple):
    """What a token is asked for with. It shows nothing of itself. tenant: whom it is charged to."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str | None
    audience: str | None
    in_body: bool
    tenant: str

    def __repr__(self) -> str:
        return f"Grant(tenant={self.tenant!r})"


def token_request(grant: Grant) -> HttpRequest:
    """The request for a token."""
    form = {"grant_type": "client_credentials"}
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if grant.scope is not None:
        form["scope"] = grant.scope
    if grant.audience is not None:
        form["audience"] = grant.audience
    if grant.in_body:
        form |= {"client_id": grant.client_id, "client_secret": grant.client_secret}
    else:
        headers["authorization"] = f"Basic {_basic(grant)}"
    return HttpRequest(
        method="POST",
        url=grant.token_url,
        headers=headers,
        body=urlencode(form).encode(),
        timeout_ms=TIMEOUT_MS,
        max_response_bytes=MAX_RESPONSE_BYTES,
        tenant=grant.tenant,
    )


def _basic(grant: Grant) -> str:
    """Both are encoded as in a form before they are put together (RFC 6749 §2.3.1), a space as
    `%20`, which every server decodes.
    """
    pair = f"{quote(grant.client_id, safe='')}:{quote(grant.client_secret, safe='')}"
    return base64.b64encode(pair.encode()).decode()


def read_token(response: HttpResponse, grant: Grant) -> Token | NoToken:
    """The token in an answer, or why there is none."""
    answer, status = _as_object(response), response.status
    if not 200 <= status < 300:
        is_final = _is_standard(answer.get("error")) and status < 500 and status not in _RETRYABLE
        return NoToken(
            f"The token server answered {status}{_told(answer, grant)}.",
            retryable=not is_final,
            retry_after_seconds=retry_after_seconds(response),
        )
    token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
    if isinstance(token, str) and str(kind).lower() != "bearer":
        return NoToken("The token server gives tokens of another type than Bearer.", retryable=False)
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or len(token) > MAX_TOKEN_CHARS:
        return NoToken("The token server answered without a token that can be sent.", retryable=True)
    return Token(token, _life_seconds(answer.get("expires_in")))


def no_token(error: EgressError) -> NoToken:
    """Why there is no token when the token server could not be asked."""
    return NoToken(f"The token server could not be asked: {error.message}", retryable=not error.permanent)


def _as_object(response: HttpResponse) -> dict[str, Any]:
    """The answer's JSON object; an empty one for anything else."""
    if response.truncated:
        return {}
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _life_seconds(expires_in: Any) -> float:
    """Some servers say it as text."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_LIFE_SECONDS
    return min(seconds, MAX_LIFE_SECONDS) if seconds > 0 else DEFAULT_LIFE_SECONDS


def _told(answer: dict[str, Any], grant: Grant) -> str:
    """What the token server says of the failure, without anything that it was sent."""
    if len(grant.client_secret) < LEAST_MASKED_CHARS:
        return ""
    error, description = (answer.get(name) for name in ("error", "error_description"))
    error = error if _is_standard(error) else _masked(error, grant)
    text = ": ".join(one for one in (error, _masked(description, grant)) if one)
    if not text:
        return ""
    text = "".join(one if one.isprintable() else " " for one in text)
    return f" ({text[:MAX_TOLD_CHARS]}{'…' if len(text) > MAX_TOLD_CHARS else ''})"


def _is_standard(error: Any) -> bool:
    return isinstance(error, str) and error in _STANDARD


def _masked(text: Any, grant: Grant) -> str:
    masked = text if isinstance(text, str) else ""
    for sent in _sent(grant):
        masked = re.sub(re.escape(sent), MASK, masked, flags=re.IGNORECASE)
    return masked


def _sent(grant: Grant) -> list[str]:
    """Every value that was sent, in each spelling that it was sent in; the longest first."""
    values = {grant.client_secret, grant.client_id, grant.scope, grant.audience, _basic(grant)}
    parts = urlsplit(grant.token_url).query.split("&")
    values |= {part.partition("=")[2] or part for part in parts}
    plain = {one for value in values if value is not None for one in (value, unquote_plus(value))}
    return [one for one in spellings(plain) if len(one) >= LEAST_MASKED_CHARS]
