"""Makes the Flask application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import orjson
from flask import Flask, Request, jsonify
from flask.json.provider import JSONProvider
from flask_openapi import Info, OpenAPI
from werkzeug.routing import MapAdapter

from api import environ, problems
from api.auth.routes import auth
from api.health import health
from api.ingress.routes import ingress
from api.management import RESOURCES
from api.services import EXTENSION, Services
from shared import VERSION

REQUEST_ID_HEADER = "x-request-id"


class OrjsonProvider(JSONProvider):
    """JSON through orjson: strict, fast, and it knows UUIDs and times."""

    def dumps(self, obj: Any, **_options: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_UTC_Z).decode()

    def loads(self, s: str | bytes, **_options: Any) -> Any:
        return orjson.loads(s)


class App(OpenAPI):  # type: ignore[misc]
    """Flask, spared what this application has no use for and each request would pay."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No view is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Routes go by the path alone: whatever host a caller names is neither looked at nor said back to it."""
        if request is None:
            adapter: MapAdapter | None = super().create_url_adapter(None)
            return adapter
        return MapAdapter(self.url_map, "localhost", "", "", "http", request.path, request.method)


def make_app(services: Services) -> Flask:
    """The whole HTTP application of one process. It starts nothing."""
    app: Flask = App(
        "pointsman",
        info=Info(title="Pointsman management API", version=VERSION),
        doc_ui=False,
        validation_error_callback=problems.on_invalid_request,
    )
    app.openapi_version = "3.1.0"  # type: ignore[attr-defined]
    app.json = OrjsonProvider(app)
    app.extensions[EXTENSION] = services
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # a redirect would name the host
    problems.install(app)
    _number_requests(app)
    app.register_blueprint(ingress)
    app.register_blueprint(health)
    for resource in (auth, *RESOURCES):
        app.register_api(resource)  # type: ignore[attr-defined]
    app.add_url_rule("/api/v1/openapi.json", "openapi", lambda: jsonify(app.api_doc))  # type: ignore[attr-defined]
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
