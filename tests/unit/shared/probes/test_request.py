"""What a probe asks for, between the API and a worker."""

from __future__ import annotations

import orjson
import pytest

from shared.crypto import SecretBox, new_key
from shared.errors import Invalid
from shared.ids import new_id
from shared.probes.request import ActionProbe, CredentialProbe, ProbeCall, opened_request, sealed_request

BOX = SecretBox(new_key())
CALL = ProbeCall(
    method="PUT",
    path="/t/x",
    query="a=1",
    headers=[("x-a", "ä"), ("x-a", "2")],
    content_type=None,
    body=bytes(range(256)),
    trigger_id=new_id(),
    received_at="2026-01-01T00:00:00+00:00",
    answers={"first": {"statusCode": 200}},
)


@pytest.mark.parametrize("call", [CALL, ProbeCall("POST", "/", "", [], "a/b", b"")])
def test_what_is_sealed_opens_to_what_it_was(call: ProbeCall) -> None:
    probe = ActionProbe(new_id(), new_id(), call)
    sealed = sealed_request(probe, BOX)
    assert sealed.startswith("sealed:")
    assert opened_request(sealed, BOX) == probe


def test_a_credential_is_named_and_not_told() -> None:
    probe = CredentialProbe(new_id(), "https://api.example.com/me", "GET")
    assert opened_request(sealed_request(probe, BOX), BOX) == probe


def test_what_no_key_opens_is_invalid() -> None:
    with pytest.raises(Invalid):
        opened_request(sealed_request(ActionProbe(new_id(), new_id(), CALL), SecretBox(new_key())), BOX)


def test_a_kind_of_a_later_version_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="of kind other"):
        opened_request(BOX.encrypt(orjson.dumps({"kind": "other"}).decode()), BOX)
