"""`GET /`: what this is and where to go, as a page for people and as JSON for programs.

Invariants:

- The page is whole: it loads nothing, runs nothing and may be framed by nobody. Its one style is
  named in the policy by its hash.
- Page and JSON are made once, of the same links. Nothing of a request stands in them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import jinja2
import orjson
from flask import Blueprint, Response, request

from shared import VERSION

WHAT = (
    "A self-hosted dispatcher for webhooks. Whoever calls a callback's trigger URL gets 202 in milliseconds, "
    "after the call is committed. Workers then run the callback's actions. What got a 2xx is never lost."
)
LINKS = (
    {"href": "/api/v1/openapi.json", "title": "The management API, described for machines (OpenAPI 3.1)"},
    {"href": "/readyz", "title": "Whether PostgreSQL and a worker are ready"},
    {"href": "/healthz", "title": "Whether this process answers"},
    {"href": "/metrics", "title": "Counters of this process, for Prometheus"},
)
DOCS = (
    {"path": "README.md", "title": "A tour with curl, and all commands"},
    {"path": "docs/api.md", "title": "The HTTP API"},
    {"path": "docs/configuration.md", "title": "Every setting"},
    {"path": "docs/guarantees.md", "title": "What is promised, and which test proves it"},
    {"path": "docs/architecture.md", "title": "How it works, and why nothing is lost"},
    {"path": "docs/glossary.md", "title": "What the words mean"},
)
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
KINDS = ("text/html", "application/json")


def make_front_page(base_url: str) -> Blueprint:
    """The route. base_url: where callers reach this, without a slash at its end."""
    page = _page(base_url)
    document = orjson.dumps(
        {"name": "Pointsman", "version": VERSION, "what": WHAT, "links": LINKS, "docs": DOCS}
    )
    style = STYLE.search(page)
    assert style is not None, "the page has a style"
    headers = {
        "content-security-policy": _policy(style[1]),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
        "vary": "accept",
    }
    front_page = Blueprint("front_page", __name__)

    @front_page.get("/")
    def front() -> Response:
        """GET /: JSON for who asks for that and not for a page."""
        kind = request.accept_mimetypes.best_match(KINDS, default=KINDS[0])
        body = page if kind == KINDS[0] else document
        return Response(body, headers=headers, mimetype=kind)

    return front_page


def _page(base_url: str) -> str:
    source = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    template = jinja2.Template(source, autoescape=True, undefined=jinja2.StrictUndefined)
    page: str = template.render(what=WHAT, links=LINKS, docs=DOCS, base=base_url, version=VERSION)
    return page


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
