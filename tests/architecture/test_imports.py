"""Imports run one way, settings are read in one place, and every module says what it is for."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "worker", "shared", "migrations", "deploy")
MAY_READ_THE_ENVIRONMENT = ("shared/config.py", "deploy/")
UNFINISHED = re.compile(r"#\s*(TODO|FIXME|XXX)\b", re.IGNORECASE)
ENVIRONMENT_NAMES = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def modules(*packages: str) -> Iterator[tuple[str, str]]:
    """Path from the root and text of each module."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def imports_checked_in(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def reads_the_environment(source: str) -> bool:
    nodes = list(ast.walk(ast.parse(source)))
    aliases = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names_of_os = {alias.asname or alias.name for alias in aliases if alias.name == "os"}
    imported = {
        alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    }
    reached = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names_of_os
    }
    return bool(ENVIRONMENT_NAMES & (imported | reached))


def test_imports_run_one_way() -> None:
    ended = imports_checked_in(ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_imports_against_the_stream_would_be_seen(tmp_path: Path) -> None:
    """The contract itself: it must name every package and forbid what it says."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    forbidden = [
        ("api.health", "worker.app"),
        ("worker.app", "api.health"),
        ("shared.ids", "api.awaited"),
        ("shared.clock", "worker.hint_request"),
        ("worker.hint_request", "deploy.local.ports"),
        ("migrations.migrate", "deploy.local.ports"),
        ("api.management.users", "api.services"),
        ("api.management.users", "api.ingress.status"),
        ("api.ingress.status", "api.management.users"),
        ("api.resources.users", "api.management.users"),
        ("api.auth.policies", "api.resources.users"),
        ("api.work", "api.problems"),
        ("api.resources.logs", "flask"),
        ("api.resources.logs", "werkzeug"),
        ("api.auth.passwords", "flask"),
        ("api.management.users", "sqlalchemy"),
        ("api.management.users", "shared.models"),
        ("api.management.users", "shared.runs.settle"),
        ("api.health", "migrations.migrate"),
        # the layers of the worker
        ("worker.engine.room", "worker.app"),
        ("worker.maintenance.duty", "worker.engine.room"),
        ("worker.actions.store", "worker.engine.room"),
        ("worker.doors.storage", "worker.actions.contract"),
        ("worker.egress.wire", "worker.doors"),
        ("worker.records", "worker.doors"),
        # what decides does no I/O, not even at second hand
        ("worker.records", "psycopg2"),
        ("worker.actions.contract", "kombu"),
        ("worker.actions.http_answers", "aiohttp"),
        ("worker.engine.entry", "sqlalchemy"),
        ("worker.engine.retry", "worker.engine.rows"),
        ("worker.engine.state", "redis"),
        ("worker.engine.steps", "httpx"),
        ("worker.engine.suspects", "socket"),
        ("worker.egress.addresses", "socket"),
        ("worker.egress.errors", "ssl"),
        ("worker.egress.messages", "worker.egress.wire"),
        ("shared.action_types.store", "celery"),
        # only egress knows a network client
        ("worker.actions.http_post", "socket"),
        ("worker.app", "kombu"),
        ("worker.doors.storage", "ssl"),
        ("worker.engine.heartbeat", "socket"),
        ("worker.engine.engine", "aiohttp"),
        ("worker.maintenance.sweep", "redis"),
        ("worker.maintenance.purge", "smtplib"),
        ("worker.hint_request", "httpx"),
        ("worker.actions.store", "http"),
        ("worker.doors.storage", "subprocess"),
        ("worker.maintenance.due", "requests"),
    ]
    (tmp_path / "worker" / "unplaced.py").write_text('"""A module that no layer names."""')
    for importer, imported in forbidden:
        with (tmp_path / importer.replace(".", "/")).with_suffix(".py").open("a") as file:
            file.write(f"\nimport {imported}\n")
    ended = imports_checked_in(tmp_path)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    unseen = [pair for pair in forbidden if "{} -> {} (".format(*pair) not in ended.stdout]
    assert unseen == [], ended.stdout
    assert "unplaced" in ended.stdout
    assert "KEPT" not in ended.stdout, "each contract can be broken"


MOVES = re.compile(r"(insert\s+into|update|delete\s+from)\s+(runs|action_executions)\b", re.IGNORECASE)


def statements_that_move_runs(source: str) -> list[str]:
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    docstrings = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return [text for text in texts if isinstance(text, str) and text not in docstrings and MOVES.search(text)]


def test_runs_are_moved_in_one_room() -> None:
    """Fails when a statement that changes `runs` or `action_executions` stands outside
    shared/runs.
    """
    found = {
        path: statements_that_move_runs(source)
        for path, source in modules("api", "worker", "shared", "deploy")
    }
    assert [path for path, moves in found.items() if moves and not path.startswith("shared/runs/")] == []
    assert sum(map(len, found.values())) > 10, "the check sees what it looks for"


def test_only_the_settings_and_the_launcher_read_the_environment() -> None:
    readers = [path for path, source in modules(*PACKAGES) if reads_the_environment(source)]
    assert [path for path in readers if not path.startswith(MAY_READ_THE_ENVIRONMENT)] == []
    assert "shared/config.py" in readers, "the check sees what it looks for"


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A']",
        "import os\nos.getenv('A')",
        "import os as system\nsystem.environ.get('A')",
        "from os import environ",
        "from os import getenv as read",
    ],
)
def test_every_way_to_read_the_environment_is_seen(source: str) -> None:
    assert reads_the_environment(source)
    assert not reads_the_environment("import os\nos.getpid()")
    assert not reads_the_environment("from flask import request\nrequest.environ['A']"), "WSGI's is another"


def test_every_module_says_what_it_is_for() -> None:
    silent = []
    for path, source in modules("api", "worker", "shared"):
        tree = ast.parse(source)
        if tree.body and not ast.get_docstring(tree):
            silent.append(path)
    assert silent == []


def test_nothing_is_left_for_later() -> None:
    left = [path for path, source in modules(*PACKAGES) if UNFINISHED.search(source)]
    assert left == []
