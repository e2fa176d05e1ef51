"""What a run has found: tables for people, everything for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings; the first column says what a row is about."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Report:
    """Everything that was measured. raw: by section, in seconds, bytes and counts."""

    machine: dict[str, str]
    command: str
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def show(self, console: Console) -> None:
        """Print it."""
        console.print()
        for name, value in self.machine.items():
            console.print(f"[dim]{name:>10}[/]  {value}")
        for table in self.tables:
            shown = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
            for number, heading in enumerate(table.headings):
                shown.add_column(heading, justify="right" if number else "left")
            for row in table.rows:
                shown.add_row(*row)
            console.print(shown)
        for note in self.notes:
            console.print(f"[yellow]{note}[/]")

    def write_json(self, path: Path) -> None:
        """Write everything, each round and each latency, for machines."""
        path.write_text(json.dumps(asdict(self), indent=1))

    def write_markdown(self, path: Path) -> None:
        """Write the tables as docs/benchmarks.md has them."""
        parts = [_markdown(table) for table in self.tables] + [f"- {note}" for note in self.notes]
        path.write_text("\n".join(parts))


def _markdown(table: Table) -> str:
    lines = [f"### {table.title}", "", _line(table.headings)]
    lines.append("|---|" + "---:|" * (len(table.headings) - 1))
    lines += [_line(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
