"""Makes the Flask application."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson
from flask import Flask, Response, g, jsonify, request
from flask.json.provider import JSONProvider
from flask_openapi import Info, OpenAPI

from api import environ, problems
from api.auth.routes import auth
from api.health import health
from api.ingress.routes import ingress
from api.management import RESOURCES
from api.services import EXTENSION, Services
from shared import VERSION


class OrjsonProvider(JSONProvider):
    """JSON through orjson: strict, fast, and it knows UUIDs and times."""

    def dumps(self, obj: Any, **_options: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_UTC_Z).decode()

    def loads(self, s: str | bytes, **_options: Any) -> Any:
        return orjson.loads(s)


def make_app(services: Services) -> Flask:
    """The whole HTTP application of one process. It starts nothing."""
    app: Flask = OpenAPI(
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
    problems.install(app)
    _number_requests(app)
    app.register_blueprint(ingress)
    app.register_blueprint(health)
    for resource in (auth, *RESOURCES):
        app.register_api(resource)  # type: ignore[attr-defined]
    app.add_url_rule("/api/v1/openapi.json", "openapi", lambda: jsonify(app.api_doc))  # type: ignore[attr-defined]
    return app


def _number_requests(app: Flask) -> None:
    @app.before_request
    def number() -> None:
        g.request_id = request.environ.get(environ.REQUEST_ID) or uuid4().hex

    @app.after_request
    def name(response: Response) -> Response:
        response.headers["x-request-id"] = g.request_id
        return response
