"""Log lines: one event, one line, no secrets."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


class Printed:
    """A standard output that encodes as a terminal's or a pipe's does."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        self.stream = io.TextIOWrapper(self.bytes, encoding="utf-8", newline="\n", write_through=True)

    @property
    def text(self) -> str:
        return self.bytes.getvalue().decode()


@contextlib.contextmanager
def printing(log_format: str, level: str = "info", *, colours: bool = False) -> Iterator[Printed]:
    """Logging as a process sets it up, with this standard output."""
    printed = Printed()
    with contextlib.redirect_stdout(printed.stream):
        logs.configure(level, log_format, colours=colours)
        yield printed


FORMATS = pytest.mark.parametrize("log_format", ["console", "json"])
# what a terminal or a log shipper takes for an instruction or for the end of a line
CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]))


@FORMATS
def test_no_control_character_gets_through_in_an_event_a_field_or_a_librarys_line(log_format: str) -> None:
    with printing(log_format) as printed:
        structlog.get_logger("t").info(f"event{CONTROLS}", field=CONTROLS)
        logging.getLogger("library").error("said %s", CONTROLS)
    assert printed.text.count("\n") == 2
    assert not set(CONTROLS) & set(printed.text.replace("\n", ""))


@FORMATS
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text())
def test_one_event_is_one_line_whatever_it_holds(log_format: str, value: str) -> None:
    with printing(log_format) as printed:
        structlog.get_logger("t").info("event", value=value)
    assert len(printed.text.splitlines()) == 1


@FORMATS
@pytest.mark.parametrize("value", ["\ud800", "a\udcffb"])
def test_a_broken_character_does_not_make_a_line_vanish(log_format: str, value: str) -> None:
    """Fails when the line that cannot be encoded is dropped: a caller could keep itself out of the
    log.
    """
    with printing(log_format) as printed:
        structlog.get_logger("t").info("happened", value=value)
    assert printed.text.count("happened") == 1


@FORMATS
@pytest.mark.parametrize(
    "value",
    [Path("a\nfake line"), ValueError("a\r\nfake line"), ValueError("a\x1b[31m")],
    ids=["path", "error", "colour"],
)
def test_a_field_that_is_no_text_is_one_line_too(log_format: str, value: object) -> None:
    with printing(log_format) as printed:
        structlog.get_logger("t").info("event", value=value)
    assert len(printed.text.splitlines()) == 1
    assert "\x1b" not in printed.text


@FORMATS
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(password=st.text(min_size=1))
def test_any_password_in_a_url_is_masked(log_format: str, password: str) -> None:
    secret = quote(f"canary{password}", safe="")
    with printing(log_format) as printed:
        structlog.get_logger("t").info(
            f"connecting to redis://:{secret}@h:1/0", url=f"postgresql://user:{secret}@h:1/x?a=b"
        )
        logging.getLogger("library").error("lost %s", f"amqp://user:{secret}@h//")
    assert "canary" not in printed.text
    for kept in ("redis://:***@h:1/0", "postgresql://user:***@h:1/x?a=b", "amqp://user:***@h//"):
        assert kept in printed.text


@FORMATS
@pytest.mark.parametrize(
    "value",
    [["redis://:canary@h/0"], {"url": "redis://:canary@h/0"}, ValueError("no redis://:canary@h/0")],
    ids=["list", "dict", "error"],
)
def test_a_password_inside_a_field_is_masked_too(log_format: str, value: object) -> None:
    with printing(log_format) as printed:
        structlog.get_logger("t").info("event", value=value)
    assert "event" in printed.text
    assert "canary" not in printed.text


@FORMATS
def test_a_password_in_a_traceback_is_masked_too(log_format: str) -> None:
    """Fails when the text of an exception goes out as it is."""
    error = ConnectionError("cannot reach postgresql://user:canary@h/x")
    with printing(log_format) as printed:
        structlog.get_logger("t").error("event", exc_info=error)
        logging.getLogger("library").error("said", exc_info=error)
    assert printed.text.count("cannot reach") == 2
    assert "canary" not in printed.text


@FORMATS
@pytest.mark.parametrize(
    "password",
    ["canary", "ca/nary", "@canary", "ca@nary", "ca:nary/", "canary@/:@", "'canary", "caf\u00e9-canary"],
)
def test_a_password_that_was_not_encoded_is_masked_too(log_format: str, password: str) -> None:
    """Fails when an operator's slip stands in the log up to its first special character."""
    with printing(log_format) as printed:
        structlog.get_logger("t").info("event", url=f"redis://user:{password}@h:1/0")
        logging.getLogger("library").error("lost %s", f"amqp://:{password}@h//, trying http://h:1/x")
    assert "nary" not in printed.text
    for kept in ("redis://user:***@h:1/0", "amqp://:***@h//, trying http://h:1/x"):
        assert kept in printed.text


@FORMATS
def test_a_long_text_of_colons_and_slashes_takes_no_time(log_format: str) -> None:
    with printing(log_format) as printed:
        started = time.process_time()
        structlog.get_logger("t").info("event", value="://:" * 20_000)
        assert time.process_time() - started < 2
    assert "event" in printed.text


ROWS = """(psycopg2.errors.NotNullViolation) null value in column "x" violates not-null constraint
DETAIL:  Failing row contains (7, canary (a), 2026-01-01, {"body": "canary
"}, null).

[SQL: INSERT INTO t VALUES (%s)]"""
KEYS = """duplicate key value violates unique constraint "uq"
DETAIL:  Key (callback_id, name)=(7, canary (b)) already exists.
"""


@FORMATS
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (ROWS, ["NotNullViolation", 'column "x"', "Failing row contains (***", "INSERT INTO t"]),
        (KEYS, ["Key (callback_id, name)=(***", '"uq"']),
    ],
    ids=["row", "key"],
)
def test_what_postgresql_says_of_a_rows_values_is_masked(log_format: str, text: str, kept: list[str]) -> None:
    """Fails when an error that nobody foresaw writes a tenant's row into the log."""
    with printing(log_format) as printed:
        structlog.get_logger("t").error("event", error=text)
        structlog.get_logger("t").error("event", exc_info=ValueError(text))
    assert "canary" not in printed.text
    told = printed.text.replace('\\"', '"')
    for part in kept:
        assert told.count(part) == 2, part


def test_with_json_an_exception_is_part_of_its_line() -> None:
    with printing("json") as printed:
        structlog.get_logger("t").error("event", exc_info=ValueError("a\nb"))
    told = json.loads(printed.text)
    assert told["event"] == "event"
    assert told["exception"].endswith("ValueError: a\nb")


def test_for_people_a_line_is_short_and_coloured_only_on_a_terminal() -> None:
    with printing("console") as plain:
        structlog.get_logger("t").warning("event", number=3)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} warning  ?event  number=3\n", plain.text)
    with printing("console", colours=True) as coloured:
        structlog.get_logger("t").warning("event")
    assert "\x1b[33mwarning\x1b[0m" in coloured.text


def test_what_is_below_the_level_is_not_written() -> None:
    with printing("json", "warning") as printed:
        structlog.get_logger("t").info("quiet")
        logging.getLogger("library").info("quiet")
        structlog.get_logger("t").warning("loud")
    assert [json.loads(line)["event"] for line in printed.text.splitlines()] == ["loud"]


@pytest.mark.parametrize("library", logs.QUIET_LIBRARIES)
def test_a_talkative_library_is_heard_only_when_something_is_wrong(library: str) -> None:
    with printing("json") as printed:
        logging.getLogger(library).info("chatter")
        logging.getLogger(library).warning("trouble")
    assert [json.loads(line)["event"] for line in printed.text.splitlines()] == ["trouble"]


def test_a_broken_line_of_a_library_does_not_disturb_the_caller() -> None:
    with printing("json") as printed:
        logging.getLogger("library").error("said %s %s", "only one")
        structlog.get_logger("t").info("event")
    assert json.loads(printed.text.splitlines()[-1])["event"] == "event"


class FullDisk(io.StringIO):
    """Refuses every byte."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_does_not_disturb_the_caller() -> None:
    complaints = io.StringIO()
    with contextlib.redirect_stdout(FullDisk()), contextlib.redirect_stderr(complaints):
        logs.configure("info", "json")
        structlog.get_logger("t").error("event", exc_info=ValueError("x"))
        logging.getLogger("library").error("event")
    assert complaints.getvalue() == ""
