"""What a value holds that is sealed, and the same value under the newest key."""

from __future__ import annotations

import json
import re

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from shared.crypto import SecretBox, key_id, new_key
from shared.keyring.texts import NAMED, NAMED_OR_SECRET, NAMED_OR_WHOLE, UNNAMED, name_of, read

OLD, NEW, STRANGE = new_key(), new_key(), new_key()
OLD_ID, NEW_ID, STRANGE_ID = map(key_id, (OLD, NEW, STRANGE))
BOX = SecretBox(f"{NEW},{OLD}")
PATTERNS = [NAMED, NAMED_OR_WHOLE, NAMED_OR_SECRET]


def sealed(plain: str, key: str = OLD) -> str:
    return SecretBox(key).encrypt(plain)


def bare(plain: str, key: str = OLD) -> str:
    return Fernet(key.encode()).encrypt(plain.encode()).decode()


def opened(text: str) -> str:
    """The text with what it holds opened, and each key named: the box must hold it."""
    return re.sub(
        r"sealed:[0-9a-f]{8}:[\w=-]+", lambda found: f"<{':'.join(BOX.open(found.group()) or ())}>", text
    )


def test_every_sealed_text_of_a_value_comes_under_the_newest_key() -> None:
    text = f'{{"a": "{sealed("one")}", "b": ["https://x.example {sealed("/two?x")}", 1.50], "c": "{sealed("three", NEW)}"}}'
    reading = read(text, BOX)
    assert opened(reading.text) == (
        f'{{"a": "<{NEW_ID}:one>", "b": ["https://x.example <{NEW_ID}:/two?x>", 1.50], "c": "<{NEW_ID}:three>"}}'
    )
    assert reading.opened == {OLD_ID: 2, NEW_ID: 1}
    assert reading.closed == []


@pytest.mark.parametrize("outer", [OLD, NEW], ids=["old", "new"])
def test_what_is_sealed_within_a_sealed_text_comes_under_the_newest_key_too(outer: str) -> None:
    """Fails when a probe's call holds a credential that needs the old key still."""
    lookalike = "sealed:deadbeef:a-caller_wrote=this"
    within = f'[["authorization", "{sealed("Bearer x")}"], ["x", "{lookalike}"]]'
    reading = read(sealed(within, outer), BOX)
    ((key, plain),) = [BOX.open(reading.text) or ("", "")]
    assert key == NEW_ID
    assert opened(plain.replace(lookalike, "")) == f'[["authorization", "<{NEW_ID}:Bearer x>"], ["x", ""]]'
    assert lookalike in plain
    assert reading.opened == ({OLD_ID: 2} if outer == OLD else {NEW_ID: 1, OLD_ID: 1})
    assert reading.closed == [], "nobody sealed it"
    assert read(reading.text, BOX).text == reading.text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_under_the_newest_key_stays_what_it_is(pattern: re.Pattern[str]) -> None:
    """Fails when a rotation that is repeated writes everything again."""
    text = f"https://x.example {sealed('/hidden', NEW)}"
    assert read(text, BOX, pattern).text == text


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        (sealed("x", STRANGE), STRANGE_ID),
        (sealed("x").replace(OLD_ID, NEW_ID), NEW_ID),
        (sealed("x")[:-8], OLD_ID),
        ("sealed:deadbeef:whatever-a_caller=wrote", "deadbeef"),
        (f"say sealed:{OLD_ID}:x to it", OLD_ID),
    ],
    ids=["of another key", "of the wrong key", "cut off", "made up", "amid words"],
)
def test_what_no_key_opens_stays_what_it_is_and_is_told(
    pattern: re.Pattern[str], text: str, names: str
) -> None:
    reading = read(text, BOX, pattern)
    assert reading.text == text
    assert [name_of(sealed) for sealed in reading.closed] == [names]
    assert reading.opened == {}


@pytest.mark.parametrize(
    ("pattern", "before", "after"),
    [
        (NAMED_OR_WHOLE, "", ""),
        (NAMED_OR_WHOLE, "https://x.example ", ""),
        (NAMED_OR_SECRET, '[{"secret": "', '", "expiresAt": null}]'),
    ],
    ids=["whole", "behind an origin", "signing secret"],
)
def test_a_bare_ciphertext_comes_under_the_newest_key_where_it_was_written(
    pattern: re.Pattern[str], before: str, after: str
) -> None:
    reading = read(before + bare("one") + after, BOX, pattern)
    assert opened(reading.text) == f"{before}<{NEW_ID}:one>{after}"
    assert reading.opened == {OLD_ID: 1}
    strange = read(before + bare("one", STRANGE) + after, BOX, pattern)
    assert strange.text.count("gAAAAA") == 1
    assert [name_of(sealed) for sealed in strange.closed] == [UNNAMED]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (NAMED, f'{{"body": "{bare("x", STRANGE)}", "secret": "{bare("x", STRANGE)}"}}'),
        (NAMED_OR_SECRET, f'[{{"secret": "x", "createdAt": "{bare("x", STRANGE)}"}}]'),
        (NAMED_OR_WHOLE, f"{bare('x', STRANGE)} and more"),
        (NAMED_OR_WHOLE, "gAAAAA"),
    ],
)
def test_a_fernet_token_of_somebody_elses_is_nothing(pattern: re.Pattern[str], text: str) -> None:
    """Fails when the body that an action sends holds one, and every rotation complains of it."""
    reading = read(text, BOX, pattern)
    assert (reading.text, reading.opened, reading.closed) == (text, {}, [])


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text())
def test_any_other_text_stays_what_it_is(pattern: re.Pattern[str], text: str) -> None:
    assert read(text, BOX, pattern).text == text
    around = json.dumps([text, sealed("hidden"), text])
    assert json.loads(opened(read(around, BOX, pattern).text)) == [text, f"<{NEW_ID}:hidden>", text]
