"""The URL of an incoming webhook of Slack, which is itself the secret."""

from __future__ import annotations

from shared.credentials.fields import NoMeta, url_secret
from shared.credentials.kind import CredentialKind

KIND = CredentialKind("SLACK", NoMeta, frozenset({"SLACK"}), url_secret)
