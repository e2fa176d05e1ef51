"""Makes the next migration: `make migration NAME=add_something`.

Invariant: the file has the next number, continues the only newest migration and is made from
script.py.mako, which bears the house's habits. Nothing that was there before is changed: whoever
asked is told which line of the models to change.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from alembic.script import ScriptDirectory

from shared.errors import ConfigError

MIGRATIONS = Path(__file__).parent
MODELS = MIGRATIONS.parent / "shared" / "models" / "base.py"

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

# Alembic cuts the names of files there.
MAX_NAME_CHARS = 40

REVISION_LINE = re.compile(r'^SCHEMA_REVISION = "(\w+)"$', re.MULTILINE)


def make(name: str, folder: Path = MIGRATIONS) -> Path:
    """Make the next file in `folder`/versions and return its path, or raise ConfigError."""
    if not name:
        raise ConfigError("The migration has no name.", hint="Try: make migration NAME=add_something")
    if not NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        raise ConfigError(
            f"{name!r} is no name for a migration.",
            hint=f"Use at most {MAX_NAME_CHARS} small letters, digits and underscores, as in add_something.",
        )
    script = ScriptDirectory(str(folder), file_template="%(rev)s_%(slug)s", messaging_opts={"quiet": True})
    newest = script.get_heads()
    if len(newest) != 1:
        raise ConfigError(
            f"There are {len(newest)} newest migrations: {', '.join(newest)}.",
            hint="Give the later one the next number, and let it revise the other.",
        )
    if not newest[0].isdecimal():
        path = Path(script.get_revisions(newest)[0].path)
        raise ConfigError(
            f"{newest[0]!r}, the newest migration, is no number.",
            hint=f"Give {path.name} the number after the one that it revises, in its name and in `revision`.",
        )
    made = script.generate_revision(f"{int(newest[0]) + 1:04d}", name.replace("_", " ").capitalize())
    assert made is not None, "Alembic gives none only if a hook told it so, and we have no hook"
    return Path(made.path)


def reminder(made: Path, models: Path = MODELS) -> str:
    """Say what is left to do by hand, with the line of the models that must change."""
    text = models.read_text()
    found = REVISION_LINE.search(text)
    assert found is not None, f"{models} names the newest migration"
    number = text.count("\n", 0, found.start()) + 1
    revision = made.name.partition("_")[0]
    return f"""Made {_short(made)}. What is left:
  1. Say in its docstring what is true afterwards, and write upgrade().
     An index on a table that grows is built beside the traffic, as in 0008_lists.py.
  2. Change line {number} of {_short(models)}
       from  {found.group()}
       to    {found.group().replace(found.group(1), revision)}
  3. make test TESTS=tests/integration/data
"""


def _short(path: Path) -> str:
    root = MIGRATIONS.parent
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def main(arguments: list[str]) -> int:
    """Make the migration of that name; the exit status."""
    try:
        made = make(arguments[0] if arguments else "")
    except ConfigError as error:
        sys.stderr.write(f"{error.message} {error.hint}\n")
        return 1
    sys.stdout.write(reminder(made))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
