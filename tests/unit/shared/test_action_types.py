"""What the configs of actions may hold."""

from __future__ import annotations

from typing import Any

import pytest

from shared.action_types import http_post, parse_config, store
from shared.errors import Invalid


@pytest.mark.parametrize("name", sorted(http_post.FORBIDDEN_HEADERS))
def test_headers_that_frame_sign_or_name_cannot_be_set(name: str) -> None:
    for spelling in (name, name.upper(), name.title()):
        with pytest.raises(Invalid) as error:
            parse_config("HTTP_POST", {"url": "http://x/", "headers": {spelling: "1"}})
        assert "headers" in error.value.message


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\x00", "caf\u00e9", "x" * 5000])
def test_header_values_cannot_smuggle(value: str) -> None:
    with pytest.raises(Invalid):
        parse_config("HTTP_POST", {"url": "http://x/", "headers": {"a": value}})


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\n", "caf\u00e9"])
def test_header_names_are_tokens(name: str) -> None:
    with pytest.raises(Invalid):
        parse_config("HTTP_POST", {"url": "http://x/", "headers": {name: "1"}})


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": "http://x/", "target": "callback_url"},
        {"target": "elsewhere"},
        {"url": "ftp://x/"},
        {"url": "x"},
        {"url": "http:///path"},
        {"url": "http://user@x/"},
        {"url": "http://user:pw@x/"},
        {"url": "http://x/\r\nhost: y"},
        {"url": "http://x:99999/"},
        {"url": "http://x/" + "a" * 3000},
        {"url": "http://x/", "headers": {"a": "1", "A": "2"}},
        {"url": "http://x/", "headers": {f"h{n}": "1" for n in range(51)}},
        {"url": "http://x/", "surprise": 1},
        {"url": 7},
    ],
)
def test_an_http_post_that_cannot_work_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as error:
        parse_config("HTTP_POST", config)
    assert error.value.code == "bad_config"


@pytest.mark.parametrize(
    "config", [{"target": "callback_url"}, {"url": "https://x.example/p?q=1", "body": {"a": 1}}]
)
def test_an_http_post_that_can_work_is_taken(config: dict[str, Any]) -> None:
    parse_config("HTTP_POST", config)


def test_credentials_in_headers_are_masked_when_shown() -> None:
    config: dict[str, Any] = {
        "url": "http://x/p?secret=1",
        "headers": {"Authorization": "Bearer s", "X-Api-Key": "s", "Accept": "a"},
    }
    shown = http_post.redact(config)
    assert shown["headers"] == {"Authorization": "***", "X-Api-Key": "***", "Accept": "a"}
    assert config["headers"]["Authorization"] == "Bearer s", "the config itself is not changed"
    assert http_post.summarize(config) == "POST http://x/p"
    assert http_post.summarize({"target": "callback_url"}) == "POST to the callback's URL"


@pytest.mark.parametrize("config", [{"key": ""}, {"key": "x" * 129}, {"key": "a\x00"}, {"surprise": 1}])
def test_a_store_that_cannot_work_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        parse_config("STORE", config)


def test_a_store_tells_a_given_null_from_no_value() -> None:
    assert "value" in parse_config("STORE", {"value": None}).model_fields_set
    assert "value" not in parse_config("STORE", {}).model_fields_set
    assert store.summarize({"key": "k"}) == "store the body as k"


def test_a_type_that_is_not_there_yet_says_what_is() -> None:
    with pytest.raises(Invalid) as error:
        parse_config("SLACK", {})
    assert error.value.code == "action_type_unavailable"
    assert "HTTP_POST" in error.value.hint
