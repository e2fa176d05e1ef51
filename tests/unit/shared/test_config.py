"""Settings: read once, refused loudly."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from shared import config
from shared.errors import ConfigError


def test_an_unknown_variable_stops_the_start_and_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        config.read({"POINTSMAN_PROT": "1"})
    assert "POINTSMAN_PROT" in error.value.message
    assert "POINTSMAN_PORT" in error.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("PORT", "70000"),
        ("EGRESS_ALLOW", "10.0.0.1/8"),
        ("LOG_FORMAT", "xml"),
        ("CAPACITY", "0"),
    ],
)
def test_a_malformed_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.read({f"POINTSMAN_{name}": value})
    assert f"POINTSMAN_{name}" in error.value.message


@pytest.mark.parametrize(
    "values",
    [
        {"LEASE_SECONDS": "5", "HEARTBEAT_SECONDS": "3"},
        {"STALE_SECONDS": "10", "LEASE_SECONDS": "10"},
        {"FIRST_HINT_SECONDS": "2"},
        {"MAX_BODY_BYTES": str(64 * 1024 * 1024), "CAPACITY_BYTES": str(8 * 1024 * 1024)},
        {"ENVIRONMENT": "production"},
    ],
)
def test_values_that_contradict_one_another_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="POINTSMAN_"):
        config.read({f"POINTSMAN_{name}": value for name, value in values.items()})


def test_a_secret_never_shows_in_an_error() -> None:
    with pytest.raises(ConfigError) as error:
        config.read({"POINTSMAN_SECRET_KEYS": "canary", "POINTSMAN_PORT": "canary"})
    assert "canary" not in error.value.message + error.value.hint


def test_lists_are_read_with_commas_between() -> None:
    settings = config.read(
        {"POINTSMAN_EGRESS_ALLOW": "127.0.0.0/8, ::1/128", "POINTSMAN_LANES": "fresh, gold"}
    )
    assert settings.egress_allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert settings.lanes == ("fresh", "gold")


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"POINTSMAN_HOST": "::1"}, "http://[::1]:8080"),
        ({"POINTSMAN_PUBLIC_URL": "https://hooks.example.com/"}, "https://hooks.example.com"),
    ],
)
def test_the_public_base_url(values: dict[str, str], url: str) -> None:
    assert config.read(values).base_url == url


def test_settings_cannot_be_changed() -> None:
    settings = config.read({})
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


def test_a_missing_server_is_named_when_it_is_needed() -> None:
    with pytest.raises(ConfigError, match="POINTSMAN_DATABASE_URL"):
        _ = config.read({}).postgres
