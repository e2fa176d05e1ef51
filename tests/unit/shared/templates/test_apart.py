"""Rendering once, for a caller who waits."""

from __future__ import annotations

import pytest

from shared.errors import Unavailable
from shared.templates import apart
from shared.templates.apart import MAX_DEATHS, done_apart, done_somewhere
from shared.templates.jobs import LENGTHS, Job, Part, Rendered, heard, told
from shared.templates.language import TemplateError
from shared.templates.scope import Scope
from shared.templates.targets import Target
from shared.templates.template import template
from tests.subjects import subject

SLOW = "{% for i in body.l %}{% for j in body.l %}{% assign x = body.big | upcase | downcase | sha256 %}{% endfor %}{% endfor %}"


def job(text: str, **body: object) -> Job:
    return Job(
        subject({"big": "b" * 60_000, "l": [0] * 90, **body}), [Part("a", template(text, Target.TEXT))]
    )


def test_jobs_are_done_in_their_order_and_what_takes_long_fails_alone() -> None:
    done = done_apart([job("{{ body.n | plus: 1 }}", n=1), job(SLOW), job("{{ body.n | plus: 1 }}", n=2)])
    assert done[0] == Rendered(holds=True, texts=["2"])
    assert isinstance(done[1], TemplateError)
    assert "250 ms" in done[1].message
    assert done[2] == Rendered(holds=True, texts=["3"])


def test_after_some_that_took_long_the_rest_is_not_tried() -> None:
    done = done_apart([*[job(SLOW)] * MAX_DEATHS, job("{{ body.n | plus: 1 }}", n=1)])
    assert all(isinstance(one, TemplateError) for one in done)
    assert "not tried" in str(done[-1])


def test_look_ups_about_a_small_body_need_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "COMMAND", ("/nowhere/at/all",))
    small = Job(subject({"n": 1}), [Part("a", template("{{ body.n }}", Target.TEXT))], "body.n > 0")
    assert done_somewhere([small, small._replace(condition="body.n > 1")]) == [
        Rendered(holds=True, texts=["1"]),
        Rendered(holds=False),
    ]
    (failed,) = done_somewhere([small._replace(condition="body > 1")])
    assert isinstance(failed, TemplateError)
    with pytest.raises(Unavailable):
        done_somewhere([job("{{ body.n }}", n=1)])


def test_what_needs_more_memory_fails_alone() -> None:
    hungry = Job(subject([{}] * 340_000), [Part("a", template("{{ body | size }}", Target.TEXT))])
    done = done_apart([job("{{ body.n | plus: 1 }}", n=1), hungry, job("{{ body.n | plus: 1 }}", n=2)])
    assert str(done[1]) == "It takes more memory than a template may have."
    assert (done[0], done[2]) == (Rendered(holds=True, texts=["2"]), Rendered(holds=True, texts=["3"]))


def test_a_job_has_its_own_subject_even_if_it_does_not_parse() -> None:
    """Fails when the next job, about the same, is done about the one before: another tenant's."""
    mine, theirs = job("{{ body.n }}", n=1), job("{{ body.n }}", n=2)
    framed = told(theirs, again=False)
    size, _ = LENGTHS.unpack_from(framed)
    head, body = framed[LENGTHS.size :][:size], framed[LENGTHS.size + size :]
    found = heard(head.replace(b"{{ body.n }}", b"{{ body.n "), body, Scope(mine.subject))
    with pytest.raises(TemplateError):
        found.done()
    again = heard(told(theirs, again=True)[LENGTHS.size :], b"", found.scope)
    assert again.done().texts == ["2"]


def test_no_more_children_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "WAIT_SECONDS", 0.01)
    for _ in range(apart.MAX_CHILDREN):
        assert apart._children.acquire(timeout=1)
    try:
        with pytest.raises(Unavailable):
            done_apart([job("x")])
    finally:
        apart._children.release(apart.MAX_CHILDREN)
    assert len(done_apart([job("x")])) == 1
