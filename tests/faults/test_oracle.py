"""The oracle itself: it must see what a fault could do. No server is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.oracle import Execution, misdelivered, overtaken
from tests.peers.receiver import Receipt
from tests.sent import Sent

SENT = {
    "a": Sent("/t/first", b"of a", "text/a"),
    "b": Sent("/t/second", b"of b", "text/b"),
}
CALLS = {"/t/first": {"x": "/ok?of=first"}, "/t/second": {"y": "/ok?of=second"}}


def receipt(trigger: str, action: str, path: str, at: float, webhook_id: str, attempt: int = 1) -> Receipt:
    """A call that was answered a second after it came."""
    headers = {
        "pointsman-trigger-id": trigger,
        "pointsman-action-id": action,
        "pointsman-attempt": str(attempt),
        "content-type": f"text/{trigger}",
        "webhook-id": webhook_id,
    }
    return Receipt(at, path, headers, f"of {trigger}".encode(), at + 1)


GOOD = receipt("a", "x", "/ok?of=first", 1, "a1")


def test_what_arrives_as_it_was_sent_is_no_complaint() -> None:
    assert misdelivered([GOOD, receipt("b", "y", "/ok?of=second", 1, "b1")], SENT, CALLS) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(GOOD, body=b"of b"), "instead of b'of a'"),
        (replace(GOOD, headers=GOOD.headers | {"content-type": "text/b"}), "text/b instead of text/a"),
        (replace(GOOD, path="/ok?of=second"), "not where action x of /t/first was to call"),
        (replace(GOOD, headers=GOOD.headers | {"pointsman-action-id": "y"}), "not where action y"),
        (replace(GOOD, headers=GOOD.headers | {"pointsman-trigger-id": "c"}), "nobody sent it"),
    ],
)
def test_what_is_anothers_is_one(wrong: Receipt, says: str) -> None:
    (complaint,) = misdelivered([wrong], SENT, CALLS)
    assert says in complaint


def test_a_type_that_nobody_named_is_told_from_one_that_was_lost() -> None:
    unnamed = {"a": replace(SENT["a"], content_type=None)}
    arrived = replace(GOOD, headers=GOOD.headers | {"content-type": "application/octet-stream"})
    assert misdelivered([arrived], unnamed, CALLS) == []
    assert len(misdelivered([arrived], SENT, CALLS)) == 1


PAIR_AND_TAIL = [Execution("a1", "a", 0, 2), Execution("a2", "a", 0, 1), Execution("a3", "a", 1, 1)]


def story(*, tail_at: float, last_answer: bool = True) -> list[Receipt]:
    """The first of a pair is tried twice, its second attempt at 5; then comes the tail."""
    last = receipt("a", "x", "/ok", 5, "a1", attempt=2)
    return [
        receipt("a", "x", "/ok", 0, "a1"),
        receipt("a", "y", "/ok", 0, "a2"),
        last if last_answer else replace(last, answered_at=None),
        receipt("a", "z", "/ok", tail_at, "a3"),
    ]


def test_a_step_behind_the_last_answer_of_the_one_before_is_in_order() -> None:
    assert overtaken(story(tail_at=6), PAIR_AND_TAIL) == []


@pytest.mark.parametrize("tail_at", [0.5, 3, 5.9])
def test_a_step_that_comes_before_is_not(tail_at: float) -> None:
    (complaint,) = overtaken(story(tail_at=tail_at), PAIR_AND_TAIL)
    assert complaint == "trigger a: a call of step 1 came before step 0 had ended"


def test_a_step_behind_an_attempt_without_an_answer_is_not() -> None:
    assert len(overtaken(story(tail_at=100, last_answer=False), PAIR_AND_TAIL)) == 1
