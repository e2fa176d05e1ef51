"""How a route of the management API is served: admit → parse → call → answer, in one place for all
of them.

A face is one noun's routes. A view is a plain function that is told what it needs by the names of
its parameters: `work`, `body`, `query` and the ids of its path; what it returns is the answer's
model, Content is a file, EachOf is lines, None is 204.

Invariants:

- The endpoint's policy is asked before anything else is looked at (OPTIONS, which Flask answers,
  tells anybody the methods of a path and nothing else).
- What a GET shows is of one moment.
- A view runs in one unit of work, which is committed before the answer leaves.
- A POST of somebody's that bears an `Idempotency-Key` happens once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints
from uuid import UUID

import orjson
from flask import Blueprint, Response, current_app, request
from pydantic import BaseModel, ValidationError

from api import environ
from api.auth import actors
from api.auth.policies import READ, WRITE, Policy, admit
from api.awaited import Answer, awaited
from api.caller import Caller
from api.idempotency import REPLAYED, check_key
from api.management.flowing import FILE_HEADERS, in_lines
from api.problems import of_validation
from api.resources.content import Content
from api.resources.kept_answers import KeyedCall
from api.resources.shapes import Begun, EachOf, Shown
from api.work import Actor, Work, Workshop
from shared.errors import Invalid
from shared.json_text import first_changed

PREFIX = "/api/v1"
EXTENSION = "pointsman.workshop"

View = Callable[..., Shown | Content | EachOf[Any] | None]
Rendered = tuple[int, bytes]
"""Status and body."""
Again = Callable[[Work, UUID, UUID], Shown]
"""A resource's function that shows its owner's thing by its id."""

NOT_YET = 202
Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
NOT_IDS = frozenset({"work", "body", "query", "return"})

FILE_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path.

    rule: the whole path, as Flask writes it. errors: statuses that only it may answer. shown: the
    model of its answer, None where that is a file, lines or nothing. line: the model of each of its
    lines, where it gives such. needs_body: a call without one is
    refused; else it is as good as an empty object. until_done: shows what it has begun once more,
    where the answer waits until that is done (api/endings.py).
    """

    face: Face
    method: Method
    rule: str
    policy: Policy
    status: int
    errors: tuple[int, ...]
    view: View
    shown: type[Shown] | None
    gives_file: bool
    line: type[Shown] | None
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    needs_body: bool = True
    until_done: Again | None = None

    @property
    def name(self) -> str:
        return self.view.__name__

    @property
    def ids(self) -> list[str]:
        """The names of the ids in its path."""
        return re.findall(r"<uuid:(\w+)>", self.rule)

    @property
    def takes_key(self) -> bool:
        """Whether it takes an Idempotency-Key: where somebody asks for something to be made, and is
        told what. What is answered later is no answer to keep: it would be the one without an end.
        """
        is_asking = self.method == "POST" and not self.policy.is_anonymous and self.shown is not None
        return is_asking and self.until_done is None


@dataclass
class Face:
    """One noun's routes. about: a sentence for the API's description."""

    noun: str
    about: str
    endpoints: list[Endpoint] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blueprint = Blueprint(self.noun.replace(" ", "_"), __name__, url_prefix=PREFIX)

    def route(
        self,
        method: Method,
        rule: str,
        policy: Policy | None = None,
        *,
        status: int | None = None,
        errors: tuple[int, ...] = (),
        needs_body: bool = True,
        until_done: Again | None = None,
    ) -> Callable[[View], View]:
        """Register a view.

        By default GET needs `read`, everything else `write`; the status is 200, or 204 without an
        answer. until_done: the answer waits until what the view has begun is done; before that it
        is 202.
        """

        def register(view: View) -> View:
            hints = get_type_hints(view)
            given = hints["return"]
            line = get_args(given)[0] if get_origin(given) is EachOf else None
            shown = given if line is None and issubclass(given, Shown) else None
            endpoint = Endpoint(
                face=self,
                method=method,
                rule=PREFIX + rule,
                policy=policy or (READ if method == "GET" else WRITE),
                status=status or (204 if given is type(None) else 200),
                errors=errors,
                view=view,
                shown=shown,
                gives_file=given is Content,
                line=line,
                body=hints.get("body"),
                query=hints.get("query"),
                needs_body=needs_body,
                until_done=until_done,
            )
            if endpoint.ids != [name for name in hints if name not in NOT_IDS] or "<" in rule.replace(
                "<uuid:", ""
            ):
                raise TypeError(f"The path {rule} and the parameters of {endpoint.name}() differ.")
            self.endpoints.append(endpoint)
            self.blueprint.add_url_rule(
                rule, endpoint.name, partial(_serve, endpoint), methods=[method], strict_slashes=False
            )
            return view

        return register


def _serve(endpoint: Endpoint, **ids: UUID) -> Response:
    """Answer the current request."""
    shop = cast(Workshop, current_app.extensions[EXTENSION])
    file = request.environ.get(environ.FILE)
    more = {} if file is None else {"hold": file.take}
    with shop.open(
        request.environ.get(environ.PATIENCE), one_moment=endpoint.method == "GET", **more
    ) as work:
        asked = _asked_by()
        is_anonymous = endpoint.policy.is_anonymous
        work.actor = actors.nobody(asked) if is_anonymous else actors.identify(work.session, asked)
        admit(endpoint.policy, work.actor)
        if endpoint.until_done is not None:
            begun = endpoint.view(work, **ids, **_inputs(endpoint))
        elif endpoint.line is not None:
            each = cast(EachOf[Any], endpoint.view(work, **ids, **_inputs(endpoint)))
        else:
            (status, body), headers = _answer(endpoint, work, ids)
    if endpoint.until_done is not None:
        if file is not None:
            file.free()  # what has been read is in a row by now, however long the caller waits
        return _later(endpoint, shop, work.actor, cast(Begun, begun))
    if endpoint.line is not None:
        return in_lines(shop, work.owner, asked, endpoint.policy, each)
    content_type = FILE_TYPE if endpoint.gives_file else "application/json" if body else None
    response = Response(body, status=status, content_type=content_type)
    response.headers.extend(headers)
    return response


def _later(endpoint: Endpoint, shop: Workshop, actor: Actor, begun: Begun) -> Response:
    """Answer when it is done what the current request has begun, without a thread. Under plain WSGI
    nobody waits.
    """
    if shop.endings is None or environ.AWAITED not in request.environ:
        status, body = _so_far(endpoint, begun)
        return Response(body, status=status, content_type="application/json")
    caller = request.environ.get(environ.CALLER)
    if caller is not None:
        caller.let_go_of_body()
    request_id = request.environ.get(environ.REQUEST_ID, "")
    return awaited(_until_done(endpoint, shop, actor, begun, caller, request_id))


async def _until_done(
    endpoint: Endpoint, shop: Workshop, actor: Actor, begun: Begun, caller: Caller | None, request_id: str
) -> Answer:
    again = cast(Again, endpoint.until_done)

    def look() -> Begun:
        assert actor.user_id is not None
        with shop.open(actor=actor, one_moment=True) as work:
            return cast(Begun, again(work, actor.user_id, begun.id))

    assert shop.endings is not None
    shown = await shop.endings.wait(begun, look, caller)
    status, body = _so_far(endpoint, shown)
    return status, [("content-type", "application/json"), ("x-request-id", request_id)], body


def _so_far(endpoint: Endpoint, begun: Begun) -> Rendered:
    status, body = _rendered(endpoint, begun)
    return status if begun.is_done else NOT_YET, body


def _answer(
    endpoint: Endpoint, work: Work, ids: dict[str, UUID]
) -> tuple[Rendered, Iterable[tuple[str, str]]]:
    call = _keyed_call(endpoint, work, ids) if endpoint.takes_key else None
    if call is None:
        shown = _called(endpoint, work, ids)
        return _rendered(endpoint, shown), FILE_HEADERS if endpoint.gives_file else ()
    given_before = call.take(work)
    if given_before is not None:
        return given_before, (REPLAYED,)
    shown = _called(endpoint, work, ids)
    call.keep(work, *_rendered(endpoint, shown, again=True))
    return _rendered(endpoint, shown), ()


def _called(endpoint: Endpoint, work: Work, ids: dict[str, UUID]) -> Shown | Content | None:
    return cast("Shown | Content | None", endpoint.view(work, **ids, **_inputs(endpoint)))


def _rendered(endpoint: Endpoint, shown: Shown | Content | None, *, again: bool = False) -> Rendered:
    if shown is None:
        return endpoint.status, b""
    if isinstance(shown, Content):
        return endpoint.status, shown.data
    return endpoint.status, orjson.dumps(shown.rendered(again=again), option=orjson.OPT_UTC_Z)


def _asked_by() -> actors.Request:
    return actors.Request(
        authorization=request.headers.get("authorization", ""),
        address=request.remote_addr,
        request_id=request.environ.get(environ.REQUEST_ID),
    )


def _keyed_call(endpoint: Endpoint, work: Work, ids: dict[str, UUID]) -> KeyedCall | None:
    """The call that a key is for: named by what it is about, not by how its path was spelled."""
    sent = request.headers.get("idempotency-key")
    if sent is None:
        return None
    path = endpoint.rule
    for name, value in ids.items():
        path = path.replace(f"<uuid:{name}>", str(value))
    digest = hashlib.sha256(request.query_string + b"\n" + request.get_data())
    return KeyedCall(work.owner, endpoint.method, path, check_key(sent), digest.digest())


def _inputs(endpoint: Endpoint) -> dict[str, BaseModel]:
    """The typed models that the view asks for; raises Invalid for what does not fit them."""
    inputs: dict[str, BaseModel] = {}
    try:
        if endpoint.query is not None:
            inputs["query"] = endpoint.query.model_validate(request.args.to_dict())
        if endpoint.body is not None:
            is_left_out = not endpoint.needs_body and not request.get_data()
            inputs["body"] = endpoint.body.model_validate({} if is_left_out else _json_body())
    except ValidationError as error:
        raise of_validation(error) from None
    return inputs


def _json_body() -> Any:
    if not request.is_json:
        raise Invalid("The body is not JSON.", hint="Send it with «Content-Type: application/json».")
    try:
        body = orjson.loads(request.get_data())
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The body is not JSON: {error}.", hint="Fix the body.") from None
    if changed := first_changed(request.get_data()):
        raise Invalid(
            f"The body has a number that does not come back as it was: {changed}.", hint="Send it as text."
        )
    return body
