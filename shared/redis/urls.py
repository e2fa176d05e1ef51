"""The URL of Redis, read once for both clients: redis-py and kombu.

Each of the two reads URLs in its own way (`rediss://` is verified by one and not by the other;
sockets, Sentinel and Valkey's names are known to one of them at most). So neither gets the
operator's URL. Invariants:

- Both connect to the same place, as the same user, to the same database, with the same TLS.
- TLS is verified, name and all, unless the URL says otherwise.
- No message shows any part of the URL but the name of a parameter: it holds a password.

| URL | what it means |
|---|---|
| `redis://user:password@host:port/0`, `valkey://…` | TCP |
| `rediss://…`, `valkeys://…` | TLS |
| `unix:///path?db=0`, `redis+socket:///path?db=0` | a socket; `user:password@` before the path |
| `sentinel://user:password@host:port/0;sentinel://host:port?master_name=…` | Sentinel |

Sentinel speaks TLS, with the servers and with the sentinels, if the URL has any `ssl_` parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from shared.errors import ConfigError

VARIABLE = "POINTSMAN_REDIS_URL"
PORT = 6379
SENTINEL_PORT = 26379
IN_MEMORY = "memory://"
"""Kombu's broker inside the process, which only tests can use: redis-py knows none."""

TCP, TLS, UNIX, SENTINEL = "tcp", "tls", "unix", "sentinel"
SCHEMES = {
    "redis": TCP,
    "valkey": TCP,
    "rediss": TLS,
    "valkeys": TLS,
    "unix": UNIX,
    "redis+socket": UNIX,
    "sentinel": SENTINEL,
}
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
VERIFICATIONS = ("required", "optional", "none")
KNOWN = {"db", "ssl_cert_reqs", "ssl_check_hostname", "ssl_password", *FILES}
OF_SENTINEL = {"master_name", "sentinel_username", "sentinel_password"}
FALSE = ("false", "0", "no")

_HOST = re.compile(r"[^\x00-\x20\s/?#@\[\]\\,;]+")
_DATABASE = re.compile(r"\d{1,9}", re.ASCII)

_EXAMPLE = f"{VARIABLE} looks like redis://:password@host:port/0."
_ENCODE = f"{_EXAMPLE} Special characters in it are percent-encoded: @ is %40, / is %2F, : is %3A."


@dataclass(frozen=True, slots=True)
class Broker:
    """What kombu gets: a URL in its own dialect, and what it takes beside that."""

    url: str
    ssl: dict[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class RedisServer:
    """Where Redis is, and as whom we come.

    addresses: host and port, of the sentinels if there is a master's name; none for a socket. tls:
    redis-py's arguments, None for none. sentinel_login: how the sentinels know us.
    """

    addresses: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    username: str | None = None
    password: str | None = None
    db: int = 0
    tls: Mapping[str, Any] | None = None
    master_name: str | None = None
    sentinel_login: Mapping[str, str] = field(default_factory=dict)

    def client(self, **options: Any) -> redis.Redis:
        """A client of redis-py's that tries everything once. options: further ones of its
        connections, such as timeouts.
        """
        options = {"retry": Retry(NoBackoff(), 0), **options}
        own: dict[str, Any] = {"username": self.username, "password": self.password, "db": self.db, **options}
        if self.path is not None:
            return redis.Redis(unix_socket_path=self.path, **own)
        tls = {} if self.tls is None else {"ssl": True, **self.tls}
        if self.master_name is None:
            ((host, port),) = self.addresses
            return redis.Redis(host=host, port=port, **own, **tls)
        of_sentinels = {**options, **tls, **self.sentinel_login}
        sentinels = Sentinel(self.addresses, sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call,unused-ignore]
        client: redis.Redis = sentinels.master_for(self.master_name, **own, **tls)  # type: ignore[no-untyped-call,unused-ignore]
        return client

    def broker(self, *, socket_seconds: float) -> Broker:
        """The same for kombu. socket_seconds: bounds each reply of a sentinel."""
        login = self._login()
        if self.path is not None:
            return Broker(f"redis+socket://{login}{quote(self.path)}?virtual_host={self.db}")
        tls = None if self.tls is None else dict(self.tls)
        scheme = "redis" if self.master_name is None else "sentinel"
        url = ";".join(f"{scheme}://{login}{_host(h)}:{port}/{self.db}" for h, port in self.addresses)
        if self.master_name is None:
            return Broker(url, tls)
        of_sentinels = {
            "socket_timeout": socket_seconds,
            "socket_connect_timeout": socket_seconds,
            "retry": Retry(NoBackoff(), 0),
            **({} if tls is None else {"ssl": True, **tls}),
            **self.sentinel_login,
        }
        return Broker(url, tls, {"master_name": self.master_name, "sentinel_kwargs": of_sentinels})

    def _login(self) -> str:
        if self.username is None and self.password is None:
            return ""
        return f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@"


def read(url: str) -> RedisServer:
    """Read a URL; ConfigError for one that cannot be used."""
    try:
        url.encode()  # a byte that is no UTF-8 stands in the environment as half a character
        return _read(url)
    except UnicodeError:
        raise ConfigError(
            f"{VARIABLE} has bytes that are no UTF-8.", hint=f"{_ENCODE} ä is %C3%A4."
        ) from None


def _read(url: str) -> RedisServer:
    parts = _split(url)
    kind = SCHEMES.get(parts[0].scheme)
    if kind is None or any(part.scheme != parts[0].scheme for part in parts):
        raise ConfigError(f"{VARIABLE} is no URL of Redis or Valkey.", hint=_EXAMPLE)
    if len(parts) > 1 and kind != SENTINEL:
        raise ConfigError(
            f"{VARIABLE} names several servers.",
            hint="Name one, or Sentinel: sentinel://host:port;sentinel://host:port?master_name=…",
        )
    query = _query(parts, OF_SENTINEL if kind == SENTINEL else set())
    tls = _tls(query)
    if tls and kind in (TCP, UNIX):
        raise ConfigError(
            f"{VARIABLE} has parameters of TLS, but names a server without it.",
            hint="With TLS it begins with rediss://.",
        )
    username, password = _decoded(parts[0].username), _decoded(parts[0].password)
    if kind == UNIX:
        return RedisServer(
            path=_path(parts[0]), username=username, password=password, db=_db(query.get("db", "0"))
        )
    default = SENTINEL_PORT if kind == SENTINEL else PORT
    return RedisServer(
        addresses=tuple(_address(part, default) for part in parts),
        username=username,
        password=password,
        db=_db(query.get("db") or next((path for part in parts if (path := part.path.strip("/"))), "0")),
        tls={"ssl_cert_reqs": "required", **tls} if kind == TLS or tls else None,
        master_name=_master_name(query) if kind == SENTINEL else None,
        sentinel_login=_sentinel_login(query),
    )


def broker_of(url: str, *, socket_seconds: float) -> Broker:
    """What kombu gets for a URL."""
    return Broker(url) if url == IN_MEMORY else read(url).broker(socket_seconds=socket_seconds)


def _split(url: str) -> list[SplitResult]:
    """The parts of a URL; what follows a semicolon may leave the scheme away."""
    first, *others = url.split(";") if url.startswith("sentinel://") else [url]
    texts = [first, *(other if "://" in other else f"sentinel://{other}" for other in others)]
    try:
        return [urlsplit(text) for text in texts]
    except ValueError:
        raise ConfigError(f"{VARIABLE} cannot be read.", hint=_ENCODE) from None


def _query(parts: Sequence[SplitResult], more: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        found |= dict(parse_qsl(part.query, keep_blank_values=True, errors="strict"))
    found = {("db" if name == "virtual_host" else name): value for name, value in found.items()}
    for name in found:
        if name not in KNOWN | more:
            if any("@" in part.query for part in parts):  # then it is a piece of a password
                raise ConfigError(f"{VARIABLE} cannot be read.", hint=_ENCODE)
            shown = name if re.fullmatch(r"\w{1,40}", name) else "one that is no word"
            raise ConfigError(
                f"{VARIABLE} has a parameter that Pointsman does not take: {shown}.",
                hint=f"It takes {', '.join(sorted(KNOWN | more))}.",
            )
    return found


def _tls(query: Mapping[str, str]) -> dict[str, Any]:
    tls: dict[str, Any] = {name: value for name, value in query.items() if name.startswith("ssl_")}
    for name in FILES:
        if name in tls and not Path(tls[name]).is_file():
            raise ConfigError(f"{VARIABLE}: the file of {name} is not there.", hint="Give its whole path.")
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() not in FALSE
    if "ssl_cert_reqs" in tls:
        tls["ssl_cert_reqs"] = tls["ssl_cert_reqs"].lower().removeprefix("cert_")
        if tls["ssl_cert_reqs"] not in VERIFICATIONS:
            raise ConfigError(
                f"{VARIABLE}: ssl_cert_reqs is unknown.", hint=f"It is one of {', '.join(VERIFICATIONS)}."
            )
    return tls


def _address(part: SplitResult, default_port: int) -> tuple[str, int]:
    try:
        host, port = _decoded(part.hostname), part.port
        is_name = bool(host and _HOST.fullmatch(host) and host.encode("idna"))
    except ValueError:  # the port is none, or a label of the name is empty or too long
        host, port, is_name = None, None, False
    has_empty_port = port is None and ":" in part.netloc.rpartition("@")[2].rpartition("]")[2]
    if not host or not is_name or has_empty_port or port == 0:
        raise ConfigError(f"The host or port in {VARIABLE} cannot be right.", hint=_ENCODE)
    return host, port or default_port


def _path(part: SplitResult) -> str:
    path = unquote(part.path, errors="strict")
    if not path.startswith("/") or path == "/" or "\x00" in path or part.netloc.rpartition("@")[2]:
        raise ConfigError(
            f"{VARIABLE} names no socket.", hint="It looks like unix:///run/valkey/valkey.sock?db=0."
        )
    return path


def _db(text: str) -> int:
    if not _DATABASE.fullmatch(text):
        raise ConfigError(f"The number of the database in {VARIABLE} cannot be right.", hint=_ENCODE)
    return int(text)


def _master_name(query: Mapping[str, str]) -> str:
    name = query.get("master_name")
    if not name:
        raise ConfigError(
            f"{VARIABLE} names sentinels, but not the master that they watch.",
            hint="Put ?master_name=… at its end, as in sentinel://host:26379/0?master_name=mymaster.",
        )
    return name


def _sentinel_login(query: Mapping[str, str]) -> dict[str, str]:
    return {
        name: query[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in query
    }


def _decoded(text: str | None) -> str | None:
    return unquote(text, errors="strict") if text else None


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
