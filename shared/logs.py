"""Logging: static event names, fields as data, one line each, secrets never.

Everything goes to standard output, the lines of libraries too. `console` is for people, `json` for
machines. Control characters of tenants' data are escaped, so that one event is always one line.
A failure to write a log line never reaches the caller.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)@")

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
        _one_line,
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
    """A handler that drops a line it cannot write (a full disk, a closed pipe) instead of complaining."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        pass


class _ConsoleLine:
    """Renders `12:00:00.123 info  event  key=value`, with the exception, if any, on lines of its own."""

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


def _one_line(_logger: Any, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = _CONTROL.sub(_escape, _URL_PASSWORD.sub(r"\1:***@", value))
    return event


def _escape(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"
