"""Of a worker, nothing but egress opens a connection to the outside.

Everything else may import only what stands here. Whoever needs another module looks first whether
it can open a connection or start a process. PostgreSQL, Redis and the broker are no outside: they
are the operator's own, and `shared` speaks to them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"shared", "worker"}

# What is installed. psycopg2 is there for its errors and types: shared/postgres connects.
PACKAGES = {"psycopg2", "pydantic", "structlog", "uvloop"}

# These carry hints and own the process's life.
CELERY_SIDE = {"worker/__main__.py", "worker/app.py", "worker/hint_request.py"}

# What starts the processes of the suspects and of templates, and what runs in the former.
CHILDREN_SIDE = {
    "worker/suspects/apart.py": {"subprocess", "sys"},
    "worker/suspects/__main__.py": {"signal", "sys"},
    "worker/rendering/child.py": {"create_subprocess_exec", "mmap", "orjson", "signal", "sys", "tempfile"},
}

# What Python brings. A name stands for what is in it, too.
LIBRARY = {
    "__future__",
    "abc",
    "asyncio",  # but see CONNECTS
    "base64",
    "binascii",
    "codecs",
    "collections",
    "contextlib",
    "contextvars",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "email.message",
    "email.policy",
    "email.utils",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "itertools",
    "json",
    "math",
    "operator",
    "os",  # but see CONNECTS
    "platform",
    "queue",
    "random",
    "re",
    "secrets",
    "string",
    "threading",
    "time",
    "types",
    "typing",
    "urllib.parse",
    "uuid",
    "warnings",
    "zlib",
}

# By a loop, by psycopg2, by a process that is started, or by a module that is imported by its name.
CONNECTS = re.compile(
    r"(open|create)_(unix_)?connection|create_datagram_endpoint|sock_(connect|sendto)|connect"
    r"|(create_)?subprocess_\w+|system|popen|fork(pty)?|posix_spawnp?|(exec|spawn)[lv]p?e?"
    r"|__import__|import_module|exec|eval"
)


def modules() -> Iterator[tuple[str, str]]:
    """Path and text of each module of the worker that is not egress."""
    for path in sorted((ROOT / "worker").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("worker/egress/"):
            yield name, path.read_text()


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def is_allowed(module: str, path: str) -> bool:
    package = module.partition(".")[0]
    if package in OURS | PACKAGES or (package == "celery" and path in CELERY_SIDE):
        return True
    if module in CHILDREN_SIDE.get(path, ()):
        return True
    return any(module == one or module.startswith(f"{one}.") for one in LIBRARY)


def names(node: ast.AST) -> list[str]:
    """What a node calls by its name: an attribute, a variable, an import, a getattr()."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return [name]
        case ast.ImportFrom(names=aliases):
            return [alias.name for alias in aliases]
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
            return [name]
    return []


def ways_out(source: str, path: str = "worker/actions/made_up.py") -> list[str]:
    """What a module imports or calls by which it could reach the outside by itself."""
    nodes = list(ast.walk(ast.parse(source)))
    unknown = [module for node in nodes for module in imported(node) if not is_allowed(module, path)]
    found = [name for node in nodes for name in names(node) if CONNECTS.fullmatch(name)]
    return unknown + [name for name in found if name not in CHILDREN_SIDE.get(path, ())]


def test_nothing_of_a_worker_but_egress_has_a_way_out() -> None:
    found = {path: ways_out(source, path) for path, source in modules()}
    assert {path: ways for path, ways in found.items() if ways} == {}
    assert len(found) > 30, "the check sees the modules"


@pytest.mark.parametrize(
    "source",
    [
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "import http.client",
        "import ftplib",
        "import imaplib",
        "import smtplib",
        "import socket",
        "import ssl",
        "import subprocess",
        "import multiprocessing",
        "import importlib",
        "import ctypes",
        "import requests",
        "import httpx",
        "import aiosmtplib",
        "import websockets",
        "import celery",
        "from concurrent.futures import ProcessPoolExecutor",
        "import asyncio\nasyncio.open_connection('x', 1)",
        "from asyncio import open_connection",
        "import asyncio\nasyncio.create_subprocess_exec('curl')",
        "loop.create_connection(f)",
        "getattr(loop, 'create_connection')(f)",
        "loop.create_datagram_endpoint(f)",
        "loop.sock_connect(s, a)",
        "import os\nos.system('curl')",
        "import os\nos.posix_spawn('curl', [], {})",
        "from os import execvp",
        "import psycopg2\npsycopg2.connect('')",
        "__import__('socket')",
        "def late() -> None:\n    import socket",
    ],
)
def test_every_way_out_is_seen(source: str) -> None:
    assert ways_out(source)


@pytest.mark.parametrize(
    "source",
    [
        "from urllib.parse import urlsplit",
        "import asyncio\nasyncio.timeout(1)",
        "from worker.egress.http import Egress",
        "if error.phase == 'connect': ...",
        "import os\nos._exit(1)",
    ],
)
def test_what_leads_nowhere_is_let_through(source: str) -> None:
    assert ways_out(source) == []


def test_egress_itself_would_be_seen() -> None:
    sources = {path.name: path.read_text() for path in (ROOT / "worker/egress").glob("*.py")}
    assert {"aiohttp", "socket"} <= {way for source in sources.values() for way in ways_out(source)}
