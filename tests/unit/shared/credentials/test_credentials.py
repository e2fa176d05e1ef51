"""Which credentials there can be, where each may go, and what its secret is bound to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types.http_message import FORBIDDEN_HEADERS
from shared.credentials import KINDS, check, kind_name, kind_of, may_go, parse_meta
from shared.crypto import SecretBox, new_key
from shared.errors import Invalid

ORIGINS = ["https://api.example.com"]
OAUTH = {
    "kind": "oauth2",
    "tokenUrl": "https://login.example.com/token?policy=s3cret-1",
    "clientId": "client",
    "origins": ORIGINS,
}
GOOD: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GENERIC", "s3cret", {"kind": "bearer", "origins": ORIGINS}),
    ("GENERIC", "s3cr:\u00e9t", {"kind": "basic", "username": "us\u00e9r", "origins": ORIGINS}),
    ("GENERIC", "s3cret", {"kind": "header", "header": "X-Key", "origins": ORIGINS}),
    (
        "GENERIC",
        "s3cret",
        {"kind": "header", "header": "Authorization", "prefix": "Token ", "origins": ORIGINS},
    ),
    ("GENERIC", "s3cret \u00e9", {"kind": "query", "parameter": "key", "origins": ORIGINS}),
    ("GENERIC", "s3cret", OAUTH),
    (
        "GENERIC",
        "s3cret",
        {**OAUTH, "scope": "a b", "audience": "https://api.example.com", "authentication": "body"},
    ),
    ("SENDGRID", "SG.s3cret", None),
    ("SENDGRID", "SG.s3cret", {}),
    ("TWILIO", "s3cret", {"accountSid": "AC1"}),
    ("TWILIO", "s3cret", {"accountSid": "AC1", "apiKeySid": "SK1"}),
    ("SLACK", "https://hooks.slack.com/services/T/B/s3cret", None),
    ("DISCORD", "https://discord.com/api/webhooks/1/s3cret", None),
]
BOX = SecretBox(new_key())


@pytest.mark.parametrize(("provider", "secret", "meta"), GOOD)
def test_these_can_be(provider: str, secret: str, meta: dict[str, Any] | None) -> None:
    check(provider, secret, meta)


@pytest.mark.parametrize(
    ("provider", "meta", "where"),
    [
        ("GENERIC", None, "meta.kind"),
        ("GENERIC", {"kind": "smoke", "origins": ORIGINS}, "meta.kind"),
        ("GENERIC", {"kind": "SLACK"}, "meta.kind"),
        ("GENERIC", {"kind": ["bearer"]}, "meta.kind"),
        ("GENERIC", {"kind": "bearer"}, "meta.origins"),
        ("GENERIC", {"kind": "bearer", "origins": []}, "meta.origins"),
        ("GENERIC", {"kind": "bearer", "origins": ORIGINS * 21}, "meta.origins"),
        ("GENERIC", {"kind": "bearer", "origins": ORIGINS, "username": "x"}, "meta.username"),
        ("GENERIC", {"kind": "basic", "origins": ORIGINS}, "meta.username"),
        ("GENERIC", {"kind": "basic", "username": "a:b", "origins": ORIGINS}, "meta.username"),
        ("GENERIC", {"kind": "basic", "username": "a\x00", "origins": ORIGINS}, "meta.username"),
        ("GENERIC", {"kind": "basic", "username": "", "origins": ORIGINS}, "meta.username"),
        ("GENERIC", {"kind": "header", "header": "a b", "origins": ORIGINS}, "meta.header"),
        ("GENERIC", {"kind": "header", "header": "X", "prefix": "a\n", "origins": ORIGINS}, "meta.prefix"),
        ("GENERIC", {"kind": "query", "origins": ORIGINS}, "meta.parameter"),
        ("GENERIC", {**OAUTH, "tokenUrl": "ftp://x/"}, "meta.tokenUrl"),
        ("GENERIC", {**OAUTH, "tokenUrl": "https://a:b@x/"}, "meta.tokenUrl"),
        ("GENERIC", {**OAUTH, "authentication": "none"}, "meta.authentication"),
        ("GENERIC", {**OAUTH, "scope": "caf\u00e9"}, "meta.scope"),
        ("GENERIC", {**OAUTH, "token_url": "https://x/"}, "meta.token_url"),
        ("SENDGRID", {"origins": ORIGINS}, "meta.origins"),
        ("TWILIO", None, "meta.accountSid"),
        ("SLACK", {"url": "https://x/"}, "meta.url"),
    ],
)
def test_a_meta_that_cannot_be_is_refused_by_its_field(
    provider: str, meta: dict[str, Any] | None, where: str
) -> None:
    with pytest.raises(Invalid) as error:
        check(provider, "s3cret", meta)
    assert error.value.code == "bad_credential"
    assert where in error.value.message
    assert "s3cret" not in error.value.message


@pytest.mark.parametrize("name", sorted(FORBIDDEN_HEADERS))
def test_what_pointsman_sets_is_no_header_of_a_credential(name: str) -> None:
    for spelling in (name, name.title()):
        with pytest.raises(Invalid):
            parse_meta("GENERIC", {"kind": "header", "header": spelling, "origins": ORIGINS})


@pytest.mark.parametrize(
    ("provider", "secret", "meta"),
    [
        ("GENERIC", "", GOOD[0][2]),
        ("GENERIC", "s3cret\n", GOOD[0][2]),
        ("GENERIC", "s3cret\u00e9", GOOD[0][2]),
        ("GENERIC", "s3cret" * 2_000, GOOD[0][2]),
        ("GENERIC", "s3cret\ud800", GOOD[1][2]),
        ("GENERIC", "s3cret\r\nx: y", GOOD[2][2]),
        ("GENERIC", "s3cret" * 200, GOOD[4][2]),
        ("GENERIC", "s3cret\x00", OAUTH),
        ("SENDGRID", "", None),
        ("SLACK", "http://hooks.slack.com/s3cret", None),
        ("SLACK", "s3cret", None),
        ("DISCORD", "https://discord.com/s3cret \n", None),
        ("DISCORD", "https://s3cret@discord.com/", None),
    ],
)
def test_a_secret_that_cannot_be_sent_is_refused_without_being_said(
    provider: str, secret: str, meta: dict[str, Any] | None
) -> None:
    with pytest.raises(Invalid) as error:
        check(provider, secret, meta)
    assert error.value.code == "bad_credential"
    assert error.value.message.startswith("secret: ")
    assert "s3cret" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    "origin",
    [
        "https://api.example.com/v1",
        "https://api.example.com?",
        "https://api.example.com/#",
        "https://*.example.com",
        "https://user@api.example.com",
        "api.example.com",
        "//api.example.com",
        "https://",
        "ftp://api.example.com",
        "https://api.example.com\\@evil.example",
        " https://api.example.com",
    ],
)
def test_an_origin_is_scheme_host_and_port(origin: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_meta("GENERIC", {"kind": "bearer", "origins": [origin]})
    assert "meta.origins.0" in error.value.message


def test_a_slash_at_an_origins_end_is_left_out() -> None:
    meta = parse_meta("GENERIC", {"kind": "bearer", "origins": ["https://api.example.com:8443/"]})
    assert meta.model_dump()["origins"] == ["https://api.example.com:8443"]


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://api.example.com/any/path?x=1", True),
        ("https://API.example.com:443/", True),
        ("https://api.example.com sealed:00000000:abc", True),
        ("http://api.example.com/", False),
        ("https://api.example.com:444/", False),
        ("https://example.com/", False),
        ("https://api.example.com.evil.example/", False),
        ("https://api.example.com@evil.example/", False),
        ("https://evil.example/?https://api.example.com", False),
        ("https://evil.example#https://api.example.com", False),
        ("https://evil.example\\@api.example.com/", False),
        ("", False),
    ],
)
def test_a_credential_goes_to_its_origins_alone(url: str, may: bool) -> None:
    assert may_go(["http://other.example", *ORIGINS], url) is may
    assert not may_go([], url)


def test_a_kind_is_told_by_provider_and_meta() -> None:
    assert kind_name("GENERIC", {"kind": "bearer"}) == "bearer"
    assert kind_name("SLACK", {"kind": "bearer"}) == "SLACK"
    assert kind_name("GENERIC", {"kind": "SLACK"}) is None
    assert kind_name("GENERIC", None) is None
    assert kind_name("FROM_A_NEWER_VERSION", None) is None


def test_what_a_secret_is_bound_to_is_the_same_in_any_spelling() -> None:
    kind = KINDS["oauth2"]
    bound = kind.bound_to(OAUTH)
    assert kind.bound_to({**OAUTH, "origins": ["HTTPS://API.example.com:443"], "clientId": "y"}) == bound
    for change in (
        {"origins": ["https://api.example.com", "https://b.example"]},
        {"origins": ["http://api.example.com"]},
        {"tokenUrl": "https://login.example.com/other"},
        {"scope": "more"},
        {"audience": "more"},
        {"kind": "bearer"},
    ):
        assert kind.bound_to({**OAUTH, **change}) != bound, change


def test_nothing_but_the_query_of_a_token_url_is_masked_and_a_mask_means_unchanged() -> None:
    kind = KINDS["oauth2"]
    shown = kind.masked(OAUTH)
    assert shown == {**OAUTH, "tokenUrl": "https://login.example.com/token?policy=***"}
    assert kind.unmask(shown, OAUTH) == OAUTH
    with pytest.raises(Invalid) as error:
        kind.unmask(shown, {})
    assert error.value.code == "mask_without_secret"


@pytest.mark.parametrize(("provider", "meta"), [(one[0], one[2] or {}) for one in GOOD])
def test_a_row_holds_no_url_beyond_its_origin(provider: str, meta: dict[str, Any]) -> None:
    kind = kind_of(provider, meta)
    sealed = kind.seal(meta, BOX.encrypt)
    assert "s3cret" not in str(sealed)
    assert kind.unseal(sealed, BOX.decrypt) == meta
    assert kind.origins(sealed) == kind.origins(meta)


@given(
    st.dictionaries(
        st.sampled_from(["origins", "tokenUrl", "kind"]), st.none() | st.integers() | st.lists(st.integers())
    )
)
def test_a_row_that_was_changed_by_hand_breaks_nothing(meta: dict[str, Any]) -> None:
    for kind in KINDS.values():
        assert kind.origins(meta) == []
        assert kind.masked(meta) == meta
        kind.bound_to(meta)


def test_each_kind_knows_which_actions_can_use_it() -> None:
    of_http = {name for name, kind in KINDS.items() if "HTTP_POST" in kind.action_types}
    assert of_http == {name for name, kind in KINDS.items() if kind.provider == "GENERIC"}
    assert all("STORE" not in kind.action_types for kind in KINDS.values())
