"""The receiver of throughput runs: nginx, which answers and counts.

It answers in plain and, on a port of its own, over TLS with a certificate of an authority that
lasts as long as itself. Below /failing it answers 503 to three of ten attempts, chosen by execution
and attempt; elsewhere 200.

Asking it for the count costs the benchmark a fraction of a millisecond, so that asking takes
nothing from what is measured: one plain connection that stays open, no client that is built for
each question.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType

from deploy.local.ports import free_port
from tests.benchmarks.certificates import make_identity

CONFIG = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000; keepalive_timeout 1h;
  split_clients "$http_webhook_id-$http_pointsman_attempt" $fails {{ 30% 1; * ""; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl backlog=4096;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    location /status {{ stub_status; }}
    location /failing {{ client_max_body_size 20m; if ($fails) {{ return 503; }} return 200 "ok"; }}
    location / {{ client_max_body_size 20m; return 200 "ok"; }}
  }}
}}
"""


class Nginx:
    """One nginx on loopback, as a context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.port, self._tls_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.https_url = f"https://127.0.0.1:{self._tls_port}/hook"
        self.failing_url = f"http://127.0.0.1:{self.port}/failing"
        self._identity = make_identity(folder)
        self.authority = self._identity.authority
        self._own_requests = 0
        self._connection = HTTPConnection("127.0.0.1", self.port, timeout=10)

    def __enter__(self) -> Nginx:
        config = self._folder / "nginx.conf"
        text = CONFIG.format(
            folder=self._folder,
            port=self.port,
            tls_port=self._tls_port,
            certificate=self._identity.certificate,
            key=self._identity.key,
        )
        config.write_text(text)
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        self._process = subprocess.Popen(
            [binary, "-p", self._folder, "-c", config], stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                self.count()
                return self
            except (OSError, HTTPException):
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self._stop()
                    raise
                self._connection.close()
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def count(self) -> int:
        """Requests so far."""
        self._connection.request("GET", "/status")
        text = self._connection.getresponse().read().decode()
        self._own_requests += 1
        found = re.search(r"\n\s*\d+ \d+ (\d+)", text)
        assert found is not None
        return int(found[1]) - self._own_requests
