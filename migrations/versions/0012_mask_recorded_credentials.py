"""In the headers of recorded calls the values of credentials are masked.

Revises: 0011

Every row is read once, in portions that are committed by themselves: about a minute for each two
million rows, three if all of them are changed. Nothing else of a row changes, and a row that is
masked already is left alone, so that a try which was cut off is simply repeated.
"""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

PORTION_ROWS = 5_000

# What this migration leaves behind, whatever later versions write.
MASKED = "'authorization', 'cookie', 'proxy-authorization'"
IS_OPEN = f"lower(h.value->>0) IN ({MASKED}) AND h.value->>1 <> '***'"

PORTION = f"""
SELECT id::text, CASE WHEN jsonb_typeof(headers) = 'array'
  THEN EXISTS (SELECT 1 FROM jsonb_array_elements(headers) h WHERE {IS_OPEN}) ELSE false END
FROM triggers WHERE id > %s::uuid ORDER BY id LIMIT {PORTION_ROWS}
"""  # noqa: S608 - fixed texts
# least and greatest id: whatever the plan, no other partition is opened
MASK = f"""
UPDATE triggers t SET headers = (
  SELECT jsonb_agg(CASE WHEN {IS_OPEN} THEN jsonb_set(h.value, '{{1}}', '"***"') ELSE h.value END
                   ORDER BY h.ordinality)
  FROM jsonb_array_elements(t.headers) WITH ORDINALITY h)
WHERE t.id = ANY(%s::uuid[]) AND t.id BETWEEN %s::uuid AND %s::uuid
"""  # noqa: S608
FIRST_ID = "00000000-0000-0000-0000-000000000000"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # a row that is locked for long: rather fail and be repeated than stand in the way
        op.execute("SET lock_timeout = '3s'")
        op.execute("SET statement_timeout = '60s'")
        last = FIRST_ID
        while rows := _run(PORTION, last).fetchall():
            if found := [row_id for row_id, is_open in rows if is_open]:
                _run(MASK, found, found[0], found[-1])
            last = rows[-1][0]
        # as before; RESET would be what the role says
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")


def _run(statement: str, *parameters: Any) -> Any:
    return op.get_bind().exec_driver_sql(statement, parameters)
