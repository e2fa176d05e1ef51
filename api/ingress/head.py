"""HEAD of a trigger URL: what a call of it would meet, and nothing comes of asking."""

from __future__ import annotations

from api.awaited import Answer
from api.ingress.parts import IngressParts
from api.ingress.resolve import must_be_active
from shared.errors import Unavailable


async def head(address: str, request_id: str, own: IngressParts) -> Answer:
    """200 where the callback at this address takes calls; NotFound and Forbidden as for a call."""
    try:
        async with own.deadline.limit():
            must_be_active(await own.resolver.find(address))
    except TimeoutError:
        raise Unavailable("The callback could not be looked up in time.") from None
    return 200, [("cache-control", "no-store"), ("x-request-id", request_id)], b""
