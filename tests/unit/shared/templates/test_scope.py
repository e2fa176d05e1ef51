"""What a template reads of a call, whatever the caller sends."""

from __future__ import annotations

import pytest

from shared.crypto import SecretBox, new_key
from shared.templates.scope import MAX_FIELDS
from tests.subjects import rendered, subject


def test_a_body_that_is_no_json_is_text() -> None:
    assert rendered("{{ body }}", subject(b"plain \xff", content_type="text/plain")) == "plain �"
    assert rendered("{{ body.a }}|", subject(b"[" * 100_000)) == "|"
    assert rendered("{{ body.a }}", subject(b'{"a": 1}', content_type=None)) == "1"


def test_a_form_has_its_fields() -> None:
    of = subject(b"a=1&b=x+y&b=%26&c=", content_type="application/x-www-form-urlencoded; charset=utf-8")
    assert rendered("{{ body.a }} {{ body.b }} [{{ body.c }}]", of) == '1 ["x y","&"] []'
    many = b"&".join(b"a=1" for _ in range(MAX_FIELDS + 1))
    assert rendered("{{ body.a }}|", subject(many, content_type="application/x-www-form-urlencoded")) == "|"


def test_a_query_and_headers_have_their_fields() -> None:
    of = subject(headers={"x-github-event": "push"}, query="a=1&b=2&b=3")
    assert (
        rendered("{{ query.a }} {{ query.b[1] }} {{ headers['x-github-event'] }} {{ headers.host }}|", of)
        == "1 3 push |"
    )


def test_a_credential_of_the_caller_shows_as_a_mask() -> None:
    """Fails when a template can send on what is sealed in the recorded call."""
    sealed = SecretBox(new_key()).encrypt("Bearer canary")
    assert rendered("{{ headers.authorization }}", subject(headers={"authorization": sealed})) == "***"


def test_trigger_and_callback() -> None:
    text = "{{ trigger.id }} {{ trigger.method }} {{ trigger.path }} {{ trigger.receivedAt | date: '%d.%m.%Y' }} {{ trigger.contentType }} {{ callback.id }} {{ callback.name }}"
    assert rendered(text) == (
        "0192aaaa-0000-7000-8000-000000000001 POST /t/token 02.01.2026 application/json "
        "0192aaaa-0000-7000-8000-000000000002 orders"
    )


def test_what_an_earlier_action_was_answered() -> None:
    answer = {"statusCode": 201, "headers": {"content-type": "application/json"}, "body": '{"id": 7.50}'}
    of = subject(
        answers={
            "create order": answer,
            "binary": {"statusCode": 200, "body": "AA==", "bodyEncoding": "base64"},
        }
    )
    text = "{{ actions['create order'].response.json.id }} {{ actions['create order'].response.statusCode }} {{ actions['create order'].response.headers['content-type'] }}"
    assert rendered(text, of) == "7.50 201 application/json"
    assert (
        rendered(
            "{{ actions.binary.response.body }}{{ actions.binary.response.json }}|{{ actions.other.response.body }}",
            of,
        )
        == "AA==|"
    )


@pytest.mark.parametrize(
    "path", ["body.__class__", "body.items.__len__", "headers.keys", "trigger._subject", "body.note.upper"]
)
def test_a_path_reaches_nothing_but_values(path: str) -> None:
    assert rendered(f"{{{{ {path} }}}}") == ""
