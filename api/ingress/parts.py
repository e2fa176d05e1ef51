"""What the ingress owns in one process, made in api/services.py and passed on with the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app
from sqlalchemy import Engine

from api.ingress.outcomes import Outcomes
from api.ingress.record import Recorder
from api.ingress.resolve import Resolver
from api.urls import Urls
from shared.config import Settings

EXTENSION = "pointsman.ingress"


@dataclass(frozen=True, slots=True)
class IngressParts:
    """The settings, the connections and the threads that calls of trigger URLs need."""

    settings: Settings
    engine: Engine
    urls: Urls
    resolver: Resolver
    recorder: Recorder
    outcomes: Outcomes


def parts() -> IngressParts:
    """Those of the application that handles the current request."""
    return cast(IngressParts, current_app.extensions[EXTENSION])
