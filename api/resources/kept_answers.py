"""Kept answers: a management call that is repeated with its `Idempotency-Key` happens once.

Invariants:

- The key is taken in the transaction of the change, before the change. So of equal calls at the
  same time one acts; the others wait for its commit and are told its answer.
- A call that failed keeps nothing, and can be repeated.

An answer is sealed at rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from api.idempotency import key_reused
from api.work import Work
from shared.errors import Conflict, Invalid, Unavailable

KEPT_SECONDS = 24 * 3600

_TAKE = text("""
INSERT INTO kept_answers AS k (user_id, method, path, key, request_hash, status, answer, expires_at)
VALUES (:user_id, :method, :path, :key, :request_hash, 0, '', now() + make_interval(secs => :seconds))
ON CONFLICT (user_id, method, path, key) DO UPDATE SET request_hash = excluded.request_hash, status = 0, answer = '',
  created_at = now(), expires_at = excluded.expires_at
WHERE k.expires_at <= now() RETURNING true
""")
_FIND = text("""
SELECT request_hash, status, answer FROM kept_answers
WHERE user_id = :user_id AND method = :method AND path = :path AND key = :key
""")
_KEEP = text("""
UPDATE kept_answers SET status = :status, answer = :answer
WHERE user_id = :user_id AND method = :method AND path = :path AND key = :key
""")


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """A call that is made once. request_hash: of its query and body."""

    user_id: UUID
    method: str
    path: str
    key: str
    request_hash: bytes

    def _name(self) -> dict[str, object]:
        return {"user_id": self.user_id, "method": self.method, "path": self.path, "key": self.key}

    def take(self, work: Work) -> tuple[int, bytes] | None:
        """Take the key for this work; status and body of the answer if the call was made before.

        Conflict: the key was used for another request.
        """
        wanted = {**self._name(), "request_hash": self.request_hash, "seconds": KEPT_SECONDS}
        if work.session.scalar(_TAKE, wanted):
            return None
        found = work.session.execute(_FIND, self._name()).one_or_none()
        if found is None:  # it expired while this work waited for its row, and was removed
            raise Unavailable("The first call with this key has just been forgotten.")
        request_hash, status, answer = found
        if bytes(request_hash) != self.request_hash:
            raise key_reused()
        return status, self._opened(work, answer)

    def _opened(self, work: Work, answer: str) -> bytes:
        try:
            return work.secrets.decrypt(answer, remember=False).encode()
        except Invalid:  # the key that sealed it is gone
            raise Conflict(
                "This call was made. Its answer cannot be read any more.",
                code="answer_unreadable",
                hint="Look at what it made; do not repeat it.",
            ) from None

    def keep(self, work: Work, status: int, answer: bytes) -> None:
        """Keep the answer, to be committed with what the call changed."""
        sealed = work.secrets.encrypt(answer.decode())
        work.session.execute(_KEEP, {**self._name(), "status": status, "answer": sealed})
