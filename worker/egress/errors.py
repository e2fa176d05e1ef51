"""Every way in which a call to the outside can fail, as one EgressError.

Invariants:

- No foreign exception leaves egress.
- A message tells a user what happened and names at most host and port. No foreign text goes into
  it, since that may hold the URL with its credentials, or whatever the receiver chose to send.

This module imports no driver; it is translate.py that knows foreign exceptions.
"""

from __future__ import annotations

from typing import Literal

Code = Literal[
    "blocked_address",
    "dns_failed",
    "connect_failed",
    "tls_failed",
    "timeout",
    "connection_closed",
    "bad_response",
    "bad_request",
]
Phase = Literal["resolve", "connect", "send", "receive"]

PERMANENT_CODES: frozenset[Code] = frozenset({"blocked_address", "bad_request"})


class EgressError(Exception):
    """A call to the outside failed.

    code: stable, for machines. message: for the user who owns the action. phase: how far the call
    got, as far as can be known; "send" may have reached the receiver. reused_connection_closed: the
    receiver had closed a kept-alive connection and sent no byte on it, so trying at once makes
    sense. cause: names of the exception classes behind it, outermost first, for the log.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        phase: Phase = "resolve",
        reused_connection_closed: bool = False,
        cause: str = "",
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.phase: Phase = phase
        self.reused_connection_closed = reused_connection_closed
        self.cause = cause

    @property
    def permanent(self) -> bool:
        """Whether the same call can never succeed."""
        return self.code in PERMANENT_CODES

    @property
    def before_send(self) -> bool:
        """Whether it certainly failed before a byte of the request was sent."""
        return self.phase in ("resolve", "connect")


def bad_request(message: str) -> EgressError:
    """The request cannot be put on the wire as it is."""
    return EgressError("bad_request", message)
