"""The URL of PostgreSQL. libpq reads it, for every client alike; nothing else takes it apart.

So all that libpq knows works everywhere: several hosts with `target_session_attrs`, the folder of a
socket, `sslmode`, `options`. Invariant: no message shows any part of it but the name of a
parameter: it holds a password.
"""

from __future__ import annotations

import re

import psycopg2
from psycopg2.extensions import parse_dsn

from shared.errors import ConfigError
from shared.postgres import sessions

VARIABLE = "POINTSMAN_DATABASE_URL"
SCHEMES = ("postgres", "postgresql", "postgresql+psycopg2")

_EXAMPLE = f"{VARIABLE} looks like postgresql://user:password@host:port/name."
_ENCODE = f"{_EXAMPLE} Special characters in it are percent-encoded: @ is %40, / is %2F, : is %3A."
_UNKNOWN = re.compile(r'invalid URI query parameter: "(\w+)"')
_OPTION = re.compile(r"(?:^|\s)(?:-c\s*|--)([\w.-]+)\s*=")


def read(url: str) -> dict[str, str]:
    """libpq's parameters for a URL; ConfigError for one that cannot be used.

    Of several hosts the one that takes writes is meant, unless the URL itself says which.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ConfigError(f"{VARIABLE} is no URL of PostgreSQL.", hint=_EXAMPLE)
    try:
        parameters: dict[str, str] = parse_dsn(f"postgresql://{rest}")
    except psycopg2.ProgrammingError as error:
        if unknown := _UNKNOWN.search(str(error)):
            raise ConfigError(
                f"{VARIABLE} has a parameter that PostgreSQL does not know: {unknown[1]}.",
                hint="The manual of libpq lists all («Parameter Key Words»).",
            ) from None
        raise ConfigError(f"{VARIABLE} cannot be read.", hint=_ENCODE) from None
    _check_address(parameters)
    _check_options(parameters.get("options", ""))
    if "," in parameters.get("host", "") + parameters.get("hostaddr", ""):
        parameters.setdefault("target_session_attrs", "read-write")
    return parameters


def _check_address(parameters: dict[str, str]) -> None:
    """Find what a password that was not encoded leaves behind in host, port and name."""
    ports = parameters.get("port", "").split(",")
    is_number = all(not port or (port.isdigit() and 0 < int(port) < 65_536) for port in ports)
    if not is_number or "@" in parameters.get("host", "") + parameters.get("dbname", ""):
        raise ConfigError(f"The host, port or name in {VARIABLE} cannot be right.", hint=_ENCODE)


def _check_options(options: str) -> None:
    for name in _OPTION.findall(options):
        if name.replace("-", "_").lower() in sessions.NAMES:
            raise ConfigError(
                f"{VARIABLE} sets {name} in its options, which Pointsman sets itself.",
                hint="Leave it out. Options that Pointsman does not set are kept.",
            )
