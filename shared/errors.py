"""Every error that Pointsman raises on purpose.

    PointsmanError
    ├── Unavailable            PostgreSQL or room is missing; trying again helps (503)
    │   └── OutcomeUnknown     a commit was under way: it may have happened
    ├── Refused                the caller did something wrong (4xx)
    │   ├── NotFound · Forbidden · Unauthorized · Conflict
    │   └── Invalid · TooLarge · TooSlow · Incomplete · TooMany
    ├── Loop                   a call has come back to where it came through (508)
    ├── RowRejected            PostgreSQL refuses this one row, whatever its neighbours (422)
    ├── ClaimLost              the run's row no longer matches (worker_id, claim): drop the result
    ├── ConfigError            settings are unknown or contradict one another: nothing starts
    │   └── ServerRefuses      a server lets nobody in, or lacks something that its operator gives
    └── StartupError           the machine lacks something that a server of ours needs

Each carries a stable `code`, a message for people, a `hint` that says how to fix it, and
`retryable`, which says whether the same call can succeed later. Foreign exceptions are translated
once, where they arise: PostgreSQL's in `shared/postgres/group_commit.py`, `api/problems.py` and, at
a start, `shared/postgres/fitness.py`; the HTTP client's in `worker/egress/translate.py`.
"""


class PointsmanError(Exception):
    """The root: what went wrong, how to fix it, and whether trying again helps."""

    status = 500
    code = "internal_error"
    hint = "This is a fault of Pointsman. The log has the details under this request's id."
    retryable = False
    retry_after_seconds: int | None = None

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.hint = hint or type(self).hint


class Unavailable(PointsmanError):
    """A server that we need is away or full; nothing was accepted, but see OutcomeUnknown."""

    status = 503
    code = "unavailable"
    hint = "Nothing was accepted. Send the request again after the seconds in Retry-After."
    retryable = True
    retry_after_seconds: int | None = 2


class OutcomeUnknown(Unavailable):
    """PostgreSQL went away, or the time ran out, during a commit: it may have happened."""

    code = "outcome_unknown"
    hint = (
        "It may have been done all the same. If the request bore an Idempotency-Key, send it again "
        "with the same key; else it may be done twice."
    )


class Refused(PointsmanError):
    """The request can never succeed as it is."""

    status = 400
    code = "bad_request"
    hint = "Change the request; sending it again unchanged gives the same answer."


class NotFound(Refused):
    """There is no such thing for this caller."""

    status = 404
    code = "not_found"
    hint = "Check the id and that it belongs to your account."


class Unauthorized(Refused):
    """Nobody is known to be calling."""

    status = 401
    code = "unauthorized"
    hint = "Send «Authorization: Bearer <token>» with a token from POST /api/v1/auth/login or an API key."


class Forbidden(Refused):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"
    hint = "Use a token or key that has the permission this needs."


class Conflict(Refused):
    """The change clashes with something that exists."""

    status = 409
    code = "conflict"
    hint = "Choose another value, or change what stands in the way first."


class Invalid(Refused):
    """A field of the request has a value that cannot be used."""

    status = 422
    code = "invalid"
    hint = "Fix the named field."


class TooLarge(Refused):
    """The body is larger than the limit."""

    status = 413
    code = "body_too_large"
    hint = "Send a smaller body, or ask the operator to raise POINTSMAN_MAX_BODY_BYTES."


class Incomplete(Refused):
    """The connection ended before the whole body had come; nothing was accepted."""

    status = 400
    code = "body_incomplete"
    hint = "Send the whole body again."


class TooSlow(Refused):
    """The body did not arrive within the time for reading it."""

    status = 408
    code = "body_too_slow"
    hint = "Send the whole body without pauses."


class TooMany(Refused):
    """The caller has asked for too much of this lately."""

    status = 429
    code = "too_many"
    hint = "Nothing was done. Ask again after the seconds in Retry-After."
    retryable = True
    retry_after_seconds: int | None = 1


class Loop(PointsmanError):
    """A call has come back to a callback that it has come through; nothing was accepted."""

    status = 508
    code = "loop"
    hint = "One of the callback's actions calls it, maybe by a detour. Look at pointsman-via of the call."


class RowRejected(PointsmanError):
    """PostgreSQL refuses this one row; its neighbours in the batch are not affected."""

    status = 422
    code = "unstorable"
    hint = "The request holds something that cannot be stored, such as a NUL character."


class ClaimLost(PointsmanError):
    """The run is no longer held by this worker under this claim: its result is dropped."""

    code = "claim_lost"


class ConfigError(PointsmanError):
    """Settings are unknown, malformed or contradict one another."""

    code = "bad_configuration"
    hint = "See docs/configuration.md."


class ServerRefuses(ConfigError):
    """A server does not let us in, or lacks what only its operator can give: a login, a right, a
    database.
    """

    code = "server_refuses"


class StartupError(PointsmanError):
    """Something on this machine keeps Pointsman from starting."""

    code = "cannot_start"
