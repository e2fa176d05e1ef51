"""The templates of a config: where they stand, and how it is filled."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shared.action_types import parse_config, slots
from shared.action_types.texts import filled
from shared.templates.jobs import Job, Part
from shared.templates.language import MAX_MARKUPS, TemplateError
from shared.templates.values import to_json_text
from tests.subjects import subject

URL = "https://x.example/"


def rendered(kind: str, config: dict[str, Any]) -> Any:
    """The config with its templates filled, checked as a worker does."""
    found = slots(kind, config)
    done = Job(subject(), [Part(one.where, one.template) for one in found]).done()
    return parse_config(kind, filled(config, found, done.texts), rendered=True)


def test_json_is_a_value_only_where_values_stand() -> None:
    """Fails when a header, a parameter or a field becomes something else than a text."""
    text = "{{ body.items | json }}"
    config = {
        "url": URL,
        "headers": {"x-items": text},
        "query": {"q": text},
        "body": {"a": [text], "b": text},
    }
    made = rendered("HTTP_POST", config)
    shown = '[{"sku":"a"},{"sku":"b"}]'
    assert (made.headers["x-items"], made.query["q"]) == (shown, shown)
    assert to_json_text(made.body) == f'{{"a":[{shown}],"b":{shown}}}'
    assert rendered("HTTP_POST", {"url": URL, "form": {"f": text}}).form == {"f": shown}
    assert rendered("HTTP_POST", {"url": URL, "body": text}).body == shown


def test_a_stored_value_may_be_json_as_a_whole() -> None:
    assert (
        to_json_text(rendered("STORE", {"value": "{{ body.items | json }}"}).value)
        == '[{"sku":"a"},{"sku":"b"}]'
    )
    assert (
        to_json_text(rendered("STORE", {"value": "{{ body.items }}"}).value)
        == r'"[{\"sku\":\"a\"},{\"sku\":\"b\"}]"'
    )
    assert rendered("STORE", {"key": "{{ body.id | json }}"}).key == "7"


def test_a_config_is_not_changed_by_being_filled() -> None:
    config: dict[str, Any] = {"value": {"a": ["{{ body.id }}", {"b": "{{ body.type }}"}, "c"], "d": {"e": 1}}}
    found = slots("STORE", config)
    made = filled(config, found, ["7", "paid"])
    assert made == {"value": {"a": ["7", {"b": "paid"}, "c"], "d": {"e": 1}}}
    assert config["value"]["a"] == ["{{ body.id }}", {"b": "{{ body.type }}"}, "c"]
    assert made["value"]["d"] is config["value"]["d"]


def test_the_templates_of_a_config_have_one_bound_together() -> None:
    """Fails when a config of many texts takes seconds to parse: a worker's loop waits for it."""
    many = [f"{{{{ query.a{n} }}}}" for n in range(15_000)]
    began = time.process_time()
    with pytest.raises(TemplateError, match="together"):
        slots("HTTP_POST", {"url": URL, "body": many})
    assert time.process_time() - began < 0.5
    assert len(slots("HTTP_POST", {"url": URL, "body": many[:MAX_MARKUPS]})) == MAX_MARKUPS
