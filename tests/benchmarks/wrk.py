"""The load: wrk, which posts a JSON body as fast as it can."""

from __future__ import annotations

import re
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SMALL_BODY = '{"order": 42, "customer": "c-1001", "amount": 1999, "currency": "EUR"}'
SCRIPT = """
local body, paths, requests, number = %s, {%s}, {}, 0
init = function(args)
  for i, path in ipairs(paths) do
    requests[i] = wrk.format("POST", path, {["content-type"] = "application/json"}, body)
  end
end
request = function()
  number = number %% #requests + 1
  return requests[number]
end
done = function(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Burst:
    """What wrk saw. accepted: answers with a 2xx. started: monotonic seconds. cpu_seconds: its own."""

    accepted: int
    refused: int
    seconds: float
    started: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Posts for so many seconds over so many connections. folder: where its script lies. body: JSON without quotes of Lua."""

    seconds: int
    connections: int
    folder: Path
    body: str = SMALL_BODY

    def post(self, urls: str | Sequence[str]) -> Burst:
        """Post to this URL, or to these of one server in turn."""
        targets = [urls] if isinstance(urls, str) else urls
        paths = ", ".join(f'"{urlsplit(url).path}"' for url in targets)
        script = self.folder / "post.lua"
        script.write_text(SCRIPT % (f"[[{self.body}]]", paths))
        options = [
            "-t1",
            f"-c{self.connections}",
            f"-d{self.seconds}s",
            "--timeout",
            "10s",
            "-s",
            str(script),
        ]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        ended = subprocess.run(["wrk", *options, targets[0]], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", ended.stdout)
        assert found is not None, ended.stdout
        requests, microseconds, bad, _broken = map(int, found.groups())
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Burst(requests - bad, bad, microseconds / 1e6, started, cpu)
