"""Who counts as one host, and by which limits."""

from __future__ import annotations

import pytest

from scraper.config import HostLimits, PolitenessConfig
from scraper.policies.limits import Limits, allows_more, of_address, spacing_s

ANY = HostLimits(per_host=8)
EXACT = HostLimits(per_host=1)
BELOW = HostLimits(per_host=2)
DEEPER = HostLimits(per_host=3)
SUFFIX = HostLimits(per_host=4)
STAR = HostLimits(per_host=5)

HOSTS = {
    "example.com": EXACT,
    "*.wikimedia.org": BELOW,
    "*.deep.wikimedia.org": DEEPER,
    "*.blogspot.com": SUFFIX,
    "*.Bücher.example": BELOW,
    "192.0.2.1": EXACT,
    "[2001:db8::1]": EXACT,
    "Straße.example.": EXACT,
    "[2001:DB8:0:0::2]": EXACT,
}


@pytest.mark.parametrize(
    ("origin", "key", "limits"),
    [
        # By registrable domain, whatever is before it.
        ("example.org", "example.org", ANY),
        ("www.example.org", "example.org", ANY),
        ("a.b.c.example.co.uk", "example.co.uk", ANY),
        # Private suffixes count: one blog is one host, and so is the suffix itself.
        ("one.github.io", "one.github.io", ANY),
        ("www.one.github.io", "one.github.io", ANY),
        ("two.github.io", "two.github.io", ANY),
        ("github.io", "github.io", ANY),
        # What has no registrable domain is itself.
        ("localhost", "localhost", ANY),
        ("com", "com", ANY),
        ("203.0.113.7", "203.0.113.7", ANY),
        ("[::1]", "[::1]", ANY),
        ("[::ffff:203.0.113.7]", "[::ffff:203.0.113.7]", ANY),
        # A port is a server of its own.
        ("example.org:8080", "example.org:8080", ANY),
        ("www.example.org:8080", "example.org:8080", ANY),
        ("[::1]:8080", "[::1]:8080", ANY),
        # A name is itself only, and the rest of its domain is something else.
        ("example.com", "example.com", EXACT),
        ("example.com:8080", "example.com:8080", EXACT),
        ("www.example.com", "*.example.com", ANY),
        ("192.0.2.1", "192.0.2.1", EXACT),
        ("[2001:db8::1]", "[2001:db8::1]", EXACT),
        # A pattern is all it matches, the longest goes before; and ends at a dot.
        ("wikimedia.org", "*.wikimedia.org", BELOW),
        ("upload.wikimedia.org", "*.wikimedia.org", BELOW),
        ("upload.wikimedia.org:8080", "*.wikimedia.org:8080", BELOW),
        ("deep.wikimedia.org", "*.deep.wikimedia.org", DEEPER),
        ("very.deep.wikimedia.org", "*.deep.wikimedia.org", DEEPER),
        ("notwikimedia.org", "notwikimedia.org", ANY),
        # A pattern of a public suffix is one of many hosts.
        ("one.blogspot.com", "one.blogspot.com", SUFFIX),
        ("www.two.blogspot.com", "two.blogspot.com", SUFFIX),
        # The root's dot names the same host.
        ("www.example.org.", "example.org", ANY),
        ("example.com.", "example.com", EXACT),
        # A pattern is read as the URLs are that it is for.
        ("www.xn--bcher-kva.example", "*.xn--bcher-kva.example", BELOW),
        ("xn--strae-oqa.example", "xn--strae-oqa.example", EXACT),
        ("[2001:db8::2]", "[2001:db8::2]", EXACT),
    ],
)
def test_each_host_is_in_one_group(origin: str, key: str, limits: HostLimits) -> None:
    """The most specific of the user's patterns names the group and its limits, else the registrable domain."""
    assert Limits(PolitenessConfig(ANY, HOSTS)).group_of(origin) == (key, limits)


@pytest.mark.parametrize(
    ("origin", "key", "limits"),
    [
        ("www.example.org", "example.org", STAR),
        ("www.example.net", "example.net", STAR),
        ("example.com", "example.com", EXACT),
    ],
)
def test_a_star_is_everybody_else_each_by_itself(origin: str, key: str, limits: HostLimits) -> None:
    """``*`` gives its limits to each registrable domain that no other pattern names."""
    assert Limits(PolitenessConfig(ANY, {**HOSTS, "*": STAR})).group_of(origin) == (key, limits)


@pytest.mark.parametrize(
    "origin", ["..", ".", "a..b", "[", "[::1", ":80", "a" * 300 + ".com", ".".join("a" * 200), "\udcff"]
)
def test_junk_is_a_host_as_well(origin: str) -> None:
    """Whatever stands where a host should has a group, so that its row can end."""
    assert Limits(PolitenessConfig(ANY, HOSTS)).group_of(origin)[1] is ANY


def test_an_address_bears_four_hosts() -> None:
    """The limits of an address are four times those of any host, in each respect."""
    politeness = PolitenessConfig(HostLimits(per_host=2, delay_s=2.0, rate=3.0, bandwidth=1000))
    assert of_address(politeness) == HostLimits(per_host=8, delay_s=0.5, rate=12.0, bandwidth=4000)
    assert of_address(PolitenessConfig(hosts={"*": STAR})).per_host == 20


@pytest.mark.parametrize(
    ("limits", "spacing"),
    [
        (HostLimits(), 0.0),
        (HostLimits(delay_s=2.0), 2.0),
        (HostLimits(rate=4.0), 0.25),
        (HostLimits(delay_s=0.1, rate=4.0), 0.25),
        (HostLimits(delay_s=1.0, rate=4.0), 1.0),
    ],
)
def test_delay_and_rate_are_one_spacing(limits: HostLimits, spacing: float) -> None:
    """Of the two, the longer counts."""
    assert spacing_s(limits) == spacing


@pytest.mark.parametrize(
    ("limits", "more"),
    [
        (HostLimits(per_host=8, delay_s=1.0, bandwidth=100), False),
        (HostLimits(per_host=9, delay_s=1.0, bandwidth=100), True),
        (HostLimits(per_host=1, delay_s=0.9, bandwidth=100), True),
        (HostLimits(per_host=1, delay_s=1.0, bandwidth=101), True),
        (HostLimits(per_host=1, delay_s=1.0), True),
    ],
)
def test_who_is_allowed_more_than_an_address(limits: HostLimits, more: bool) -> None:
    """More at once, closer together, or more bytes: then the user has said more than the default for addresses."""
    assert allows_more(limits, HostLimits(per_host=8, delay_s=1.0, bandwidth=100)) is more
    assert not allows_more(limits, HostLimits(per_host=9))
