"""The URL of Redis: one reading of it, and a sentence for what cannot be used."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.utils.url import parse_url

from shared.errors import ConfigError
from shared.redis import urls
from shared.redis.urls import RedisServer, broker_of, read


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_plain_server(scheme: str) -> None:
    found = read(f"{scheme}://u%40x:p%2Fw@h:1/3")
    assert found == RedisServer((("h", 1),), None, "u@x", "p/w", 3)
    assert found.broker(socket_seconds=1).url == "redis://u%40x:p%2Fw@h:1/3"
    assert found.broker(socket_seconds=1).ssl is None


@pytest.mark.parametrize(
    ("url", "address", "db"),
    [
        ("redis://h", ("h", 6379), 0),
        ("redis://h/", ("h", 6379), 0),
        ("redis://h?db=4", ("h", 6379), 4),
        ("redis://h/4", ("h", 6379), 4),
        ("redis://[::1]:7/4", ("::1", 7), 4),
        ("redis://:p@h:7", ("h", 7), 0),
    ],
)
def test_what_is_left_out_is_what_everybody_expects(url: str, address: tuple[str, int], db: int) -> None:
    assert (read(url).addresses, read(url).db) == ((address,), db)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_tls_is_verified_unless_told_otherwise(scheme: str) -> None:
    """Fails when kombu is left to itself, which does not verify."""
    assert read(f"{scheme}://h").tls == {"ssl_cert_reqs": "required"}
    assert read(f"{scheme}://h").broker(socket_seconds=1).ssl == {"ssl_cert_reqs": "required"}
    assert read(f"{scheme}://h").broker(socket_seconds=1).url.startswith("redis://")


@pytest.mark.parametrize(
    ("value", "meant"),
    [("none", "none"), ("CERT_NONE", "none"), ("CERT_REQUIRED", "required"), ("optional", "optional")],
)
def test_both_spellings_of_a_verification_mean_the_same(value: str, meant: str) -> None:
    server = read(f"rediss://h?ssl_cert_reqs={value}&ssl_check_hostname=false")
    assert server.tls == {"ssl_cert_reqs": meant, "ssl_check_hostname": False}
    assert server.broker(socket_seconds=1).ssl == server.tls
    assert server.client().connection_pool.connection_kwargs["ssl_cert_reqs"] == meant


def test_files_of_certificates_reach_both(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    server = read(f"rediss://h?ssl_ca_certs={file}")
    assert server.tls == {"ssl_cert_reqs": "required", "ssl_ca_certs": str(file)}
    with pytest.raises(ConfigError, match="ssl_ca_certs is not there"):
        read(f"rediss://h?ssl_ca_certs={tmp_path / 'none.pem'}")


@pytest.mark.parametrize(
    "url", ["unix://u:p%40@/run/v%20k.sock?db=2", "redis+socket://u:p%40@/run/v%20k.sock?virtual_host=2"]
)
def test_a_socket(url: str) -> None:
    found = read(url)
    assert found == RedisServer(path="/run/v k.sock", username="u", password="p@", db=2)
    assert found.broker(socket_seconds=1).url == "redis+socket://u:p%40@/run/v%20k.sock?virtual_host=2"


SENTINELS = "sentinel://u:p@a:1;sentinel://b/5?master_name=m&sentinel_password=s&sentinel_username=w"


@pytest.mark.parametrize("url", [SENTINELS, SENTINELS.replace(";sentinel://", ";")])
def test_sentinels_and_their_master(url: str) -> None:
    found = read(url)
    assert found.addresses == (("a", 1), ("b", 26379))
    assert (found.username, found.password, found.master_name, found.tls) == ("u", "p", "m", None)
    broker = found.broker(socket_seconds=1)
    # each bears the login: kombu may go on with any of them
    assert broker.url == f"sentinel://u:p@a:1/{found.db};sentinel://u:p@b:26379/{found.db}"
    assert broker.options["master_name"] == "m"
    assert broker.options["sentinel_kwargs"].items() >= {"password": "s", "username": "w"}.items()


def test_the_database_behind_sentinels_may_stand_at_any_of_them() -> None:
    for url in (
        "sentinel://a/5;b?master_name=m",
        "sentinel://a;b/5?master_name=m",
        "sentinel://a/5?master_name=m",
    ):
        assert read(url).db == 5


def test_sentinels_speak_tls_if_a_parameter_of_tls_says_so() -> None:
    broker = read("sentinel://a?master_name=m&ssl_cert_reqs=required").broker(socket_seconds=1)
    assert broker.ssl == {"ssl_cert_reqs": "required"}
    assert broker.options["sentinel_kwargs"].items() >= {"ssl": True, "ssl_cert_reqs": "required"}.items()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "canary",
        "http://:canary@h",
        "memory://",
        "redis:/:canary@h",
        "redis://:canary/w@h/0",
        "redis://:canary@h:port/0",
        "redis://:canary@h:70000/0",
        "redis://:canary@/0",
        "redis://:canary@h/zero",
        "redis://:canary@h/-1",
        "redis://:canary@h/0;redis://i/0",
        "redis://:canary@h?ssl_cert_reqs=none",
        "rediss://:canary@h?ssl_cert_reqs=perhaps",
        "redis://:canary@[h/0",
        "unix://:canary@h/x.sock",
        "unix://:canary@",
        "sentinel://:canary@h",
        "sentinel://:canary@h;redis://i?master_name=m",
        "redis://:canary@a..b",
        "redis://:canary@" + "a" * 64,
        "redis://:canary@h%FF",
        "redis://:canary@h%00",
        "redis://:canary@h%2Fi",
        "redis://:canary@h:0",
        "redis://:canary@h/" + "9" * 5_000,
        "redis://:canary%E4@h",
        "redis://:canary\udce4@h",
        "redis://h%E4:canary@h",
        "unix:///run/canary%00",
        "unix:///run/canary%E4",
        "sentinel://h?master_name=m&sentinel_password=canary%E4",
        "redis://:abc?canary&more@h",
        "redis://u:123?canary&more@h",
        "redis://u:123?canary=1&more@h",
    ],
)
def test_what_cannot_be_used_names_the_variable_and_shows_nothing(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(url)
    assert urls.VARIABLE in error.value.message
    assert "canary" not in error.value.message + error.value.hint


@pytest.mark.parametrize("name", ["socket_timeout", "master_name", "protocol", "sslmode"])
def test_a_parameter_that_is_not_taken_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"does not take: {name}"):
        read(f"redis://h?{name}=1")


def test_a_client_tries_everything_once() -> None:
    """Fails with redis-py's own ten tries, which last for seconds."""
    for url in ("redis://h", "unix:///x", "rediss://h", "sentinel://h?master_name=m"):
        client = read(url).client(socket_timeout=1)
        assert client.connection_pool.connection_kwargs["retry"].get_retries() == 0


def test_the_password_does_not_show_in_what_is_printed() -> None:
    assert "canary" not in repr(read("redis://:canary@h"))


def test_kombus_own_broker_is_for_tests_only() -> None:
    assert broker_of(urls.IN_MEMORY, socket_seconds=1).url == urls.IN_MEMORY


AWKWARD = st.lists(
    st.sampled_from([*"%/?#@:;,&=[]. \x00", "%E4", "%00", "%C3%A4", "\udce4", "ä", "a", "1", "db=1"])
    | st.characters()
    | st.integers(0, 255).map("%{:02X}".format)
).map("".join)


@given(st.text() | AWKWARD)
@example("a..b:6379")
@example(":p%E4ss@h")
@example(":p\udce4ss@h")
def test_nothing_but_a_config_error_comes_of_any_text(text: str) -> None:
    """Also when it is used: by kombu, by redis-py, and by who looks the host up."""
    for scheme in ("", *(f"{scheme}://" for scheme in urls.SCHEMES)):
        with contextlib.suppress(ConfigError):
            server = read(scheme + text)
            server.broker(socket_seconds=1)
            server.client(socket_timeout=1).close()
            for host, _ in server.addresses:
                host.encode("idna")
            for word in (server.username, server.password, server.path):
                (word or "").encode()


@given(st.text("ab%@/:?#ä ", min_size=1), st.sampled_from(["h", "::1", "a.b"]))
def test_kombu_reads_what_was_meant(password: str, host: str) -> None:
    shown = f"[{host}]" if ":" in host else host
    found = read(f"redis://u:{quote(password, safe='')}@{shown}:7/3")
    meant = parse_url(found.broker(socket_seconds=1).url)
    assert (meant["hostname"], meant["password"], meant["virtual_host"]) == (host, password, "3")
