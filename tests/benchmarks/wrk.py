"""The load: wrk, which posts JSON bodies in turn as fast as it can, and tells what went wrong."""

from __future__ import annotations

import re
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.bodies import make_bodies

SMALL = make_bodies()
SCRIPT = """
local paths, requests, number = {%s}, {}, 0
init = function(args)
  for body in io.lines("%s") do
    for _, path in ipairs(paths) do
      requests[#requests + 1] = wrk.format("POST", path, {["content-type"] = "application/json"}, body)
    end
  end
end
request = function()
  number = number %% #requests + 1
  return requests[number]
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write, errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Burst:
    """What wrk saw. accepted: answers with a 2xx. started: monotonic seconds. cpu_seconds: its own.

    refused: other answers. broken: connections that failed or ended. late: requests without an
    answer in time.
    """

    accepted: int
    refused: int
    broken: int
    late: int
    seconds: float
    started: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Posts for so many seconds over so many connections.

    folder: where its script lies. bodies: sent in turn.
    """

    seconds: int
    connections: int
    folder: Path
    bodies: tuple[str, ...] = SMALL

    def post(self, urls: str | Sequence[str]) -> Burst:
        """Post to this URL, or to these of one server in turn."""
        targets = [urls] if isinstance(urls, str) else urls
        paths = ", ".join(f'"{urlsplit(url).path}"' for url in targets)
        script, bodies = self.folder / "post.lua", self.folder / "bodies"
        bodies.write_text("\n".join(self.bodies) + "\n")
        script.write_text(SCRIPT % (paths, bodies))
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
        found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", ended.stdout)
        assert found is not None, ended.stdout
        requests, microseconds, bad, broken, late = map(int, found.groups())
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Burst(requests - bad, bad, broken, late, microseconds / 1e6, started, cpu)
