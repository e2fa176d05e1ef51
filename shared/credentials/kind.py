"""What a kind of credential says of itself: what its meta may hold, what is bound to its secret.

Invariants:

- What meta holds can be shown to its owner. A URL in it can be a secret too: in a row it is sealed
  beyond its origin, and shown with a masked query.
- What a secret is bound to names each place that it, or what is bought with it, may go to, where it
  stands in a request, and what it may buy. Whoever changes that shows that they have the secret:
  in another header or parameter a receiver could send it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from shared.masks import destination, masked_url, unmasked_url
from shared.seals import Cipher, opened_url, sealed_url


class CredentialMeta(BaseModel):
    """What all metas have in common. Of what is no GENERIC credential mostly nothing."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, alias_generator=to_camel
    )


CheckSecret = Callable[[str, Any], None]
"""Takes a secret and its meta; raises ValueError, which never repeats a part of the secret."""


@dataclass(frozen=True, slots=True)
class CredentialKind:
    """One kind of credential. All its functions take a meta as JSON has it, open unless they say
    otherwise.

    action_types: which actions can use it. urls: fields of meta that are URLs. bound: fields that
    the secret is bound to, beside `origins` and the kind itself.
    """

    provider: str
    meta: type[CredentialMeta]
    action_types: frozenset[str]
    check_secret: CheckSecret
    urls: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()

    def origins(self, meta: Mapping[str, Any]) -> list[str]:
        """Where it may go: scheme, host and port each. Those of a provider's own kind are the
        provider's.
        """
        found = meta.get("origins")
        return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []

    def masked(self, meta: dict[str, Any]) -> dict[str, Any]:
        """The meta as it is shown."""
        return self._with_urls(meta, lambda _field, url: masked_url(url))

    def unmask(self, meta: dict[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
        """The meta with what its masks stand for in the kept one; raises Invalid for any other."""
        return self._with_urls(meta, lambda field, url: unmasked_url(url, kept.get(field), f"meta.{field}"))

    def seal(self, meta: dict[str, Any], encrypt: Cipher) -> dict[str, Any]:
        """The meta as a row has it."""
        return self._with_urls(meta, lambda _field, url: sealed_url(url, encrypt))

    def unseal(self, meta: dict[str, Any], decrypt: Cipher) -> dict[str, Any]:
        """The meta of a row, opened; raises Invalid for what does not decrypt."""
        return self._with_urls(meta, lambda _field, url: opened_url(url, decrypt))

    def bound_to(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """What the secret is bound to, so that two spellings of one thing are equal."""
        fields = {name: meta.get(name) for name in ("kind", *self.bound)}
        return {**fields, "origins": sorted(str(destination(one)) for one in self.origins(meta))}

    def _with_urls(self, meta: dict[str, Any], make: Callable[[str, str], str]) -> dict[str, Any]:
        """The meta with its URLs made into something else. What is none stays what it is."""
        urls = {name: url for name in self.urls if isinstance(url := meta.get(name), str)}
        return {**meta, **{name: make(name, url) for name, url in urls.items()}} if urls else meta
