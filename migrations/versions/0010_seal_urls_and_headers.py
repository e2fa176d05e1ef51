"""URLs of callbacks and actions are sealed beyond their origin, and the values of actions' headers.

Revises: 0009

Rows are sealed in batches, each of which is committed by itself. What is sealed is passed over, so
that a try which was cut off is simply repeated; a row that somebody changes meanwhile is sealed in
the next round. Processes of an earlier version must not run meanwhile or afterwards: they do not
open what is sealed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from alembic import context, op

from shared.crypto import SecretBox
from shared.errors import ConfigError, Invalid

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

BATCH_ROWS = 500

# What this migration leaves behind, whatever later versions write.
SEALED = "^sealed:[0-9a-f]{8}:"
ORIGIN = re.compile(r"[^:/?#\s]+://[^/?#\s]*")

# A URL that is not sealed has no space and something beyond its origin.
IS_OPEN_URL = "{0} ~ '^[^:/?#[:space:]]+://[^/?#[:space:]]*([?#]|/.)' AND {0} !~ ' sealed:'"
OPEN_CALLBACKS = f"""
SELECT id::text, callback_url FROM callbacks WHERE {IS_OPEN_URL.format("callback_url")} AND id > %s::uuid
ORDER BY id LIMIT {BATCH_ROWS}
"""  # noqa: S608 - fixed texts
# of headers only texts can hold a secret; no others get through the API
OPEN_ACTIONS = f"""
SELECT id::text, url, headers::text FROM (
  SELECT id, config->>'url' AS url, (
    SELECT jsonb_object_agg(h.key, h.value) FROM jsonb_each(
      CASE WHEN jsonb_typeof(config->'headers') = 'object' THEN config->'headers' END) h
    WHERE jsonb_typeof(h.value) = 'string' AND h.value <> '""' AND h.value #>> '{{}}' !~ '{SEALED}') AS headers
  FROM actions WHERE type = 'HTTP_POST' AND id > %s::uuid) a
WHERE {IS_OPEN_URL.format("url")} OR headers IS NOT NULL ORDER BY id LIMIT {BATCH_ROWS}
"""  # noqa: S608
SEAL_CALLBACKS = """
UPDATE callbacks c SET callback_url = n.sealed
FROM unnest(%s::uuid[], %s::text[], %s::text[]) n(id, open, sealed)
WHERE c.id = n.id AND c.callback_url = n.open
"""
# What was read must still be there. Everything else in the config stays as it is.
SEAL_ACTIONS = """
UPDATE actions a SET config = a.config || n.sealed || CASE WHEN n.sealed ? 'headers'
  THEN jsonb_build_object('headers', (a.config->'headers') || (n.sealed->'headers')) ELSE '{}' END
FROM unnest(%s::uuid[], %s::jsonb[], %s::jsonb[]) n(id, open, sealed)
WHERE a.id = n.id AND a.config @> n.open
"""
FIRST_ID = "00000000-0000-0000-0000-000000000000"
# A key that is lost costs the callbacks that it sealed, and no others. Some of these may be theirs.
SIGNING_SECRETS = """
SELECT signing_secrets->0->>'secret' FROM callbacks
WHERE signing_secrets->0 IS NOT NULL AND deleted_at IS NULL ORDER BY id DESC LIMIT 100
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        if not (_ask(OPEN_CALLBACKS, FIRST_ID) or _ask(OPEN_ACTIONS, FIRST_ID)):
            return
        box = _box()
        # a row that is locked for long: rather fail and be repeated than stand in the way
        op.execute("SET lock_timeout = '3s'")
        op.execute("SET statement_timeout = '60s'")
        while _seal_callbacks(box) or _seal_actions(box):
            pass  # until nothing is left that can be sealed
        # as before; RESET would be what the role says
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")


def _box() -> SecretBox:
    """What seals; raises ConfigError without keys, or with others than this installation has."""
    keys = context.config.attributes.get("secret_keys")
    if not keys:
        raise ConfigError(
            "This migration seals secrets that are there already, and needs POINTSMAN_SECRET_KEYS.",
            hint="Set it to the keys that the API and the workers have, and run `pointsman migrate` again.",
        )
    box = SecretBox(keys)
    secrets = [str(secret) for (secret,) in _ask(SIGNING_SECRETS)]
    if secrets and not any(_opens(box, secret) for secret in secrets):
        raise ConfigError(
            "POINTSMAN_SECRET_KEYS opens none of the newest signing secrets in this database.",
            hint="Set it to the keys that the API and the workers have, the newest first. "
            "If these keys are lost, delete the callbacks that they sealed. Then run `pointsman migrate` again.",
        )
    return box


def _opens(box: SecretBox, secret: str) -> bool:
    try:
        box.decrypt(secret, remember=False)
    except Invalid:
        return False
    return True


def _seal_callbacks(box: SecretBox) -> int:
    """One round through all callbacks; how many it sealed."""
    last, count = FIRST_ID, 0
    while rows := _ask(OPEN_CALLBACKS, last):
        ids, urls = zip(*rows, strict=True)
        count += _tell(SEAL_CALLBACKS, ids, urls, [_sealed_url(url, box) for url in urls])
        last = ids[-1]
    return count


def _seal_actions(box: SecretBox) -> int:
    """One round through all actions; how many it sealed."""
    last, count = FIRST_ID, 0
    while rows := _ask(OPEN_ACTIONS, last):
        ids = [row[0] for row in rows]
        opened = [_parts(url, headers) for _, url, headers in rows]
        sealed = [_sealed(parts, box) for parts in opened]
        count += _tell(SEAL_ACTIONS, ids, [*map(json.dumps, opened)], [*map(json.dumps, sealed)])
        last = ids[-1]
    return count


def _parts(url: str | None, headers: str | None) -> dict[str, Any]:
    """What a config holds open: its URL, and those of its headers that are not sealed."""
    parts = {"url": url, "headers": None if headers is None else json.loads(headers)}
    return {name: value for name, value in parts.items() if value is not None}


def _sealed(parts: dict[str, Any], box: SecretBox) -> dict[str, Any]:
    sealed: dict[str, Any] = {}
    if "url" in parts:
        sealed["url"] = _sealed_url(parts["url"], box)
    if "headers" in parts:
        sealed["headers"] = {name: box.encrypt(value) for name, value in parts["headers"].items()}
    return sealed


def _sealed_url(url: str, box: SecretBox) -> str:
    found = ORIGIN.match(url)
    if found is None or " sealed:" in url or url[found.end() :] in ("", "/"):
        return url
    return f"{found.group()} {box.encrypt(url[found.end() :])}"


def _ask(question: str, *parameters: str) -> list[Any]:
    return list(op.get_bind().exec_driver_sql(question, parameters))


def _tell(statement: str, *columns: Sequence[str]) -> int:
    """How many rows it changed."""
    return op.get_bind().exec_driver_sql(statement, tuple(map(list, columns))).rowcount
