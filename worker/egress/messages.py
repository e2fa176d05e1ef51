"""One HTTP request and its response, as values. Imports no driver."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from shared.seals import origin_of

_NONE: Mapping[str, tuple[bytes, ...]] = MappingProxyType({})


class ClientIdentity(NamedTuple):
    """What is shown to a server in TLS that asks who is calling. It shows nothing of its key.

    name: another one for each change of the rest. certificate, private_key, ca: in PEM; ca: who may
    have signed the server's certificate, None for the usual authorities.
    """

    name: str
    certificate: str
    private_key: str
    ca: str | None = None

    def __repr__(self) -> str:
        return f"ClientIdentity(name={self.name!r})"


class HttpRequest(NamedTuple):
    """One request. It shows nothing of itself but where it goes.

    headers are sent as they are; tenant is whom the look-up is charged to.

    opaque: further headers, each with its lines, which may hold any bytes but controls. identity:
    who is calling, None: nobody in particular.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_ms: int
    max_response_bytes: int
    tenant: str
    opaque: Mapping[str, tuple[bytes, ...]] = _NONE
    identity: ClientIdentity | None = None

    def __repr__(self) -> str:
        return f"HttpRequest(method={self.method!r}, to={origin_of(self.url)!r})"


class HttpResponse(NamedTuple):
    """What came back. headers: in the order of the wire, without NUL, surrogates or other controls.

    body: the bytes of the wire, never decompressed. truncated: there was more, or would have been.
    remark: what was odd about its framing.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    truncated: bool
    remark: str | None = None


class Dialled:
    """What was dialled for one request, for whoever wants to know: written as it happens.

    named: host and port as the URL names them. address: of the last socket that was made for it, or
    of the connection that it went over, or that which was refused.
    """

    __slots__ = ("address", "named")

    def __init__(self) -> None:
        self.named: str | None = None
        self.address: str | None = None


class WireResponse(NamedTuple):
    """What came back, before anything of it is read as text.

    raw_headers: as on the wire. body: undecoded; truncated: there was more than the cap. remark:
    what was odd about its framing.
    """

    status: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    truncated: bool
    remark: str | None
