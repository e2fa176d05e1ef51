"""What `pointsman run` prints."""

from __future__ import annotations

import io
import json
import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.console import Console


def test_each_line_bears_its_process() -> None:
    stream = io.StringIO()
    Console("console", stream).line("api", "hello")
    assert stream.getvalue() == "api        │ hello\n"


def test_with_json_every_line_is_an_object_with_its_process() -> None:
    stream = io.StringIO()
    console = Console("json", stream)
    console.line("api", '{"event": "x", "n": 1}')
    console.line("postgres", "LOG:  ready")
    console.banner("two\nlines")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0] == {"process": "api", "event": "x", "n": 1}
    assert lines[1] == {"process": "postgres", "event": "LOG:  ready"}
    assert [line["event"] for line in lines[2:]] == ["two", "lines"]


def test_a_childs_output_is_followed_to_its_end_whatever_bytes_come() -> None:
    stream = io.StringIO()
    reading, writing = os.pipe()
    thread = Console("console", stream).follow("x", os.fdopen(reading, "rb"))
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(b"one\n\ntwo \xff\nlast without end")
    thread.join(5)
    assert [line.split("│ ")[1] for line in stream.getvalue().splitlines()] == [
        "one",
        "two \ufffd",
        "last without end",
    ]


def test_a_closed_stream_disturbs_nobody() -> None:
    stream = io.StringIO()
    console = Console("console", stream)
    stream.close()
    console.say("into the void")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class SlowStream(io.StringIO):
    """Lets the other threads run amid each line, so that two writers at once would be seen."""

    def write(self, text: str) -> int:
        for half in (text[:20], text[20:]):
            super().write(half)
            time.sleep(0)
        return len(text)


def test_lines_of_many_processes_never_mix() -> None:
    """Fails without the lock."""
    stream = SlowStream()
    console = Console("console", stream)

    def write(name: str) -> None:
        for _ in range(50):
            console.line(name, name * 40)

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(10)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 400
    assert set(lines) == {f"{name:<10} │ {name * 40}" for name in "abcdefgh"}


def test_on_a_terminal_each_process_keeps_a_colour_of_its_own() -> None:
    stream = Terminal()
    console = Console("console", stream)
    for name in ("api", "worker", "api"):
        console.line(name, "x")
    first, second, third = stream.getvalue().splitlines()
    assert first == third == "\x1b[36mapi        │\x1b[0m x"
    assert second.startswith("\x1b[35mworker")


def test_json_is_never_coloured() -> None:
    stream = Terminal()
    Console("json", stream).line("api", "x")
    assert json.loads(stream.getvalue()) == {"process": "api", "event": "x"}


@given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1))
def test_with_json_any_line_of_a_child_is_one_object(text: str) -> None:
    stream = io.StringIO()
    Console("json", stream).line("x", text)
    (line,) = stream.getvalue().split("\n")[:-1]
    assert json.loads(line)["process"] == "x"


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null", '"text"', "{broken", "NaN"])
def test_what_is_no_json_object_becomes_the_event_of_one(text: str) -> None:
    stream = io.StringIO()
    Console("json", stream).line("postgres", text)
    assert json.loads(stream.getvalue()) == {"process": "postgres", "event": text}


def test_a_child_cannot_pass_for_another() -> None:
    """Fails when a field of the child's own line replaces the name in front."""
    stream = io.StringIO()
    Console("json", stream).line("worker", '{"event": "x", "process": "api"}')
    assert json.loads(stream.getvalue())["process"] == "worker"


def test_a_block_for_people_has_no_prefix() -> None:
    stream = io.StringIO()
    Console("console", stream).banner("two\nlines")
    assert stream.getvalue() == "two\nlines\n"


def test_a_child_whose_reader_is_gone_is_still_read_to_its_end() -> None:
    """Fails when a closed pipe of ours blocks a child on a full one of its own."""

    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    reading, writing = os.pipe()
    thread = Console("console", Gone()).follow("x", os.fdopen(reading, "rb"))
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(b"a line\n" * 20_000)
    thread.join(5)
    assert not thread.is_alive()
