"""The table of settings is what the settings are."""

from __future__ import annotations

from pathlib import Path

from deploy.cli.settings import table
from shared.config import Settings

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == table(), "run `make docs`"


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
