"""An OAuth 2.0 authorization server and a resource that its tokens open: authlib's, on loopback.

POST /token gives tokens for client credentials; POST /hook wants one, as a receiver of webhooks
would. `behave` may answer in the place of /token. Whatever is asked of either is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
from authlib.oauth2.rfc6750 import BearerTokenValidator
from flask import Flask, Response, request
from werkzeug.serving import make_server

CLIENT_ID, CLIENT_SECRET = "the client", "s3cret: +/%41\u00e9"
SCOPE = "orders:write"


@dataclass
class Client(ClientMixin):  # type: ignore[misc]
    """Whom the server knows. in_body: it shows itself in the form."""

    client_id: str
    secret: str
    in_body: bool = False

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return scope if scope == SCOPE else ""

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == ("client_secret_post" if self.in_body else "client_secret_basic")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


@dataclass
class Given(TokenMixin):  # type: ignore[misc]
    """A token that the server has given."""

    value: str
    client: Client
    scope: str
    expires_at: float
    revoked: bool = False

    def check_client(self, client: Client) -> bool:
        return client is self.client

    def get_client(self) -> Client:
        return self.client

    def get_scope(self) -> str:
        return self.scope

    def get_expires_in(self) -> float:
        return self.expires_at - time.time()

    def is_expired(self) -> bool:
        return time.time() >= self.expires_at

    def is_revoked(self) -> bool:
        return self.revoked


@dataclass(frozen=True)
class Delivery:
    """A call of the resource. attempt: as its sender numbers it. status: what it was answered."""

    trigger_id: str
    attempt: int
    token: str
    client_id: str | None
    status: int


@dataclass
class OAuthServer:
    """The server. clients: by their ids. asked: the forms that /token was sent, each with its
    Authorization header. most_at_once: how many of these at one moment.
    """

    life_seconds: int = 3600
    clients: dict[str, Client] = field(default_factory=dict)
    tokens: dict[str, Given] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    behave: Callable[[], Response | None] = lambda: None
    refuses_all: bool = False
    most_at_once: int = 0
    port: int = 0

    def __enter__(self) -> OAuthServer:
        self.clients.setdefault(CLIENT_ID, Client(CLIENT_ID, CLIENT_SECRET))
        self._under_way, self._lock = 0, threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._app(), threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="oauth", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def revoke_all(self) -> None:
        for token in self.tokens.values():
            token.revoked = True

    def _app(self) -> Flask:
        app = Flask(__name__)
        app.config["OAUTH2_SCOPES_SUPPORTED"] = [SCOPE]
        app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": self.life_seconds}
        issuing = AuthorizationServer(app, query_client=self.clients.get, save_token=self._save)

        class Grant(grants.ClientCredentialsGrant):  # type: ignore[misc]
            TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

        issuing.register_grant(Grant)
        protector = ResourceProtector()
        protector.register_token_validator(self._validator())
        app.add_url_rule("/token", "token", lambda: self._token(issuing), methods=["POST"])
        app.add_url_rule("/hook", "hook", lambda: self._hook(protector), methods=["POST"])
        return app

    def _validator(self) -> BearerTokenValidator:
        tokens = self.tokens

        class Validator(BearerTokenValidator):  # type: ignore[misc]
            def authenticate_token(self, token_string: str) -> Given | None:
                return tokens.get(token_string)

        return Validator()

    def _save(self, token: dict[str, Any], asked: Any) -> None:
        value = token["access_token"]
        expires_at = time.time() + token["expires_in"]
        self.tokens[value] = Given(value, asked.client, token.get("scope", ""), expires_at)

    def _token(self, issuing: AuthorizationServer) -> Any:
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            self.asked.append(request.form.to_dict() | {"header": request.headers.get("authorization", "")})
        try:
            return self.behave() or issuing.create_token_response()
        finally:
            with self._lock:
                self._under_way -= 1

    def _hook(self, protector: ResourceProtector) -> Any:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        known = self.tokens.get(sent)
        is_good = known is not None and not known.is_expired() and not known.revoked
        status = 200 if is_good and not self.refuses_all else 401
        self.deliveries.append(
            Delivery(
                request.headers["pointsman-trigger-id"],
                int(request.headers["pointsman-attempt"]),
                sent,
                None if known is None else known.client.client_id,
                status,
            )
        )
        if self.refuses_all:
            return Response("no", status=401)
        try:
            protector.acquire_token(SCOPE)
        except OAuth2Error as error:
            protector.raise_error_response(error)
        return Response("ok")
