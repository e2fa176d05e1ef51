"""Where a command finds the database and the encryption keys of the installation here.

Settings come first; then what `pointsman run` keeps in the data folder. Nothing is made here.
"""

from __future__ import annotations

from deploy.local.state import DataFolder
from shared.config import PREFIX, Settings
from shared.errors import ConfigError, StartupError

KEYS = f"{PREFIX}SECRET_KEYS"


def database_url(settings: Settings) -> str:
    """The configured database, or the embedded one of a running Pointsman."""
    if settings.database_url is not None:
        return settings.postgres
    url = DataFolder(settings.data_dir).read("run.json").get("databaseUrl")
    if url is None:
        raise StartupError(
            "No running Pointsman is known here.",
            hint="Start it with `make run`, or set POINTSMAN_DATABASE_URL.",
        )
    return str(url)


def secret_keys(settings: Settings) -> str:
    """The configured keys, or those in the data folder."""
    if settings.secret_keys is not None:
        return settings.keys
    data = DataFolder(settings.data_dir)
    if not data.has_secret_keys:
        raise ConfigError(
            "No encryption keys are known here.",
            hint=f"Set {KEYS} as the API and the workers have it,"
            " or POINTSMAN_DATA_DIR to the folder of `make run`.",
        )
    return data.secret_keys()


def own_keys(settings: Settings) -> DataFolder:
    """The data folder whose keys a command may change. ConfigError if the keys come from the
    settings, or if there are none.
    """
    if settings.secret_keys is not None:
        raise ConfigError(
            f"The keys of this installation stand in {KEYS}, which no command can change.",
            hint="docs/keys.md says how to put a new one there, and when an old one may go.",
        )
    secret_keys(settings)
    return DataFolder(settings.data_dir)
