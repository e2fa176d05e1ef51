"""The WSGI environment as the shell makes it, and the keys by which shell and views tell each other
what they know.

Under plain WSGI, as in Flask's test client, none of these keys is there, and everything works
without.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

REQUEST_ID = "pointsman.request_id"
"""The id of this request, for the log and the answer."""

AWAITED = "pointsman.awaited"
"""A list for the coroutine that makes the answer (api/awaited.py)."""

PATIENCE = "pointsman.patience"
"""Whether the caller still waits (api/patience.py). Not there where the view waits for nothing."""

FILE = "pointsman.file"
"""What the answer holds of the budget for files (api/budget.py)."""

CALLER = "pointsman.caller"
"""Who has sent it, where it says what it prefers (api/caller.py)."""

BODY = "pointsman.body"
"""The request's body, whole, as in `wsgi.input`."""

HEADERS = "pointsman.headers"
"""The request's headers as they came: pairs of bytes, names in lower case, repeated ones apart."""

# Undone by the shell, which has the whole body.
FRAMING = frozenset({"CONTENT_LENGTH", "TRANSFER_ENCODING"})


def environ_of(
    scope: Mapping[str, Any], body: bytes, request_id: str, coroutines: list[Any]
) -> dict[str, Any]:
    """The WSGI environment of a request (PEP 3333): text is latin-1, the path's bytes in
    disguise.

    scope: as in ASGI. coroutines: the list at AWAITED.
    """
    host, port = scope.get("server") or ("", 0)
    client = scope.get("client") or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        REQUEST_ID: request_id,
        AWAITED: coroutines,
        BODY: body,
        HEADERS: scope["headers"],
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1")
        if name == "CONTENT_TYPE":
            environ[name] = value
        elif name not in FRAMING:
            key = "HTTP_" + name
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
