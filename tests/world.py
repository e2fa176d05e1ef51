"""One user, one callback and whatever triggers a test needs, written straight into PostgreSQL."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from shared.ids import new_id
from tests.rows import Rows


class World:
    """Rows of one tenant, and questions about them. Everything is committed at once."""

    def __init__(self, database_url: str, cursor: Any) -> None:
        self.database_url = database_url
        self.cursor = cursor
        self.rows = Rows(cursor)
        self.callback = self.rows.insert("callbacks")
        self.user_id = UUID(self.callback["user_id"])
        self.callback_id = UUID(self.callback["id"])
        self._last_action_id = UUID(int=0)

    def action(self, order: int = 0, **fields: Any) -> UUID:
        """An action of the callback, by default an HTTP_POST to nowhere. Ids rise."""
        while (action_id := new_id()) <= self._last_action_id:
            pass  # keys of one ms are in no order; executions are ranked by these
        self._last_action_id = action_id
        given: dict[str, Any] = {
            "id": action_id,
            "callback_id": self.callback_id,
            "user_id": self.user_id,
            "type": "HTTP_POST",
            "config": json.dumps({"url": "http://127.0.0.1:9/"}),
            "order": order,
        }
        return UUID(self.rows.insert("actions", **(given | fields))["id"])

    def trigger(self, **run: Any) -> UUID:
        """A trigger with its run, PENDING and due."""
        trigger_id = new_id()
        names = {"callback_id": self.callback_id, "user_id": self.user_id}
        self.rows.insert("triggers", id=trigger_id, headers="[]", method="POST", path="/t/x", **names)
        self.rows.insert("runs", trigger_id=trigger_id, **(names | run))
        return trigger_id

    def ask(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        self.cursor.execute(statement, parameters)
        return list(self.cursor.fetchall())

    def do(self, statement: str, *parameters: Any) -> int:
        """Run a statement; how many rows it changed."""
        self.cursor.execute(statement, parameters)
        return int(self.cursor.rowcount)

    def run(self, trigger_id: UUID) -> dict[str, Any] | None:
        """The run's row, or None when there is none."""
        found = self.ask("SELECT to_jsonb(r) FROM runs r WHERE trigger_id = %s", trigger_id)
        return found[0][0] if found else None

    def executions(self, trigger_id: UUID) -> list[dict[str, Any]]:
        """The trigger's executions in the order of their steps."""
        found = self.ask(
            "SELECT to_jsonb(x) FROM action_executions x WHERE trigger_id = %s ORDER BY step, id", trigger_id
        )
        return [row[0] for row in found]

    def log(self, trigger_id: UUID) -> dict[str, Any] | None:
        """The trigger's log row, or None."""
        found = self.ask("SELECT to_jsonb(l) FROM logs l WHERE id = %s", trigger_id)
        return found[0][0] if found else None
