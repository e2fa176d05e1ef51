"""How a config that cannot be used is refused."""

from __future__ import annotations

from shared.errors import Invalid


def bad_field(name: str, what: str) -> Invalid:
    """The error of one field of a config. name: empty where it is none alone."""
    where = f"config.{name}" if name else "config"
    return Invalid(f"{where}: {what}.", code="bad_config", hint=f"Fix {where} of the action.")
