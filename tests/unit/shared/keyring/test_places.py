"""Where sealed texts stand in the JSON of columns: there, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy.dialects.postgresql import JSONB

from shared import action_types, credentials
from shared.crypto import SecretBox, new_key
from shared.keyring.columns import WRITTEN_ONCE
from shared.keyring.places import PLACES
from shared.keyring.texts import NAMED
from shared.models import Base
from shared.models.sealed import SEALED

BOX = SecretBox(new_key())
LOOKALIKE = "sealed:deadbeef:a-user_wrote=this"
EVERYWHERE = {
    "url": f"https://x.example/{LOOKALIKE}",
    "headers": {"X-Own": "hidden", "X-Empty": ""},
    "query": {"a": "hidden too"},
    "body": {"deep": [LOOKALIKE], LOOKALIKE: 1.5},
    "form": {"a": LOOKALIKE},
    "key": LOOKALIKE,
    "value": {"headers": {"a": LOOKALIKE}},
}
META = {
    "kind": "oauth2",
    "tokenUrl": "https://x.example/token?key=hidden",
    "clientId": LOOKALIKE,
    "scope": LOOKALIKE,
    "username": LOOKALIKE,
    "origins": ["https://x.example"],
}


def test_every_sealed_column_of_json_says_where_and_no_other_column_is_here() -> None:
    """Fails when what a user writes to a new column makes every rotation end with an error."""
    tables = Base.metadata.tables
    assert {name for name in SEALED if isinstance(tables[name[0]].c[name[1]].type, JSONB)} == PLACES.keys()
    for (table, _), places in PLACES.items():
        assert places.kind is None or places.kind in tables[table].c
    assert SEALED.keys() >= WRITTEN_ONCE


@pytest.mark.parametrize("kind", sorted(action_types.KINDS))
def test_in_a_config_they_stand_where_its_type_seals(kind: str) -> None:
    sealed = action_types.KINDS[kind].seal(EVERYWHERE, BOX.encrypt)
    text = json.dumps(sealed)
    made = frozenset(found.group() for found in NAMED.finditer(text) if BOX.open(found.group()))
    assert PLACES["actions", "config"].texts(kind, text) == made
    assert (len(made) == 3) == (kind == "HTTP_POST")


@pytest.mark.parametrize("name", sorted(credentials.KINDS))
def test_in_a_meta_they_stand_where_its_kind_seals(name: str) -> None:
    kind = credentials.KINDS[name]
    sealed = kind.seal({**META, "kind": name}, BOX.encrypt)
    text = json.dumps(sealed)
    made = frozenset(found.group() for found in NAMED.finditer(text) if BOX.open(found.group()))
    assert PLACES["service_credentials", "meta"].texts(kind.provider, text) == made
    assert (len(made) == 1) == (name == "oauth2")


@pytest.mark.parametrize(
    ("column", "value", "there"),
    [
        (
            ("callbacks", "signing_secrets"),
            [{"secret": "one", "createdAt": LOOKALIKE}, {"secret": "two"}],
            {"one", "two"},
        ),
        (
            ("triggers", "headers"),
            [["authorization", "one"], ["x", LOOKALIKE], ["cookie", "two"], ["cookie", "three"]],
            {"one", "two", "three"},
        ),
    ],
)
def test_elsewhere_they_stand_where_the_code_writes_them(
    column: tuple[str, str], value: Any, there: set[str]
) -> None:
    assert PLACES[column].texts("", json.dumps(value)) == frozenset(there)


@pytest.mark.parametrize(
    ("column", "kind", "text"),
    [
        (("actions", "config"), "FAX", "{}"),
        (("actions", "config"), "HTTP_POST", "[7]"),
        (("service_credentials", "meta"), "GENERIC", '{"kind": "unheard of"}'),
        (("callbacks", "signing_secrets"), "", '[{"no": "secret"}]'),
        (("triggers", "headers"), "", '{"no list": 1}'),
        (("triggers", "headers"), "", "[" * 100_000),
    ],
)
def test_of_what_cannot_be_read_nobody_can_say(column: tuple[str, str], kind: str, text: str) -> None:
    """Then all that looks sealed counts as lost: better one warning too many."""
    assert PLACES[column].texts(kind, text) is None


def test_numbers_of_any_length_stand_in_nobodys_way() -> None:
    text = f'{{"url": "https://x.example/ sealed:0:0", "body": {"9" * 5_000}}}'
    assert PLACES["actions", "config"].texts("HTTP_POST", text) is not None
