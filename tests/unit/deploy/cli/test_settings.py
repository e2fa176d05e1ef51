"""The table of settings is what the settings are."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from deploy.cli.settings import settings, table
from shared.config import Settings

PAGE = Path(__file__).parents[4] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == table(), "run `make docs`"


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_command_prints_the_page() -> None:
    ended = CliRunner().invoke(settings)
    assert (ended.exit_code, ended.output) == (0, table())


def test_every_setting_is_a_row_of_three_cells_with_its_default() -> None:
    """Fails when a description breaks the table."""
    rows = [line for line in table().splitlines() if line.startswith("| `")]
    cells = {row.split(" | ")[0].strip("|` "): row.strip("| ").split(" | ") for row in rows}
    assert list(cells) == [f"POINTSMAN_{name.upper()}" for name in Settings.model_fields]
    assert {len(row) for row in cells.values()} == {3}
    assert all(row.count("|") == 4 for row in rows)
    assert cells["POINTSMAN_PORT"][2] == "`8080`"
    assert cells["POINTSMAN_LANES"][2] == "`fresh,retry`"
    assert cells["POINTSMAN_EGRESS_ALLOW"][2] == "empty"
    assert cells["POINTSMAN_DATABASE_URL"][2] == "–"
