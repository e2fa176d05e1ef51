"""Which addresses a delivery may be sent to.

Invariants:

- check() returns only for an address that the Internet routes and that no list below holds, or that
  the operator has let through; and never for one that the operator has blocked.
- It judges the address that is about to be dialled, never a name. What it cannot read it refuses.
- An address that stands for an IPv4 address is judged by that one.
- What a tenant is told names the kind of network, and on a developer's machine the address too.

It does no I/O. `is_global` alone is not enough: Python calls 6to4, IPv4-compatible, multicast and
site-local addresses global, and each of them can lead to a private network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

BLOCKED_NETWORKS: dict[Network, str] = {
    ip_network(network): kind
    for network, kind in (
        ("0.0.0.0/8", "reserved"),  # this host
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "private"),  # carrier-grade NAT
        ("127.0.0.0/8", "loopback"),
        (
            "168.63.129.16/32",
            "link-local",
        ),  # Azure WireServer: public, and answers inside every Azure machine
        ("169.254.0.0/16", "link-local"),  # with the metadata services of most clouds
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),  # 6to4 relays
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "private"),  # benchmarks
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::1/128", "loopback"),
        ("::/96", "reserved"),  # unspecified, and IPv4-compatible
        ("64:ff9b:1::/48", "private"),  # NAT64 of one's own network: who knows which address it holds
        ("100::/64", "reserved"),
        ("2001::/32", "reserved"),  # Teredo: an IPv4 address is embedded
        ("2001:db8::/32", "reserved"),
        ("2002::/16", "reserved"),  # 6to4: an IPv4 address is embedded
        ("3fff::/20", "reserved"),
        ("5f00::/16", "reserved"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
}
"""What is never on the Internet, and what to call it. The first that holds an address counts."""

SYNTHESIZED = ip_network("64:ff9b::/96")
"""NAT64: a name server makes these up for names that have IPv4 addresses only."""

# Each holds an IPv4 address in its last four bytes.
_STANDING_FOR_IPV4 = (SYNTHESIZED, ip_network("::ffff:0:0/96"), ip_network("::ffff:0:0:0/96"))

BLOCKED_BY_OPERATOR = "blocked by the operator"


class BlockedAddress(OSError):
    """The address is not one that deliveries may be sent to.

    address: for the operator, with the setting that helps. leads_to: for its tenant, a phrase.
    alone: the address and nothing else, None if it cannot be read.
    """

    def __init__(
        self, address: str, leads_to: str = "an address that cannot be read", alone: str | None = None
    ) -> None:
        super().__init__(address)
        self.leads_to = leads_to
        self.alone = alone


class AddressGuard:
    """Decides whether an address may be dialled.

    deny: networks that win over everything. allow: networks that win over what is blocked by
    default. Both are compared with the unwrapped address, so that 127.0.0.0/8 means
    ::ffff:127.0.0.1 as well; deny also with the address as it is. show: whether tenants are told
    the address, and which setting helps.
    """

    def __init__(
        self, allow: tuple[Network, ...] = (), deny: tuple[Network, ...] = (), *, show: bool = False
    ) -> None:
        self._allow = allow
        self._deny = deny
        self._show = show

    def check(self, address: str) -> None:
        """Return if the textual IPv4 or IPv6 address may be dialled, else raise BlockedAddress."""
        parsed = _parse(address)
        if any(one in network for network in self._deny for one in (parsed, ip_address(address))):
            raise self._blocked(parsed, BLOCKED_BY_OPERATOR, "POINTSMAN_EGRESS_DENY blocks it")
        if any(parsed in network for network in self._allow):
            return
        for network, kind in BLOCKED_NETWORKS.items():
            if parsed in network:
                raise self._blocked(parsed, kind, "POINTSMAN_EGRESS_ALLOW lets it through")
        if not parsed.is_global:
            raise self._blocked(parsed, "reserved", "POINTSMAN_EGRESS_ALLOW lets it through")

    def checked(self, addresses: Iterable[str]) -> list[str]:
        """Those of a name that may be dialled.

        One that is blocked spoils all, except a synthesized one beside others: whoever has the name
        did not make it.
        """
        passed, spoiled = list[str](), list[BlockedAddress]()
        for address in addresses:
            try:
                self.check(address)
            except BlockedAddress as error:
                if not _is_synthesized(address):
                    raise
                spoiled.append(error)
            else:
                passed.append(address)
        if spoiled and not passed:
            raise spoiled[0]
        return passed

    def _blocked(self, parsed: IPv4Address | IPv6Address, kind: str, setting: str) -> BlockedAddress:
        leads_to = f"a network {kind}" if kind == BLOCKED_BY_OPERATOR else f"a {kind} address"
        shown = f" ({parsed}; {setting})" if self._show else ""
        return BlockedAddress(f"{parsed}: {leads_to}; {setting}", leads_to + shown, str(parsed))


def _is_synthesized(address: str) -> bool:
    return ":" in address and "%" not in address and ip_address(address) in SYNTHESIZED


def _parse(address: str) -> IPv4Address | IPv6Address:
    """Read an address, one that stands for an IPv4 address as that."""
    if not isinstance(address, str) or "%" in address:  # a scope id names one of our own interfaces
        raise BlockedAddress("not a plain IP address")
    try:
        parsed = ip_address(address)
    except ValueError:
        raise BlockedAddress("not a plain IP address") from None
    if isinstance(parsed, IPv6Address) and any(parsed in network for network in _STANDING_FOR_IPV4):
        return IPv4Address(int(parsed) & 0xFFFF_FFFF)
    return parsed
