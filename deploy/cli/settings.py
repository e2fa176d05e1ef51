"""`pointsman settings`: the table of all settings, which is also docs/configuration.md."""

from __future__ import annotations

import click
from pydantic_core import PydanticUndefined

from shared.config import PREFIX, Settings

INTRODUCTION = """# Configuration

Everything is set through environment variables, read once when a process starts. An unknown `POINTSMAN_`
variable, a value that cannot be used or two that contradict each other stop the start with a message that
names the variable and the fix. This page is made by `pointsman settings > docs/configuration.md`.

| variable | meaning | default |
|---|---|---|
"""


def table() -> str:
    """docs/configuration.md, as it must be."""
    rows = []
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{PREFIX}{name.upper()}` | {field.description} | {_default(field.default)} |")
    return INTRODUCTION + "\n".join(rows) + "\n"


def _default(value: object) -> str:
    if value is None or value is PydanticUndefined:
        return "–"
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`" if value else "empty"
    return f"`{value}`"


@click.command()
def settings() -> None:
    """Print the table of all settings."""
    click.echo(table(), nl=False)
