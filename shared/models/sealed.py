"""Which columns hold secrets: what is written to them is ciphertext.

Invariant: no other column holds a secret in plain text, but as a hash. Whoever adds a column that
holds one adds it here; tests/functional/test_canaries.py looks into every column there is.
"""

from __future__ import annotations

SEALED: dict[tuple[str, str], str] = {
    ("actions", "config"): "what its type says: `seal` in shared/action_types",
    ("callbacks", "callback_url"): "everything beyond the origin",
    ("callbacks", "signing_secrets"): "each `secret`",
    ("kept_answers", "answer"): "all of it",
    ("probes", "request"): "all of it",
    ("probes", "result"): "all of it",
    ("service_credentials", "meta"): "everything beyond the origin of a URL: `urls` in shared/credentials",
    ("service_credentials", "secret"): "all of it",
    ("triggers", "headers"): "credentials that an action forwards",
    ("users", "secret"): "all of it",
    ("users", "slack_webhook_url"): "everything beyond the origin",
}
"""What is sealed of each, by table and column."""
