"""How secrets stand in rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types import http_post, store
from shared.action_types.http_message import check_url
from shared.crypto import SecretBox, is_sealed, new_key
from shared.errors import Invalid
from shared.seals import moved_url, opened_text, opened_url, origin_of, sealed_text, sealed_url

BOX = SecretBox(new_key())


@given(st.text())
def test_a_text_opens_to_what_it_was_and_only_nothing_stays_open(plain: str) -> None:
    sealed = sealed_text(plain, BOX.encrypt)
    assert is_sealed(sealed) == (plain != "")
    assert opened_text(sealed, BOX.decrypt) == plain


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://x.example/canary?canary#canary", "https://x.example"),
        ("http://x.example:8080?canary", "http://x.example:8080"),
        ("http://[::1]:80/canary", "http://[::1]:80"),
        ("HTTP://X#canary", "HTTP://X"),
    ],
)
def test_of_a_url_only_the_origin_can_be_read(url: str, origin: str) -> None:
    sealed = sealed_url(url, BOX.encrypt)
    assert sealed.startswith(f"{origin} sealed:")
    assert "canary" not in sealed
    assert origin_of(url) == origin_of(sealed) == origin
    assert opened_url(sealed, BOX.decrypt) == url
    with pytest.raises(ValueError, match="space"):
        check_url(sealed)


@pytest.mark.parametrize("url", ["http://x", "http://x/", "no url", ""])
def test_where_nothing_is_beyond_the_origin_nothing_is_sealed(url: str) -> None:
    if url != "no url":
        assert opened_url(sealed_url(url, BOX.encrypt), BOX.decrypt) == url
    assert not is_sealed(sealed_url("http://x/", BOX.encrypt))


def test_what_was_never_sealed_is_taken_as_it_is() -> None:
    assert opened_url("http://x/p?q", BOX.decrypt) == "http://x/p?q"
    assert opened_text("plain", BOX.decrypt) == "plain"
    config = {"url": "http://x/p", "headers": {"a": "b"}}
    assert http_post.unseal(config, BOX.decrypt) == config


@pytest.mark.parametrize("text", ["http://x sealed:", "http://x nonsense", "http://x sealed:00000000:gAAAA"])
def test_what_no_key_opens_is_invalid(text: str) -> None:
    with pytest.raises(Invalid) as error:
        opened_url(text, BOX.decrypt)
    assert error.value.code == "secret_unreadable"


def test_what_cannot_follow_an_origin_becomes_a_path() -> None:
    assert opened_url("http://x sealed:1", lambda _: "***") == "http://x/***"


def test_a_url_moves_with_its_secrets_if_its_origin_is_the_old_one() -> None:
    for url in ("http://x:1/p?q", "http://x:1", sealed_url("http://x:1/p?q", BOX.encrypt)):
        moved = moved_url(url, "http://x:1", "http://y:22")
        assert opened_url(moved, BOX.decrypt) == opened_url(url, BOX.decrypt).replace(
            "http://x:1", "http://y:22"
        )
    for url in ("http://x:11/p", "http://x/p", "http://x:1.example/"):
        assert moved_url(url, "http://x:1", "http://y:22") == url


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "url": st.text("ab/?#=", max_size=8).map("http://x/".__add__),
            "headers": st.dictionaries(st.text("ab"), st.text(max_size=5), max_size=3),
            "body": st.text() | st.lists(st.integers()),
            "target": st.just("callback_url"),
        },
    )
)
def test_a_config_opens_to_what_it_was(config: dict[str, object]) -> None:
    sealed = http_post.seal(config, BOX.encrypt)
    assert http_post.unseal(sealed, BOX.decrypt) == config
    assert http_post.is_primary(sealed) == http_post.is_primary(config)
    assert http_post.secret_names(sealed) == http_post.secret_names(config)
    assert store.unseal(store.seal(config, BOX.encrypt), BOX.decrypt) == config


@pytest.mark.parametrize(
    "config", [{"url": 7, "headers": []}, {"headers": {"a": 1}}, {"url": None, "headers": "x"}]
)
def test_a_config_that_only_a_hand_can_have_written_is_left_as_it_is(config: dict[str, object]) -> None:
    """Fails when such a row breaks what looks at it, before its check can say what is wrong."""
    assert http_post.unseal(config, BOX.decrypt) == http_post.seal(config, BOX.encrypt) == config
