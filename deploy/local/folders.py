"""What is said of a folder of ours that cannot be used: a sentence with what helps, never a
traceback.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import StartupError

OTHERS = (errno.EACCES, errno.EPERM)
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Turn each OSError in the block, about this folder or a file in it, into a StartupError."""
    try:
        yield
    except OSError as error:
        raise StartupError(
            f"{error.filename or folder} cannot be used: {error.strerror or error}.",
            hint=_hint(folder, error.errno),
        ) from error


def _hint(folder: Path, number: int | None) -> str:
    if number in OTHERS:
        owner = f"Run `sudo chown -R {os.geteuid()} {folder}`"
        return f"{owner}, or set POINTSMAN_DATA_DIR to a folder of your own."
    if number in FULL:
        return "Make room on its file system, or set POINTSMAN_DATA_DIR to a folder on another one."
    if number == errno.EROFS:
        return "Set POINTSMAN_DATA_DIR to a folder on a file system that takes writes."
    return "Set POINTSMAN_DATA_DIR to another folder."
