"""Every error of ours: stable code, a hint, and its place in the tree."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest

from shared import errors
from shared.errors import OutcomeUnknown, PointsmanError, Refused, TooMany, Unavailable

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PointsmanError)
]
DRAWN = (errors.__doc__ or "").split("\n\n")[1]


def name_of(error: type[PointsmanError]) -> str:
    return error.__name__


@pytest.mark.parametrize("error", CLASSES, ids=name_of)
def test_each_error_says_what_went_wrong_and_how_to_fix_it(error: type[PointsmanError]) -> None:
    raised = error("This happened.")
    assert str(raised) == raised.message == "This happened."
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", raised.code)
    assert raised.hint.endswith(".")
    assert HTTPStatus(raised.status) >= 400
    assert error.__doc__


@pytest.mark.parametrize("error", CLASSES, ids=name_of)
def test_a_code_and_a_hint_can_be_told_more_exactly(error: type[PointsmanError]) -> None:
    raised = error("x", code="more_exact", hint="Do that.")
    assert (raised.code, raised.hint) == ("more_exact", "Do that.")
    assert (error("x").code, error("x").hint) == (error.code, error.hint), "the class itself is not changed"


def test_no_two_errors_share_a_code() -> None:
    assert all("code" in vars(error) for error in CLASSES), "each says its own"
    assert len({error.code for error in CLASSES}) == len(CLASSES)


def test_the_drawing_shows_every_error() -> None:
    drawn = set(re.findall(r"\b[A-Z]\w+(?=\s{2,}|\s*$| ·)", DRAWN, re.MULTILINE))
    assert {name_of(error) for error in CLASSES} <= drawn


def test_the_drawing_shows_whose_child_each_is() -> None:
    children: dict[str, set[str]] = {}
    parent = ""
    for line in DRAWN.splitlines():
        if top := re.match(r"^ +[├└]── (\w+)", line):
            parent = top[1]
            children[parent] = set()
        elif below := re.match(r"^ +│   [├└]── ([\w ·]+?)(?:  |$)", line):
            children[parent] |= set(re.findall(r"\w+", below[1]))
    assert children == {
        name_of(error): {name_of(child) for child in error.__subclasses__()}
        for error in PointsmanError.__subclasses__()
    }


def test_only_what_may_succeed_later_is_retryable() -> None:
    assert {error for error in CLASSES if error.retryable} == {Unavailable, OutcomeUnknown, TooMany}
    assert Unavailable.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert (Unavailable.retry_after_seconds or 0) > 0


def test_what_the_caller_did_wrong_is_a_4xx() -> None:
    refusals: list[type[Refused]] = [Refused, *Refused.__subclasses__()]
    assert all(400 <= error.status < 500 for error in refusals)
