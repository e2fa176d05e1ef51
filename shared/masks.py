"""Masks: what stands in a secret's place wherever it is shown.

Invariants:

- Every header's value is masked but those of harmless headers, every value in a query, and the
  fragment: nobody guesses by a name what is a secret. What a template only looks up is none.
- A mask that comes back means «unchanged». A header is matched by its name, a parameter by its
  name and its position among those of that name.
- What a mask stands for is never guessed: a mask without a counterpart is refused.
- What a mask stood for goes to the scheme, host and port that it was set for, and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from html import escape
from urllib.parse import quote, quote_plus, unquote, urlsplit

from shared.errors import Invalid
from shared.http_urls import read_url
from shared.seals import origin_of

MASK = "***"

# Their values are what every client says.
HARMLESS_HEADERS = frozenset(
    [
        "accept",
        "accept-charset",
        "accept-language",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "date",
        "pragma",
        "prefer",
        "user-agent",
    ]
)

# What a recorded call has of these is a mask, or sealed where an action forwards it.
CREDENTIAL_HEADERS = frozenset(["authorization", "cookie"])

# A text of these alone says where a value comes from, and none.
_LOOK_UPS = re.compile(r"(?:\{\{[\w\s.\[\]|-]*\}\})+")
Destination = tuple[str, str | None, int | None]
"""Scheme, host and port. Of what nothing can be sent to: the text as it is."""

# The path of a URL of which only the origin is known.
UNKNOWN_PATH = f"/{MASK}"


def masked_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers as they are shown."""
    return {name: _masked(value) if _is_secret(name) else value for name, value in headers.items()}


def masked_recorded(name: str, value: str) -> str:
    """A recorded call's header as it is shown. name: in lower case."""
    return MASK if name in CREDENTIAL_HEADERS else value


def spellings(texts: Iterable[str]) -> list[str]:
    """Each text in the spellings in which somebody may repeat it, the longest first: as it is, in a
    URL, in HTML, in JSON.
    """
    found: set[str] = set()
    for one in texts:
        found |= {one, quote(one), quote(one, safe=""), quote_plus(one), escape(one)}
        found |= {json.dumps(one, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
    return sorted(found, key=len, reverse=True)


def masked_values(values: dict[str, str]) -> dict[str, str]:
    """Parameters by name, as they are shown."""
    return {name: _masked(value) for name, value in values.items()}


def secret_headers(headers: dict[str, str]) -> list[str]:
    """The names of those whose values are shown as masks."""
    return [name for name, value in masked_headers(headers).items() if value == MASK]


def secret_values(values: dict[str, str]) -> list[str]:
    """The names of those that are shown as masks."""
    return [name for name, value in masked_values(values).items() if value == MASK]


def unmasked_headers(given: dict[str, str], kept: dict[str, str], where: str) -> dict[str, str]:
    """The given headers with what their masks stand for; raises Invalid for a mask in a new one."""
    return unmasked_values(given, {name.lower(): value for name, value in kept.items()}, where, str.lower)


def unmasked_values(
    given: dict[str, str], kept: dict[str, str], where: str, spelt: Callable[[str], str] = str
) -> dict[str, str]:
    """The given values with what their masks stand for; raises Invalid for a mask in a new one.

    spelt: makes of a name what it is called in `kept`.
    """
    return {
        name: _behind(kept.get(spelt(name)), f"{where}.{name}") if value == MASK else value
        for name, value in given.items()
    }


def masked_url(url: str) -> str:
    """The URL as it is shown."""
    beginning, parameters, fragment = _parts(url)
    shown = [name + _masked(value) for name, value in parameters]
    return _joined(beginning, shown, "#" + MASK if fragment[1:] else fragment)


def unmasked_url(given: str, kept: str | None, where: str) -> str:
    """The given URL with what its masks stand for; raises Invalid for a mask in something new.

    kept: the URL that was shown with masks, None if there was none.
    """
    beginning, parameters, fragment = _parts(given)
    if unquote(urlsplit(beginning).path) == UNKNOWN_PATH:
        raise _without_secret(where)
    _, kept_parameters, kept_fragment = _parts(kept or "")
    known = dict(_numbered(kept_parameters))
    written = [
        name + (_behind(known.get(number), where) if is_mask(value) else value)
        for number, (name, value) in zip((n for n, _ in _numbered(parameters)), parameters, strict=True)
    ]
    if is_mask(fragment[1:]):
        fragment = "#" + _behind(kept_fragment[1:], where)
    return _joined(beginning, written, fragment)


def shortest_url(given: str) -> str:
    """The given URL with one character for each mask: what it stands for is no shorter."""
    beginning, parameters, fragment = _parts(given)
    shortest = [name + (MASK[:1] if is_mask(value) else value) for name, value in parameters]
    return _joined(beginning, shortest, "#" + MASK[:1] if is_mask(fragment[1:]) else fragment)


def is_same_destination(one: str, other: str) -> bool:
    """Whether two URLs, sealed or not, lead to the same scheme, host and port."""
    return destination(one) == destination(other)


def destination(url: str) -> Destination:
    """Where a URL, sealed or not, leads to, however that is spelled."""
    return _destination_of(origin_of(url))


def secret_needed_again(message: str, hint: str) -> Invalid:
    """What is raised where a secret would go to another destination than it was set for."""
    return Invalid(message, code="secret_needed_again", hint=hint)


def _masked(value: str) -> str:
    """A mask, but for what is empty, or nothing but look-ups of a template."""
    return MASK if value and not _LOOK_UPS.fullmatch(value) else value


def _is_secret(header: str) -> bool:
    return header.lower() not in HARMLESS_HEADERS


def is_mask(value: str) -> bool:
    """Also one that a client's library has percent-encoded."""
    return unquote(value) == MASK


def _behind(value: str | None, where: str) -> str:
    if not value:
        raise _without_secret(where)
    return value


def _without_secret(where: str) -> Invalid:
    return Invalid(
        f"{where} holds a mask ({MASK}) that stands for nothing.",
        code="mask_without_secret",
        hint="A mask means «unchanged», where it was shown. Write the value itself.",
    )


def _parts(url: str) -> tuple[str, list[tuple[str, str]], str]:
    """What stands before the query, its parameters, and the fragment with its `#`.

    A parameter is its name with its equals sign, and its value. One without an equals sign is a
    value without a name.
    """
    rest, mark, fragment = url.partition("#")
    fragment = mark + fragment
    beginning, mark, query = rest.partition("?")
    parameters = []
    for part in query.split("&") if mark else []:
        name, equals, value = part.partition("=")
        parameters.append((name + equals, value) if equals else ("", part))
    return beginning, parameters, fragment


def _joined(beginning: str, parameters: list[str], fragment: str) -> str:
    return beginning + ("?" + "&".join(parameters) if parameters else "") + fragment


def _numbered(parameters: list[tuple[str, str]]) -> Iterable[tuple[tuple[str, int, int], str]]:
    """Each value by its parameter's name, its position among those of that name, and how many these
    are: if one of them goes, nobody knows which.
    """
    count = Counter(name for name, _ in parameters)
    seen: Counter[str] = Counter()
    for name, value in parameters:
        yield (name, seen[name], count[name]), value
        seen[name] += 1


# An origin is no secret, and the few that credentials are bound to are asked for at each attempt.
@lru_cache(1_024)
def _destination_of(origin: str) -> Destination:
    try:
        found = read_url(origin).origin
    except ValueError:  # nothing is sent there
        return origin, None, None
    return found.scheme, found.raw_host, found.port
