"""What is to be rendered about one subject, and how it is done: in place, or told to a child.

Invariants:

- The texts of a job come to at most MAX_CHARS bytes together.
- A job of look-ups about a small body and small answers is done here, in a bounded time. Every
  other one is for a child process (__main__.py).
- A frame is the lengths of two parts, four bytes each, then JSON, then opaque bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from shared.templates.filters import MAX_CHARS
from shared.templates.language import TemplateError
from shared.templates.scope import Scope, Subject, subject_told
from shared.templates.targets import Target
from shared.templates.template import MAX_LOOK_UPS, Template, condition, template

# Reading larger ones takes longer than what is rendered of it, and others wait meanwhile.
IN_PLACE_BYTES = 16 * 1024

LENGTHS = struct.Struct("!II")

# In the memory that a child and its parent share: how many jobs it has begun.
PROGRESS_BYTES = 8

# With this code a child says that a job needed more memory than there is.
OUT_OF_MEMORY = 3
_BODY = Subject._fields.index("body")


class Part(NamedTuple):
    """A template and where it stands, as errors name it."""

    where: str
    template: Template


class Rendered(NamedTuple):
    """What a job came to. texts: none, if its condition does not hold."""

    holds: bool
    texts: Sequence[str] = ()


class Job(NamedTuple):
    """A condition, if there is one, and templates to be rendered if it holds."""

    subject: Subject
    parts: Sequence[Part] = ()
    condition: str | None = None

    def done(self, scope: Scope | None = None) -> Rendered:
        """Do it. Raises TemplateError. scope: of its subject, if something is read already."""
        scope = scope or Scope(self.subject)
        if self.condition is not None and not holds(self.condition, scope):
            return Rendered(holds=False)
        texts: list[str] = []
        left = MAX_CHARS
        for where, one in self.parts:
            try:
                text = one.render(scope, left)
            except TemplateError as error:
                raise error.at(where) from None
            left -= len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            texts.append(text)
        return Rendered(holds=True, texts=texts)


def holds(text: str, scope: Scope) -> bool:
    """Whether a condition is true; raises TemplateError."""
    try:
        return condition(text).holds(scope)
    except TemplateError as error:
        raise error.at("condition") from None


def is_for_here(look_ups: int | None, body: bytes, answers: Mapping[str, Any]) -> bool:
    """Whether a job may be done by whoever has it.

    look_ups: of all its templates together. body, answers: of its subject.
    """
    return (
        look_ups is not None and look_ups <= MAX_LOOK_UPS and len(body) + chars_in(answers) <= IN_PLACE_BYTES
    )


def chars_in(answers: Mapping[str, Any]) -> int:
    """How much of answers is still to be read."""
    if not answers:
        return 0
    bodies = [kept.get("body") for kept in answers.values()]
    return sum(len(body) for body in bodies if isinstance(body, str))


def look_ups_in(templates: Iterable[Template]) -> int | None:
    """How many look-ups they have together, None if one does more."""
    total = 0
    for one in templates:
        if one.look_ups is None:
            return None
        total += one.look_ups
    return total


def frame(head: Any, opaque: bytes = b"") -> bytes:
    """One message to a child, or from it; raises TemplateError for what has no JSON."""
    try:
        text = orjson.dumps(head)
    except TypeError as error:
        raise TemplateError(f"What it reads cannot be told: {error}.") from None
    return LENGTHS.pack(len(text), len(opaque)) + text + opaque


def told(job: Job, *, again: bool) -> bytes:
    """A job as a child is told of it; raises TemplateError where it cannot be told.

    again: its subject is that of the job before.
    """
    subject = None if again else [*job.subject[:_BODY], None, *job.subject[_BODY + 1 :]]
    parts = [[where, one.text, one.target] for where, one in job.parts]
    head = [subject, parts, job.condition]
    return frame(head, b"" if again else job.subject.body)


class ToldJob(NamedTuple):
    """A job as it was told, of which nothing is parsed yet."""

    scope: Scope
    parts: Sequence[tuple[str, str, str]]
    condition: str | None

    def done(self) -> Rendered:
        """Do it. Raises TemplateError."""
        parts = [Part(where, template(text, Target(target))) for where, text, target in self.parts]
        return Job(self.scope.subject, parts, self.condition).done(self.scope)


def heard(head: bytes, opaque: bytes, before: Scope | None) -> ToldJob:
    """A job that was told. before: of the job before it."""
    fields, parts, of_condition = orjson.loads(head)
    if fields is not None:
        before = Scope(subject_told(fields, opaque))
    assert before is not None
    return ToldJob(before, parts, of_condition)


def answer(rendered: Rendered | TemplateError, cpu_us: int) -> bytes:
    """What a child says of a job."""
    if isinstance(rendered, TemplateError):
        return frame([False, [], rendered.message, cpu_us])
    return frame([rendered.holds, rendered.texts, None, cpu_us])
