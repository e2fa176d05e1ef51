"""What `pointsman run` remembers in the data folder, beside the servers' data.

`secret_keys` (the encryption keys), `demo.json` (the demo callback and a read-only key to watch it)
and `run.json` (where a running Pointsman is found) are readable by their owner only. Files are
replaced whole. The lock says who holds the folder, from the start on; `run.json` comes when all is
ready.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from deploy.local.folders import usable
from shared.errors import StartupError

LOCK = "pointsman.lock"
KEYS_FILE = "secret_keys"


class DataFolder:
    """The data folder of one installation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._lock: int | None = None

    def take(self, url: str) -> None:
        """Make the folder and hold it for this process, which will be found at `url`.

        Raises StartupError when another one has it, and leaves everything of that one alone; also
        when it cannot be used.
        """
        with usable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.open(self.folder / LOCK, flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self.read(LOCK)
            where = f" (pid {holder['pid']}, {holder['url']})" if holder else ""
            raise StartupError(
                f"Pointsman runs on {self.folder} already{where}.",
                hint="Use that one or stop it first, or set POINTSMAN_DATA_DIR to another folder.",
            ) from None
        with usable(self.folder):
            os.truncate(self._lock, 0)
            os.write(self._lock, json.dumps({"pid": os.getpid(), "url": url}).encode())
        self.remove("run.json")  # of a run that was killed

    @property
    def has_secret_keys(self) -> bool:
        """Whether a run keeps encryption keys here."""
        with usable(self.folder):
            return (self.folder / KEYS_FILE).exists()

    def secret_keys(self) -> str:
        """The encryption keys that a run keeps here, newest first."""
        path = self.folder / KEYS_FILE
        with usable(self.folder):
            keys = path.read_bytes()
        try:
            return keys.decode().strip()
        except UnicodeDecodeError:
            raise StartupError(
                f"{path} holds no keys.", hint="Bring back the file from your copy of the data folder."
            ) from None

    def keep_secret_keys(self, keys: str) -> None:
        """Keep these encryption keys from now on."""
        self.write(KEYS_FILE, keys)

    def write(self, name: str, content: str | dict[str, Any]) -> None:
        """Replace a file, readable by its owner only."""
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        fresh = self.folder / f"{name}.new"
        with usable(self.folder):
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self.folder / name)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of ours; an empty dict when there is none."""
        with usable(self.folder):
            try:
                text = (self.folder / name).read_bytes()
            except FileNotFoundError:
                return {}
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            return {}
        return found

    def remove(self, name: str) -> None:
        with usable(self.folder):
            (self.folder / name).unlink(missing_ok=True)
