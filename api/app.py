"""Makes the Flask application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import orjson
from flask import Flask, Request, Response
from flask.json.provider import JSONProvider
from werkzeug.routing import MapAdapter

from api import environ, problems
from api.front_page import make_front_page
from api.health import make_health
from api.ingress.parts import EXTENSION as INGRESS
from api.ingress.routes import ingress
from api.management import FACES
from api.management.face import EXTENSION as WORKSHOP
from api.management.face import PREFIX
from api.management.openapi import describe
from api.services import Services

REQUEST_ID_HEADER = "x-request-id"


class OrjsonProvider(JSONProvider):
    """JSON through orjson: strict, fast, and it knows UUIDs and times."""

    def dumps(self, obj: Any, **_options: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_UTC_Z).decode()

    def loads(self, s: str | bytes, **_options: Any) -> Any:
        return orjson.loads(s)


class App(Flask):
    """Flask, spared what this application has no use for and each request would pay."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No view is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Routes go by the path alone: whatever host a caller names is neither looked at nor said
        back to it.
        """
        if request is None:
            return super().create_url_adapter(None)
        return MapAdapter(self.url_map, "localhost", "", "", "http", request.path, request.method)


def make_app(services: Services) -> Flask:
    """The whole HTTP application of one process. It starts nothing."""
    app = App("pointsman", static_folder=None)
    app.json = OrjsonProvider(app)
    app.extensions[INGRESS] = services.ingress
    app.extensions[WORKSHOP] = services.workshop
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # a redirect would name the host
    problems.install(app)
    _number_requests(app)
    app.register_blueprint(ingress)
    app.register_blueprint(make_front_page(services.settings.base_url))
    app.register_blueprint(make_health(services.database, services.settings.redis, services.dead_thread))
    for face in FACES:
        app.register_blueprint(face.blueprint)
    description = orjson.dumps(describe(FACES, services.settings.base_url))
    app.add_url_rule(
        f"{PREFIX}/openapi.json",
        "openapi",
        lambda: Response(description, content_type="application/json"),
    )
    return app


def _number_requests(app: Flask) -> None:
    """Let every request have an id, and every answer name it."""
    handle = app.wsgi_app

    def numbered(request_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request_id = request_environ.get(environ.REQUEST_ID) or uuid4().hex
        request_environ[environ.REQUEST_ID] = request_id

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            named = [pair for pair in headers if pair[0] != REQUEST_ID_HEADER]
            return start_response(status, [*named, (REQUEST_ID_HEADER, request_id)], *rest)

        return handle(request_environ, start)

    app.wsgi_app = numbered  # type: ignore[assignment, method-assign]
