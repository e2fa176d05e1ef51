"""The URL of PostgreSQL: all that libpq knows, and a sentence for what it does not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.postgres import sessions, urls


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_name_of_the_scheme_means_the_same(scheme: str) -> None:
    assert urls.read(f"{scheme}://u:p%40w@h:1/x") == {
        "user": "u",
        "password": "p@w",
        "host": "h",
        "port": "1",
        "dbname": "x",
    }


@pytest.mark.parametrize(
    ("rest", "host", "port"),
    [
        ("u@h1:5432,h2:5433/db", "h1,h2", "5432,5433"),
        ("u@h1,h2:5433/db", "h1,h2", ",5433"),
        ("u@[::1]:5432/db", "::1", "5432"),
        ("u@%2Fvar%2Frun%2Fpostgresql/db", "/var/run/postgresql", None),
        ("u@/db?host=/var/run/postgresql", "/var/run/postgresql", None),
    ],
)
def test_hosts_and_sockets_are_read_as_libpq_reads_them(rest: str, host: str, port: str | None) -> None:
    found = urls.read(f"postgresql://{rest}")
    assert (found["host"], found.get("port")) == (host, port)


def test_of_several_hosts_the_one_that_takes_writes_is_meant() -> None:
    assert urls.read("postgresql://h1,h2/db")["target_session_attrs"] == "read-write"
    assert urls.read("postgresql://h1,h2/db?target_session_attrs=any")["target_session_attrs"] == "any"
    assert "target_session_attrs" not in urls.read("postgresql://h1/db")


def test_options_of_ones_own_are_kept() -> None:
    found = urls.read("postgresql://h/db?options=-c%20search_path%3Dours%20--work_mem%3D8MB&sslmode=require")
    assert (found["options"], found["sslmode"]) == ("-c search_path=ours --work_mem=8MB", "require")


@pytest.mark.parametrize("name", sessions.NAMES)
@pytest.mark.parametrize("form", ["-c {}=1", "-c{}=1", "--{}=1", "-c search_path=x -c {}=1"])
def test_options_that_are_ours_are_refused_by_name(name: str, form: str) -> None:
    for spelled in (name, name.upper(), name.replace("_", "-")):
        options = form.format(spelled).replace(" ", "%20").replace("=", "%3D")
        with pytest.raises(ConfigError) as error:
            urls.read(f"postgresql://h/db?options={options}")
        assert urls.VARIABLE in error.value.message
        assert spelled in error.value.message


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:canary@h/x",
        "canary",
        "",
        "postgresql+asyncpg://u:canary@h/x",
        "postgresql:/u:canary@h/x",
        "host=h password=canary",
        " postgresql://u:canary@h/x",
        "postgresql://u:canary%zz@h/x",
        "postgresql://u:p@canary@h/x",
        "postgresql://u:canary/w@h/x",
        "postgresql://u:canary@h:70000/x",
        "postgresql://u:canary@h:port/x",
        "postgresql://u:canary@[h/x",
    ],
)
def test_what_cannot_be_used_names_the_variable_and_shows_nothing(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        urls.read(url)
    assert urls.VARIABLE in error.value.message
    assert "canary" not in error.value.message + error.value.hint


def test_a_parameter_that_libpq_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match=r"does not know: ssl_mode\."):
        urls.read("postgresql://u:canary@h/x?ssl_mode=require")


@given(st.text())
def test_nothing_but_a_config_error_comes_of_any_text(text: str) -> None:
    for url in (text, f"postgresql://{text}"):
        with contextlib.suppress(ConfigError):
            urls.read(url)
