"""Which URL is asked through which proxy, and when the environment is heard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from yarl import URL

from scraper.errors import UsageError
from scraper.policies.proxies import Proxies

PROXY = "http://proxy.example:3128"


def through(url: str, environment: Mapping[str, str], said: str = "env") -> str:
    """The proxy that a URL is asked through; empty for none."""
    proxy = Proxies(said, environment).of(URL(url))
    return "" if proxy is None else str(proxy).rstrip("/")


class Untouchable(Mapping[str, str]):
    """An environment that must not be asked."""

    def __getitem__(self, name: str) -> str:
        raise AssertionError(name)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


@pytest.mark.parametrize("said", ["", PROXY])
@pytest.mark.parametrize("url", ["http://a.example/", "https://localhost:8443/x", "http://127.0.0.1/"])
def test_the_environment_is_not_asked_unless_the_user_says_so(said: str, url: str) -> None:
    """Without a proxy there is none, with one it is that for everything; no variable has a say in it."""
    assert through(url, Untouchable(), said) == said


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://a.example/", {}, ""),
        ("http://a.example/", {"http_proxy": PROXY}, PROXY),
        ("https://a.example/", {"http_proxy": PROXY}, ""),
        ("https://a.example/", {"https_proxy": PROXY}, PROXY),
        ("http://a.example/", {"all_proxy": PROXY}, PROXY),
        ("https://a.example/", {"ALL_PROXY": PROXY}, PROXY),
        ("https://a.example/", {"https_proxy": PROXY, "all_proxy": "http://other.example:1"}, PROXY),
        ("http://a.example/", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://a.example/", {"http_proxy": PROXY, "HTTP_PROXY": "http://other.example:1"}, PROXY),
        ("http://a.example/", {"http_proxy": "", "HTTP_PROXY": PROXY}, ""),
        ("http://a.example/", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, ""),
        ("http://a.example/", {"http_proxy": PROXY, "REQUEST_METHOD": "GET"}, PROXY),
        ("https://a.example/", {"HTTPS_PROXY": PROXY, "REQUEST_METHOD": "GET"}, PROXY),
        ("http://a.example/", {"http_proxy": " proxy.example:3128 "}, PROXY),
        ("http://a.example/", {"http_proxy": "https://proxy.example"}, "https://proxy.example"),
        ("http://a.example/", {"http_proxy": "  "}, ""),
    ],
)
def test_which_variable_counts(url: str, environment: dict[str, str], proxy: str) -> None:
    """The scheme's own goes before all_proxy, lower case before upper, and CGI's HTTP_PROXY is no variable."""
    assert through(url, environment) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "around"),
    [
        ("a.example", "http://a.example/", True),
        ("a.example", "http://A.EXAMPLE:8080/", True),
        ("a.example", "http://a.example./", True),
        ("a.example", "http://www.a.example/", True),
        ("a.example", "http://ba.example/", False),
        ("a.example", "http://a.example.org/", False),
        (".a.example", "http://a.example/", True),
        (".a.example", "http://www.a.example/", True),
        ("*.a.example", "http://www.a.example/", True),
        ("*.a.example", "http://b.example/", False),
        ("b.example, a.example", "http://a.example/", True),
        ("b.example a.example", "http://a.example/", True),
        ("b.example,", "http://a.example/", False),
        ("*", "http://anything.example/", True),
        (".", "http://anything.example/", False),
        (":80", "http://anything.example/", False),
        ("a.example:8080", "http://a.example:8080/", True),
        ("a.example:8080", "http://a.example/", False),
        ("a.example:443", "https://a.example/", True),
        ("a.example:any", "http://a.example/", False),
        ("192.0.2.7", "http://192.0.2.7/", True),
        ("192.0.2.7", "http://192.0.2.70/", False),
        ("192.0.2.0/24", "http://192.0.2.70/", True),
        ("192.0.2.9/24", "http://192.0.2.70/", True),
        ("192.0.2.0/24", "http://192.0.3.1/", False),
        ("192.0.2.0/24", "http://a.example/", False),
        ("::1", "http://[::1]/", True),
        ("[::1]", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]/", False),
        ("0:0::1", "http://[::1]/", True),
        ("2001:db8::/32", "http://[2001:db8::7]/", True),
        ("2001:db8::/32", "http://192.0.2.1/", False),
        ("localhost", "http://localhost:8000/", True),
        ("localhost", "http://127.0.0.1:8000/", False),
    ],
)
def test_what_goes_round_the_proxy(no_proxy: str, url: str, around: bool) -> None:
    """Hosts that no_proxy names, with all below them, addresses and networks; on one port, or on all."""
    assert through(url, {"all_proxy": PROXY, "no_proxy": no_proxy}) == ("" if around else PROXY)


def test_no_proxy_in_lower_case_goes_first() -> None:
    """As with the others; an empty one names nothing."""
    both = {"all_proxy": PROXY, "NO_PROXY": "a.example", "no_proxy": ""}
    assert through("http://a.example/", both) == PROXY
    assert through("http://a.example/", {"all_proxy": PROXY, "NO_PROXY": "a.example"}) == ""


@pytest.mark.parametrize(
    "said",
    [
        "proxy.example:3128",
        "ftp://proxy.example",
        "http://",
        "http://proxy.example:3128/path",
        "http://proxy.example:3128?query",
        "http://proxy.example:0",
        "http://proxy.example:port",
        "http://user:Z8-secret@proxy.example:port",
        "user:Z8-secret@proxy.example",
        "http://us%3Aer:Z8-secret@proxy.example",
    ],
)
def test_what_is_no_proxy_is_refused_without_its_password(said: str) -> None:
    """One sentence, at the start; the password is not in it."""
    with pytest.raises(UsageError, match=r"^--proxy.*\.$") as refused:
        Proxies(said, {})
    assert "Z8-secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["socks5", "SOCKS5h", "socks4a", "socks"])
def test_socks_in_the_environment_is_refused(name: str, scheme: str) -> None:
    """What would be asked through a SOCKS proxy is not asked some other way instead; the variable is named."""
    with pytest.raises(UsageError, match=f"^{name} names a SOCKS proxy, which is not supported"):
        Proxies("env", {name: f"{scheme}://proxy.example:1080"})


def test_socks_that_nothing_would_use_is_none_of_our_business() -> None:
    """Desktops set all variables at once: http_proxy and https_proxy go before all_proxy."""
    desktop = {"http_proxy": PROXY, "https_proxy": PROXY, "all_proxy": "socks://proxy.example:1080"}
    assert through("https://a.example/", desktop) == PROXY


def test_a_proxys_password_is_not_shown() -> None:
    """Neither by the proxies themselves nor by their sentences."""
    assert "Z8-secret" not in repr(Proxies("http://user:Z8-secret@proxy.example:3128", {}))


def test_credentials_are_what_aiohttp_sends_as_utf_8() -> None:
    """It encodes them in Latin-1: they hold the bytes of UTF-8, so that no letter is one that it cannot send."""
    proxy = Proxies("http://us%C3%A9r:pa%E2%82%ACss@proxy.example", {}).of(URL("http://a.example/"))
    assert proxy is not None
    assert proxy.user is not None
    assert proxy.password is not None
    assert (proxy.user.encode("latin-1"), proxy.password.encode("latin-1")) == ("usér".encode(), "pa€ss".encode())
