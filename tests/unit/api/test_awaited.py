"""Answers that are awaited, and the same under plain WSGI."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from flask import Flask, Response

from api import environ, problems
from api.awaited import Answer, awaited
from shared.errors import Conflict


async def stored() -> Answer:
    await asyncio.sleep(0)
    return 201, [("x-a", "1"), ("x-a", "2")], b"stored"


async def refused() -> Answer:
    await asyncio.sleep(0)
    raise Conflict("taken")


@pytest.fixture
def app() -> Flask:
    app = Flask("test")
    problems.install(app)

    @app.get("/<name>")
    def view(name: str) -> Response:
        return awaited(stored() if name == "stored" else refused())

    return app


def test_under_plain_wsgi_it_is_awaited_at_once(app: Flask) -> None:
    answer = app.test_client().get("/stored")
    assert (answer.status_code, answer.data) == (201, b"stored")
    assert answer.headers.getlist("x-a") == ["1", "2"]


def test_under_plain_wsgi_its_error_is_the_views(app: Flask) -> None:
    answer = app.test_client().get("/refused")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "conflict")


def test_under_the_shell_the_view_leaves_it_behind(app: Flask) -> None:
    slot: list[Coroutine[Any, Any, Answer]] = []
    app.test_client().get("/stored", environ_overrides={environ.AWAITED: slot})
    (left,) = slot
    assert asyncio.run(left)[2] == b"stored"
