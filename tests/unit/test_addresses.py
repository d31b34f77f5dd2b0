"""Which addresses may be dialled, and in which order."""

from __future__ import annotations

import ipaddress

import pytest

from scraper.errors import UsageError
from scraper.policies import races
from scraper.policies.addresses import _TABLES, AddressRule, is_address, opening, parse_networks
from scraper.policies.races import LAST_FOR_S, Races

REFUSED = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "this network"),
    ("10.0.0.0", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.1", "CGNAT"),
    ("100.127.255.255", "CGNAT"),
    ("100.100.100.200", "the metadata service"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "the metadata service"),
    ("169.254.0.1", "link-local"),
    ("169.254.169.254", "the metadata service"),
    ("169.254.170.2", "the metadata service"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "reserved"),
    ("192.0.0.8", "reserved"),
    ("192.0.0.11", "reserved"),
    ("192.0.0.170", "reserved"),
    ("192.0.0.192", "the metadata service"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.0.1", "private"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.254", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("0:0:0:0:0:0:0:1", "loopback"),
    ("::2", "IPv4-compatible"),
    ("::127.0.0.1", "IPv4-compatible"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "IPv4-mapped 127.0.0.1 (loopback)"),
    ("::ffff:7f00:1", "IPv4-mapped 127.0.0.1 (loopback)"),
    ("::FFFF:A00:1", "IPv4-mapped 10.0.0.1 (private)"),
    ("::ffff:169.254.169.254", "IPv4-mapped 169.254.169.254 (the metadata service)"),
    ("::ffff:0:127.0.0.1", "IPv4-translated"),
    ("::ffff:0:808:808", "IPv4-translated"),
    ("64:ff9b::10.0.0.1", "NAT64 of 10.0.0.1 (private)"),
    ("64:ff9b::7f00:1", "NAT64 of 127.0.0.1 (loopback)"),
    ("64:ff9b:1::8.8.8.8", "NAT64 of a network's own"),
    ("64:ff9b:0:1::808:808", "reserved"),
    ("100::1", "discard-only"),
    ("100:0:0:1::1", "dummy"),
    ("1000::1", "reserved"),
    ("2001::1", "Teredo"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("2001:2::1", "reserved"),
    ("2001:10::1", "reserved"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "6to4"),
    ("2002:c0a8:101::1", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("2a00:1450::5efe:a00:1", "ISATAP of 10.0.0.1 (private)"),
    ("2a00:1450::200:5efe:7f00:1", "ISATAP of 127.0.0.1 (loopback)"),
    ("2001:4860::5efe:10.0.0.1", "ISATAP of 10.0.0.1 (private)"),
    ("3fff::1", "documentation"),
    ("4000::1", "reserved"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "the metadata service"),
    ("fd12:3456:789a::1", "private"),
    ("fe80::1", "link-local"),
    ("fe80::1%lo", "an address with a zone"),
    ("2a00:1450::1%lo", "an address with a zone"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("ff0e::1", "multicast"),
    ("localhost", "no address"),
    ("", "no address"),
    ("127.1", "no address"),
    ("0x7f000001", "no address"),
    ("2130706433", "no address"),
    ("0177.0.0.1", "no address"),
    ("\uff11\uff12\uff17.0.0.1", "no address"),
    ("[::1]", "no address"),
]

PUBLIC = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.0.9",
    "192.0.0.10",
    "192.0.1.0",
    "192.31.196.1",
    "192.52.193.1",
    "192.175.48.1",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2001:1::1",
    "2001:1::2",
    "2001:1::3",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2620:4f:8000::1",
    "2a00:1450::5efe:8.8.8.8",
]


@pytest.mark.parametrize(("address", "reason"), REFUSED)
def test_what_is_not_dialled(address: str, reason: str) -> None:
    """Whatever is not of the whole internet is refused, in every form it can be written in, with its reason."""
    assert AddressRule().refusal(address) == reason


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_dialled(address: str) -> None:
    """What anybody can reach is dialled; the networks that are refused end where they should."""
    assert AddressRule().refusal(address) == ""


@pytest.mark.parametrize(
    ("opened", "address", "is_open"),
    [
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "127.255.255.255", True),
        ("127.0.0.0/8", "::ffff:127.0.0.1", True),  # the same packets leave
        ("127.0.0.0/8", "::1", False),
        ("127.0.0.0/8", "::127.0.0.1", False),
        ("127.0.0.0/8", "::ffff:0:127.0.0.1", False),
        ("127.0.0.0/8", "64:ff9b::127.0.0.1", False),
        ("127.0.0.0/8", "2002:7f00:1::", False),
        ("127.0.0.0/8", "2a00:1450::5efe:7f00:1", False),
        ("127.0.0.0/8", "10.0.0.1", False),
        ("127.0.0.9/32", "127.0.0.9", True),
        ("127.0.0.9", "127.0.0.9", True),
        ("127.0.0.9", "127.0.0.8", False),
        ("127.0.0.9", "127.0.0.10", False),
        ("10.0.0.0/9", "10.127.255.255", True),
        ("10.0.0.0/9", "10.128.0.0", False),
        ("0.0.0.0/0", "169.254.169.254", True),
        ("0.0.0.0/0", "::1", False),
        ("::1", "::1", True),
        ("::1", "127.0.0.1", False),
        ("::1", "::ffff:127.0.0.1", False),
        ("::/0", "fe80::1", True),
        ("::/0", "::ffff:127.0.0.1", False),
        ("::/0", "127.0.0.1", False),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "fc12::1", False),
        ("64:ff9b::a00:0/104", "64:ff9b::10.0.0.1", True),
    ],
)
def test_exactly_what_is_named_is_opened(opened: str, address: str, is_open: bool) -> None:
    """--allow-net opens the addresses in it, however these are written, and no other way to get there."""
    rule = AddressRule((opened,))
    assert (rule.refusal(address) == "") is is_open
    assert rule.refusal("1.1.1.1") == ""


def test_several_are_opened() -> None:
    """Each network that is named counts; what lies between does not."""
    rule = AddressRule(("127.0.0.0/8", "::1"))
    assert [rule.refusal(each) for each in ("127.0.0.1", "::1", "10.0.0.1")] == ["", "", "private"]
    assert repr(rule) == "<AddressRule, open: 127.0.0.0/8, ::1/128>"
    assert repr(AddressRule()) == "<AddressRule, open: nothing>"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost", "is no network: write an address or a network in CIDR notation, such as 127.0.0.0/8"),
        ("", "is no network"),
        ("127.1", "is no network"),
        ("127.0.0.1/8", "is no network: write 127.0.0.0/8 for the network, or 127.0.0.1 for the one address"),
        ("10.0.0.0/33", "is no network"),
        ("fe80::1%lo", "a zone cannot be opened"),
        ("::ffff:127.0.0.0/104", "Write 127.0.0.0/8"),
        ("::ffff:127.0.0.1", "Write 127.0.0.1/32"),
        ("\x1b[2J", "'\\x1b[2J' is no network"),
    ],
)
def test_what_is_no_network(text: str, says: str) -> None:
    """A network that cannot be opened is refused with what to write instead, printable whatever was said."""
    with pytest.raises(UsageError) as caught:
        parse_networks((text,))
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_networks_are_read() -> None:
    """In CIDR notation, or as single addresses; blanks round them are nobody's wish."""
    assert [str(each) for each in parse_networks((" 127.0.0.0/8", "::1", "10.1.2.3"))] == [
        "127.0.0.0/8",
        "::1/128",
        "10.1.2.3/32",
    ]


@pytest.mark.parametrize("address", [address for address, reason in REFUSED])
def test_what_opens_an_address(address: str) -> None:
    """The remedy that is named works, is no network that cannot be opened, and opens nothing of another kind."""
    network = opening(address)
    if not network:
        assert not is_address(address) or "%" in address
        return
    rule = AddressRule((network,))
    assert rule.refusal(address) == ""
    others = [other for other, _ in REFUSED if rule.refusal(other) == "" and other != address]
    assert {opening(other) for other in others} <= {network}


def test_ipaddress_agrees_where_it_is_sure() -> None:
    """No special network that this Python knows is dialled, but for what the registries say is global."""
    for version, table in _TABLES.items():
        for network, reason in table:
            if reason or version == 4:
                continue
            assert str(network) == "64:ff9b::/96" or network.network_address in ipaddress.IPv6Network("2000::/3")
    rule = AddressRule()
    for number in range(0, 2**32, 2**32 // 4_999):
        address = ipaddress.IPv4Address(number)
        if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
            assert rule.refusal(str(address)), address


def test_judgements_are_kept() -> None:
    """An address is looked at once, and what is kept is bounded."""
    rule = AddressRule()
    for _ in range(3):
        rule.refusal("1.1.1.1")
    info = rule._judged.cache_info()
    assert (info.hits, info.misses) == (2, 1)
    assert info.maxsize


def order(found: Races, *hosts: str, now: float) -> list[str]:
    """The hosts as they would be tried."""
    return sorted(hosts, key=lambda host: found.lost_at((host, 80), now))


def test_who_lost_goes_last_for_a_while() -> None:
    """An address that another one beat is tried after the others; in their order, and on that port only."""
    found = Races()
    assert order(found, "a", "b", "c", now=0.0) == ["a", "b", "c"]
    found.ended([("a", 80), ("b", 80)], ("b", 80), 1.0)
    assert order(found, "a", "b", "c", now=2.0) == ["b", "c", "a"]
    assert found.lost_at(("a", 443), 2.0) == float("-inf")
    assert order(found, "a", "b", "c", now=1.0 + LAST_FOR_S) == ["a", "b", "c"]


def test_who_wins_has_lost_nothing() -> None:
    """An address that works again is as good as any."""
    found = Races()
    found.ended([("a", 80), ("b", 80)], ("b", 80), 1.0)
    found.ended([("b", 80), ("a", 80)], ("a", 80), 2.0)
    assert order(found, "a", "b", now=3.0) == ["a", "b"]
    assert repr(found) == "<Races: 1 addresses lost>"


def test_where_nobody_wins() -> None:
    """Those that were tried go last; a single one has nobody to be preferred to it, and is not remembered."""
    found = Races()
    found.ended([("a", 80), ("b", 80)], None, 1.0)
    assert order(found, "a", "b", "c", now=2.0) == ["c", "a", "b"]
    found.ended([("d", 80)], None, 2.0)
    assert repr(found) == "<Races: 2 addresses lost>"


def test_races_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The earliest losers make room for new ones."""
    monkeypatch.setattr(races, "REMEMBERED", 3)
    found = Races()
    for n in range(10):
        found.ended([(f"h{n}", 80), ("w", 80)], ("w", 80), float(n))
    assert repr(found) == "<Races: 3 addresses lost>"
    assert found.lost_at(("h9", 80), 10.0) == 9.0
