"""What is to be rendered about one subject, and how it is done: in place, or told to a child.

Invariants:

- The texts of a job come to at most MAX_CHARS bytes together.
- A job of look-ups about a small body is done here, in a bounded time. Every other one is for a
  child process (__main__.py).
- A frame is the lengths of two parts, four bytes each, then JSON, then opaque bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from liquid.context import RenderContext

from shared.templates.filters import MAX_CHARS
from shared.templates.language import TemplateError
from shared.templates.scope import Scope, Subject
from shared.templates.targets import Target
from shared.templates.template import MAX_LOOK_UPS, Template, condition, context_of, template

# Reading a larger body takes longer than what is rendered of it, and others wait meanwhile.
IN_PLACE_BYTES = 16 * 1024

LENGTHS = struct.Struct("!II")
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
        context = context_of(scope)
        if self.condition is not None and not _holds(self.condition, context):
            return Rendered(holds=False)
        texts: list[str] = []
        left = MAX_CHARS
        for where, one in self.parts:
            try:
                text = one.render(context if one.look_ups is not None else context_of(scope), left)
            except TemplateError as error:
                raise error.at(where) from None
            left -= len(text.encode("utf-8", "surrogatepass"))
            texts.append(text)
        return Rendered(holds=True, texts=texts)


def _holds(text: str, context: RenderContext) -> bool:
    try:
        return condition(text).holds(context)
    except TemplateError as error:
        raise error.at("condition") from None


def is_for_here(look_ups: int | None, body: bytes) -> bool:
    """Whether a job may be done by whoever has it. look_ups: of all its templates together."""
    return look_ups is not None and look_ups <= MAX_LOOK_UPS and len(body) <= IN_PLACE_BYTES


def look_ups_in(templates: Iterable[Template]) -> int | None:
    """How many look-ups they have together, None if one does more."""
    total = 0
    for one in templates:
        if one.look_ups is None:
            return None
        total += one.look_ups
    return total


def frame(head: Any, opaque: bytes = b"") -> bytes:
    """One message to a child, or from it."""
    text = orjson.dumps(head)
    return LENGTHS.pack(len(text), len(opaque)) + text + opaque


def told(job: Job, *, again: bool) -> bytes:
    """A job as a child is told of it. again: its subject is that of the job before."""
    subject = None if again else [*job.subject[:_BODY], None, *job.subject[_BODY + 1 :]]
    parts = [[where, one.text, one.target] for where, one in job.parts]
    head = [subject, parts, job.condition]
    return frame(head, b"" if again else job.subject.body)


def heard(head: Any, opaque: bytes, before: Scope | None) -> tuple[Job, Scope]:
    """A job that was told. before: of the job before it."""
    fields, parts, of_condition = orjson.loads(head)
    if fields is None:
        assert before is not None
        scope = before
    else:
        scope = Scope(Subject(*fields)._replace(body=opaque))
    listed = [Part(where, template(text, Target(target))) for where, text, target in parts]
    return Job(scope.subject, listed, of_condition), scope


def answer(rendered: Rendered | TemplateError | MemoryError, cpu_us: int) -> bytes:
    """What a child says of a job."""
    match rendered:
        case Rendered(holds=holds, texts=texts):
            return frame([holds, texts, None, cpu_us])
        case TemplateError(message=message):
            return frame([False, [], message, cpu_us])
    return frame([False, [], "It takes more memory than a template may have.", cpu_us])
