"""/api/v1/credentials."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import credentials
from api.resources.credentials import CredentialChange, CredentialPage, NewCredential, ShownCredential
from api.resources.shapes import PageQuery
from api.work import Work

face = Face("credentials", "The secrets with which actions show who they are. They are never shown again.")


@face.route("GET", "/credentials")
def list_credentials(work: Work, query: PageQuery) -> CredentialPage:
    """The caller's credentials, newest first, without their secrets."""
    return credentials.page(work, work.owner, query)


@face.route("POST", "/credentials", status=201)
def create_credential(work: Work, body: NewCredential) -> ShownCredential:
    """Seal a secret. It is bound to the origins in `meta`, and goes nowhere else."""
    return credentials.create(work, work.owner, body)


@face.route("GET", "/credentials/<uuid:id>")
def get_credential(work: Work, id: UUID) -> ShownCredential:
    """One credential without its secret, and who uses it."""
    return credentials.find(work, work.owner, id)


@face.route("PATCH", "/credentials/<uuid:id>")
def change_credential(work: Work, id: UUID, body: CredentialChange) -> ShownCredential:
    """Replace the secret, rename, change `meta`; it holds for every attempt that starts later."""
    return credentials.change(work, work.owner, id, body)


@face.route("DELETE", "/credentials/<uuid:id>", errors=(409,))
def delete_credential(work: Work, id: UUID) -> None:
    """Delete a credential that no action uses."""
    credentials.delete(work, work.owner, id)
