"""Arrays as text; tests/integration/data/test_arrays.py lets PostgreSQL read them."""

from __future__ import annotations

from uuid import UUID

from shared.postgres.arrays import array


def test_an_array_is_written_as_postgresql_reads_it() -> None:
    assert array([]) == "{}"
    assert array(['a"b', "c\\d", "", "{,}", None]) == '{"a\\"b","c\\\\d","","{,}",NULL}'
    assert array([1, -2.5, True, UUID(int=1)]) == "{1,-2.5,True,00000000-0000-0000-0000-000000000001}"
    assert array([b"", b"\x00\xff"]) == '{"\\\\x","\\\\x00ff"}'
