"""The API's description is true: schemathesis calls a running Pointsman with what it says may be
sent, and with what not.

Every answer must be one that is described, by status, content type, headers and schema; none may be
a 5xx. Log-out is left out, since it would end the session that all calls are made with. Its ids are
made up, so that it mostly sees errors and what it has created itself; test_isolation.py looks at
the answers about things that are there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from api.management import FACES
from tests.running import Running

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
    "use_after_free",
)
EXAMPLES = 15
SEED = 1
SECONDS = 180


def test_every_answer_is_described(pointsman: Running, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{pointsman.url}/api/v1/openapi.json",
        *("--header", f"Authorization:{pointsman.api.headers['authorization']}"),
        *("--exclude-operation-id", "logOut"),
        *("--checks", ",".join(CHECKS)),
        *("--max-examples", str(EXAMPLES), "--seed", str(SEED)),
        *("--continue-on-failure", "--no-shrink", "--warnings", "off", "--no-color"),
    ]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stdout[-12_000:] + ended.stderr
    tested = sum(len(face.endpoints) for face in FACES) - 1
    assert f"Tested: {tested}" in ended.stdout, ended.stdout
