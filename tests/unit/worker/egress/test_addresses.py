from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.egress.addresses import BLOCKED_NETWORKS, AddressGuard, BlockedAddress

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2001:4860:4860::8888"]
BLOCKED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.192",
    "192.88.99.1",
    "192.168.1.1",
    "198.19.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::7f00:1",
    "::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "::ffff:0:a9fe:a9fe",
    "3fff::1",
    "3fff:fff:ffff::1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:a9fe:a9fe::",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
MAPPED = ["::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:a9fe:a9fe", "0:0:0:0:0:ffff:10.0.0.1"]
UNREADABLE: list[Any] = [
    "",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "127.0.0.01",
    "127.0.0.1 ",
    "[::1]",
    "fe80::1%eth0",
    "2606:4700:4700::1111%eth0",
    "1.1.1.1/32",
    2130706433,
    b"\x01\x01\x01\x01",
    None,
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_dialled(address: str) -> None:
    AddressGuard().check(address)


@pytest.mark.parametrize("address", BLOCKED + MAPPED)
def test_everything_else_may_not(address: str) -> None:
    with pytest.raises(BlockedAddress):
        AddressGuard().check(address)


@pytest.mark.parametrize("address", UNREADABLE)
def test_what_cannot_be_read_is_refused_even_if_all_is_allowed(address: Any) -> None:
    guard = AddressGuard((ip_network("0.0.0.0/0"), ip_network("::/0")))
    with pytest.raises(BlockedAddress):
        guard.check(address)


@pytest.mark.parametrize("network", BLOCKED_NETWORKS, ids=str)
def test_both_ends_of_each_network_are_blocked(network: Any) -> None:
    for address in (network[0], network[-1]):
        with pytest.raises(BlockedAddress):
            AddressGuard().check(str(address))


def test_a_mapped_public_address_is_what_it_stands_for() -> None:
    AddressGuard().check("::ffff:1.1.1.1")


def test_allowed_networks_win_over_blocks_and_see_the_unwrapped_address() -> None:
    guard = AddressGuard((ip_network("127.0.0.0/8"), ip_network("fd00::/8")))
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00::1"):
        guard.check(address)
    for address in ("10.0.0.1", "::1", "fc00::1", "::127.0.0.1", "64:ff9b:1::7f00:1"):
        with pytest.raises(BlockedAddress):
            guard.check(address)


@pytest.mark.parametrize("prefix", ["::ffff:", "::ffff:0:", "64:ff9b::"])
@given(number=st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_however_it_is_embedded(prefix: str, number: int) -> None:
    """Fails when a network that has IPv6 alone can reach no receiver that has IPv4 alone."""
    plain = ip_address(number)
    assert _passes(str(plain)) == _passes(f"{prefix}{plain}")


def test_what_the_operator_blocks_is_blocked_whatever_is_allowed() -> None:
    deny = (ip_network("93.184.216.0/24"), ip_network("127.0.0.2/32"))
    guard = AddressGuard((ip_network("127.0.0.0/8"), ip_network("0.0.0.0/0")), deny)
    guard.check("127.0.0.1")
    for address in ("93.184.216.34", "::ffff:93.184.216.34", "64:ff9b::5db8:d822", "127.0.0.2"):
        with pytest.raises(BlockedAddress) as raised:
            guard.check(address)
        assert raised.value.leads_to == "a network blocked by the operator"
        assert "POINTSMAN_EGRESS_DENY" in str(raised.value)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("10.0.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("::ffff:a9fe:a9fe", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("0.0.0.0", "reserved"),
        ("::", "reserved"),
        ("3fff::1", "reserved"),
    ],
)
def test_a_tenant_is_told_the_kind_and_only_a_developer_the_address(address: str, kind: str) -> None:
    """Fails when a tenant can read the operator's network from the errors of its deliveries."""
    with pytest.raises(BlockedAddress) as raised:
        AddressGuard().check(address)
    assert raised.value.leads_to == f"a {kind} address"
    with pytest.raises(BlockedAddress) as shown:
        AddressGuard(show=True).check(address)
    assert shown.value.leads_to.startswith(f"a {kind} address (")
    assert "POINTSMAN_EGRESS_ALLOW" in shown.value.leads_to
    assert "POINTSMAN_EGRESS_ALLOW" in str(raised.value), "for the operator's log"


@pytest.mark.parametrize(
    ("answers", "passed"),
    [
        (["1.1.1.1", "64:ff9b::101:101"], ["1.1.1.1", "64:ff9b::101:101"]),
        (["64:ff9b::a00:1", "1.1.1.1"], ["1.1.1.1"]),
        (["64:ff9b::a00:1"], None),
        (["10.0.0.1", "64:ff9b::a00:1"], None),
        (["1.1.1.1", "10.0.0.1"], None),
        (["1.1.1.1", "fe80::1%eth0"], None),
    ],
)
def test_a_synthesized_answer_does_not_spoil_a_real_one(answers: list[str], passed: list[str] | None) -> None:
    guard = AddressGuard()
    if passed is not None:
        assert guard.checked(answers) == passed
        return
    with pytest.raises(BlockedAddress):
        guard.checked(answers)


@given(st.ip_addresses())
def test_whatever_python_calls_private_is_blocked(address: Any) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert not _passes(str(address))


def _passes(address: str) -> bool:
    try:
        AddressGuard().check(address)
    except BlockedAddress:
        return False
    return True
