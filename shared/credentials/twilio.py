"""An auth token of Twilio, or the secret of one of its API keys."""

from __future__ import annotations

from shared.credentials.fields import Id, any_secret
from shared.credentials.kind import CredentialKind, CredentialMeta


class TwilioMeta(CredentialMeta):
    """`{"accountSid", "apiKeySid?"}`. With apiKeySid the secret is that key's."""

    account_sid: Id
    api_key_sid: Id | None = None


KIND = CredentialKind("TWILIO", TwilioMeta, frozenset({"SMS"}), any_secret, bound=("accountSid", "apiKeySid"))
