"""Log lines: one event, one line, no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was before, afterwards."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_whatever_a_field_holds_it_is_one_line(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    logs.configure("info", log_format)
    structlog.get_logger("t").info("event", value="a\r\nfake line\x1b[31m\u2028b")
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1
    assert "\x1b" not in printed


def test_passwords_in_urls_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "console")
    structlog.get_logger("t").info("event", url="redis://:canary@h:1/0", other="postgresql://u:canary@h/x")
    printed = capsys.readouterr().out
    assert "canary" not in printed
    assert "postgresql://u:***@h/x" in printed


def test_json_lines_hold_their_fields_and_libraries_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger("t").warning("happened", number=3)
    logging.getLogger("library").error("said %s", "this")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["event"], first["number"], first["level"]) == ("happened", 3, "warning")
    assert (second["event"], second["level"]) == ("said this", "error")


def test_a_stream_that_is_gone_does_not_disturb_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    monkeypatch.setattr("sys.stdout", closed)
    logs.configure("info", "console")
    closed.close()
    structlog.get_logger("t").info("event")
