"""Which addresses a delivery may be sent to.

Invariant: check() returns only for an address that the Internet routes and that no list below
holds, or that the operator has let through. It judges the address that is about to be dialled,
never a name, and what it cannot read it refuses. It does no I/O.

`is_global` alone is not enough: Python calls NAT64, 6to4, IPv4-compatible, multicast and site-local
addresses global, and each of them can lead to a private network.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

BLOCKED_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure WireServer: a public address that answers inside every Azure machine
        "169.254.0.0/16",  # link-local, with the metadata services of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",  # unspecified, loopback and IPv4-compatible
        "::1/128",
        "64:ff9b::/96",  # NAT64: an IPv4 address is embedded
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/32",  # Teredo: an IPv4 address is embedded
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address is embedded
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)


class BlockedAddress(OSError):
    """The address is not one that deliveries may be sent to."""


class AddressGuard:
    """Decides whether an address may be dialled.

    allow: networks that win over every block. They are compared with the unwrapped address, so that
    127.0.0.0/8 lets ::ffff:127.0.0.1 through as well.
    """

    def __init__(self, allow: tuple[Network, ...] = ()) -> None:
        self._allow = allow

    def check(self, address: str) -> None:
        """Return if the textual IPv4 or IPv6 address may be dialled, else raise BlockedAddress."""
        parsed = _parse(address)
        if any(parsed in network for network in self._allow):
            return
        if not parsed.is_global or any(parsed in network for network in BLOCKED_NETWORKS):
            raise BlockedAddress(f"{parsed} is not a public address")


def _parse(address: str) -> IPv4Address | IPv6Address:
    """Read an address, IPv4-mapped ones as the IPv4 address that they stand for."""
    if not isinstance(address, str) or "%" in address:  # a scope id names one of our own interfaces
        raise BlockedAddress("not a plain IP address")
    try:
        parsed = ip_address(address)
    except ValueError:
        raise BlockedAddress("not a plain IP address") from None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
