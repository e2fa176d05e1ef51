"""The STORE action: what is kept, and how a refusal is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid, PointsmanError, Unavailable
from tests.prepared import prepare
from tests.prepared import request_of_kind as prepare_item
from tests.unit.worker.actions.test_http_post import STAMP, context
from tests.unit.worker.engine.test_steps import new_action
from worker.actions import perform
from worker.actions.contract import ExecutionContext, Limits, Outcome
from worker.doors import Doors
from worker.doors.storage import NewItem, Storage
from worker.records import ActionRecord

LIMITS = Limits(max_response_bytes=1, max_stored_item_bytes=1000, max_stored_items=7)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # PostgreSQL keeps no NUL in JSON
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def storing(config: dict[str, Any]) -> ActionRecord:
    return replace(new_action(), type="STORE", config=config)


def given_body(body: bytes, content_type: str | None = "text/csv") -> ExecutionContext:
    return context(body=body, content_type=content_type)._replace(limits=LIMITS)


class FakeStorage:
    """Keeps items in a list, or refuses."""

    def __init__(self, refusal: PointsmanError | None = None) -> None:
        self.items: list[NewItem] = []
        self.refusal = refusal

    async def store(self, item: NewItem) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.items.append(item)


def attempted(storage: FakeStorage, config: dict[str, Any], given: ExecutionContext) -> Outcome:
    prepared = prepare(storing(config), given)
    if isinstance(prepared, Outcome):
        return prepared
    return asyncio.run(perform(prepared, STAMP, Doors({Storage: cast(Storage, storage)})))


@given(st.binary(max_size=1000), st.sampled_from([None, "text/csv", "application/json"]))
def test_the_body_is_kept_byte_for_byte(body: bytes, content_type: str | None) -> None:
    item = prepare_item(storing({}), given_body(body, content_type))
    assert (item.content, item.key) == (body, None)
    assert item.content_type == (content_type or "application/octet-stream")


def test_a_body_keeps_its_coding_and_its_language_and_a_value_of_its_own_has_none() -> None:
    """Fails when bytes are kept that nobody can read back."""
    given = given_body(b"\x1f\x8b")
    headers = [
        ["content-encoding", "gzip"],
        ["Content-Language", "no"],
        ["content-encoding", "br"],
        ["content-language", "de"],
    ]
    coded = given._replace(trigger=replace(given.trigger, headers=json.dumps(headers)))
    item = prepare_item(storing({}), coded)
    assert (item.content_encoding, item.content_language) == ("gzip, br", "de")
    for plain in (prepare_item(storing({}), given), prepare_item(storing({"value": 1}), coded)):
        assert (plain.content_encoding, plain.content_language) == (None, None)


def test_an_item_belongs_to_its_tenant_its_trigger_and_its_action() -> None:
    given, action = given_body(b"x"), storing({"key": "orders"})
    item = prepare_item(action, given)
    assert (item.user_id, item.callback_id) == (UUID(int=2), UUID(int=1))
    assert (item.trigger_id, item.action_id) == (given.trigger.id, action.id)
    assert (item.key, item.max_items) == ("orders", 7)


@given(json_values)
def test_a_value_is_kept_as_json_instead_of_the_body(value: Any) -> None:
    item = prepare_item(storing({"value": value}), given_body(b"the body"))
    assert json.loads(item.content) == value
    assert item.content_type == "application/json"


def test_a_value_of_null_is_a_value() -> None:
    """Fails when «no value» and «value null» are told apart by the value."""
    assert prepare_item(storing({"value": None}), given_body(b"the body")).content == b"null"


def test_an_item_may_have_exactly_the_cap() -> None:
    assert len(prepare_item(storing({}), given_body(b"x" * 1000)).content) == 1000
    for config, body in (({}, b"x" * 1001), ({"value": "x" * 999}, b"")):
        with pytest.raises(Invalid) as error:
            prepare_item(storing(config), given_body(body))
        assert error.value.code == "item_too_large"
        assert "1001 bytes" in error.value.message


@pytest.mark.parametrize(
    "config",
    [{"key": ""}, {"key": "x" * 129}, {"key": "a\x00"}, {"key": "a\n"}, {"key": 1}, {"surprise": 1}],
)
def test_a_config_that_cannot_work_is_invalid_again_at_the_attempt(config: dict[str, Any]) -> None:
    storage = FakeStorage()
    outcome = attempted(storage, config, given_body(b"x"))
    assert (outcome.success, outcome.code, outcome.retryable) == (False, "bad_config", False)
    assert storage.items == []


def test_a_stored_item_is_told_by_size_and_key_never_by_content() -> None:
    storage = FakeStorage()
    outcome = attempted(storage, {"key": "k"}, given_body(b"canary"))
    assert outcome == Outcome(success=True, response={"storedBytes": 6, "key": "k"})
    assert [item.content for item in storage.items] == [b"canary"]


@pytest.mark.parametrize(
    ("refusal", "code", "retryable"),
    [
        (Unavailable("PostgreSQL is not available."), "unavailable", True),
        (Invalid("Already 7 items.", code="too_many_items", hint="Delete some."), "too_many_items", False),
    ],
)
def test_a_refusal_says_why_and_whether_to_try_again(
    refusal: PointsmanError, code: str, retryable: bool
) -> None:
    outcome = attempted(FakeStorage(refusal), {}, given_body(b"x"))
    assert (outcome.success, outcome.code, outcome.retryable) == (False, code, retryable)
    assert outcome.error == f"{refusal.message} {refusal.hint}"
    assert (outcome.status_code, outcome.response) == (None, None)


def test_a_number_that_json_cannot_hold_fails_the_attempt_alone() -> None:
    """A config written past the API: jsonb keeps 10^400 + 0.5, Python reads it as infinity."""
    outcome = attempted(FakeStorage(), {"value": float("inf")}, given_body(b"x"))
    assert (outcome.code, outcome.retryable) == ("bad_config", False)
