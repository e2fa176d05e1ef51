"""An API key of SendGrid."""

from __future__ import annotations

from shared.credentials.fields import NoMeta, header_secret
from shared.credentials.kind import CredentialKind

KIND = CredentialKind("SENDGRID", NoMeta, frozenset({"EMAIL"}), header_secret)
