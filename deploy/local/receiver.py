"""The built-in receiver of the demo: answers webhooks on loopback and prints what it got.

`/order` answers after 250 ms, every other path after 100 ms, so that a demo's steps can be watched.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DELAY_SECONDS = {"/order": 0.25}
DEFAULT_DELAY_SECONDS = 0.1
MAX_BODY_BYTES = 16 * 1024 * 1024


class Receiver(BaseHTTPRequestHandler):
    """Answers every POST with 200 and a little JSON."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = min(int(self.headers.get("content-length") or 0), MAX_BODY_BYTES)
        body = self.rfile.read(length)
        time.sleep(DELAY_SECONDS.get(self.path, DEFAULT_DELAY_SECONDS))
        answer = b'{"received": true}\n'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        sys.stdout.write(f"got {self.path} webhook-id={self.headers.get('webhook-id')} {len(body)} bytes\n")
        sys.stdout.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """The line above says more."""


def main() -> None:
    """Listen on the loopback port that is the first argument."""
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
