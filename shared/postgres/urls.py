"""The URL of PostgreSQL. libpq reads it, for every client alike; nothing else takes it apart.

So all that libpq knows works everywhere: several hosts with `target_session_attrs`, the folder of a
socket, `sslmode`, `options`. Invariant: no message shows any part of it but the name of a
parameter: it holds a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import psycopg2
from psycopg2.extensions import parse_dsn

from shared.errors import ConfigError
from shared.postgres import sessions

VARIABLE = "POINTSMAN_DATABASE_URL"
SCHEMES = ("postgres", "postgresql", "postgresql+psycopg2")

_EXAMPLE = f"{VARIABLE} looks like postgresql://user:password@host:port/name."
_ENCODE = f"{_EXAMPLE} Special characters in it are percent-encoded: @ is %40, / is %2F, : is %3A."
_UNKNOWN = re.compile(r'invalid URI query parameter: "(\w+)"')
_OPTION = re.compile(r"(?:^|\s)(?:-c\s*|--)([\w.-]+)\s*=\s*(\S*)")

_SET_BY_US = (*sessions.NAMES, "application_name", "client_encoding")
_READ_ONLY = ("default_transaction_read_only", "transaction_read_only")
_OFF = ("off", "false", "no", "0")
_UTF8 = ("utf8", "unicode")
_WRITABLE = ("read-write", "primary")

# Of each host. Without a bound a frozen server would stop whoever connects.
MAX_CONNECT_SECONDS = 60

DEFAULTS = {
    "connect_timeout": "3",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""libpq's parameters, where the URL says nothing else."""


def parameters(url: str, application: str) -> dict[str, str]:
    """All that libpq needs for a session of ours.

    Its name is ours, behind the one in the URL if that has one.
    """
    found = DEFAULTS | read(url) | {"client_encoding": "UTF8"}
    found["application_name"] = f"{found.get('application_name', '')} pointsman {application}".strip()
    return found


def read(url: str) -> dict[str, str]:
    """libpq's parameters for a URL; ConfigError for one that cannot be used.

    Of several hosts the one that takes writes is meant, unless the URL itself says which.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ConfigError(f"{VARIABLE} is no URL of PostgreSQL.", hint=_EXAMPLE)
    try:
        found: dict[str, str] = parse_dsn(f"postgresql://{rest}")
    except UnicodeError:
        raise ConfigError(
            f"{VARIABLE} has bytes that are no UTF-8.", hint=f"{_ENCODE} ä is %C3%A4."
        ) from None
    except (psycopg2.ProgrammingError, ValueError) as error:
        unknown = _UNKNOWN.search(str(error))
        # before an @ it would be a piece of a password
        if unknown and "@" not in rest.partition("?")[2]:
            raise ConfigError(
                f"{VARIABLE} has a parameter that PostgreSQL does not know: {unknown[1]}.",
                hint="The manual of libpq lists all («Parameter Key Words»).",
            ) from None
        raise ConfigError(f"{VARIABLE} cannot be read.", hint=_ENCODE) from None
    _check_address(found)
    _check_options(found.get("options", ""))
    _check_values(found)
    if _has_several_hosts(found):
        found.setdefault("target_session_attrs", "read-write")
    return found


def _has_several_hosts(parameters: Mapping[str, str]) -> bool:
    return "," in parameters.get("host", "") + parameters.get("hostaddr", "")


def _check_address(parameters: Mapping[str, str]) -> None:
    """Find what a password that was not encoded leaves behind in host, port and name."""
    ports = parameters.get("port", "").split(",")
    is_number = all(not port or (port.isdigit() and 0 < int(port) < 65_536) for port in ports)
    if not is_number or "@" in parameters.get("host", "") + parameters.get("dbname", ""):
        raise ConfigError(f"The host, port or name in {VARIABLE} cannot be right.", hint=_ENCODE)


def _check_options(options: str) -> None:
    for name, value in _OPTION.findall(options):
        meant = name.replace("-", "_").lower()
        if meant in _SET_BY_US:
            raise ConfigError(
                f"{VARIABLE} sets {name} in its options, which Pointsman sets itself.",
                hint="Leave it out. Options that Pointsman does not set are kept.",
            )
        if meant in _READ_ONLY and value.lower() not in _OFF:
            raise ConfigError(
                f"{VARIABLE} sets {name} in its options. Pointsman must write.", hint="Leave it out."
            )


def _check_values(parameters: Mapping[str, str]) -> None:
    """Refuse what libpq takes and Pointsman cannot work with."""
    encoding = re.sub(r"[\W_]", "", parameters.get("client_encoding", "utf8")).lower()
    if encoding not in _UTF8:
        raise ConfigError(
            f"{VARIABLE} sets client_encoding to something other than UTF8.",
            hint="Leave it out. Pointsman speaks UTF8 with PostgreSQL.",
        )
    seconds = parameters.get("connect_timeout", "3")
    if not re.fullmatch(r"[0-9]{1,3}", seconds) or not 0 < int(seconds) <= MAX_CONNECT_SECONDS:
        raise ConfigError(
            f"{VARIABLE} sets connect_timeout to something that is no bound.",
            hint=f"Give seconds, from 1 to {MAX_CONNECT_SECONDS}, or leave it out.",
        )
    wanted = parameters.get("target_session_attrs")
    may_be_any = wanted == "any" and not _has_several_hosts(parameters)
    if wanted is not None and wanted not in _WRITABLE and not may_be_any:
        raise ConfigError(
            f"{VARIABLE} sets target_session_attrs so that it may lead to a server that takes no writes.",
            hint=f"Leave it out, or set it to {' or '.join(_WRITABLE)}.",
        )
