"""A name that means nothing is refused, with the nearest that does."""

from __future__ import annotations

import pytest

from shared.templates.language import TemplateError
from shared.templates.names import check
from shared.templates.targets import Target
from shared.templates.template import condition, template

EARLIER = ("create", "notify me")


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("{{ bdy.a }}", 4, "did you mean body"),
        ("{{ trigger.recievedAt }}", 4, "did you mean trigger.receivedAt"),
        ("{{ callback.url }}", 4, "there is: id, name"),
        ("x {{ actions.craete.response.json.id }}", 6, "did you mean actions.create"),
        ("{{ actions.create.response.jsn }}", 4, "did you mean actions.create.response.json"),
        ("{{ actions.create.body }}", 4, "there is: response"),
        ("{{ actions.create }}", 4, "write actions.<name>.response"),
        ("{{ actions[body.a].response.body }}", 4, "written out"),
        ("{{ actions[0].response.body }}", 4, "written out"),
        ("{% for i in body.a %}{% endfor %}{{ i }}", 37, "there is no i"),
        ("{{ body.a | default: bod.b }}", 22, "did you mean body"),
        ("{{ body[quer.a] }}", 9, "did you mean query"),
        ("{% if now %}{% endif %}", 7, "there is no now"),
    ],
)
def test_an_unknown_name_is_refused_with_its_place(text: str, column: int, says: str) -> None:
    found = template(text, Target.TEXT)
    with pytest.raises(TemplateError) as error:
        check(found.names, text, EARLIER)
    assert error.value.message.startswith(f"line 1, column {column}: ")
    assert says in error.value.message


@pytest.mark.parametrize(
    "text", ["bdy.a == 1", "body.a == bdy", "actions.later.response.body == ''", "actions.create.responses"]
)
def test_a_condition_is_checked_likewise(text: str) -> None:
    with pytest.raises(TemplateError, match="there is no"):
        check(condition(text).names, text, EARLIER)


def test_known_names_pass_and_answers_are_noted() -> None:
    text = (
        "{% assign x = body.a %}{% for i in x %}{{ i.b }}{{ forloop.index }}{% endfor %}"
        "{{ actions['notify me'].response.statusCode }}{{ actions.create.response.json['a b'] | default: headers.x }}"
    )
    found = template(text, Target.TEXT)
    check(found.names, text, EARLIER)
    assert found.answers == {"create", "notify me"}
    of_condition = condition("actions.create.response.statusCode == 201 and body.a")
    check(of_condition.names, of_condition.text, EARLIER)
    assert of_condition.answers == {"create"}
