"""The URL of a webhook of Discord, which is itself the secret."""

from __future__ import annotations

from shared.credentials.fields import NoMeta, url_secret
from shared.credentials.kind import CredentialKind

KIND = CredentialKind("DISCORD", NoMeta, frozenset({"DISCORD"}), url_secret)
