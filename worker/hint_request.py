"""Celery's view of one hint message, with one change.

Invariant: a hint whose acknowledgement meets a broken connection makes the consumer connect again.

Celery itself logs such an error and goes on. The message then stays un-acknowledged and fills the
prefetch, and a worker whose few places are all taken by such messages never asks Redis for another
one.
"""

from __future__ import annotations

from celery.utils.log import get_logger
from celery.worker.request import Request

logger = get_logger(__name__)


class HintRequest(Request):  # type: ignore[misc,unused-ignore]
    """A hint in this worker's hands."""

    def acknowledge(self) -> None:
        """Acknowledge; a connection error goes up to the consumer's loop, which can recover."""
        if not self.acknowledged:
            self._on_ack(logger, ())
            self.acknowledged: bool = True
