"""What a credential adds to an HTTP request, and how a request with one is sent.

Invariants:

- A credential goes to its origins alone: the URL that is about to be sent to is judged, whatever it
  was when the action was saved.
- What it adds wins over a header of the action's own.
- A token that the receiver refuses is dropped, and the next attempt comes at once, once.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
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
from shared.seals import Cipher, origin_of
from worker.actions.contract import Outcome
from worker.actions.oauth import Grant, no_token, read_token, token_request
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import ClientIdentity, HttpRequest, HttpResponse
from worker.egress.tokens import NoToken, Token
from worker.records import ActionRecord, CredentialRecord

UNAUTHORIZED = 401


class Access(NamedTuple):
    """That a token is needed. key: another one for each version of each credential."""

    key: tuple[str, str]
    grant: Grant


class Sending(NamedTuple):
    """Where a request goes, and what it shows of who is calling. opaque: headers of any bytes."""

    url: str
    headers: dict[str, str]
    opaque: dict[str, bytes]
    identity: ClientIdentity | None = None
    access: Access | None = None


class Answer(NamedTuple):
    """What came back. is_token_refused: the receiver did not take the token, which is dropped."""

    response: HttpResponse
    is_token_refused: bool


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
            return _with_header(sending, "authorization", f"Bearer {secret}")
        case BasicMeta(username=username):
            pair = base64.b64encode(f"{username}:{secret}".encode()).decode()
            return _with_header(sending, "authorization", f"Basic {pair}")
        case HeaderMeta(header=header, prefix=prefix):
            return _with_header(sending, header.lower(), f"{prefix or ''}{secret}")
        case QueryMeta(parameter=parameter):
            value = quote(secret, safe="")
            return sending._replace(url=with_parameter(sending.url, parameter, value))
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
            without = _without_header(sending, "authorization")
            return without._replace(access=Access(_key(credential), grant))
        case ClientCertificateMeta():
            name = "/".join(_key(credential))
            identity = ClientIdentity(name, meta.certificate, secret, meta.ca)
            return sending._replace(identity=identity)
        case _:
            raise TypeError("a kind of credential that no HTTP request can show")


def _key(credential: CredentialRecord) -> tuple[str, str]:
    return str(credential.id), credential.version


def _with_header(sending: Sending, name: str, value: str) -> Sending:
    without = _without_header(sending, name)
    return without._replace(headers={**without.headers, name: value})


def _without_header(sending: Sending, name: str) -> Sending:
    """Without what the action or its caller says there."""
    return sending._replace(
        headers={one: value for one, value in sending.headers.items() if one != name},
        opaque={one: value for one, value in sending.opaque.items() if one != name},
    )


async def send(request: HttpRequest, access: Access | None, door: Egress) -> Answer | NoToken:
    """Send a request once, with a token if it needs one; raises EgressError.

    Fetching the token is part of the time that the request has.
    """
    if access is None:
        return Answer(await door.request(request), is_token_refused=False)
    began = time.monotonic()
    try:
        async with asyncio.timeout(request.timeout_ms / 1000):
            token = await door.tokens.get(access.key, partial(_fetch, access.grant, door))
    except TimeoutError:
        return NoToken("The token server took longer than the attempt may take.", retryable=True)
    except NoToken as error:
        return error
    left_ms = request.timeout_ms - int((time.monotonic() - began) * 1000)
    headers = {**request.headers, "authorization": f"Bearer {token.value}"}
    response = await door.request(request._replace(headers=headers, timeout_ms=max(left_ms, 1)))
    is_refused = response.status == UNAUTHORIZED
    if is_refused:
        door.tokens.drop(access.key, token)
    return Answer(response, is_refused)


async def _fetch(grant: Grant, door: Egress) -> Token:
    try:
        return read_token(await door.request(token_request(grant)), grant)
    except EgressError as error:
        raise no_token(error) from None


def outcome_without_token(error: NoToken) -> Outcome:
    """How an attempt ended for which no token could be had."""
    return Outcome(
        success=False,
        code="oauth_failed",
        error=error.message,
        retryable=error.retryable,
        retry_after_seconds=error.retry_after_seconds,
    )
