"""What a credential adds to an HTTP request, and how a request with one is sent.

Invariants:

- A credential goes to its origins alone: the URL that is about to be sent to is judged, whatever it
  was when the action was saved.
- What it adds wins over a header of the action's own.
- A token that the receiver refuses is dropped, and the next attempt comes at once, once.
- What it added is a mask in what is kept of the answer: a receiver may repeat it. So is what else
  stands in `authorization` and `cookie`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

from shared.credentials import kind_of, may_go, parse_meta
from shared.credentials.basic import BasicMeta
from shared.credentials.bearer import BearerMeta
from shared.credentials.client_certificate import ClientCertificateMeta
from shared.credentials.header import HeaderMeta
from shared.credentials.oauth2 import OAuth2Meta
from shared.credentials.query import QueryMeta, with_parameter
from shared.masks import CREDENTIAL_HEADERS, spellings
from shared.seals import Cipher, origin_of
from worker.actions.contract import Outcome
from worker.actions.http_answers import without, without_all
from worker.actions.oauth import Grant, no_token, read_token, token_request
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import ClientIdentity, HttpRequest, HttpResponse
from worker.egress.tokens import NoToken, Token
from worker.records import ActionRecord, CredentialRecord

UNAUTHORIZED = 401

# Callers think up what they show. What is more than that, or longer, takes too long to be searched
# for. A short part of it, as `accepted`, stands in any answer by chance.
MAX_SHOWN_PARTS = 32
MAX_SHOWN_CHARS = 8_192
LEAST_PART_CHARS = 12
LATE = NoToken("The token server took longer than the attempt may take.", retryable=True)


class Access(NamedTuple):
    """That a token is needed. key: another one for each version of each credential."""

    key: tuple[str, str]
    grant: Grant


class Sending(NamedTuple):
    """Where a request goes, and what it shows of who is calling. It shows nothing of itself.

    opaque: headers of any bytes, each with its lines. secrets: what a receiver could repeat of the
    credential.
    """

    url: str
    headers: dict[str, str]
    opaque: dict[str, tuple[bytes, ...]]
    identity: ClientIdentity | None = None
    access: Access | None = None
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Sending(to={origin_of(self.url)!r})"


class Answer(NamedTuple):
    """What came back, with masks for the token. is_token_dropped: the receiver did not take it, and
    the next attempt has another one.
    """

    response: HttpResponse
    is_token_dropped: bool


def with_credential(
    action: ActionRecord, sending: Sending, tenant: str, decrypt: Cipher
) -> Sending | Outcome:
    """What is sent under an action's credential, if it has one.

    An Outcome: it must not go there. Raises Invalid for a credential that cannot be used.
    """
    credential = action.credential
    if credential is None:
        return sending
    read = json.loads(credential.meta)
    stored = read if isinstance(read, dict) else {}
    kind = kind_of(credential.provider, stored)
    if action.type not in kind.action_types:
        return Outcome.permanent(
            "credential_unsuitable", f"Actions of type {action.type} cannot use this credential."
        )
    if not may_go(kind.origins(stored), sending.url):
        return Outcome.permanent(
            "credential_origin",
            f"{origin_of(sending.url)} is no origin of the action's credential, so that nothing was sent there.",
        )
    meta = parse_meta(credential.provider, kind.unseal(stored, decrypt))
    return _applied(credential, meta, decrypt(credential.secret), sending, tenant)


def _applied(
    credential: CredentialRecord, meta: object, secret: str, sending: Sending, tenant: str
) -> Sending:
    match meta:
        case BearerMeta():
            return _with_header(sending, "authorization", f"Bearer {secret}", secret)
        case BasicMeta(username=username):
            pair = base64.b64encode(f"{username}:{secret}".encode()).decode()
            return _with_header(sending, "authorization", f"Basic {pair}", pair, secret)
        case HeaderMeta(header=header, prefix=prefix):
            return _with_header(sending, header.lower(), f"{prefix or ''}{secret}", secret)
        case QueryMeta(parameter=parameter):
            value = quote(secret, safe="")
            return sending._replace(url=with_parameter(sending.url, parameter, value), secrets=(secret,))
        case OAuth2Meta():
            grant = Grant(
                token_url=meta.token_url,
                client_id=meta.client_id,
                client_secret=secret,
                scope=meta.scope,
                audience=meta.audience,
                in_body=meta.authentication == "body",
                tenant=tenant,
            )
            others = _without_header(sending, "authorization")
            return others._replace(access=Access(_key(credential), grant))
        case ClientCertificateMeta():
            name = "/".join(_key(credential))
            identity = ClientIdentity(name, meta.certificate, secret, meta.ca)
            return sending._replace(identity=identity)
        case _:
            raise TypeError("a kind of credential that no HTTP request can show")


def shown_credentials(sending: Sending) -> tuple[str, ...] | None:
    """What a receiver could repeat of `authorization` and `cookie`, whoever sets them.

    None: it is too much to be searched for.
    """
    found: list[str] = []
    for name in CREDENTIAL_HEADERS:
        values = [sending.headers[name]] if name in sending.headers else []
        for line in sending.opaque.get(name, ()):
            values += {line.decode("latin-1"), line.decode("utf-8", "replace")}
        for value in values:
            if any(one in value for one in sending.secrets):
                continue  # it is masked by that
            if len(value) > MAX_SHOWN_CHARS:
                return None
            found += [value, *(one for one in _parts(name, value) if len(one) >= LEAST_PART_CHARS)]
    return tuple(found) if len(found) <= MAX_SHOWN_PARTS else None


def _parts(name: str, value: str) -> list[str]:
    """What of a header's value is secret by itself."""
    if name == "cookie":
        return [one.partition("=")[2].strip() for one in value.split(";")]
    scheme, _, shown = value.partition(" ")
    shown = shown.strip()
    if scheme.lower() != "basic":
        return [shown]
    try:
        raw = base64.b64decode(shown)
    except ValueError:
        return [shown]
    pair = raw.decode("utf-8" if _is_utf8(raw) else "latin-1")
    return [shown, pair, pair.partition(":")[2]]


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _key(credential: CredentialRecord) -> tuple[str, str]:
    return str(credential.id), credential.version


def _with_header(sending: Sending, name: str, value: str, *secrets: str) -> Sending:
    others = _without_header(sending, name)
    return others._replace(headers={**others.headers, name: value}, secrets=secrets)


def _without_header(sending: Sending, name: str) -> Sending:
    """Without what the action or its caller says there."""
    return sending._replace(
        headers={one: value for one, value in sending.headers.items() if one != name},
        opaque={one: value for one, value in sending.opaque.items() if one != name},
    )


async def send(
    request: HttpRequest, access: Access | None, door: Egress, secrets: Sequence[str] | None = ()
) -> Answer | NoToken:
    """Send a request once, with a token if it needs one; raises EgressError.

    Fetching the token is part of the time that the request has. secrets: what the receiver could
    repeat, beside the token; None: too much to be searched for.
    """
    if access is None:
        return Answer(_masked(await door.request(request), secrets), is_token_dropped=False)
    began = time.monotonic()
    try:
        async with asyncio.timeout(request.timeout_ms / 1000):
            token = await door.tokens.get(access.key, partial(_fetch, access.grant, door))
    except TimeoutError:
        return LATE
    if isinstance(token, NoToken):
        return token
    left_ms = request.timeout_ms - int((time.monotonic() - began) * 1000)
    headers = {**request.headers, "authorization": f"Bearer {token.value}"}
    response = await door.request(request._replace(headers=headers, timeout_ms=max(left_ms, 1)))
    is_dropped = response.status == UNAUTHORIZED and door.tokens.drop(access.key, token)
    return Answer(_masked(response, None if secrets is None else (*secrets, token.value)), is_dropped)


def _masked(response: HttpResponse, secrets: Sequence[str] | None) -> HttpResponse:
    if secrets is None:
        return without_all(response)
    return without(response, spellings(secrets)) if secrets else response


async def _fetch(grant: Grant, door: Egress) -> Token | NoToken:
    try:
        response = await door.request(token_request(grant))
    except EgressError as error:
        return no_token(error)
    return read_token(response, grant)


def outcome_without_token(why: NoToken) -> Outcome:
    """How an attempt ended for which no token could be had."""
    return Outcome(
        success=False,
        code="oauth_failed",
        error=why.message,
        retryable=why.retryable,
        retry_after_seconds=why.retry_after_seconds,
    )
