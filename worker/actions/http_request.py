"""The body and the URL of an HTTP request, from a config and the trigger that it is about.

Invariant: a body of our making says what it is, unless the action says so itself.
"""

from __future__ import annotations

from collections.abc import Container
from urllib.parse import quote, urlencode

from shared.action_types.http_post import Config
from shared.templates.values import to_json_text
from worker.actions.passed_on import passed_on
from worker.records import TriggerRecord

# Of these the caller's body is none of theirs.
WITHOUT_BODY = frozenset({"GET", "DELETE"})

# Whatever may stand in a query as it is (RFC 3986 §3.4), and percent-encodings.
_IN_QUERY = "!$&'()*+,;=:@/?%-._~"


def body_of(
    config: Config, trigger: TriggerRecord, own: Container[str]
) -> tuple[bytes, dict[str, str], dict[str, bytes]]:
    """The body and the headers that say what it is: of printable ASCII, and of any bytes.

    own: names, in lower case, of headers that the action sets itself.
    """
    if config.form is not None:
        form = urlencode(config.form, quote_via=quote)
        return form.encode(), {"content-type": "application/x-www-form-urlencoded"}, {}
    if isinstance(config.body, str):
        return config.body.encode(), {"content-type": "text/plain; charset=utf-8"}, {}
    if config.body is not None:
        return to_json_text(config.body).encode(), {"content-type": "application/json"}, {}
    if config.method in WITHOUT_BODY:
        return b"", {}, {}
    return trigger.body, *passed_on(trigger, own)


def url_with_query(url: str, config: Config, trigger: TriggerRecord) -> str:
    """The URL with what is to be added to its query: the action's, then the caller's."""
    added = []
    if config.query:
        added.append(urlencode(config.query, quote_via=quote))
    if config.forwardQuery and trigger.query:
        added.append(quote(trigger.query, safe=_IN_QUERY, encoding="latin-1", errors="replace"))
    if not added:
        return url
    rest, mark, fragment = url.partition("#")
    separator = "" if rest.endswith(("?", "&")) else "&" if "?" in rest else "?"
    return rest + separator + "&".join(added) + mark + fragment
