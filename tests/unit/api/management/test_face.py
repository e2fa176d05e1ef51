"""A face registers only what it can serve."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from api.auth.policies import READ, WRITE
from api.management.face import Face
from api.resources.content import Content
from api.resources.shapes import Shown
from api.work import Work


class Thing(Shown):
    """A thing."""


def with_id(work: Work, id: UUID) -> Thing:
    raise NotImplementedError


def without_id(work: Work) -> None:
    raise NotImplementedError


def file(work: Work) -> Content:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("rule", "view"),
    [
        ("/things/<uuid:thing_id>", with_id),
        ("/things", with_id),
        ("/things/<uuid:id>", without_id),
        ("/things/<id>", with_id),
        ("/things/<int:id>", with_id),
    ],
)
def test_a_path_and_its_view_name_the_same_ids(rule: str, view: Any) -> None:
    """Fails when a route is described in one way and served in another, or not at all."""
    with pytest.raises(TypeError):
        Face("things", "").route("GET", rule)(view)


def test_what_a_route_is_unless_it_says_otherwise() -> None:
    face = Face("things", "")
    face.route("GET", "/things/<uuid:id>")(with_id)
    face.route("DELETE", "/things")(without_id)
    face.route("GET", "/things/file")(file)
    found, gone, given = face.endpoints
    assert (found.policy, found.status, found.shown, found.ids) == (READ, 200, Thing, ["id"])
    assert (given.policy, given.status, given.shown, given.gives_file) == (READ, 200, None, True)
    assert not found.gives_file
    assert not gone.gives_file
    assert (gone.policy, gone.status, gone.shown, gone.ids) == (WRITE, 204, None, [])
