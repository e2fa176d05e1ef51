"""Settings: read once, refused loudly."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


names = st.sampled_from(sorted(config.Settings.model_fields))


@given(names, st.data())
def test_whichever_letter_was_forgotten_the_right_name_is_found(name: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(1, len(name) - 1))
    mistyped = "POINTSMAN_" + (name[:position] + name[position + 1 :]).upper()
    with pytest.raises(ConfigError) as error:
        config.read({mistyped: "x"})
    assert error.value.message == f"{mistyped} is not a setting."
    assert f"Did you mean POINTSMAN_{name.upper()}?" in error.value.hint


def test_names_are_told_apart_by_case_and_other_programs_variables_do_not_matter() -> None:
    assert config.read({"PATH": "x", "PORT": "x", "pointsman_port": "x"}) == config.read({})
    with pytest.raises(ConfigError, match="POINTSMAN_Port"):
        config.read({"POINTSMAN_Port": "1"})


def test_without_a_mapping_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_PORT", "4711")
    assert config.read().port == 4711


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEARTBEAT_SECONDS", "0"),
        ("SWEEP_SECONDS", "nan"),
        ("SWEEP_SECONDS", "inf"),
        ("STALE_SECONDS", "inf"),
        ("FIRST_HINT_SECONDS", "inf"),
        ("DRAIN_SECONDS", "inf"),
        ("LANES", ""),
        ("LANES", " , "),
        ("EGRESS_ALLOW", "localhost"),
        ("EGRESS_ALLOW", "127.0.0.0/8;::1"),
        ("PORT", ""),
        ("ENVIRONMENT", "staging"),
    ],
)
def test_a_value_that_would_disable_a_duty_without_a_word_is_refused(name: str, value: str) -> None:
    """An endless sweep interval repairs nothing, an endless stale time frees no dead worker's
    runs.
    """
    with pytest.raises(ConfigError) as error:
        config.read({f"POINTSMAN_{name}": value})
    assert f"POINTSMAN_{name}" in error.value.message
    assert error.value.hint == config.Settings.model_fields[name.lower()].description


KEYS = {"SECRET_KEYS": "x"}


@pytest.mark.parametrize(
    ("agree", "contradict", "named"),
    [
        (
            {"HEARTBEAT_SECONDS": "4.9", "LEASE_SECONDS": "10"},
            {"HEARTBEAT_SECONDS": "5", "LEASE_SECONDS": "10"},
            ("LEASE_SECONDS", "HEARTBEAT_SECONDS"),
        ),
        (
            {"LEASE_SECONDS": "19.9", "STALE_SECONDS": "20"},
            {"LEASE_SECONDS": "20", "STALE_SECONDS": "20"},
            ("STALE_SECONDS", "LEASE_SECONDS"),
        ),
        (
            {"ACCEPT_TIMEOUT_SECONDS": "4.9", "FIRST_HINT_SECONDS": "5"},
            {"ACCEPT_TIMEOUT_SECONDS": "5", "FIRST_HINT_SECONDS": "5"},
            ("FIRST_HINT_SECONDS", "ACCEPT_TIMEOUT_SECONDS"),
        ),
        (
            {"CAPACITY_BYTES": str(8 * config.MiB), "MAX_BODY_BYTES": str(4 * config.MiB)},
            {"CAPACITY_BYTES": str(8 * config.MiB), "MAX_BODY_BYTES": str(4 * config.MiB + 1)},
            ("CAPACITY_BYTES", "MAX_BODY_BYTES"),
        ),
        ({"ENVIRONMENT": "production", **KEYS}, {"ENVIRONMENT": "production"}, ("SECRET_KEYS",)),
        ({"HOST": "127.0.0.2"}, {"HOST": "0.0.0.0"}, ("ENVIRONMENT", "HOST")),
        ({"HOST": "::1"}, {"HOST": "::"}, ("ENVIRONMENT", "HOST")),
        ({"HOST": "localhost"}, {"HOST": "hooks.example.com"}, ("ENVIRONMENT", "HOST")),
        ({"HOST": "0.0.0.0", "ENVIRONMENT": "local"}, {"HOST": "10.0.0.1"}, ("ENVIRONMENT", "HOST")),
    ],
)
def test_a_contradiction_names_both_sides_and_its_edge_is_exact(
    agree: dict[str, str], contradict: dict[str, str], named: tuple[str, ...]
) -> None:
    config.read({f"POINTSMAN_{name}": value for name, value in agree.items()})
    with pytest.raises(ConfigError) as error:
        config.read({f"POINTSMAN_{name}": value for name, value in contradict.items()})
    assert all(f"POINTSMAN_{name}" in error.value.message for name in named)
    assert error.value.hint != ConfigError.hint, "the hint says why"


@pytest.mark.parametrize("networks", ["0.0.0.0/0", "::/0", "10.1.0.0/16, 0.0.0.0/0"])
def test_production_refuses_an_open_address_guard(networks: str) -> None:
    """As the description of POINTSMAN_ENVIRONMENT promises.

    Some networks of one's own are not «open».
    """
    given_keys = {"POINTSMAN_ENVIRONMENT": "production", "POINTSMAN_SECRET_KEYS": "x"}
    assert config.read({**given_keys, "POINTSMAN_EGRESS_ALLOW": "10.1.0.0/16"}).egress_allow
    with pytest.raises(ConfigError, match="POINTSMAN_EGRESS_ALLOW"):
        config.read({**given_keys, "POINTSMAN_EGRESS_ALLOW": networks})


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    secrets = ("DATABASE_URL", "REDIS_URL", "SECRET_KEYS", "ADMIN_PASSWORD")
    settings = config.read({f"POINTSMAN_{name}": f"canary-{name}" for name in secrets})
    assert "canary" not in f"{settings!r} {settings} {settings.model_dump()}"
    assert (settings.postgres, settings.redis, settings.keys) == tuple(f"canary-{n}" for n in secrets[:3])


@pytest.mark.parametrize("name", ["redis", "keys"])
def test_each_missing_server_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=r"POINTSMAN_(REDIS_URL|SECRET_KEYS) is not set"):
        getattr(config.read({}), name)
