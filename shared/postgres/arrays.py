"""Values as the text of a PostgreSQL array: what the statements of the hot path get instead of
lists.
"""

from __future__ import annotations

from collections.abc import Iterable


def array(values: Iterable[object]) -> str:
    """Values as the text of a PostgreSQL array, for a parameter with a cast, such as `%s::text[]`.

    The driver would make ARRAY['…', …] of a list, which the server reads element by element: for
    the batches of the hot path that costs it as much as executing the statement.
    """
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bytes):
        return '"\\\\x' + value.hex() + '"'
    return str(value)  # a number, a truth value or a UUID: nothing that must be quoted
