"""What a receiver repeats of a secret is masked, whatever it makes of it."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from worker.probes.echoes import LEAST_BYTES, MOST_SPANS, MOST_TEXTS, Secrets

SECRET = 'a"b\\c/d&e<f>ä€😀%41z'
SPELLINGS = {
    "as it is": SECRET,
    "upper case": SECRET.encode().upper().decode(),
    "JSON": json.dumps(SECRET),
    "JSON in UTF-8": json.dumps(SECRET, ensure_ascii=False),
    "JSON of PHP": json.dumps(SECRET).replace("/", "\\/"),
    "JSON of Go": json.dumps(SECRET).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003E"),
    "JSON in JSON": json.dumps(json.dumps(SECRET)),
    "JSON in JSON in JSON": json.dumps(json.dumps(json.dumps(SECRET))),
    "a URL": quote(SECRET, safe=""),
    "a URL in lower case": quote(SECRET, safe="").lower(),
    "a path": quote(SECRET),
    "a form": quote_plus(SECRET),
    "a URL in JSON": json.dumps(quote(SECRET)),
    "a URL in a URL": quote(quote(SECRET)),
    "HTML": html.escape(SECRET),
    "HTML by numbers": "".join(f"&#{ord(one)};" for one in SECRET),
    "HTML by hexadecimal numbers": "".join(f"&#x{ord(one):X};" for one in SECRET),
    "JavaScript": "".join(f"\\x{one:02x}" for one in SECRET.encode()),
    "read as latin-1": SECRET.encode().decode("latin-1"),
}


def masked(text: str, *secrets: str) -> str:
    return Secrets([one.encode() for one in secrets]).masked(text)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_found_however_it_is_spelled(spelling: str) -> None:
    """Fails when the text alone is compared. What stands around it stays."""
    found = masked(f"you sent {SPELLINGS[spelling]} to us", SECRET).replace('"', "").replace("\\", "")
    assert found == "you sent *** to us"


@pytest.mark.parametrize(
    ("value", "echo", "shown"),
    [
        ("Bearer t0psecret", "token: t0psecret", "token: ***"),
        ("session=t0psecret; theme=dark", '{"session": "t0psecret"}', '{"***": "***"}'),
        ('Digest username="me", response="t0psecret"', "response t0psecret", "*** ***"),
        (f"Basic {base64.b64encode(b'me:t0p:secret').decode()}", "password t0p:secret!", "password ***!"),
        (f"basic {base64.b64encode(b'me:t0p:secret').decode()}", "pair me:t0p:secret!", "pair ***!"),
        ("Basic t0psecret", "no pair: t0psecret", "no pair: ***"),
        ("Basic =", "no pair", "no pair"),
    ],
)
def test_a_part_of_a_secret_is_one(value: str, echo: str, shown: str) -> None:
    """A receiver reads cookies, and decodes what stands in `Basic`."""
    assert masked(echo, value) == shown


@pytest.mark.parametrize("order", [1, -1])
def test_no_secret_uncovers_the_rest_of_another(order: int) -> None:
    """Fails when one is replaced after another."""
    secrets = ["abcdef", "abcdef-the-rest", "rest-of-a-third"][::order]
    assert masked("<abcdef-the-rest-of-a-third>", *secrets) == "<***>"


def test_what_touches_is_one_mask_and_what_does_not_is_two() -> None:
    assert masked("secretsecret secret", "secret") == "*** ***"
    assert masked("secret", "secret") == "***"
    assert masked("aaaaaaa!", "aaaa") == "***!"


def test_short_texts_are_no_secrets() -> None:
    assert masked("1 or 123 or 1234", "1", "123", "1234") == "1 or 123 or ***"
    assert LEAST_BYTES == 4


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_cut_leaves_no_beginning_of_a_secret(cut: int) -> None:
    """Wherever it is. Fails when what is left is searched, and not what there was."""
    secret = "s3cret-of-thirty-two-characters!"
    shown = Secrets([secret.encode()]).masked_bytes(f"key={secret}.".encode(), cut)
    assert shown == b"key="[:cut] + b"***" * (cut > 4) + b"." * (cut > 36)


@pytest.mark.parametrize("spelled", ["s3cret-of-twenty-four-%22", "s3cret-of-twenty-four-\\u0022"])
def test_where_an_answer_was_cut_off_the_beginning_of_a_secret_is_masked(spelled: str) -> None:
    """But for what any text may end with."""
    secrets = Secrets([b's3cret-of-twenty-four-"'])
    for size in range(len(spelled)):
        shown = secrets.masked_bytes(f"key={spelled[:size]}".encode(), is_cut=True).decode()
        assert "s3cr" not in shown
        assert "***" in shown or size < LEAST_BYTES
    assert secrets.masked_bytes(b"key=s3cret-of", is_cut=False) == b"key=s3cret-of"


def test_bytes_that_are_no_text_are_searched() -> None:
    secrets = Secrets(["pässwort".encode("latin-1"), b"other"])
    assert secrets.masked_bytes(b"\xff\x00p\xe4sswort\x00") == b"\xff\x00***\x00"
    assert secrets.masked("read as latin-1: pässwort") == "read as latin-1: ***"


def test_what_would_take_too_long_is_one_mask() -> None:
    """Fails when a tenant buys seconds of CPU by a header of many words, or an answer of one."""
    many = Secrets([b" ".join(b"word%d" % number for number in range(MOST_TEXTS + 1))])
    assert many.masked("anything") == "***"
    often = Secrets([b"aaaa"])
    assert often.masked("a" * (MOST_SPANS + 4)) == "***"
    assert often.masked_bytes(b"b" * 8_000, 4_096) == b"b" * 4_096


def test_secrets_show_nothing_of_themselves() -> None:
    assert "t0psecret" not in repr(Secrets([b"t0psecret"]))
