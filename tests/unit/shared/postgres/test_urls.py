"""The URL of PostgreSQL: all that libpq knows, and a sentence for what it does not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
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
    assert "target_session_attrs" not in urls.read("postgresql://h1/db")
    for value in ("read-write", "primary"):
        found = urls.read(f"postgresql://h1,h2/db?target_session_attrs={value}")
        assert found["target_session_attrs"] == value


@pytest.mark.parametrize(
    ("rest", "named"),
    [
        ("h/db?target_session_attrs=read-only", "target_session_attrs"),
        ("h1,h2/db?target_session_attrs=standby", "target_session_attrs"),
        ("h/db?target_session_attrs=prefer-standby", "target_session_attrs"),
        ("h1,h2/db?target_session_attrs=any", "target_session_attrs"),
        ("h/db?options=-c%20default_transaction_read_only%3Don", "default_transaction_read_only"),
        ("h/db?options=--default-transaction-read-only%3D1", "default-transaction-read-only"),
        ("h/db?options=-ctransaction_read_only%3Dtrue", "transaction_read_only"),
    ],
)
def test_what_leads_to_sessions_that_may_not_write_is_refused_by_name(rest: str, named: str) -> None:
    """Fails as a server that is away for ever, when it is found out by connecting."""
    with pytest.raises(ConfigError, match=rf"{urls.VARIABLE}\b.*\b{named}\b"):
        urls.read(f"postgresql://{rest}")


def test_what_keeps_sessions_writable_is_kept() -> None:
    assert urls.read("postgresql://h/db?target_session_attrs=any")["target_session_attrs"] == "any"
    options = "-c default_transaction_read_only=off"
    found = urls.read("postgresql://h/db?options=" + options.replace(" ", "%20").replace("=", "%3D"))
    assert found["options"] == options


@pytest.mark.parametrize("value", ["latin1", "SQL_ASCII", "auto", ""])
def test_an_encoding_of_the_client_other_than_utf8_is_refused_by_name(value: str) -> None:
    """Fails as 422 for every call with a character that the encoding lacks."""
    with pytest.raises(ConfigError, match="client_encoding"):
        urls.read(f"postgresql://h/db?client_encoding={value}")
    with pytest.raises(ConfigError, match="client_encoding"):
        urls.read(f"postgresql://h/db?options=-c%20client_encoding%3D{value}")


@pytest.mark.parametrize("value", ["utf8", "UTF-8", "Unicode"])
def test_utf8_is_taken_in_each_of_its_spellings(value: str) -> None:
    urls.read(f"postgresql://h/db?client_encoding={value}")


@pytest.mark.parametrize("value", ["0", "-1", "", "61", "1e1", "soon"])
def test_a_time_for_connecting_that_is_no_bound_is_refused_by_name(value: str) -> None:
    """Fails as a process that hangs, when PostgreSQL is frozen."""
    with pytest.raises(ConfigError, match="connect_timeout"):
        urls.read(f"postgresql://h/db?connect_timeout={value}")


def test_a_time_for_connecting_is_kept() -> None:
    assert urls.read("postgresql://h/db?connect_timeout=10")["connect_timeout"] == "10"


@pytest.mark.parametrize(
    ("given", "shown"),
    [("", "pointsman api"), ("?application_name=shop", "shop pointsman api")],
)
def test_the_name_of_a_session_is_the_users_and_ours(given: str, shown: str) -> None:
    found = urls.parameters(f"postgresql://h/db{given}", "api")
    assert found["application_name"] == shown
    assert found["client_encoding"] == "UTF8"


def test_options_of_ones_own_are_kept() -> None:
    found = urls.read("postgresql://h/db?options=-c%20search_path%3Dours%20--work_mem%3D8MB&sslmode=require")
    assert (found["options"], found["sslmode"]) == ("-c search_path=ours --work_mem=8MB", "require")


@pytest.mark.parametrize("name", [*sessions.NAMES, "application_name"])
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
        "postgresql://u:canary%E4@h/x",
        "postgresql://u:canary\udce4@h/x",
        "postgresql://u:pw@h/x?user=%FFcanary",
        "postgresql://u:12/34?canary=x&more@h/x",
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


AWKWARD = st.lists(
    st.sampled_from(
        [*"%/?#@:;,&=[] \x00", "%E4", "%00", "%C3%A4", "\udce4", "ä", "a", "1", "?options=", "-c "]
    )
    | st.characters()
    | st.integers(0, 255).map("%{:02X}".format)
).map("".join)


@given(st.text() | AWKWARD)
@example("u:p%E4ss@h/db")
@example("u:p\udce4ss@h/db")
def test_nothing_but_a_config_error_comes_of_any_text(text: str) -> None:
    for url in (text, f"postgresql://{text}"):
        with contextlib.suppress(ConfigError):
            for value in urls.parameters(url, "test").values():
                value.encode()
