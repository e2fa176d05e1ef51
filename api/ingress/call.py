"""One call of a trigger URL, as it came off the wire.

Invariant: the body is opaque bytes, and nothing here looks into it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import orjson

from api.caller import Caller
from shared.masks import CREDENTIAL_HEADERS
from shared.seals import Cipher


@dataclass(frozen=True, slots=True)
class Call:
    """What the ingress knows of a call.

    address: the part of the URL that names the callback, `/t/{triggerToken}` or `/c/{customPath}`.
    trigger_url: the same with scheme and host, from the settings. path: as it was called. headers:
    a JSON array of pairs, names in lower case. prefer, idempotency_key, via: the headers Prefer,
    Idempotency-Key and pointsman-via. caller: who waits, where that is known. credentials: the
    headers that bear some, in their order, whose values are masks in `headers`.
    """

    address: str
    trigger_url: str
    request_id: str
    method: str
    path: str
    query: str
    headers: str
    content_type: str | None
    body: bytes
    source_ip: str | None
    prefer: str | None = None
    idempotency_key: str | None = None
    via: str | None = None
    caller: Caller | None = None
    credentials: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def with_sealed(self, names: Collection[str], seal: Cipher) -> Call:
        """The same, with the credentials of these names sealed instead of masked."""
        pairs = orjson.loads(self.headers)
        given = iter(self.credentials)
        for pair in pairs:
            if pair[0] in CREDENTIAL_HEADERS:
                name, value = next(given)
                if name in names:
                    pair[1] = seal(value)
        return replace(self, headers=orjson.dumps(pairs).decode(), credentials=())

    def without_body(self) -> Call:
        """The same for a caller that waits when it is recorded: the body is held no longer."""
        if self.caller is not None:
            self.caller.let_go_of_body()
        return replace(self, body=b"")


def preferred_wait_seconds(prefer: str | None, timeout_ms: int) -> int:
    """The N of `Prefer: wait=N`, at most the callback's timeout; 0 when the caller would not wait.

    A preference that cannot be understood is ignored, and of several the first counts (RFC 7240,
    section 2).
    """
    if not prefer:
        return 0
    for preference in prefer.split(","):
        name, _, value = preference.split(";", 1)[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
                return 0
            return min(int(digits), timeout_ms // 1000)
    return 0
