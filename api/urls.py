"""The public URLs: where triggers are called and where their status is.

Invariant: a URL is made of the settings and a name, never of a request, so that no caller's `Host`
ever stands in one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from shared.masks import MASK

TOKEN_PREFIX = "/t/"  # noqa: S105 - a path, no secret
CUSTOM_PREFIX = "/c/"
TRIGGER_PREFIXES = (TOKEN_PREFIX, CUSTOM_PREFIX)
LOOKS = frozenset({"HEAD", "OPTIONS"})
"""Methods that look at a trigger URL and are no trigger."""
NAME = re.compile(r"[A-Za-z0-9._~-]{1,200}")
"""What a trigger token or a custom path is made of: characters that no URL has to escape (RFC 3986,
section 2.3).
"""


@dataclass(frozen=True, slots=True)
class Urls:
    """base: what every URL begins with, without a slash at its end."""

    base: str

    def by_token(self, token: str) -> str:
        """The trigger URL of a callback."""
        return f"{self.base}{TOKEN_PREFIX}{token}"

    def by_path(self, custom_path: str) -> str:
        """The trigger URL by the path that its user chose."""
        return f"{self.base}{CUSTOM_PREFIX}{custom_path}"

    @staticmethod
    def status(trigger_url: str, trigger_id: UUID) -> str:
        """Where the status of a trigger is, for whoever knows the URL that was called."""
        return f"{trigger_url}/{trigger_id}"


def logged_path(path: str) -> str:
    """A path as the log has it: whoever reads a trigger URL there could call it."""
    for prefix in TRIGGER_PREFIXES:
        if path.startswith(prefix):
            return prefix + MASK
    return path
