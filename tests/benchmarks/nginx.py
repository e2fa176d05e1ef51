"""The receiver of throughput runs: nginx, which answers 200 and counts."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

import httpx

from deploy.local.ports import free_port

CONFIG = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /status {{ stub_status; }}
    location / {{ client_max_body_size 20m; return 200 "ok"; }}
  }}
}}
"""


class Nginx:
    """One nginx on loopback, as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._own_requests = 0

    def __enter__(self) -> Nginx:
        config = self._folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=self._folder, port=self.port))
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        self._process = subprocess.Popen(
            [binary, "-p", self._folder, "-c", config], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                self.count()
                return self
            except httpx.TransportError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)

    @property
    def pid(self) -> int:
        return self._process.pid

    def count(self) -> int:
        """Deliveries so far."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/status", trust_env=False).text
        self._own_requests += 1
        found = re.search(r"\n\s*\d+ \d+ (\d+)", text)
        assert found is not None
        return int(found[1]) - self._own_requests
