"""The templates of a config: where they stand, and how it is filled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types import fill, http_post, parse_config, slots
from shared.action_types.texts import Filler
from shared.errors import Invalid
from shared.templates.jobs import Job, Part
from shared.templates.language import MAX_MARKUPS, TemplateError
from shared.templates.values import to_json_text
from tests.subjects import subject

URL = "https://x.example/"


def rendered(kind: str, config: dict[str, Any]) -> Any:
    """The config with its templates filled, checked as a worker does."""
    found = slots(kind, config)
    done = Job(subject(), [Part(one.where, one.template) for one in found]).done()
    return fill(kind, parse_config(kind, config), Filler(config, found).fields(done.texts))


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
    made = Filler(config, found).fields(["7", "paid"])
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


# No render comes to a lone surrogate.
ANY_TEXT = st.text(st.characters(exclude_characters="{}*", exclude_categories=["Cs"])) | st.sampled_from(
    ["a" * 4_096, "a" * 4_097, "a" * 8_192, "a" * 8_193, "é", "\n", "\t"]
)


@given(text=ANY_TEXT)
@pytest.mark.parametrize(
    "config",
    [
        {"url": URL, "headers": {"x-own": "{{ body }}", "x-other": "fixed"}},
        {"url": URL, "query": {"q": "{{ body }}"}},
        {"url": URL, "form": {"f": "{{ body }}"}},
        {"url": URL + "{{ body }}"},
        {"url": URL, "body": {"a": ["{{ body }}"]}, "headers": {"x-own": "fixed"}},
        {"url": URL, "body": "{{ body }}"},
    ],
)
def test_what_is_rendered_keeps_the_rules_of_what_is_saved(config: dict[str, Any], text: str) -> None:
    """Fails when a caller gets a value past a rule, or into another field."""
    found = slots("HTTP_POST", config)
    model = parse_config("HTTP_POST", config)
    literal = json.loads(json.dumps(config).replace("{{ body }}", json.dumps(text)[1:-1]))
    fields = Filler(config, found).fields([text_of(config, text)])
    made = outcome(lambda: fill("HTTP_POST", model, fields))
    assert made == outcome(lambda: parse_config("HTTP_POST", literal))


def outcome(make: Callable[[], Any]) -> Any:
    """What a config says, or the field for which it is refused."""
    try:
        made = make()
    except Invalid as error:
        return error.message.partition(":")[0]
    return {name: getattr(made, name) for name in http_post.Filled._fields}


def text_of(config: dict[str, Any], text: str) -> str:
    """What the only template of a config comes to."""
    return URL + text if "{{" in config["url"] else text


def test_a_rendered_key_keeps_its_rules() -> None:
    model = parse_config("STORE", {"key": "{{ body.id }}", "value": "{{ body.id }}"})
    made = fill("STORE", model, {"key": "k" * 128, "value": "v"})
    assert (made.key, made.value) == ("k" * 128, "v")
    assert (
        "value"
        not in fill("STORE", parse_config("STORE", {"key": "{{ body.id }}"}), {"key": "k"}).model_fields_set
    )
    for key in ("", "k" * 129, "a\x00"):
        with pytest.raises(Invalid, match=r"config\.key: "):
            fill("STORE", model, {"key": key, "value": "v"})
