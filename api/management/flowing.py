"""Exports of a face: page by page, each in a work of its own (api/lines.py)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson
from flask import Response, request

from api import environ
from api.auth import actors
from api.auth.policies import Policy, admit
from api.awaited import Answer, awaited
from api.budget import Held
from api.caller import Caller
from api.lines import HELD_BYTES, Lines, Read, SomeLines
from api.problems import translate
from api.resources.shapes import EachOf
from api.work import Workshop
from shared.errors import Refused

LINES_TYPE = "application/x-ndjson"
LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE

# A browser saves it, and neither shows nor guesses nor keeps it.
FILE_HEADERS = (
    ("content-disposition", "attachment"),
    ("x-content-type-options", "nosniff"),
    ("cache-control", "no-store"),
)


def in_lines(
    shop: Workshop, owner: UUID, asked: actors.Request, policy: Policy, each: EachOf[Any]
) -> Response:
    """Answer the current request without a thread between two pages. To HEAD it has no lines.

    Raises Refused where a part could be taken for the whole, since nothing marks the end.
    """
    if request.environ.get("SERVER_PROTOCOL") in ("HTTP/1", "HTTP/1.0"):  # as Granian says it, and WSGI
        raise Refused(
            "An export needs HTTP/1.1: with 1.0 nobody can tell its end from a cut.",
            code="http_1_1_needed",
            hint="Ask by HTTP/1.1. A proxy in between needs it, too: in nginx `proxy_http_version 1.1`.",
        )
    path, request_id = request.path, request.environ.get(environ.REQUEST_ID, "")

    def read(cursor: UUID | None) -> SomeLines:
        try:
            with shop.open(one_moment=True) as work:
                work.actor = actors.identify(work.session, asked)
                admit(policy, work.actor)
                page = each.page(work, cursor)
                lines = b"".join(orjson.dumps(one.rendered(), option=LINE) for one in page.items)
                return SomeLines(lines, page.next_cursor)
        except Exception as error:
            raise translate(error, path) from error

    headers = [("content-type", LINES_TYPE), *FILE_HEADERS, ("x-request-id", request_id)]
    if request.method == "HEAD":
        return awaited(_nothing(headers))
    assert shop.lines is not None, "who serves faces has them"
    file = request.environ.get(environ.FILE)
    return awaited(_begun(shop.lines, owner, read, headers, request.environ.get(environ.CALLER), file))


async def _nothing(headers: list[tuple[str, str]]) -> Answer:
    return HTTPStatus.OK, headers, b""


async def _begun(
    lines: Lines,
    owner: UUID,
    read: Read,
    headers: list[tuple[str, str]],
    caller: Caller | None,
    file: Held | None,
) -> Answer:
    if file is not None:
        file.take(HELD_BYTES)
    return HTTPStatus.OK, headers, await lines.begin(owner, read, caller)
