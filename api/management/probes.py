"""/api/v1/actions/{id}/test, /api/v1/credentials/{id}/test and /api/v1/probes/{id}."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import probes
from api.resources.probe_calls import NewCredentialProbe, NewProbe
from api.resources.probes import ShownProbe
from api.work import Work

face = Face("probes", "One request that is sent to see what comes of it. Kept for an hour.")


@face.route("POST", "/actions/<uuid:id>/test", errors=(429,), needs_body=False, until_done=probes.find)
def test_action(work: Work, id: UUID, body: NewProbe) -> ShownProbe:
    """Send what an action would send, once, and show what came back.

    The answer comes when it is done: 200. After 30 s it is 202, and the probe can be read later.
    No more than ten a minute, one at a time.
    """
    return probes.of_action(work, work.owner, id, body)


@face.route("POST", "/credentials/<uuid:id>/test", errors=(429,), needs_body=False, until_done=probes.find)
def test_credential(work: Work, id: UUID, body: NewCredentialProbe) -> ShownProbe:
    """Send a request that shows a credential to one of its origins, and show what came back.

    The answer comes as that to the test of an action, and counts with it.
    """
    return probes.of_credential(work, work.owner, id, body)


@face.route("GET", "/probes/<uuid:id>")
def get_probe(work: Work, id: UUID) -> ShownProbe:
    """One probe, with its result once it is DONE."""
    return probes.find(work, work.owner, id)
