"""A receiver that answers with bytes of the test's choice and keeps what it got as raw bytes.

Each answer leaves in one write, so that head and whatever stands behind it come in one segment.
Nothing of the request is decoded: a test sees the request line and the headers byte for byte. A
connection stays open until the client closes it.
"""

from __future__ import annotations

import socketserver
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request: its first line, its headers with names in lower case, its body, all as bytes.

    connection: which of the receiver's connections it came on, from 1.
    """

    line: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    connection: int

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    def values(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.headers if found == name]


class RawReceiver:
    """The receiver, in threads of its own. Use as a context manager.

    answers: by target; a list is answered in turn, its last one over and over; others get OK.
    """

    def __init__(self, answers: dict[str, list[bytes]] | None = None) -> None:
        self.answers = answers or {}
        self.requests: list[RawRequest] = []
        self._lock = threading.Lock()
        self._connections = 0

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, target: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{target}"

    def got(self, target: str) -> list[RawRequest]:
        return [request for request in self.requests if request.target == target.encode()]

    def __enter__(self) -> RawReceiver:
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer._serve(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="raw-receiver", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _serve(self, handler: Any) -> None:
        with self._lock:
            self._connections += 1
            number = self._connections
        try:
            while (request := _read(handler.rfile, number)) is not None:
                with self._lock:
                    self.requests.append(request)
                    answer = self._next_answer(request.target.decode("latin-1"))
                handler.connection.sendall(answer)
        except ConnectionError:
            pass  # the client has gone

    def _next_answer(self, target: str) -> bytes:
        answers = self.answers.get(target, [OK])
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _read(stream: Any, connection: int) -> RawRequest | None:
    """One request; None at the end of the connection."""
    line = stream.readline().rstrip(b"\r\n")
    if not line:
        return None
    headers = []
    while header := stream.readline().rstrip(b"\r\n"):
        name, _, value = header.partition(b":")
        headers.append((name.lower(), value.strip(b" ")))
    length = int(dict(headers).get(b"content-length", b"0"))
    return RawRequest(line, tuple(headers), stream.read(length), connection)
