"""/api/v1/callbacks/{id}/rotate-secret and /rotate-token."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import rotations
from api.resources.rotations import RotatedSecret, RotatedToken, SecretRotation, TokenRotation
from api.work import Work

face = Face("rotations", "Other secrets and other tokens for a callback. The old ones hold for a grace time.")


@face.route("POST", "/callbacks/<uuid:id>/rotate-secret", errors=(409,), needs_body=False)
def rotate_secret(work: Work, id: UUID, body: SecretRotation) -> RotatedSecret:
    """Give a callback new signing secrets. The answer holds the symmetric one, shown once.

    Deliveries are signed with old and new until the grace time is over.
    """
    return rotations.rotate_secret(work, work.owner, id, body)


@face.route("POST", "/callbacks/<uuid:id>/rotate-token", errors=(409,), needs_body=False)
def rotate_token(work: Work, id: UUID, body: TokenRotation) -> RotatedToken:
    """Give a callback another trigger URL. The old one is known until the grace time is over."""
    return rotations.rotate_token(work, work.owner, id, body)
