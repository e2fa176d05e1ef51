"""What the configs of actions may hold."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types import http_message, http_post, parse_config, store
from shared.errors import Invalid
from shared.http_urls import MAX_URL_CHARS


@pytest.mark.parametrize("name", sorted(http_message.FORBIDDEN_HEADERS))
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
        "headers": {"Authorization": "Bearer s", "X-Own": "s", "Accept": "a"},
    }
    shown = http_post.redact(config)
    assert shown["headers"] == {"Authorization": "***", "X-Own": "***", "Accept": "a"}
    assert shown["url"] == "http://x/p?secret=***"
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


def spelled(name: str) -> st.SearchStrategy[str]:
    """The name with each letter in either case."""
    letters = [st.sampled_from(sorted({letter.lower(), letter.upper()})) for letter in name]
    return st.tuples(*letters).map("".join)


@given(st.sampled_from(sorted(http_message.FORBIDDEN_HEADERS)).flatmap(spelled))
def test_a_forbidden_header_is_known_in_any_case(name: str) -> None:
    with pytest.raises(Invalid, match=re.escape(f"{name} is set by Pointsman")):
        parse_config("HTTP_POST", {"url": "http://x/", "headers": {name: "1"}})


@given(st.text(), st.sampled_from("\r\n\x00"), st.text())
def test_what_could_smuggle_a_second_request_is_refused_wherever_it_stands(
    before: str, smuggled: str, after: str
) -> None:
    text = f"{before}{smuggled}{after}"
    for config in (
        {"url": f"http://x/{text}"},
        {"url": "http://x/", "headers": {text: "1"}},
        {"url": "http://x/", "headers": {"x-own": text}},
    ):
        with pytest.raises(Invalid):
            parse_config("HTTP_POST", config)


@given(
    st.text() | st.text("htps:/@x.[]\\#?%\r\n \t:0a", max_size=20).map("http://".__add__),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_whatever_parses_can_be_sent_without_credentials_in_its_url(
    url: str, headers: dict[str, str]
) -> None:
    try:
        config = parse_config("HTTP_POST", {"url": url, "headers": headers})
    except Invalid:
        return
    assert isinstance(config, http_post.Config)
    assert not set("\r\n\x00") & set(str(config.url) + "".join([*config.headers, *config.headers.values()]))
    assert not any(map(http_message.is_reserved, config.headers))
    assert "@" not in urlsplit(str(config.url)).netloc
    assert urlsplit(str(config.url)).scheme in ("http", "https")


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://X.example/",
        "http://[::1]:8080/p",
        "http://x/a@b",
        "http://x/?q=a@b",
        "http://x:/",
        "http://x#y",
        "http://x/" + "a" * (MAX_URL_CHARS - len("http://x/")),
    ],
)
def test_a_url_that_can_be_sent_to_is_taken_as_it_is(url: str) -> None:
    assert parse_config("HTTP_POST", {"url": url}).model_dump()["url"] == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "gopher://x/",
        "//x/",
        "http:x",
        "http://",
        "http://@x/",
        "http://:@x/",
        "http://x\\@y/",
        "http://[::1/",
        "http://x:port/",
        "http://x:-1/",
        " http://x/",
    ],
)
def test_a_url_that_could_mean_something_else_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_config("HTTP_POST", {"url": url})
    assert error.value.message.startswith("config.url: ")


@pytest.mark.parametrize("both", [{}, {"url": None}, {"url": "http://x/", "target": "callback_url"}])
def test_exactly_one_of_url_and_target_is_given(both: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="give either"):
        parse_config("HTTP_POST", both)


@pytest.mark.parametrize(
    "body",
    ["x" * (http_post.MAX_BODY_CHARS + 1), {"a": "x" * http_post.MAX_BODY_CHARS}, ["x"] * 100_000],
    ids=["text", "object", "list"],
)
def test_a_body_has_a_bound_whatever_its_form(body: Any) -> None:
    """Fails when only text is measured."""
    with pytest.raises(Invalid, match=r"config\.body"):
        parse_config("HTTP_POST", {"url": "http://x/", "body": body})


def test_a_refusal_shows_no_value() -> None:
    for config in (
        {"url": "http://user:canary@x/"},
        {"url": "http://x/", "headers": {"a": "canary\n"}},
        {"url": "http://x/", "headers": {"Authorization": ["canary"]}},
        {"url": "http://x/", "body": 3.5, "target": "canary"},
    ):
        with pytest.raises(Invalid) as error:
            parse_config("HTTP_POST", config)
        assert "canary" not in error.value.message + error.value.hint


@pytest.mark.parametrize("config", [None, "text", 1, [], [{}]])
@pytest.mark.parametrize("kind", ["HTTP_POST", "STORE"])
def test_a_config_is_an_object(kind: str, config: Any) -> None:
    with pytest.raises(Invalid) as error:
        parse_config(kind, config)
    assert error.value.code == "bad_config"


def test_what_a_config_masks_it_takes_back_and_goes_on_being_itself() -> None:
    kept = {"url": "http://x/p?key=canary", "headers": {"X-Own": "canary", "Accept": "a"}, "body": [1]}
    shown = http_post.redact(kept)
    assert "canary" not in str(shown)
    assert http_post.unmask(shown, kept) == kept
    assert http_post.unmask(shown | {"body": "new"}, kept) == kept | {"body": "new"}
    assert http_post.destination(kept) == "http://x/p?key=canary"
    assert http_post.destination({"target": "callback_url"}) is None
    assert http_post.secret_names(kept) == ["X-Own"]
    for config in ({"headers": {"X-New": "***"}}, {"url": "http://x/p?new=***"}):
        with pytest.raises(Invalid) as error:
            http_post.unmask(config, kept)
        assert error.value.code == "mask_without_secret"
        assert "config." in error.value.message


def test_a_row_that_was_changed_by_hand_shows_no_secret_all_the_same() -> None:
    """Fails when one value that is no text leaves all others unmasked."""
    config: dict[str, Any] = {
        "url": "http://x/?a=canary",
        "headers": {"X-Own": "canary", "n": 1},
        "query": {"k": "canary", "l": []},
    }
    shown = http_post.redact(config)
    assert shown["headers"] == {"X-Own": "***", "n": 1}
    assert shown["query"] == {"k": "***", "l": []}
    assert "canary" not in str(shown)
    assert "canary" not in str(http_post.seal(config, lambda plain: f"sealed:00000000:{len(plain)}"))


def test_nothing_of_a_store_is_a_secret() -> None:
    config = {"key": "k", "value": "***"}
    assert store.unmask(config, {}) == store.redact(config) == config
    assert (store.destination(config), store.secret_names(config)) == (None, [])


@pytest.mark.parametrize("config", [{"target": "callback_url"}, {"url": "http://x/", "headers": None}])
def test_a_config_without_headers_is_shown_as_it_is(config: dict[str, Any]) -> None:
    assert http_post.redact(config) == config


def test_a_line_for_people_never_shows_a_query() -> None:
    shown = http_post.summarize({"url": "https://x.example:8443/p/q?token=canary#canary"})
    assert shown == "POST https://x.example:8443/p/q"


@pytest.mark.parametrize("key", ["k", "x" * 128, "caf\u00e9 \u2603", "a/b"])
def test_a_store_takes_a_label_of_any_printable_characters(key: str) -> None:
    assert parse_config("STORE", {"key": key}).model_dump()["key"] == key


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "store the body"),
        ({"value": None}, "store the given value"),
        ({"value": 1, "key": "k"}, "store the given value as k"),
        ({"key": None}, "store the body"),
    ],
)
def test_a_store_is_told_in_one_line(config: dict[str, Any], told: str) -> None:
    assert store.summarize(config) == told
    assert store.redact(config) == config
