"""OAuth 2.0 client credentials (RFC 6749 §4.4): the secret buys an access token at `tokenUrl`, and
the token goes to the origins as a bearer token.
"""

from __future__ import annotations

from typing import Literal

from shared.credentials.fields import HTTP_ACTIONS, AsciiText, BoundMeta, Id, Url, any_secret
from shared.credentials.kind import CredentialKind


class OAuth2Meta(BoundMeta):
    """`{"kind": "oauth2", "tokenUrl", "clientId", "scope?", "audience?", "authentication?",
    "origins": […]}`. The secret is the client secret.

    authentication: how the client shows itself to the token server, by an Authorization header
    (`basic`) or in the form (`body`).
    """

    kind: Literal["oauth2"]
    token_url: Url
    client_id: Id
    scope: AsciiText | None = None
    audience: AsciiText | None = None
    authentication: Literal["basic", "body"] = "basic"


KIND = CredentialKind(
    "GENERIC",
    OAuth2Meta,
    HTTP_ACTIONS,
    any_secret,
    urls=("tokenUrl",),
    bound=("tokenUrl", "scope", "audience"),
)
