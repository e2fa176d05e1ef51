"""Logging: static event names, fields as data, one line each, secrets never.

Everything goes to standard output, the lines of libraries too. `console` is for people, `json` for
machines. Control characters of tenants' data are escaped, so that one event is always one line.
Passwords in URLs are masked, and the values of rows that PostgreSQL refuses.
A failure to write a log line never reaches the caller.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

# Surrogates cannot be written at all.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Of a traceback.
_CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Up to the last @ in reach: an operator's slip is a password with a special character in it.
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):\S{1,1000}@")

# What PostgreSQL says of the row that it refuses.
_ROW = re.compile(r"(Failing row contains \().*?(?=\n\n|\Z)", re.DOTALL)
_KEY = re.compile(r"(Key \([^)\n]*\)=\().*")

QUIET_LIBRARIES = (
    "sqlalchemy",
    "alembic",
    "kombu",
    "amqp",
    "asyncio",
    "httpx",
    "httpcore",
    "urllib3",
    "_granian",
    "celery.worker.strategy",  # a line for each hint that comes
    "celery.app.trace",  # and one for each that is done
)


def configure(level: str, log_format: str, *, colours: bool | None = None) -> None:
    """Set up structlog and the standard library's logging for this process."""
    shared_steps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        _clean,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if log_format == "json"
        else _ConsoleLine(sys.stdout.isatty() if colours is None else colours)
    )
    structlog.configure(
        processors=[*shared_steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = _LastResortHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


class _LastResortHandler(logging.StreamHandler[Any]):
    """A handler that drops a line it cannot write (a full disk, a closed pipe) instead of
    complaining.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        pass


class _ConsoleLine:
    """Renders `12:00:00.123 info  event  key=value`, with the exception, if any, on lines of its
    own.
    """

    COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31;1m", "debug": "\x1b[2m"}  # noqa: RUF012

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: Any, _name: str, event: dict[str, Any]) -> str:
        at = str(event.pop("at", ""))[11:23]
        level = str(event.pop("level", "info"))
        event.pop("logger", None)
        exception = event.pop("exception", None)
        text = str(event.pop("event", ""))
        fields = " ".join(f"{key}={value}" for key, value in event.items())
        colour = self.COLOURS.get(level, "") if self._colours else ""
        end = "\x1b[0m" if colour else ""
        line = f"{at} {colour}{level:<7}{end} {text}" + (f"  {fields}" if fields else "")
        return f"{line}\n{exception}" if exception else line


def _clean(_logger: Any, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _one_line(value) if key != "exception" else _CONTROL_BUT_LINES.sub(_escape, _mask(str(value)))
        for key, value in event.items()
    }


def _one_line(value: Any) -> Any:
    """The value as text without control characters and passwords; numbers and containers keep their
    form.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {str(_one_line(key)): _one_line(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_one_line(inner) for inner in value]
    return _CONTROL.sub(_escape, _mask(str(value)))


def _mask(text: str) -> str:
    return _KEY.sub(r"\1***", _ROW.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***@", text)))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
