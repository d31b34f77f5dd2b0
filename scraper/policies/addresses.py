"""Which addresses may be dialled. In: an address, as dialled. Out: nothing, or why not.

A list comes from strangers, and so do the name servers that answer for its hosts and the servers that redirect.
Whoever may choose what this machine connects to could reach through it what only this machine reaches: itself, its
own network, the metadata service that hands out the keys of a cloud machine. So only what the whole internet can
reach is dialled, and what the user opens by name.

The tables are the registries of special-purpose addresses (RFC 6890 and RFC 8190; IANA, "IPv4 Special-Purpose
Address Registry" and "IPv6 ..."), written out: what ``ipaddress`` says differs between patch releases of Python.
Of IPv6 only 2000::/3 is given out at all (IANA, "IPv6 Global Unicast Address Assignments"): the rest is refused.
An IPv6 address that carries an IPv4 address leads there through some gateway, and is judged by what it carries.

What cannot be seen from here: a gateway of the user's own network that translates under a prefix of its own choice
(RFC 6052 2.2).

Must never: guess that an address it cannot read is a good one; open more than was named.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Sequence

from scraper.errors import UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

JUDGED = 65_536
"""Addresses whose judgement is kept, some 10 MB at worst."""

_METADATA = "the metadata service"

_IPV4 = (
    # The first that holds the address counts; "" is for what may be dialled.
    ("169.254.169.254/32", _METADATA),  # AWS, Google, Azure and most others
    ("169.254.170.2/32", _METADATA),  # AWS, of containers
    ("100.100.100.200/32", _METADATA),  # Alibaba
    ("192.0.0.192/32", _METADATA),  # Oracle
    ("168.63.129.16/32", _METADATA),  # Azure; in the middle of what is public
    ("0.0.0.0/32", "unspecified"),
    ("0.0.0.0/8", "this network"),  # RFC 791 3.2
    ("10.0.0.0/8", "private"),  # RFC 1918
    ("100.64.0.0/10", "CGNAT"),  # RFC 6598
    ("127.0.0.0/8", "loopback"),  # RFC 1122 3.2.1.3
    ("169.254.0.0/16", "link-local"),  # RFC 3927
    ("172.16.0.0/12", "private"),
    ("192.0.0.9/32", ""),  # RFC 7723, anycast of the Port Control Protocol
    ("192.0.0.10/32", ""),  # RFC 8155, anycast of TURN
    ("192.0.0.0/24", "reserved"),  # RFC 6890
    ("192.0.2.0/24", "documentation"),  # RFC 5737
    ("192.88.99.0/24", "6to4 relay"),  # RFC 7526
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),  # RFC 2544
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),  # RFC 5771
    ("255.255.255.255/32", "broadcast"),  # RFC 919
    ("240.0.0.0/4", "reserved"),  # RFC 1112 4
)

_IPV6 = (
    ("fd00:ec2::254/128", _METADATA),  # AWS
    ("fd00:ec2::23/128", _METADATA),  # AWS, of containers
    ("fd20:ce::254/128", _METADATA),  # Google
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible"),  # RFC 4291 2.5.5.1
    ("::ffff:0:0:0/96", "IPv4-translated"),  # RFC 2765 2.1
    ("64:ff9b::/96", ""),  # RFC 6052 2.1: NAT64, by what it carries
    ("64:ff9b:1::/48", "NAT64 of a network's own"),  # RFC 8215
    ("100::/64", "discard-only"),  # RFC 6666
    ("100:0:0:1::/64", "dummy"),  # RFC 9780
    ("2001::/32", "Teredo"),  # RFC 4380; carries two addresses, and leads to whoever sits behind a home router
    ("2001:1::1/128", ""),  # RFC 7723
    ("2001:1::2/128", ""),  # RFC 8155
    ("2001:1::3/128", ""),  # RFC 9665
    ("2001:3::/32", ""),  # RFC 7450
    ("2001:4:112::/48", ""),  # RFC 7535
    ("2001::/23", "reserved"),  # RFC 2928
    ("2001:db8::/32", "documentation"),  # RFC 3849
    ("3fff::/20", "documentation"),  # RFC 9637
    ("2002::/16", "6to4"),  # RFC 3056, through whatever relay there is; the last public ones are gone (RFC 7526)
    ("2000::/3", ""),
    ("5f00::/16", "segment routing"),  # RFC 9602
    ("fc00::/7", "private"),  # RFC 4193
    ("fe80::/10", "link-local"),  # RFC 4291 2.5.6
    ("fec0::/10", "site-local"),  # RFC 3879
    ("ff00::/8", "multicast"),  # RFC 4291 2.7
    ("::/0", "reserved"),
)

_TABLES: dict[int, list[tuple[Network, str]]] = {
    4: [(ipaddress.IPv4Network(text), words) for text, words in _IPV4],
    6: [(ipaddress.IPv6Network(text), words) for text, words in _IPV6],
}

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291 2.5.5.2
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214 6.1: the upper half of an interface identifier
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")


class AddressRule:
    """Which addresses may be dialled. Cheap: 0.2 µs for an address met before, some 20 µs for a new one.

    An IPv4-mapped address is the IPv4 address that it writes differently: the same packets leave for it, so what
    is opened for one is open for the other. NAT64 leads to an address through a gateway: opening that address does
    not open it.

    Args:
        allow_net: networks to open, in CIDR notation. Each opens exactly the addresses in it.

    Raises:
        UsageError: one of them is no network; see ``parse_networks``.
    """

    def __init__(self, allow_net: Sequence[str] = ()) -> None:
        self._open = parse_networks(allow_net)
        self._judged = functools.lru_cache(maxsize=JUDGED)(self._judge)

    def __repr__(self) -> str:
        return f"<AddressRule, open: {', '.join(map(str, self._open)) or 'nothing'}>"

    def refusal(self, address: str) -> str:
        """Why not to dial ``address``, in a few words: "loopback"; empty where it may be dialled.

        Args:
            address: IPv4 in dotted form or IPv6, without brackets. Anything else is refused.
        """
        return self._judged(address)

    def _judge(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return "no address"
        if "%" in text:
            return "an address with a zone"  # only a network of this machine's own has one
        is_mapped = address in _MAPPED
        if is_mapped:
            address = _carried(address)
        if any(address in network for network in self._open):
            return ""
        reason = _refusal(address)
        return f"IPv4-mapped {address} ({reason})" if reason and is_mapped else reason


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation, or single addresses, as networks.

    Raises:
        UsageError: one of them is neither; says which, and what to write.
    """
    return tuple(_network(text.strip()) for text in texts)


def is_address(host: str) -> bool:
    """Whether a host is an address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def opening(address: str) -> str:
    """What to open for ``address`` to be dialled: no more than it, but for loopback, which is all this machine.

    Empty for what cannot be opened.
    """
    if "%" in address:
        return ""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if found in _MAPPED:
        found = _carried(found)
    return str(_LOOPBACK if found in _LOOPBACK else found)


def _network(text: str) -> Network:
    if "%" in text:
        raise UsageError(f"--allow-net {text!a}: an address with a zone cannot be opened. Write it without.")
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise UsageError(f"--allow-net {text!a} is no network: write {_instead(text)}.") from None
    if network.version == 6 and network.network_address in _MAPPED:
        ipv4 = f"{_carried(network.network_address)}/{max(0, network.prefixlen - 96)}"
        raise UsageError(f"--allow-net {text!a}: IPv4-mapped addresses are opened as IPv4. Write {ipv4}.")
    return network


def _instead(text: str) -> str:
    """What may have been meant by a text that is no network."""
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "an address or a network in CIDR notation, such as 127.0.0.0/8"
    return f"{wider} for the network, or {text.partition('/')[0]} for the one address"


def _refusal(address: _Address) -> str:
    """By the tables alone: nothing is open."""
    for network, words in _TABLES[address.version]:
        if address in network:
            return words or (_refusal_of_carried(address) if address.version == 6 else "")
    return ""


def _refusal_of_carried(address: _Address) -> str:
    carried = _carried(address)
    for name, carries in (("NAT64", address in _NAT64), ("ISATAP", int(address) >> 32 & 0xFFFFFFFF in _ISATAP)):
        if carries and (reason := _refusal(carried)):
            return f"{name} of {carried} ({reason})"
    return ""


def _carried(address: _Address) -> ipaddress.IPv4Address:
    """The IPv4 address at the end."""
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
