"""Rotations: a callback gets another signing secret, or another trigger token.

Invariants:

- What was in force before ends with the grace time, or earlier if it had an earlier end; without a
  grace time, at once. No later rotation lengthens anything.
- At most MAX_IN_FORCE of a kind hold at once.
- Rotations of one callback come one after the other, each under its row's lock.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import Field
from sqlalchemy import delete, func, select, update

from api.resources import callbacks, signing
from api.resources.shapes import EXAMPLE_TIME, Given, Shown, example, shown_once
from api.resources.signing import EXAMPLE_KEY, OpenSecret, PublicKey, Schemes
from api.work import Work
from shared.clock import database_clock
from shared.errors import Conflict
from shared.models import RetiredToken
from shared.signatures import Scheme

DAY_SECONDS = 24 * 3600
MAX_GRACE_SECONDS = 30 * DAY_SECONDS

# Each secret in force costs every delivery a signature, each token a look-up's row.
MAX_IN_FORCE = 5


class TokenRotation(Given):
    """graceSeconds: how long the old one still holds; 0 ends it at once."""

    model_config = example(graceSeconds=3_600)

    grace_seconds: int = Field(DAY_SECONDS, ge=0, le=MAX_GRACE_SECONDS)


class SecretRotation(TokenRotation):
    """graceSeconds: how long old ones still sign; 0 ends them at once.

    signatures: of which schemes there are to be new secrets; those that sign without an end, if
    none is named.
    """

    model_config = example(graceSeconds=3_600, signatures=["v1", "v1a"])

    signatures: Schemes | None = None


class RotatedSecret(Shown):
    """What signs from now on."""

    model_config = example(
        signatures=["v1", "v1a"],
        signingSecret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        publicKeys=[{"key": EXAMPLE_KEY, "expiresAt": None}],
        graceEndsAt=EXAMPLE_TIME,
    )

    signatures: list[Scheme] = Field(description="The schemes that sign now, old ones too.")
    signing_secret: str | None = shown_once("The new symmetric secret, shown only in the first answer.")
    public_keys: list[PublicKey] = Field(description="Of the private keys that sign now, newest first.")
    grace_ends_at: datetime = Field(description="From then on no old one signs any more.")


class RotatedToken(Shown):
    """The new trigger URL."""

    model_config = example(
        triggerToken="3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz",
        triggerUrl="https://hooks.example.com/t/3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz",
        graceEndsAt=EXAMPLE_TIME,
    )

    trigger_token: str
    trigger_url: str
    grace_ends_at: datetime = Field(description="From then on no old token is known any more.")


def rotate_secret(work: Work, owner: UUID, callback_id: UUID, given: SecretRotation) -> RotatedSecret:
    """Give a callback new signing secrets. Conflict: there are too many."""
    callback = callbacks.own(work.session, owner, callback_id, for_update=True)
    now = database_clock.now()
    ends_at = now + timedelta(seconds=given.grace_seconds)
    before = signing.in_force(work, callback, now)
    lasting = signing.schemes_of(secret for secret in before if secret.expires_at is None)
    new = signing.new_secrets(work, given.signatures or lasting or ["v1"])
    old = [secret.ended(ends_at) for secret in before]
    signing_now = [secret for secret in (*new, *old) if secret.is_in_force(now)]
    _refuse_too_many(signing_now)
    callback.signing_secrets = [secret.row for secret in signing_now]
    made = [secret.scheme for secret in new]
    work.audit("secret_rotated", callback=callback.id, signatures=made, grace_seconds=given.grace_seconds)
    return RotatedSecret(
        **signing.shown(signing_now), signing_secret=signing.symmetric_of(new), grace_ends_at=ends_at
    )


def _refuse_too_many(secrets: list[OpenSecret]) -> None:
    scheme, count = Counter(secret.scheme for secret in secrets).most_common(1)[0]
    if count > MAX_IN_FORCE:
        raise Conflict(
            f"{MAX_IN_FORCE} secrets of the scheme {scheme} are in force already.",
            code="too_many_secrets",
            hint="Wait until one of them has ended, or end the old ones at once with graceSeconds 0.",
        )


def rotate_token(work: Work, owner: UUID, callback_id: UUID, given: TokenRotation) -> RotatedToken:
    """Give a callback another trigger token. Conflict: too many old ones are known still."""
    callback = callbacks.own(work.session, owner, callback_id, for_update=True)
    now = database_clock.now()
    ends_at = now + timedelta(seconds=given.grace_seconds)
    _end_older(work, callback_id, ends_at, now)
    if callback.trigger_token is not None and ends_at > now:
        _refuse_too_many_tokens(work, callback_id)
        work.session.add(
            RetiredToken(token=callback.trigger_token, callback_id=callback_id, expires_at=ends_at)
        )
    callback.trigger_token = token = callbacks.new_trigger_token()
    work.audit("token_rotated", callback=callback.id, grace_seconds=given.grace_seconds)
    return RotatedToken(trigger_token=token, trigger_url=work.urls.by_token(token), grace_ends_at=ends_at)


def _end_older(work: Work, callback_id: UUID, ends_at: datetime, now: datetime) -> None:
    """Let no retired token of the callback outlive `ends_at`, and forget those that have ended."""
    of_callback = RetiredToken.callback_id == callback_id
    later = of_callback & (RetiredToken.expires_at > ends_at)
    work.session.execute(update(RetiredToken).where(later).values(expires_at=ends_at))
    work.session.execute(delete(RetiredToken).where(of_callback & (RetiredToken.expires_at <= now)))


def _refuse_too_many_tokens(work: Work, callback_id: UUID) -> None:
    count = select(func.count()).select_from(RetiredToken).where(RetiredToken.callback_id == callback_id)
    if (work.session.scalar(count) or 0) >= MAX_IN_FORCE:
        raise Conflict(
            f"{MAX_IN_FORCE} old tokens of this callback are known still.",
            code="too_many_tokens",
            hint="Wait until one of them has ended, or end the old ones at once with graceSeconds 0.",
        )
