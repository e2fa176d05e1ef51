"""What the description says of every endpoint, and that its examples are true."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from api.management import FACES
from api.management.described import described
from api.management.face import Endpoint
from api.management.openapi import Problem, describe
from api.problems import problem
from shared.action_types import KINDS

DESCRIPTION = describe(FACES, "https://hooks.example.com")
COMPONENTS = DESCRIPTION["components"]["schemas"]
ENDPOINTS = {endpoint.name: endpoint for face in FACES for endpoint in face.endpoints}
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for methods in DESCRIPTION["paths"].values()
    for operation in methods.values()
}
BODILESS = {400, 401, 403, 404, 408, 409, 413, 422, 503}


def named(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that a reference or a union means."""
    references = [schema] if "$ref" in schema else schema["oneOf"]
    return [COMPONENTS[one["$ref"].rsplit("/", 1)[1]] for one in references]


def references_in(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(references_in(value) for value in part.values()))
    return set[str]().union(*(references_in(value) for value in part)) if isinstance(part, list) else set()


def test_every_endpoint_is_described_under_an_id_of_its_own() -> None:
    assert len(OPERATIONS) == len(ENDPOINTS) == sum(len(m) for m in DESCRIPTION["paths"].values())
    assert {"createCallback", "listTriggers", "replayTrigger", "logIn"} <= OPERATIONS.keys()


def test_every_reference_leads_somewhere() -> None:
    for reference in references_in(DESCRIPTION):
        _, kind, group, name = reference.split("/")
        assert name in DESCRIPTION[kind][group]


@pytest.mark.parametrize("operation_id", sorted(OPERATIONS))
def test_an_operation_says_what_it_gives_and_takes(operation_id: str) -> None:
    operation = OPERATIONS[operation_id]
    assert operation["summary"]
    assert operation["tags"]
    (done,) = [status for status in operation["responses"] if status.startswith("2")]
    content = operation["responses"][done].get("content")
    assert (content is None) == (done == "204")
    for schema in [
        *(named(content["application/json"]["schema"]) if content else []),
        *(
            named(operation["requestBody"]["content"]["application/json"]["schema"])
            if "requestBody" in operation
            else []
        ),
    ]:
        assert schema["examples"], schema["title"]
    errors = {int(status) for status in operation["responses"]} - {int(done)}
    assert errors <= BODILESS
    assert 503 in errors
    assert (operation["security"] == []) == (operation_id == "logIn")
    if operation["security"]:
        assert {401, 403} <= errors


def models(endpoint: Endpoint) -> list[type[BaseModel]]:
    return [model for model in (endpoint.body, endpoint.answer) if model is not None]


@pytest.mark.parametrize("name", sorted(ENDPOINTS))
def test_each_model_takes_its_own_example(name: str) -> None:
    """Fails when an example has a field that is not there, or lacks one that must be."""
    for model in models(ENDPOINTS[name]):
        schema = TypeAdapter(described(model)).json_schema(by_alias=True)
        forms = schema.get("oneOf", [schema])
        for form in forms:
            form = schema["$defs"][form["$ref"].rsplit("/", 1)[1]] if "$ref" in form else form
            for example in form.get("examples", []):
                model.model_validate(example)
                assert set(example) <= set(form["properties"])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_configs_are_told_apart_by_type(kind: str) -> None:
    body = OPERATIONS["createAction"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["discriminator"]["propertyName"] == "type"
    assert set(body["discriminator"]["mapping"]) == set(KINDS)
    form = COMPONENTS[body["discriminator"]["mapping"][kind].rsplit("/", 1)[1]]
    assert form["properties"]["type"]["const"] == kind
    config = COMPONENTS[form["properties"]["config"]["$ref"].rsplit("/", 1)[1]]
    assert config["title"] == KINDS[kind].Config.__name__


def test_a_problem_is_what_errors_look_like() -> None:
    import orjson

    _, _, body = problem(404, "not_found", "No.", "Look.", "r1")
    assert Problem.model_validate(orjson.loads(body)).request_id == "r1"


def test_keys_are_for_posts_that_somebody_makes() -> None:
    taking = {
        operation_id
        for operation_id, operation in OPERATIONS.items()
        if any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
    }
    assert "createCallback" in taking
    assert {
        operation_id for operation_id in OPERATIONS if operation_id.startswith(("get", "list", "change"))
    } & (taking | {"logIn"}) == set()


def test_what_is_shown_once_need_not_be_there() -> None:
    """A repeated answer leaves it away."""
    assert "signingSecret" not in COMPONENTS["CreatedCallback"]["required"]
    assert "signingSecret" in COMPONENTS["CreatedCallback"]["properties"]
