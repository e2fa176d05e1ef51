"""The HTTP_POST action: what its config may hold.

Invariant: what a config says of a message keeps the rules of http_message.py, before its templates
are rendered and after.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from shared.action_types.flaws import bad_field
from shared.action_types.http_message import (
    check_forwarded,
    check_header_value,
    check_headers,
    check_query,
    check_url,
)
from shared.action_types.http_request import message_of
from shared.action_types.passed_on import RecordedCall
from shared.action_types.texts import Slot, slot, slots_of_texts, slots_of_values
from shared.masks import (
    MASK,
    masked_headers,
    masked_url,
    masked_values,
    secret_headers,
    secret_values,
    unmasked_headers,
    unmasked_url,
    unmasked_values,
)
from shared.seals import Cipher, opened_text, opened_url, sealed_text, sealed_url
from shared.templates.targets import Target

MAX_BODY_CHARS = 256 * 1024
MAX_FIELDS = 100
MAX_FIELD_CHARS = 8_192

Method = Literal["POST", "PUT", "PATCH", "GET", "DELETE"]
Success = Annotated[int, Field(ge=200, le=299, strict=True)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Fields = Annotated[
    dict[FieldName, Annotated[str, StringConstraints(max_length=MAX_FIELD_CHARS)]],
    Field(max_length=MAX_FIELDS),
]

# What a text body is by its type, so that what is put into it stays in its place.
_TARGETS = {
    "json": Target.JSON,
    "html": Target.HTML,
    "xml": Target.HTML,
    "x-www-form-urlencoded": Target.FORM,
}


class HttpPostConfig(BaseModel):
    """`url`, or `{"target": "callback_url"}` for the callback's own URL (its primary action).

    method: POST, PUT, PATCH, GET or DELETE. query: added to the URL's. headers: sent as they are.
    body: sent instead of the trigger's body; a string as it is, an object or a list as JSON. form:
    sent as a form instead. Without either the trigger's body and content type pass through
    unchanged, but for GET and DELETE, which send nothing of it; a GET has no body at all.
    forwardHeaders: names of the caller's headers to be sent on; a `*` stands for any characters,
    but `authorization` and `cookie` are named in full. forwardQuery: whether the caller's query is
    added to the URL's, but for the names that it has already. successStatuses: the statuses within
    2xx that count as success, all by default.

    Every text may be a template.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "url": "https://example.com/hooks/orders",
                    "headers": {"x-order": "{{ body.id }}"},
                    "forwardHeaders": ["x-github-*"],
                }
            ],
            "oneOf": [{"required": ["url"]}, {"required": ["target"]}],
        },
    )

    url: Annotated[str, AfterValidator(check_url)] | None = None
    target: Literal["callback_url"] | None = None
    method: Method = "POST"
    query: Fields = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | dict[str, Any] | list[Any] | None = None
    form: Fields | None = None
    forwardHeaders: Annotated[tuple[str, ...], AfterValidator(check_forwarded)] = ()  # noqa: N815 - the JSON field's name
    forwardQuery: bool = Field(False, strict=True)  # noqa: N815
    successStatuses: tuple[Success, ...] | None = Field(None, min_length=1, max_length=100)  # noqa: N815

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return check_headers(headers)

    @field_validator("body")
    @classmethod
    def _bounded(cls, body: Any) -> Any:
        text = body if isinstance(body, str) else json.dumps(body, allow_nan=False)
        if len(text) > MAX_BODY_CHARS:
            raise ValueError(f"the body is longer than {MAX_BODY_CHARS} characters")
        return body

    @model_validator(mode="after")
    def _fits_together(self) -> HttpPostConfig:
        if (self.url is None) == (self.target is None):
            raise ValueError('give either "url" or {"target": "callback_url"}')
        if self.body is not None and self.form is not None:
            raise ValueError('give either "body" or "form"')
        if self.method == "GET" and (self.body is not None or self.form is not None):
            raise ValueError("a GET has no body; use another method or query")
        check_query(self.url, self.query)
        return self


Config = HttpPostConfig


class Filled(NamedTuple):
    """A config of which nothing is a template any more."""

    url: str | None
    method: Method
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    form: Mapping[str, str] | None
    forwardHeaders: tuple[str, ...]  # noqa: N815 - the JSON field's name
    forwardQuery: bool  # noqa: N815
    successStatuses: tuple[int, ...] | None  # noqa: N815


def fill(config: HttpPostConfig, fields: Mapping[str, Any]) -> Filled:
    """The config with these fields, rendered; raises Invalid for what cannot be sent.

    A model of its own would take longer to make than all that is rendered. What a template cannot
    change was checked when the action was saved: names, how many there are, and what fits together.
    """
    get = fields.get
    filled = Filled(
        get("url", config.url),
        config.method,
        get("query", config.query),
        get("headers", config.headers),
        get("body", config.body),
        get("form", config.form),
        config.forwardHeaders,
        config.forwardQuery,
        config.successStatuses,
    )
    for field, check in _RULES.items():
        if field in fields:
            check(field, fields[field])
    try:
        check_query(filled.url, filled.query)
    except ValueError as error:
        raise bad_field("", str(error)) from None
    return filled


def _check_url(field: str, url: str) -> None:
    try:
        check_url(url)
    except ValueError as error:
        raise bad_field(field, str(error)) from None


def _check_values(field: str, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        try:
            check_header_value(name, value, value)
        except ValueError as error:
            raise bad_field(field, str(error)) from None


def _check_lengths(field: str, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if len(value) > MAX_FIELD_CHARS:
            raise bad_field(f"{field}.{name}", f"it is longer than {MAX_FIELD_CHARS} characters")


# Of each field what its rendered value must keep.
_RULES: dict[str, Callable[[str, Any], None]] = {
    "url": _check_url,
    "headers": _check_values,
    "query": _check_lengths,
    "form": _check_lengths,
}


def slots(config: dict[str, Any]) -> Iterator[Slot]:
    """The templates in it; raises TemplateError."""
    yield from slot(config.get("url"), Target.URL, "url")
    yield from slots_of_texts(config.get("query"), Target.TEXT, "query")
    yield from slots_of_texts(config.get("headers"), Target.HEADER, "headers")
    yield from slots_of_texts(config.get("form"), Target.TEXT, "form")
    body = config.get("body")
    if isinstance(body, str):
        yield from slot(body, _target_of_text(config.get("headers") or {}), "body")
    else:
        yield from slots_of_values(body, "body")


def _target_of_text(headers: dict[str, str]) -> Target:
    for name, value in headers.items():
        if name.lower() == "content-type":
            kind = value.partition(";")[0].strip().lower()
            return _TARGETS.get(kind.rpartition("/")[2].rpartition("+")[2], Target.TEXT)
    return Target.TEXT


def redact(config: dict[str, Any]) -> dict[str, Any]:
    """The config as it may be shown: values of headers and of queries are masked."""
    return _with(config, masked_url, masked_headers, masked_values)


def unmask(config: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The config with what its masks stand for in the kept one; raises Invalid for any other."""
    return _with(
        config,
        lambda url: unmasked_url(url, kept.get("url"), "config.url"),
        lambda headers: unmasked_headers(headers, kept.get("headers") or {}, "config.headers"),
        lambda query: unmasked_values(query, kept.get("query") or {}, "config.query"),
    )


def seal(config: dict[str, Any], encrypt: Cipher) -> dict[str, Any]:
    """The config as a row has it: values of headers and of queries, and all beyond the URL's origin
    sealed.
    """
    sealed = _each(lambda value: sealed_text(value, encrypt))
    return _with(config, lambda url: sealed_url(url, encrypt), sealed, sealed)


def unseal(config: dict[str, Any], decrypt: Cipher) -> dict[str, Any]:
    """The config of a row, opened; raises Invalid for what does not decrypt."""
    opened = _each(lambda value: opened_text(value, decrypt))
    return _with(config, lambda url: opened_url(url, decrypt), opened, opened)


def destination(config: dict[str, Any]) -> str | None:
    """The URL that its secrets go to, None for the callback's own."""
    return config.get("url")


def secret_names(config: dict[str, Any]) -> list[str]:
    """What it holds that may go to its destination alone: headers and parameters, by name."""
    return [*secret_headers(config.get("headers") or {}), *secret_values(config.get("query") or {})]


def _each(change: Cipher) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda values: {name: change(value) for name, value in values.items()}


def _with(
    config: dict[str, Any],
    url: Callable[[str], str],
    headers: Callable[[dict[str, str]], dict[str, str]],
    query: Callable[[dict[str, str]], dict[str, str]],
) -> dict[str, Any]:
    """The config with its URL, its headers and its query made into something else.

    What is no text, which only a row changed by hand can hold, stays what it is.
    """
    changed = dict(config)
    if isinstance(old := config.get("url"), str):
        changed["url"] = url(old)
    for name, change in (("headers", headers), ("query", query)):
        old = config.get(name)
        if isinstance(old, dict):
            changed[name] = {
                **old,
                **change({key: text for key, text in old.items() if isinstance(text, str)}),
            }
    return changed


def preview(config: HttpPostConfig | Filled, recorded: RecordedCall, url: str) -> dict[str, Any]:
    """What would be sent, before Pointsman's own headers.

    config: rendered, with masks for secrets. url: the callback's own.
    """
    message = message_of(config, config.url or url, recorded, lambda _sealed: MASK)
    opaque = {name: b", ".join(lines).decode("latin-1") for name, lines in message.opaque.items()}
    return {
        "method": message.method,
        "url": message.url,
        "headers": {**message.headers, **opaque},
        "body": message.body,
    }


def summarize(config: dict[str, Any]) -> str:
    """One line for people: where it goes, without the query."""
    method = config.get("method", "POST")
    if config.get("target"):
        return f"{method} to the callback's URL"
    parts = urlsplit(str(config.get("url")))
    return f"{method} {parts.scheme}://{parts.netloc}{parts.path}"


def is_primary(config: dict[str, Any]) -> bool:
    """Whether it delivers to the callback's own URL."""
    return config.get("target") == "callback_url"
