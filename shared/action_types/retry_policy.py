"""What an action's `retry` may say.

When the next attempt comes is worker/engine/retry.py's to compute.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import Invalid

MAX_ATTEMPTS = 30

# With the default schedule they take over half a day.
DEFAULT_ATTEMPTS = 8
MAX_DELAY_SECONDS = 7 * 24 * 3600

# The same request can never be taken: it is malformed, too large, not understood, or in a loop.
PERMANENT_STATUSES = (400, 405, 413, 414, 415, 422, 431, 501, 505, 508)
MIN_STATUS, MAX_STATUS = 300, 599

# Strict, since what is stored is shown as it came: no truth value and no text passes for a number.
Seconds = Annotated[float, Field(ge=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False, strict=True)]
FailureStatus = Annotated[int, Field(ge=MIN_STATUS, le=MAX_STATUS, strict=True)]


class RetryPolicy(BaseModel):
    """How often an action is attempted, and after which delays.

    `{"maxAttempts", "schedule": [s…]}` or `{"maxAttempts", "initialSeconds", "factor",
    "capSeconds"}`, either with `"permanentStatuses": [300…599]`.

    The schedule's last delay repeats when there are more attempts than delays. Without either form
    the delays are 5 s, 30 s, 2 min, 10 min, 1 h, 3 h and 8 h. An answer with one of
    permanentStatuses ends the execution at once; every other one that is not 2xx is tried again,
    but for 410, which also switches the action off. By default they are 400, 405, 413, 414, 415,
    422, 431, 501, 505 and 508; `[]` means none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    maxAttempts: int = Field(DEFAULT_ATTEMPTS, ge=1, le=MAX_ATTEMPTS, strict=True)  # noqa: N815 - the JSON field's name
    schedule: tuple[Seconds, ...] | None = Field(None, min_length=1, max_length=MAX_ATTEMPTS)
    initialSeconds: Seconds | None = None  # noqa: N815
    factor: float = Field(2.0, ge=1, le=10, allow_inf_nan=False, strict=True)
    capSeconds: Seconds = 3600.0  # noqa: N815
    permanentStatuses: tuple[FailureStatus, ...] = Field(  # noqa: N815
        PERMANENT_STATUSES, max_length=MAX_STATUS - MIN_STATUS + 1
    )

    @model_validator(mode="after")
    def _one_form(self) -> RetryPolicy:
        exponential = {"initialSeconds", "factor", "capSeconds"} & self.model_fields_set
        if self.schedule is not None and exponential:
            raise ValueError(f'give either "schedule" or "{min(exponential)}", not both')
        if exponential and self.initialSeconds is None:
            raise ValueError(f'"{min(exponential)}" says nothing without "initialSeconds"')
        return self


def parse_retry(value: Any) -> RetryPolicy:
    """Check an action's `retry` (None: the default) and return its model; raises Invalid."""
    try:
        return RetryPolicy() if value is None else RetryPolicy.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in ("retry", *first["loc"]))
        raise Invalid(
            f"{where}: {first['msg']}.", code="bad_retry", hint=cleandoc(RetryPolicy.__doc__ or "")
        ) from None
