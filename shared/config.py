"""All settings: one frozen object, read once from the environment at the start of a process.

Nothing else reads the environment. An unknown POINTSMAN_ variable, a malformed value or two values
that contradict one another stop the start with a message that names the variable and the fix.
docs/configuration.md is generated from the descriptions here and a test keeps it true.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from shared.errors import ConfigError

PREFIX = "POINTSMAN_"

# After it Redis delivers an unacknowledged hint again; the code's own waits rely on it.
VISIBILITY_SECONDS = 900

MiB = 1024 * 1024


class Settings(BaseModel):
    """What an operator can set. Durations and sizes carry their unit in the name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    environment: Literal["local", "production"] = Field(
        "local", description="`production` refuses generated keys and an open address guard."
    )
    host: str = Field("127.0.0.1", description="Address on which the API listens.")
    port: int = Field(8080, ge=0, le=65535, description="Port on which the API listens; 0 takes a free one.")
    public_url: str | None = Field(
        None,
        description="Base of the URLs handed out, e.g. https://hooks.example.com. Default: http://host:port.",
    )
    data_dir: Path = Field(
        Path(".pointsman"), description="Data of the embedded servers, generated keys and state."
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL 15 or newer, postgresql://user:password@host:port/name, or whatever else libpq "
        "reads: several hosts, the folder of a socket, sslmode, options. Default: embedded.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Redis 6.2 or newer, or Valkey: redis://:password@host:port/0; rediss:// for TLS, "
        "unix:///path?db=0, sentinel://host:port;host:port/0?master_name=…. TLS is verified unless "
        "ssl_cert_reqs=none; ssl_ca_certs= names the authority. Not in cluster mode. Default: embedded.",
    )
    start_wait_seconds: float = Field(
        30.0, ge=0, le=3600, description="How long a start waits for a PostgreSQL that is not there yet."
    )
    secret_keys: SecretStr | None = Field(
        None,
        description="Encryption keys (44 characters each, `pointsman keys new`), newest first, with commas "
        "between. They seal signing secrets, credentials, header values and URLs; what a lost key sealed must be set again. "
        "docs/keys.md says how to change them. Default: generated into the data folder; in production required.",
    )
    admin_email: str = Field("admin@localhost", description="E-mail of the first admin, created once.")
    admin_password: SecretStr | None = Field(
        None, description="Password of the first admin. Default: generated and printed once."
    )
    egress_allow: tuple[IPv4Network | IPv6Network, ...] = Field(
        (),
        description="Networks (CIDR, commas between) that deliveries may reach although the address guard "
        "blocks them. `make run` sets 127.0.0.0/8 and ::1/128.",
    )
    egress_deny: tuple[IPv4Network | IPv6Network, ...] = Field(
        (),
        description="Networks (CIDR, commas between) that no delivery may reach, whatever else holds.",
    )
    workers: int = Field(1, ge=1, le=64, description="Worker processes that `pointsman run` starts.")
    api_processes: int = Field(1, ge=1, le=64, description="API processes that `pointsman run` starts.")
    capacity: int = Field(
        500,
        ge=2,
        le=20_000,
        description="Places in each worker process: so many attempts are under way at most. A run takes as many as its "
        "largest step has actions side by side.",
    )
    reserved_share: float = Field(
        0.2,
        ge=0,
        le=0.5,
        description="Part of a worker's places and bytes that is only for tenants that hold less than it, so that nobody "
        "whose receivers hang holds others up. One tenant alone fills the rest.",
    )
    capacity_bytes: int = Field(
        256 * MiB, ge=8 * MiB, description="Bytes of trigger bodies held in each worker process."
    )
    lanes: tuple[str, ...] = Field(
        ("fresh", "retry"),
        min_length=1,
        description="Celery queues that a worker listens to, with commas between.",
    )

    max_body_bytes: int = Field(
        1 * MiB, ge=1024, le=64 * MiB, description="Largest request body; beyond it 413."
    )
    body_timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="Time in which a request's body must have arrived; beyond it 408."
    )
    keep_alive_seconds: float = Field(
        75.0,
        ge=1,
        le=3600,
        description="How long a connection may be idle between two requests. Keep it longer than the load balancer "
        "in front does (60 s with most, 600 s with Google's), so that it ends connections first. Off Linux a "
        "request's head may take as long; on Linux 10 s.",
    )
    max_connections: int = Field(
        10_000,
        ge=100,
        le=100_000,
        description="Connections that each API process holds, slow and idle ones too.",
    )
    api_threads: int = Field(
        32, ge=1, le=512, description="Threads that run management calls in each API process."
    )
    accept_timeout_seconds: float = Field(
        3.0,
        gt=0.1,
        le=30,
        description="Longest time until a call of a trigger URL is committed, its look-up included; beyond it 503.",
    )
    management_timeout_seconds: float = Field(
        15.0,
        gt=0.1,
        le=300,
        description="Longest time that a call of the management API may take; beyond it 503, and nothing was changed.",
    )
    idempotency_seconds: float = Field(
        86_400.0, ge=1, le=30 * 86_400, description="How long an Idempotency-Key names its trigger."
    )
    max_waiters: int = Field(
        1_000,
        ge=0,
        le=50_000,
        description="Callers that may wait for an end (`Prefer: wait`) in each API process; others get 202 at once.",
    )
    max_response_bytes: int = Field(
        64 * 1024,
        ge=0,
        le=8 * MiB,
        description="Bytes of a receiver's response that are stored; the rest is cut.",
    )
    max_timeout_ms: int = Field(
        300_000, ge=1_000, description="Largest timeout_duration that a callback may have."
    )
    max_stored_item_bytes: int = Field(
        512 * 1024, ge=1, le=64 * MiB, description="Largest value that one STORE action may keep."
    )
    max_stored_items: int = Field(
        10_000, ge=1, description="Stored items that one user may keep; beyond it STORE fails."
    )
    dns_threads: int = Field(
        32, ge=2, le=256, description="Threads that look up names in each worker process."
    )

    heartbeat_seconds: float = Field(3.0, gt=0, description="How often a worker renews its row.")
    lease_seconds: float = Field(
        10.0, gt=0, description="How long after its last good heartbeat a worker may start attempts."
    )
    stale_seconds: float = Field(
        20.0, gt=0, description="How long a worker's row must stay unchanged before its claims are void."
    )
    sweep_seconds: float = Field(1.0, gt=0, description="How often a worker looks for what needs repair.")
    first_hint_seconds: float = Field(
        5.0, gt=0, description="How long after accept the sweep takes a trigger's hint for lost."
    )
    drain_seconds: float = Field(
        30.0,
        ge=0,
        description="How long a worker that is told to stop lets its runs end before it releases them.",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port on which a worker process shows its metrics (`/metrics`, at `POINTSMAN_HOST`); 0 shows "
        "none. `pointsman run` gives each further worker the next port.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="`console` for people, `json` for machines."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )

    @field_validator("egress_allow", "egress_deny", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("lanes", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def postgres(self) -> str:
        """The URL of PostgreSQL; raises ConfigError when there is none."""
        return _needed(self.database_url, "DATABASE_URL")

    @property
    def redis(self) -> str:
        """The URL of Redis; raises ConfigError when there is none."""
        return _needed(self.redis_url, "REDIS_URL")

    @property
    def keys(self) -> str:
        """The encryption keys; raises ConfigError when there are none."""
        return _needed(self.secret_keys, "SECRET_KEYS")

    @property
    def listens_to_itself(self) -> bool:
        """Whether only this machine reaches the API."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def base_url(self) -> str:
        """Base of the public URLs, without a slash at its end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment, or raise ConfigError naming the variable and the
    fix.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(set(given) - known):
        raise ConfigError(
            f"{name} is not a setting.",
            hint=f"Did you mean {_nearest(name, known)}? docs/configuration.md lists all settings.",
        )
    try:
        settings = Settings(**{name[len(PREFIX) :].lower(): value for name, value in given.items()})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise ConfigError(f"{name}: {first['msg']}.", hint=_describe(name)) from None
    _check_agreement(settings)
    return settings


def _check_agreement(settings: Settings) -> None:
    """Refuse values that are each valid but contradict one another."""
    rules = (
        (
            settings.heartbeat_seconds * 2 < settings.lease_seconds,
            "POINTSMAN_LEASE_SECONDS must be more than twice POINTSMAN_HEARTBEAT_SECONDS",
            "Otherwise one late heartbeat stops a healthy worker.",
        ),
        (
            settings.lease_seconds < settings.stale_seconds,
            "POINTSMAN_STALE_SECONDS must be more than POINTSMAN_LEASE_SECONDS",
            "Otherwise a worker that still delivers is declared dead and its work runs twice.",
        ),
        (
            settings.stale_seconds < VISIBILITY_SECONDS,
            f"POINTSMAN_STALE_SECONDS must be less than {VISIBILITY_SECONDS}",
            "Otherwise Redis hands the work of a dead worker out before its claims are void.",
        ),
        (
            settings.sweep_seconds < settings.stale_seconds,
            "POINTSMAN_SWEEP_SECONDS must be less than POINTSMAN_STALE_SECONDS",
            "Otherwise nobody looks often enough to see that a worker has died.",
        ),
        (
            settings.first_hint_seconds > settings.accept_timeout_seconds,
            "POINTSMAN_FIRST_HINT_SECONDS must be more than POINTSMAN_ACCEPT_TIMEOUT_SECONDS",
            "Otherwise triggers are swept while their first hint is still on its way.",
        ),
        (
            settings.capacity_bytes >= 2 * settings.max_body_bytes,
            "POINTSMAN_CAPACITY_BYTES must be at least twice POINTSMAN_MAX_BODY_BYTES",
            "Otherwise one trigger with a large body holds up all others.",
        ),
        (
            settings.metrics_port + settings.workers <= 65_536,
            "POINTSMAN_METRICS_PORT must leave a port behind it for each worker",
            "There is none beyond 65535.",
        ),
        (
            "environment" in settings.model_fields_set or settings.listens_to_itself,
            "POINTSMAN_ENVIRONMENT must be set where POINTSMAN_HOST listens beyond this machine",
            "It is `production`, unless everybody who has an account may reach what listens on this machine alone.",
        ),
        (
            settings.environment == "local" or settings.secret_keys is not None,
            "POINTSMAN_SECRET_KEYS must be set in production",
            "Make one with `pointsman keys new` and keep it outside the database's backups.",
        ),
        (
            settings.environment == "local"
            or all(network.prefixlen > 0 for network in settings.egress_allow),
            "POINTSMAN_EGRESS_ALLOW must not open the whole address guard in production",
            "Name the networks of your own that deliveries may reach.",
        ),
    )
    for holds, message, hint in rules:
        if not holds:
            raise ConfigError(message + ".", hint=hint)


def _needed(value: SecretStr | None, name: str) -> str:
    if value is None:
        raise ConfigError(
            f"{PREFIX}{name} is not set.",
            hint="`pointsman run` sets it for its own processes; elsewhere set it yourself.",
        )
    return value.get_secret_value()


def _describe(name: str) -> str:
    field = Settings.model_fields.get(name[len(PREFIX) :].lower())
    return field.description or ConfigError.hint if field else ConfigError.hint


def _nearest(name: str, known: set[str]) -> str:
    return (get_close_matches(name, known, n=1) or [PREFIX + "DATABASE_URL"])[0]
