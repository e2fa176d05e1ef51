"""What is looked up in place, and what is bounded."""

from __future__ import annotations

import pytest

from shared.templates.filters import MAX_CHARS
from shared.templates.jobs import Job, Part, is_for_here, look_ups_in
from shared.templates.language import TemplateError
from shared.templates.targets import Target
from shared.templates.template import MAX_LOOK_UPS, template
from tests.subjects import rendered, subject


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("plain", 0),
        ("{{ body.a }} {{ body.b[0].c | default: 'x' | json }} {{ 'x' }}", 3),
        ("{{ body[query.a] | default: body.b }}", 1),
        ("{{ body.a | upcase }}", None),
        ("{{ body.a | default: 'x' | append: 'y' }}", None),
        ("{% if body.a %}x{% endif %}", None),
        ("{% assign x = body.a %}{{ x }}", None),
        ("{{ body.a }}" * MAX_LOOK_UPS, MAX_LOOK_UPS),
        ("{{ body.a }}" * (MAX_LOOK_UPS + 1), None),
    ],
)
def test_only_look_ups_are_done_in_place(text: str, count: int | None) -> None:
    assert template(text, Target.TEXT).look_ups == count


def test_look_ups_are_counted_together_and_a_large_body_goes_elsewhere() -> None:
    some = template("{{ body.a }}" * MAX_LOOK_UPS, Target.TEXT)
    assert is_for_here(look_ups_in([some]), b"", {})
    assert not is_for_here(look_ups_in([some, some]), b"", {})
    assert not is_for_here(look_ups_in([template("{{ body.a | size }}", Target.TEXT)]), b"", {})
    assert not is_for_here(1, b"x" * 20_000, {})


def test_large_answers_go_elsewhere_too() -> None:
    """Fails when a receiver decides by what it answers how long a worker's loop stands still."""
    small, large = {"statusCode": 200, "body": "[1]"}, {"statusCode": 200, "body": "[" + "1," * 9_000 + "1]"}
    assert is_for_here(1, b"{}", {"a": small, "b": {"storedBytes": 7}})
    assert not is_for_here(1, b"{}", {"a": small, "b": large})


@pytest.mark.parametrize(
    ("text", "is_value"),
    [
        ("{{ body.a | json }}", True),
        ("{{ body.a | default: 1 | json }}", True),
        ("{{ body.a }}", False),
        ("{{ body.a | json }} ", False),
        ("{{ body.a | json | upcase }}", False),
    ],
)
def test_one_json_output_alone_is_a_value(text: str, is_value: bool) -> None:
    assert template(text, Target.TEXT).is_json_value is is_value


BIG = "b" * 60_000

HOSTILE = [
    '{{ "x" | replace: "x", body.big | replace: "b", body.big }}',
    "{{ body.big | append: body.big | append: body.big | split: '' | join: body.big }}",
    "{% assign x = body.big %}{% for i in body.list %}{% assign x = x | append: x %}{% endfor %}",
    "{% for i in body.list %}{% for j in body.list %}{% for k in body.list %}{{ body.big }}{% endfor %}{% endfor %}{% endfor %}",
    "{% for i in body.list %}{{ body.big }}{% endfor %}",
    "{{ body.n | times: body.n | times: body.n | times: body.n }}",
    "{{ body.big | truncate: 5, body.big | truncate: 5, body.big | escape | escape | escape | replace: 'b', body.big }}",
    "{{ body.list | concat: body.list | join: body.big }}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_grows_is_stopped_before_it_is_made(text: str) -> None:
    of = subject({"big": BIG, "list": [0] * 200, "n": 10**100})
    with pytest.raises(TemplateError):
        rendered(text, of)


def test_the_texts_of_a_job_have_one_bound_together() -> None:
    """Fails when each text of a config may be as large as all of them."""
    of = subject({"v": "x" * (MAX_CHARS // 3)})
    one = template("{{ body.v }}", Target.TEXT)
    Job(of, [Part("a", one), Part("b", one)]).done()
    with pytest.raises(TemplateError, match="d: "):
        Job(of, [Part(where, one) for where in "abcd"]).done()


def test_a_break_outside_of_a_loop_is_an_error() -> None:
    """Fails when what is no error of the library's gets out: it would end its process."""
    for tag in ("break", "continue"):
        with pytest.raises(TemplateError, match=f"^line 1, column 6: {tag} outside of a loop"):
            rendered(f"ab{{% {tag} %}}c")


def test_an_error_names_the_text_that_it_is_in() -> None:
    parts = [
        Part("config.url", template("{{ body.id }}", Target.URL)),
        Part("config.body.a", template("{{ body.id | divided_by: 0 }}", Target.TEXT)),
    ]
    with pytest.raises(TemplateError, match=r"^config\.body\.a: line 1, column "):
        Job(subject(), parts).done()
    with pytest.raises(TemplateError, match=r"^condition: "):
        Job(subject(), parts, "body.items > 1").done()


def test_nothing_is_rendered_where_the_condition_does_not_hold() -> None:
    part = Part("a", template("{{ body.id | divided_by: 0 }}", Target.TEXT))
    done = Job(subject(), [part], "body.id == 8").done()
    assert (done.holds, done.texts) == (False, ())
