"""`make migration` makes a file that continues the newest and needs no cleaning, or refuses."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from migrations import new
from shared.errors import ConfigError
from shared.models.base import SCHEMA_REVISION

ROOT = Path(__file__).parents[3]
NEXT = f"{int(SCHEMA_REVISION) + 1:04d}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations, to which one can be added."""
    copied = tmp_path / "migrations"
    shutil.copytree(ROOT / "migrations", copied, ignore=shutil.ignore_patterns("__pycache__"))
    return copied


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ruff(path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Ask ruff what it says of the file, were it among our migrations."""
    return subprocess.run(
        [
            Path(sys.executable).parent / "ruff",
            *command,
            f"--stdin-filename=migrations/versions/{path.name}",
            "-",
        ],
        input=path.read_text(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_file_continues_the_newest_migration(folder: Path) -> None:
    made = new.make("add_2fa", folder)
    assert made == folder / "versions" / f"{NEXT}_add_2fa.py"
    module = imported(made)
    assert (module.revision, module.down_revision) == (NEXT, SCHEMA_REVISION)
    assert (module.branch_labels, module.depends_on) == (None, None)
    assert callable(module.upgrade)
    assert module.__doc__ == f"Add 2fa.\n\nRevises: {SCHEMA_REVISION}\n"


def test_the_one_after_it_continues_it(folder: Path) -> None:
    new.make("add_one", folder)
    module = imported(new.make("add_two", folder))
    assert (module.revision, module.down_revision) == (f"{int(NEXT) + 1:04d}", NEXT)


def test_it_waits_for_no_lock_and_no_statement_for_long(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards script.py.mako: a new migration has both limits, each for its own transaction."""
    module = imported(new.make("add_something", folder))
    said: list[str] = []
    monkeypatch.setattr(module.op, "execute", said.append)
    module.upgrade()
    assert said == ["SET LOCAL lock_timeout = '3s'", "SET LOCAL statement_timeout = '60s'"]


def test_the_formatter_and_the_linter_leave_it_alone(folder: Path) -> None:
    made = new.make("add_something", folder)
    formatted = ruff(made, "format", "--check")
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    linted = ruff(made, "check", "--no-cache")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    made.write_text("import os\n" + made.read_text())
    assert ruff(made, "check", "--no-cache").returncode == 1, "the check sees what it looks for"


def test_nothing_that_was_there_is_changed(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.py")}
    made = new.make("add_something", folder)
    after = {path: path.read_bytes() for path in folder.rglob("*.py")}
    assert after == {**before, made: made.read_bytes()}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Add",
        "add-something",
        "add something",
        "_add",
        "add_",
        "a__b",
        "2fa",
        "a" * 41,
        "../a",
        "ä",
        "a\n",
    ],
)
def test_a_missing_or_bad_name_is_refused_in_a_sentence(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError):
        new.make(name, folder)
    assert new.main([name]) == 1
    written = capsys.readouterr()
    assert "add_something" in written.err, "it says how"
    assert not written.out


def test_two_newest_migrations_are_refused(folder: Path) -> None:
    """Two branches that each added one: a third would hide that."""
    made = new.make("add_one", folder)
    other = made.with_name("0000_other.py")
    other.write_text(made.read_text().replace(f'revision = "{NEXT}"', 'revision = "0000"', 1))
    with pytest.raises(ConfigError, match="2 newest migrations"):
        new.make("add_two", folder)


def test_a_newest_migration_without_a_number_is_refused_in_a_sentence(folder: Path) -> None:
    """Fails with a traceback when the number after it is made all the same."""
    made = new.make("add_one", folder)
    other = made.with_name("abc_other.py")
    other.write_text(
        made.read_text().replace(f'"{NEXT}"', '"abc"').replace(f'"{SCHEMA_REVISION}"', f'"{NEXT}"')
    )
    with pytest.raises(ConfigError, match=r"^'abc', the newest migration, is no number") as refused:
        new.make("add_two", folder)
    assert "abc_other.py" in refused.value.hint


def test_the_reminder_has_the_line_to_change() -> None:
    lines = new.MODELS.read_text().splitlines()
    said = new.reminder(new.MIGRATIONS / "versions" / f"{NEXT}_add_something.py")
    line = lines.index(f'SCHEMA_REVISION = "{SCHEMA_REVISION}"')
    assert f"line {line + 1} of shared/models/base.py" in said
    assert f'SCHEMA_REVISION = "{NEXT}"' in said
    assert f"migrations/versions/{NEXT}_add_something.py" in said
