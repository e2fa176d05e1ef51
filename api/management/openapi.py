"""The API's description, OpenAPI 3.1, made of the faces and their models: nothing is said twice.

Invariant: every endpoint is in it, with the model of its 2xx, each error status that it may answer,
its policy, a stable operation id and an example of what it takes and gives.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel

from api.idempotency import MAX_KEY_CHARS
from api.management.described import described
from api.management.face import FILE_TYPE, NOT_YET, Endpoint, Face
from api.management.flowing import FILE_HEADERS, LINES_TYPE
from api.problems import CONTENT_TYPE, problem
from api.resources.shapes import Page
from shared import VERSION
from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PointsmanError,
    Refused,
    TooLarge,
    TooMany,
    TooSlow,
    Unauthorized,
    Unavailable,
)

SCHEMAS = "#/components/schemas/"

# The prefix of the models that go out: inside words, which the description leaves away.
SHOWN = "Shown"
UUID_SCHEMA = {"type": "string", "format": "uuid"}
ABOUT = """Callbacks, actions, and what became of every trigger.

Errors are problem documents (RFC 9457) with a stable `code` and a `hint`. Lists answer `{"items": […], "nextCursor": …}`,
newest first. A POST of yours that bears an `Idempotency-Key` happens
once, however often it is sent, for 24 hours."""

ERRORS: dict[int, tuple[str, type[PointsmanError]]] = {
    400: ("The request is no whole HTTP request, or its Idempotency-Key cannot be one.", Refused),
    401: ("There is no valid token.", Unauthorized),
    403: ("The token may not do this.", Forbidden),
    404: ("You have nothing with this id.", NotFound),
    408: ("The body did not arrive in time.", TooSlow),
    409: (
        "It clashes with something that exists, or its Idempotency-Key was used for another request.",
        Conflict,
    ),
    413: ("The body is too large.", TooLarge),
    422: ("A field has a value that cannot be used.", Invalid),
    429: ("You have asked for too much of this lately.", TooMany),
    503: ("A server that Pointsman needs is away or full; nothing was changed.", Unavailable),
}
"""What each error status means, and the error that is its example."""


class Problem(BaseModel):
    """What went wrong and what to do about it (RFC 9457)."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    request_id: str | None


def describe(faces: Iterable[Face], base_url: str) -> dict[str, Any]:
    """The whole description."""
    listed = list(faces)
    endpoints = [endpoint for face in listed for endpoint in face.endpoints]
    schemas, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = endpoint.rule.replace("<uuid:", "{").replace(">", "}")
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    description = {
        "openapi": "3.1.0",
        "info": {"title": "Pointsman management API", "version": VERSION, "description": ABOUT},
        "servers": [{"url": base_url}],
        "tags": [{"name": face.noun, "description": face.about} for face in listed],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A session token from `POST /api/v1/auth/login`, or an API key.",
                }
            },
            "responses": {str(status): _error(status, *error) for status, error in ERRORS.items()},
        },
    }
    renamed: dict[str, Any] = _rename(description, _public_names(components))
    return renamed


Schemas = dict[tuple[type[BaseModel], str], dict[str, Any]]
"""The schema of each model, by what it is used for: "validation" of what comes in, "serialization"
of what goes out.
"""


def _schemas(endpoints: Iterable[Endpoint]) -> tuple[Schemas, dict[str, Any]]:
    """The schema of each model that is used, and what these refer to."""
    used: dict[tuple[type[BaseModel], str], Any] = {(Problem, "serialization"): Problem}
    for endpoint in endpoints:
        for model, mode in (
            (endpoint.body, "validation"),
            (endpoint.shown, "serialization"),
            (endpoint.line, "serialization"),
        ):
            if model is not None:
                used[model, mode] = described(model)
    inputs: Any = [(key, key[1], TypeAdapter(model)) for key, model in used.items()]
    found, definitions = TypeAdapter.json_schemas(inputs, ref_template=SCHEMAS + "{model}")
    components = definitions["$defs"]
    for model, _mode in used:
        if issubclass(model, Page):
            page = components[model.__name__]
            items = [_example_of(page["properties"]["items"]["items"], components)]
            page["examples"] = [{"items": items, "nextCursor": None}]
    return {key: schema for (key, _mode), schema in found.items()}, components


def _example_of(item: dict[str, Any], components: dict[str, Any]) -> Any:
    """The example of what a page lists; of several forms, the first one's."""
    name = item.get("$ref") or item["oneOf"][0]["$ref"]
    return components[name.removeprefix(SCHEMAS)]["examples"][0]


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    summary, _, more = inspect.cleandoc(endpoint.view.__doc__ or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": to_camel(endpoint.name),
        "tags": [endpoint.face.noun],
        "summary": summary.rstrip("."),
        "security": [] if endpoint.policy.is_anonymous else [{"bearer": []}],
        "responses": _responses(endpoint, schemas),
    }
    about = " ".join(part for part in (more.strip(), _needs(endpoint)) if part)
    if about:
        operation["description"] = about
    if parameters := _parameters(endpoint):
        operation["parameters"] = parameters
    if endpoint.body is not None:
        schema = schemas[endpoint.body, "validation"]
        content = {"application/json": {"schema": schema}}
        operation["requestBody"] = {"required": endpoint.needs_body, "content": content}
    return operation


def _needs(endpoint: Endpoint) -> str:
    policy = endpoint.policy
    if policy.is_anonymous:
        return ""
    if policy.session_only:
        return "Needs a session; an API key is not enough."
    role = f" and the role {policy.role.value}" if policy.role is not None else ""
    return f"Needs the permission `{policy.scope}`{role}."


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": UUID_SCHEMA} for name in endpoint.ids
    ]
    if endpoint.query is not None:
        for name, schema in endpoint.query.model_json_schema(by_alias=True)["properties"].items():
            parameters.append({"name": name, "in": "query", "schema": _without_null(schema)})
    if endpoint.takes_key:
        key = {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_KEY_CHARS,
            "pattern": "^[!-~]([ -~]*[!-~])?$",
        }
        about = "Makes the call safe to repeat: with the same key and body it happens once, for 24 hours."
        parameters.append({"name": "Idempotency-Key", "in": "header", "schema": key, "description": about})
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a query parameter, which is left away rather than null."""
    choices = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default", "title")}
    if "default" in schema and schema["default"] is not None:
        rest["default"] = schema["default"]
    return rest | (choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {})


def _responses(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    later: dict[str, Any] = {}
    done: dict[str, Any] = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.gives_file:
        done["content"] = {FILE_TYPE: {}}
        done["headers"] = _fixed_headers()
    if endpoint.line is not None:
        done["description"] += ". Each line has this schema."
        done["content"] = {LINES_TYPE: {"schema": schemas[endpoint.line, "serialization"]}}
        done["headers"] = _fixed_headers()
    if endpoint.shown is not None:
        done["content"] = {"application/json": {"schema": schemas[endpoint.shown, "serialization"]}}
    if endpoint.takes_key:
        done["headers"] = {
            "Idempotent-Replayed": {
                "schema": {"type": "string", "const": "true"},
                "description": "The answer was given before, to a call with the same Idempotency-Key.",
            }
        }
    if endpoint.until_done is not None:
        later = {str(NOT_YET): {**done, "description": "It is not done yet."}}
    statuses = {400, 408, 413, 503, *endpoint.errors}  # a body may come, and be bad, with any method
    if not endpoint.policy.is_anonymous:
        statuses |= {401, 403}
    if endpoint.ids:
        statuses.add(404)
    if endpoint.takes_key:
        statuses.add(409)
    if endpoint.body is not None or endpoint.query is not None:
        statuses.add(422)
    errors = {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
    return {str(endpoint.status): done, **later, **errors}


def _fixed_headers() -> dict[str, Any]:
    return {
        name: {"required": True, "schema": {"type": "string", "const": value}} for name, value in FILE_HEADERS
    }


def _error(status: int, text: str, kind: type[PointsmanError]) -> dict[str, Any]:
    _, _, example = problem(status, kind.code, text, kind.hint, "8c6f2f2d6d8f4f0f9a3f0a1b2c3d4e5f")
    content = {"schema": {"$ref": f"{SCHEMAS}Problem"}, "example": orjson.loads(example)}
    response: dict[str, Any] = {"description": text, "content": {CONTENT_TYPE: content}}
    if kind.retry_after_seconds is not None:
        seconds = {"schema": {"type": "integer"}, "description": "Seconds after which to try again."}
        response["headers"] = {"Retry-After": seconds}
    return response


def _public_names(components: Iterable[str]) -> dict[str, str]:
    """What models are called outside: without our word for what goes out, where that leaves a name
    of its own.
    """
    names = set(components)
    return {
        name: name.removeprefix(SHOWN)
        for name in names
        if name.startswith(SHOWN) and name.removeprefix(SHOWN) not in names
    }


def _rename(part: Any, names: dict[str, str]) -> Any:
    """The description with other names for these models, wherever they stand: as key, reference or
    title.
    """
    if isinstance(part, dict):
        return {names.get(key, key): _rename(value, names) for key, value in part.items()}
    if isinstance(part, list):
        return [_rename(value, names) for value in part]
    if isinstance(part, str) and part.startswith(SCHEMAS):
        name = part.removeprefix(SCHEMAS)
        return SCHEMAS + names.get(name, name)
    return names.get(part, part) if isinstance(part, str) else part
