"""What request an action makes of a call: its query, its body, its method."""

from __future__ import annotations

from typing import Any

import pytest

from shared.action_types import parse_config
from shared.action_types.http_post import HttpPostConfig
from shared.action_types.http_request import Message, message_of
from shared.errors import Invalid
from shared.http_urls import MAX_URL_CHARS
from shared.masks import MASK
from tests.subjects import subject

JSON = b'{"a": 1}'
METHODS = ["POST", "PUT", "PATCH", "GET", "DELETE"]


def config_of(**given: Any) -> HttpPostConfig:
    config = parse_config("HTTP_POST", {"url": "http://x/p"} | given)
    assert isinstance(config, HttpPostConfig)
    return config


def message(asked: str = "", **given: Any) -> Message:
    """The request of such an action for a call with this query."""
    config = config_of(**given)
    assert config.url is not None
    return message_of(config, config.url, subject(JSON, query=asked), lambda sealed: sealed)


def target(asked: str, url: str = "http://x/p", **given: Any) -> str:
    return message(asked, url=url, forwardQuery=True, **given).url


class TestQuery:
    @pytest.mark.parametrize(
        "query",
        [
            "a=1",
            "b=2&a=1&b=1&b=2&a",
            'a[]=1&a[]=2&c[d]={x|y}^`"<>\\',
            "sig=a%2Fb%2Bc%3D&t=a+b&u=a%20b",
            "a=1&&b=2&",
            "=x&a==",
            "%",
            "%zz&a=%e4%F6",
            "?a=/?:@;,!$'()*~",
        ],
    )
    def test_a_callers_query_is_sent_byte_for_byte(self, query: str) -> None:
        """Fails when a signature over it no longer holds."""
        assert target(query) == f"http://x/p?{query}"

    def test_what_no_request_line_can_hold_is_encoded(self) -> None:
        assert target("a=\xe9\xff #\r\n\x00\x7f") == "http://x/p?a=%E9%FF%20%23%0D%0A%00%7F"

    @pytest.mark.parametrize(
        ("url", "sent"),
        [
            ("http://x", "http://x?a=1"),
            ("http://x/p?", "http://x/p?a=1"),
            ("http://x/p?b=2", "http://x/p?b=2&a=1"),
            ("http://x/p?b=2&", "http://x/p?b=2&a=1"),
            ("http://x/p#f?g", "http://x/p?a=1#f?g"),
            ("http://x/p?b=2#f", "http://x/p?b=2&a=1#f"),
        ],
    )
    def test_it_stands_behind_the_actions_own(self, url: str, sent: str) -> None:
        assert target("a=1", url) == sent

    def test_the_order_is_the_urls_the_actions_the_callers(self) -> None:
        sent = target("z=1&z=2", "http://x/p?b=2", query={"y": "a b&c", "caf\u00e9": ""})
        assert sent == "http://x/p?b=2&y=a%20b%26c&caf%C3%A9=&z=1&z=2"

    @pytest.mark.parametrize(
        "theirs",
        ["env=dev", "%65nv=dev", "env", "env=dev&env=test", "my+key=dev", "my%20key=dev", "%C3%A9=dev"],
    )
    def test_a_caller_does_not_change_what_the_action_says_itself(self, theirs: str) -> None:
        """Fails when a receiver that takes the last of two values takes the caller's."""
        url, own = "http://x/p?env=prod", {"my key": "prod", "\u00e9": "prod"}
        before = target("", url, query=own)
        assert "dev" not in before
        assert target(theirs, url, query=own) == before
        assert target(f"a=1&{theirs}&b=2", url, query=own) == f"{before}&a=1&b=2"

    def test_it_is_forwarded_only_where_the_action_says_so(self) -> None:
        assert message("a=1").url == "http://x/p"
        with pytest.raises(Invalid):
            config_of(forwardQuery="yes")

    def test_what_never_could_be_sent_is_refused_when_it_is_saved(self) -> None:
        """Fails when each delivery of an action that was taken ends as one that cannot be sent."""
        room = MAX_URL_CHARS - len("http://x/p?a=")
        assert len(message(query={"a": "b" * room}).url) == MAX_URL_CHARS
        for query in (
            {"a": "b" * (room + 1)},
            {"a": "\u00e9" * (room // 6 + 1)},
            {f"n{n}": "" for n in range(100)},
        ):
            url = "http://x/p" if "a" in query else "http://x/".ljust(1_900, "p")
            with pytest.raises(Invalid, match=r"longer than 2000"):
                config_of(url=url, query=query)
        with pytest.raises(Invalid, match=r"longer than 2000"):
            parse_config("HTTP_POST", {"target": "callback_url", "query": {"a": "b" * MAX_URL_CHARS}})

    def test_what_a_mask_or_a_template_stands_for_is_counted_when_it_is_known(self) -> None:
        room = MAX_URL_CHARS - len("http://x/p?a=&b=&c=")
        config_of(query={"a": "x" * (room - 1), "b": MASK, "c": "{{ body.something.that.is.short }}"})


class TestBody:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_get_and_a_delete_carry_nothing_of_the_caller(self, method: str) -> None:
        sent = message(method=method)
        without = method in ("GET", "DELETE")
        assert (sent.method, sent.body) == (method, b"" if without else JSON)
        assert sent.headers == ({} if without else {"content-type": "application/json"})
        assert sent.opaque == {}

    @pytest.mark.parametrize("own", [{"body": "own"}, {"body": {"own": 1}}, {"form": {"own": "1"}}])
    @pytest.mark.parametrize("method", METHODS)
    def test_a_body_of_its_own_is_sent_with_any_method_but_get(
        self, method: str, own: dict[str, Any]
    ) -> None:
        if method == "GET":
            with pytest.raises(Invalid, match="a GET has no body"):
                config_of(method=method, **own)
            return
        sent = message(method=method, **own)
        assert b"own" in sent.body
        assert sent.headers["content-type"]

    @pytest.mark.parametrize(
        "method", ["post", "HEAD", "OPTIONS", "CONNECT", "TRACE", "", "POST ", "GET / HTTP/1.1\r\nx"]
    )
    def test_other_methods_are_refused(self, method: str) -> None:
        with pytest.raises(Invalid, match=r"config\.method"):
            config_of(method=method)

    def test_a_form_keeps_its_fields_in_their_places(self) -> None:
        sent = message(form={"a&b": "1=2", "c": "x\r\ny \u00e9"})
        assert sent.body == b"a%26b=1%3D2&c=x%0D%0Ay%20%C3%A9"
        assert sent.headers == {"content-type": "application/x-www-form-urlencoded"}

    def test_a_body_and_a_form_are_two_bodies(self) -> None:
        with pytest.raises(Invalid, match="either"):
            config_of(body="a", form={"a": "1"})


@pytest.mark.parametrize("statuses", [[], [199], [300], [200, 404], ["200"], [200.0], [True], "200", 200])
def test_only_statuses_within_2xx_can_be_success(statuses: Any) -> None:
    with pytest.raises(Invalid, match=r"config\.successStatuses"):
        config_of(successStatuses=statuses)
