"""Answers of a face that are lines: page by page, each in a work of its own (api/lines.py)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson
from flask import Response, request

from api import environ
from api.auth import actors
from api.auth.policies import Policy, admit
from api.awaited import Answer, awaited
from api.lines import Flow, SomeLines
from api.problems import translate
from api.resources.shapes import EachOf
from api.work import Work, Workshop

LINES_TYPE = "application/x-ndjson"
LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


def lines_of(each: EachOf[Any], work: Work, cursor: UUID | None) -> SomeLines:
    """One page of it."""
    page = each.page(work, cursor)
    lines = (orjson.dumps(one.rendered(), option=LINE) for one in page.items)
    return SomeLines(b"".join(lines), page.next_cursor)


def in_lines(
    shop: Workshop,
    owner: UUID,
    asked: actors.Request,
    policy: Policy,
    each: EachOf[Any],
    first: SomeLines,
    headers: Iterable[tuple[str, str]],
) -> Response:
    """Answer the current request without a thread between two pages.

    Where nobody takes pages, and to HEAD, the answer is the first one.
    """
    path = request.path

    def read(cursor: UUID) -> SomeLines:
        try:
            with shop.open(one_moment=True) as work:
                work.actor = actors.identify(work.session, asked)
                admit(policy, work.actor)
                return lines_of(each, work, cursor)
        except Exception as error:
            raise translate(error, path) from error

    if shop.lines is None or request.method == "HEAD":
        response = Response(first.lines, content_type=LINES_TYPE)
        response.headers.extend(headers)
        return response
    flow = shop.lines.begin(owner, first, read, request.environ.get(environ.CALLER))
    request_id = request.environ.get(environ.REQUEST_ID, "")
    return awaited(_flowing([("content-type", LINES_TYPE), *headers, ("x-request-id", request_id)], flow))


async def _flowing(headers: list[tuple[str, str]], flow: Flow) -> Answer:
    return HTTPStatus.OK, headers, flow
