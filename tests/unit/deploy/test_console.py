"""What `pointsman run` prints."""

from __future__ import annotations

import io
import json
import os

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
