"""What is sent, to whom, and what a list may lead to: as it is said, refused, shown and kept."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from scraper import UsageError
from scraper._version import HOMEPAGE, __version__
from scraper.config import FetchConfig, SecretsConfig, TlsConfig
from scraper.options import from_settings, resolve
from scraper.options.requests import (
    RequestOptions,
    SafetyOptions,
    is_secret,
    masked,
    networks,
    parse_headers,
    storable,
)

SECRET = "open-sesame"


def said(**settings: object) -> FetchConfig:
    """What a program's settings amount to."""
    return from_settings(settings).fetch


def refused(**settings: object) -> str:
    """The sentence with which settings are refused."""
    with pytest.raises(UsageError) as error:
        said(**settings)
    return str(error.value)


def test_every_option_reaches_the_config() -> None:
    """None is parsed and ignored."""
    requests = RequestOptions(
        user_agent="me", header=("X-A: b",), auth=("https://a.test=u:p", "netrc"), cookies="jar.txt",
        cookie_jar="per-host", proxy="http://proxy.test:3128",
    )  # fmt: skip
    safety = SafetyOptions(
        allow_net=("10.0.0.0/8",), downgrade="refuse", insecure=("b.test",), ca_file="ca.pem",
        client_cert=("c.test=c.pem,c.key",), mask_params=("token",),
    )  # fmt: skip
    assert resolve(safety).mask_params == {"token"}
    config = resolve(requests, safety).fetch
    assert (config.user_agent, config.headers, config.proxy) == ("me", {"x-a": "b"}, "http://proxy.test:3128")
    assert config.secrets == SecretsConfig({"https://a.test": ("u", "p")}, True, "jar.txt", "per-host")
    assert (config.allow_net, config.downgrade) == (("10.0.0.0/8",), False)
    assert config.tls == TlsConfig(frozenset({"b.test"}), "ca.pem", {"c.test": ("c.pem", "c.key")})
    untouched = {each.name for one in (requests, safety) for each in fields(one) if not getattr(one, each.name)}
    assert untouched == {"contact"}
    assert said(contact="me@a.test").user_agent != said().user_agent


def test_nothing_is_opened_or_told_unasked() -> None:
    """The defaults: no network but the public one, every certificate verified, no proxy, no cookie, no secret."""
    config = said()
    assert (config.allow_net, config.proxy, config.tls, config.secrets) == ((), "", TlsConfig(), SecretsConfig())
    assert config.tls.insecure == frozenset()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, f"scraper/{__version__} (+{HOMEPAGE})"),
        ({"contact": "https://me.test/bot"}, f"scraper/{__version__} (+https://me.test/bot)"),
        ({"contact": " me@me.test "}, f"scraper/{__version__} (me@me.test)"),
        ({"user_agent": "mybot/2 (+https://me.test)"}, "mybot/2 (+https://me.test)"),
        ({"user_agent": " mybot "}, "mybot"),
    ],
)
def test_who_we_say_we_are(settings: dict[str, object], expected: str) -> None:
    """Our name, the version and where to turn to; or what the user says, as it was said."""
    assert said(**settings).user_agent == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"user_agent": " "}, "--user-agent must be one line of text, and not empty."),
        ({"user_agent": "a\r\nX-Evil: 1"}, "--user-agent must be one line of text, and not empty."),
        ({"contact": ""}, "--contact must be one line of text without parentheses, and not empty."),
        ({"contact": "me (really)"}, "--contact must be one line of text without parentheses, and not empty."),
        ({"contact": "me\nX-Evil: 1"}, "--contact must be one line of text without parentheses, and not empty."),
        (
            {"contact": "me", "user_agent": "mybot"},
            "--contact goes into the default user agent: write it into --user-agent instead.",
        ),
        ({"cookie_jar": "shared"}, "cookie_jar is one of none, per-host; 'shared' is not."),
        ({"downgrade": "maybe"}, "downgrade is one of follow, refuse; 'maybe' is not."),
    ],
)
def test_what_cannot_be_sent_is_refused(settings: dict[str, object], sentence: str) -> None:
    """Nothing that would break out of its header gets through."""
    assert refused(**settings).startswith(sentence)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("X-A", "wants 'Name: value'"),
        (": b", "wants 'Name: value'"),
        ("X A: b", "wants 'Name: value'"),
        ("X-A: b\r\nX-Evil: 1", "line break"),
        ("X-A\r\n: b", "wants 'Name: value'"),
        ("X-A: b\x00", "control character"),
        ("User-Agent: me", "Use --user-agent"),
        ("Content-Length: 5", "belongs to the connection"),
        ("transfer-encoding: chunked", "belongs to the connection"),
    ],
)
def test_headers_are_checked(header: str, sentence: str) -> None:
    """Nothing that would break out of its header, or break the connection, gets through."""
    with pytest.raises(UsageError, match=sentence):
        parse_headers((header,))


def test_a_header_given_twice_is_refused() -> None:
    """Which of the two was meant is not guessed."""
    with pytest.raises(UsageError, match="is given twice"):
        parse_headers(("X-A: 1", "x-a: 2"))


def test_credentials_are_known_by_their_header() -> None:
    """What would open a door is recognised."""
    secret = ["Authorization: x", "Cookie: y", "X-Api-Key: z", "x-amz-security-token: t", "X-Session: s"]
    assert all(map(is_secret, secret))
    assert not any(map(is_secret, ["Accept: secret", "Referer: https://a.test/?token=1", "X-A: key"]))


@pytest.mark.parametrize(
    ("text", "origin", "both"),
    [
        ("https://example.com=me:pw", "https://example.com", ("me", "pw")),
        ("HTTPS://Example.COM:443/=Me:Pw", "https://example.com", ("Me", "Pw")),
        ("http://a.test:8080=me:p=w:x", "http://a.test:8080", ("me", "p=w:x")),
        ("http://[::1]:80=me:", "http://[::1]", ("me", "")),
        ("https://a.test=:token", "https://a.test", ("", "token")),
        ("https://a.test=me:a,b", "https://a.test", ("me", "a,b")),
    ],
)
def test_a_user_and_password_belong_to_an_origin(text: str, origin: str, both: tuple[str, str]) -> None:
    """Scheme, host and port in their normal form; what stands behind the colon is the password, all of it."""
    assert dict(said(auth=text).secrets.auth) == {origin: both}
    assert dict(said(auth=[text, "netrc"]).secrets.auth) == {origin: both}


def test_netrc_is_asked_only_when_that_is_said() -> None:
    """The word alone, or beside others."""
    assert [said(auth=each).secrets.netrc for each in ([], ["netrc"], ["https://a.test=u:p", "netrc"])] == [
        False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        f"me:{SECRET}",
        f"example.com=me:{SECRET}",
        f"ftp://example.com=me:{SECRET}",
        f"https://=me:{SECRET}",
        f"https://example.com/path=me:{SECRET}",
        f"https://example.com?q=me:{SECRET}",
        f"https://example.com#f=me:{SECRET}",
        f"https://exam ple.com=me:{SECRET}",
        f"https://you@example.com=me:{SECRET}",
        f"https://example.com:port=me:{SECRET}",
        f"https://example.com={SECRET}",
        f"https://example.com=me:{SECRET}\r\nX-Evil: 1",
        "https://example.com",
        "",
    ],
)
def test_what_is_no_auth_is_refused_without_repeating_it(text: str) -> None:
    """The sentence says how to write it, and holds nothing of what may be a password."""
    sentence = refused(auth=text)
    assert sentence.startswith("--auth wants an origin, and the user and password for it:")
    assert SECRET not in sentence


@pytest.mark.parametrize(
    "settings",
    [
        {"header": f"Authorization Bearer {SECRET}"},
        {"header": f"Authorization: Bearer {SECRET}\x00"},
        {"header": [f"Cookie: {SECRET}", f"cookie: {SECRET}"]},
        {"auth": [f"https://a.test=me:{SECRET}", f"https://A.test:443=you:{SECRET}"]},
        {"proxy": f"socks5://me:{SECRET}@a.test"},
        {"proxy": f"me:{SECRET}@a.test:3128"},
    ],
)
def test_no_refusal_repeats_a_secret(settings: dict[str, object]) -> None:
    """It may end in a log, or in a question somewhere on the internet."""
    assert SECRET not in refused(**settings)


def test_an_origin_given_twice_is_refused() -> None:
    """Which of the two was meant is not guessed."""
    sentence = refused(auth=["https://a.test=me:1", "https://A.test:443/=you:2"])
    assert sentence == "--auth https://a.test is given twice; an origin has one user and password."


@pytest.mark.parametrize("text", ["", "env", "http://a.test:3128", "https://me:pw@a.test/", "http://[::1]:8080"])
def test_a_proxy(text: str) -> None:
    """None, the environment's, or one that speaks HTTP."""
    assert said(proxy=f" {text} ").proxy == text


@pytest.mark.parametrize(
    "text",
    ["a.test:3128", "socks5://a.test", "http://", "http://a.test:0", "http://a.test:x", "http://a.test/path"],
)
def test_what_is_no_proxy_is_refused(text: str) -> None:
    """It is said what one looks like."""
    assert refused(proxy=text).endswith(
        "is no HTTP proxy: write its URL, as http://proxy.example:3128."
        if "socks" not in text
        else "names a SOCKS proxy, which is not supported: name an HTTP proxy instead."
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.0/8", ("127.0.0.0/8",)),
        ("127.0.0.1", ("127.0.0.1/32",)),
        ("::1", ("::1/128",)),
        ("10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
        (["::1", "127.0.0.0/8", "::1/128"], ("::1/128", "127.0.0.0/8")),
        ("0.0.0.0/0", ("0.0.0.0/0",)),
    ],
)
def test_networks_that_may_be_asked(value: object, expected: tuple[str, ...]) -> None:
    """One or several, each once, in their normal form."""
    assert said(allow_net=value).allow_net == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("127.0.0.1/8", " is no network: write 127.0.0.0/8 for the network, or 127.0.0.1 for the one address."),
        ("fd00::1/8", " is no network: write fd00::/8 for the network, or fd00::1 for the one address."),
        ("localhost", " is no network: write an address or a network in CIDR notation, such as 127.0.0.0/8."),
        ("127.0.0.0/33", " is no network: write an address or a network in CIDR notation,"),
        ("http://127.0.0.1/", " is no network: write an address or a network in CIDR notation,"),
        ("::ffff:127.0.0.1", ": IPv4-mapped addresses are opened as IPv4. Write 127.0.0.1/32."),
        ("fe80::1%eth0", ": an address with a zone cannot be opened. Write it without."),
    ],
)
def test_what_is_no_network_is_refused(text: str, sentence: str) -> None:
    """More is never opened than was named: where bits are left over, it is asked what was meant."""
    assert refused(allow_net=text).startswith(f"--allow-net {text!r}{sentence}")
    with pytest.raises(UsageError):
        networks([text])


def test_hosts_whose_certificates_are_not_looked_at() -> None:
    """Each by its name, one at a time; case makes no other host."""
    assert said(insecure="A.test").tls.insecure == {"a.test"}
    assert said(insecure=["[::1]", "127.0.0.1"]).tls.insecure == {"[::1]", "127.0.0.1"}


@pytest.mark.parametrize(
    "host", ["*", "*.a.test", "https://a.test", "a.test:8443", "a.test/x", "me@a.test", "a,b"]
)
def test_no_certificate_of_more_than_one_host_goes_unlooked_at(host: str) -> None:
    """A pattern or a URL is no host: it is said how to write one."""
    assert refused(insecure=host) == f"--insecure {host!r} is no host: write example.com, one for each."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.test=c.pem", {"a.test": ("c.pem", "")}),
        ("A.test=dir/c.pem, dir/c.key", {"a.test": ("dir/c.pem", "dir/c.key")}),
        ("[::1]=c=1.pem", {"[::1]": ("c=1.pem", "")}),
    ],
)
def test_a_certificate_of_ones_own_is_for_a_host(text: str, expected: dict[str, tuple[str, str]]) -> None:
    """The host, the file, and the file of the key where that is another."""
    assert said(client_cert=text).tls.client == expected


@pytest.mark.parametrize(
    "text", ["c.pem", "=c.pem", "a.test=", "a.test= ,c.key", "*=c.pem", "https://a.test=c.pem"]
)
def test_a_certificate_for_everybody_is_refused(text: str) -> None:
    """It would say to every site who asks."""
    assert refused(client_cert=text) == (
        f"--client-cert wants the host it is for and a file: 'example.com=FILE', not {text!r}."
    )


def test_no_secret_is_shown() -> None:
    """Names, origins and hosts stay, so that one sees what was understood; what opens a door does not."""
    options: dict[str, object] = {
        "header": ("X-A: b", f"Authorization: Bearer {SECRET}"),
        "auth": (f"https://a.test=me:{SECRET}", "netrc"),
        "proxy": f"http://me:{SECRET}@proxy.test:3128",
        "user_agent": "mybot",
    }
    shown = {name: masked(name, value) for name, value in options.items()}
    assert shown == {
        "header": ("X-A: b", "Authorization: ***"),
        "auth": ("https://a.test=***", "netrc"),
        "proxy": "http://***@proxy.test:3128",
        "user_agent": "mybot",
    }


def test_no_secret_is_kept() -> None:
    """What is stored in an output folder has no secret in it, and says what is missing."""
    options: dict[str, object] = {
        "header": ("X-A: b", f"Cookie: {SECRET}", f"X-Api-Key: {SECRET}"),
        "auth": (f"https://a.test=me:{SECRET}", "netrc"),
        "proxy": f"http://me:{SECRET}@proxy.test:3128",
        "timeout": 5.0,
    }
    before = dict(options)
    kept, left_out = storable(options)
    assert kept == {"header": ("X-A: b",), "auth": ("netrc",), "timeout": 5.0}
    assert left_out == {
        "header": ["Cookie", "X-Api-Key"],
        "auth": ["https://a.test"],
        "proxy": ["http://***@proxy.test:3128"],
    }
    assert SECRET not in json.dumps([kept, left_out])
    assert options == before


def test_what_holds_no_secret_is_kept_as_it_is() -> None:
    """Nothing is left out of a run that has none."""
    options: dict[str, object] = {"header": ("X-A: b",), "auth": ("netrc",), "proxy": "http://proxy.test:3128"}
    assert storable(options) == (options, {})
    assert storable({"proxy": "env"}) == ({"proxy": "env"}, {})
