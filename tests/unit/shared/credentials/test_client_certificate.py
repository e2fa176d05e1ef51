"""A client's certificate and its private key."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from shared.credentials import check
from shared.errors import Invalid
from tests.certificates import Authority, private_pem

OURS, OTHERS = Authority("ours"), Authority("others")
CLIENT, ANOTHER = OURS.sign("client"), OURS.sign("another")
CHAIN = CLIENT.certificate + OURS.certificate


def meta(**changes: Any) -> dict[str, Any]:
    known = {"kind": "clientCertificate", "certificate": CHAIN, "origins": ["https://api.example.com"]}
    return known | changes


@pytest.mark.parametrize("changes", [{}, {"ca": OTHERS.certificate}, {"certificate": f"# mine\n{CHAIN}"}])
def test_a_chain_with_its_key_can_be(changes: dict[str, Any]) -> None:
    check("GENERIC", CLIENT.key, meta(**changes))


@pytest.mark.parametrize(
    ("secret", "changes", "said"),
    [
        (ANOTHER.key, {}, "does not belong"),
        (CLIENT.key, {"certificate": OURS.certificate + CLIENT.certificate}, "does not belong"),
        (CLIENT.certificate, {}, "no private key"),
        ("s3cret", {}, "no private key"),
        ("", {}, "has 1 to"),
        (private_pem(ec.generate_private_key(ec.SECP256R1()), b"word"), {}, "without a passphrase"),
        (CLIENT.key, {"certificate": "none"}, "meta.certificate"),
        (CLIENT.key, {"ca": "none"}, "meta.ca"),
        (
            CLIENT.key,
            {"certificate": CHAIN + CLIENT.key},
            "meta.certificate: Value error, it holds a private",
        ),
        (CLIENT.key, {"ca": CLIENT.key}, "meta.ca"),
        (CLIENT.key, {"certificate": CHAIN + "\x00"}, "meta.certificate"),
        (CLIENT.key, {"certificate": ""}, "meta.certificate"),
        (CLIENT.key, {"origins": ["http://api.example.com"]}, "meta.origins"),
    ],
)
def test_what_cannot_be_shown_in_tls_is_refused(secret: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as error:
        check("GENERIC", secret, meta(**changes))
    assert error.value.code == "bad_credential"
    assert said in error.value.message
    for line in CLIENT.key.splitlines()[1:-1]:
        assert line not in error.value.message
