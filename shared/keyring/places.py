"""Where in the JSON of a column a sealed text stands. What looks like one and stands elsewhere, a
user or a caller wrote: nothing was ever sealed there.

Invariant: nobody but Pointsman writes to these places. What a config or a meta may hold there says
its `unseal`, which is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared import action_types, credentials
from shared.errors import Invalid
from shared.masks import CREDENTIAL_HEADERS
from shared.seals import Cipher


@dataclass(frozen=True, slots=True)
class SealedPlaces:
    """Those of one column. show: shows what stands there; takes the row's kind and the JSON.

    kind: the column that says of which kind a row is, if that matters.
    """

    show: Callable[[str, Any, Cipher], object]
    kind: str | None = None

    def texts(self, kind: str, text: str) -> frozenset[str] | None:
        """What stands there in a value; None when nobody can say."""
        found: set[str] = set()

        def note(sealed: str) -> str:
            found.add(sealed)
            return ""

        try:
            self.show(kind, json.loads(text, parse_int=str), note)
        except (Invalid, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None
        return frozenset(found)


def _config(kind: str, config: Any, note: Cipher) -> None:
    action_types.KINDS[kind].unseal(config, note)


def _meta(provider: str, meta: Any, note: Cipher) -> None:
    credentials.kind_of(provider, meta).unseal(meta, note)


def _signing_secrets(_kind: str, secrets: Any, note: Cipher) -> None:
    for one in secrets:
        note(one["secret"])


def _headers(_kind: str, headers: Any, note: Cipher) -> None:
    for name, value in headers:
        if name in CREDENTIAL_HEADERS:
            note(value)


PLACES: dict[tuple[str, str], SealedPlaces] = {
    ("actions", "config"): SealedPlaces(_config, kind="type"),
    ("callbacks", "signing_secrets"): SealedPlaces(_signing_secrets),
    ("service_credentials", "meta"): SealedPlaces(_meta, kind="provider"),
    ("triggers", "headers"): SealedPlaces(_headers),
}
"""Of the columns of JSON, by table and column. Of a column of text all of it is Pointsman's own."""
