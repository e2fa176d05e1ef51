"""What `pointsman run` prints: its children's lines, each with the name of its process in front.

Invariant: a line is written whole or not at all, so that lines of different processes never mix.
With JSON logs every line is one JSON object with a `process`.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import IO

COLOURS = ("36", "35", "34", "32", "33", "94", "95", "96")
NAME_WIDTH = 10


class Console:
    """Writes prefixed lines to standard output."""

    def __init__(self, log_format: str, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._json = log_format == "json"
        self.colours = not self._json and self._stream.isatty()
        self._lock = threading.Lock()
        self._colour_of: dict[str, str] = {}

    def line(self, process: str, text: str) -> None:
        """Write one line of a process."""
        self._write(self._as_json(process, text) if self._json else self._prefix(process) + text)

    def say(self, text: str) -> None:
        """Write one line of our own."""
        self.line("pointsman", text)

    def banner(self, text: str) -> None:
        """Write a block for people; with JSON logs it goes out as lines like any other."""
        for line in text.splitlines():
            self.say(line) if self._json else self._write(line)

    def follow(self, process: str, output: IO[bytes]) -> threading.Thread:
        """Copy a child's output until it ends, in a thread of its own."""
        thread = threading.Thread(
            target=self._copy, args=(process, output), name=f"out-{process}", daemon=True
        )
        thread.start()
        return thread

    def _copy(self, process: str, output: IO[bytes]) -> None:
        with output:
            for raw in output:
                text = raw.decode("utf-8", "replace").rstrip()
                if text:
                    self.line(process, text)

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody reads any more (a closed pipe): the work goes on

    def _prefix(self, process: str) -> str:
        name = f"{process:<{NAME_WIDTH}}"
        if not self.colours:
            return f"{name} │ "
        colour = self._colour_of.setdefault(process, COLOURS[len(self._colour_of) % len(COLOURS)])
        return f"\x1b[{colour}m{name} │\x1b[0m "

    @staticmethod
    def _as_json(process: str, text: str) -> str:
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            event = {"event": text}
        return json.dumps({"process": process} | event | {"process": process}, ensure_ascii=False)
