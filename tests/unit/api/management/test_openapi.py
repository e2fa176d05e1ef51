"""What the description says of every endpoint, and that its examples are true."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic.alias_generators import to_camel

from api.management import FACES
from api.management.described import described
from api.management.face import FILE_TYPE, Endpoint
from api.management.flowing import LINES_TYPE
from api.management.openapi import ERRORS, Problem, describe
from api.problems import problem
from api.resources.shapes import SHOWN_ONCE
from shared.action_types import KINDS
from shared.credentials import KINDS as CREDENTIAL_KINDS

DESCRIPTION = describe(FACES, "https://hooks.example.com")
COMPONENTS = DESCRIPTION["components"]["schemas"]
ENDPOINTS = {endpoint.name: endpoint for face in FACES for endpoint in face.endpoints}
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for methods in DESCRIPTION["paths"].values()
    for operation in methods.values()
}


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
    assert set(operation["tags"]) <= {tag["name"] for tag in DESCRIPTION["tags"]} != set()
    good = [status for status in operation["responses"] if status.startswith("2")]
    assert good[1:] == (["202"] if operation_id in ("testAction", "testCredential") else [])
    done = good[0]
    content = operation["responses"][done].get("content")
    assert (content is None) == (done == "204")
    assert (content is not None and LINES_TYPE in content) == (operation_id == "exportTriggers")
    is_file = content is not None and FILE_TYPE in content
    assert is_file == (operation_id in ("getTriggerBody", "getStoredItemContent"))
    for schema in [
        *(named(next(iter(content.values()))["schema"]) if content and not is_file else []),
        *(
            named(operation["requestBody"]["content"]["application/json"]["schema"])
            if "requestBody" in operation
            else []
        ),
    ]:
        assert schema["examples"], schema["title"]
    errors = {int(status) for status in operation["responses"]} - set(map(int, good))
    assert errors <= set(ERRORS)
    assert 503 in errors
    assert (operation["security"] == []) == (operation_id == "logIn")
    if operation["security"]:
        assert {401, 403} <= errors


def models(endpoint: Endpoint) -> list[type[BaseModel]]:
    return [model for model in (endpoint.body, endpoint.shown) if model is not None]


@pytest.mark.parametrize("name", sorted(ENDPOINTS))
def test_each_model_takes_its_own_example(name: str) -> None:
    """Fails when an example has a field or a config that is not there, or lacks one that must
    be.
    """
    operation = OPERATIONS[to_camel(name)]
    for model in models(ENDPOINTS[name]):
        mode = "requestBody" if model is ENDPOINTS[name].body else "responses"
        content = (
            operation["requestBody"]
            if mode == "requestBody"
            else operation["responses"][str(ENDPOINTS[name].status)]
        )
        for schema in named(content["content"]["application/json"]["schema"]):
            (example,) = schema["examples"]
            TypeAdapter(described(model)).validate_python(example)
            assert set(example) <= set(schema["properties"])
            assert set(schema.get("required", [])) <= set(example)


@pytest.mark.parametrize("name", sorted(ENDPOINTS))
def test_every_parameter_is_described(name: str) -> None:
    endpoint, operation = ENDPOINTS[name], OPERATIONS[to_camel(name)]
    by_place = {place: set[str]() for place in ("path", "query", "header")}
    for parameter in operation.get("parameters", []):
        by_place[parameter["in"]].add(parameter["name"])
    fields = endpoint.query.model_fields.items() if endpoint.query else ()
    assert by_place["query"] == {field.alias or name for name, field in fields}
    assert by_place["path"] == set(endpoint.ids)
    assert by_place["header"] == ({"Idempotency-Key"} if endpoint.takes_key else set())


def test_a_body_is_said_to_be_needed_where_it_is() -> None:
    optional = {
        name
        for name, operation in OPERATIONS.items()
        if "requestBody" in operation and not operation["requestBody"]["required"]
    }
    assert optional == {"rotateSecret", "rotateToken", "testAction", "testCredential"}


@pytest.mark.parametrize("status", sorted(ERRORS))
def test_every_error_is_a_problem_with_an_example_of_its_own(status: int) -> None:
    response = DESCRIPTION["components"]["responses"][str(status)]
    assert set(response["content"]) == {"application/problem+json"}
    example = Problem.model_validate(response["content"]["application/problem+json"]["example"])
    assert example.status == status
    assert example.hint


def test_what_is_shown_once_stands_on_the_first_level_of_an_answer() -> None:
    """Shown.rendered() leaves it out of a repeated answer only there."""
    for model in {endpoint.shown for endpoint in ENDPOINTS.values() if endpoint.shown is not None}:
        definitions = TypeAdapter(model).json_schema().get("$defs", {})
        assert SHOWN_ONCE not in str(definitions), model


@pytest.mark.parametrize(
    ("change", "nullable"),
    [
        ("CallbackChange", {"customPath"}),
        ("ActionChange", {"name", "retry", "condition", "credentialId"}),
        ("CredentialChange", {"meta"}),
    ],
)
def test_only_what_may_be_taken_away_may_be_null(change: str, nullable: set[str]) -> None:
    """Fails when a generated client is told to send null for what it leaves as it is."""
    properties = COMPONENTS[change]["properties"]
    assert {
        name for name, schema in properties.items() if {"type": "null"} in schema.get("anyOf", [])
    } == nullable
    assert [name for name, schema in properties.items() if "default" in schema] == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_configs_are_told_apart_by_type(kind: str) -> None:
    body = OPERATIONS["createAction"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["discriminator"]["propertyName"] == "type"
    assert set(body["discriminator"]["mapping"]) == set(KINDS)
    form = COMPONENTS[body["discriminator"]["mapping"][kind].rsplit("/", 1)[1]]
    assert form["properties"]["type"]["const"] == kind
    config = COMPONENTS[form["properties"]["config"]["$ref"].rsplit("/", 1)[1]]
    assert config["title"] == KINDS[kind].Config.__name__


@pytest.mark.parametrize("model", ["NewCredential", "CredentialChange", "Credential"])
def test_a_credentials_meta_has_the_shape_of_one_of_the_kinds(model: str) -> None:
    forms = COMPONENTS[model]["properties"]["meta"]["anyOf"]
    named = {form["$ref"].rsplit("/", 1)[1] for form in forms if "$ref" in form}
    assert named == {kind.meta.__name__ for kind in CREDENTIAL_KINDS.values()}
    assert {"tokenUrl", "clientId"} <= set(COMPONENTS["OAuth2Meta"]["properties"])


def test_no_answer_speaks_of_a_secret() -> None:
    """Fails when a credential that is shown has a field for it."""
    assert "secret" not in COMPONENTS["Credential"]["properties"]
    assert COMPONENTS["NewCredential"]["properties"]["secret"]["writeOnly"]


def test_a_problem_is_what_errors_look_like() -> None:
    _, _, body = problem(404, "not_found", "No.", "Look.", "r1")
    assert Problem.model_validate(orjson.loads(body)).request_id == "r1"


def test_keys_are_for_posts_of_somebody_who_is_told_something() -> None:
    taking = {to_camel(name) for name, endpoint in ENDPOINTS.items() if endpoint.takes_key}
    assert taking == {
        "createCallback",
        "createAction",
        "previewAction",
        "tryCondition",
        "createCredential",
        "replayTrigger",
        "retryExecution",
        "cancelTrigger",
        "createReplayJob",
        "cancelReplayJob",
        "rotateSecret",
        "rotateToken",
    }


def test_what_is_shown_once_need_not_be_there() -> None:
    """A repeated answer leaves it away."""
    for model in ("CreatedCallback", "RotatedSecret"):
        assert "signingSecret" not in COMPONENTS[model]["required"]
        assert COMPONENTS[model]["properties"]["signingSecret"][SHOWN_ONCE]
