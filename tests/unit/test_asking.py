"""What goes with a hop: whose credentials, where, and which of several."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from scraper.asking import Asking, Terms
from scraper.config import FetchConfig, SecretsConfig
from scraper.errors import FetchFailed, UsageError
from scraper.policies.redirects import follow
from scraper.policies.urls import check
from scraper.records import Held, Request

A, B = "https://a.example", "https://b.example"


def asking(headers: dict[str, str] | None = None, **secrets: Any) -> Asking:
    """How hops are asked with these."""
    return Asking(FetchConfig("test", headers=headers or {}, secrets=SecretsConfig(**secrets)), "*/*", "identity")


def terms(found: Asking, url: str, *locations: str) -> Terms:
    """The terms of the last hop."""
    request = Request(0, url)
    for location in locations:
        request = follow(request, 302, location, 20)
    return found.terms(request, check(request.asked))


def who(found: Asking, url: str, *locations: str) -> str:
    """``user:password`` of the last hop; empty for none."""
    value = terms(found, url, *locations).headers.get("Authorization", "")
    return base64.b64decode(value.removeprefix("Basic ")).decode()


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A netrc file that the environment names."""
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    path.write_text(
        "# comment\nmachine A.example login net password rc\nmachine 127.0.0.1 login local password host\n"
        "machine ::1 login six password host\nmacdef init\nls\n\ndefault login any password body\n"
    )
    return path


@pytest.mark.parametrize(
    ("url", "locations", "sent"),
    [
        (f"{A}/", (), "auth:a"),
        ("https://A.EXAMPLE:443/x", (), "auth:a"),
        (f"{A}/", ("/y",), "auth:a"),
        ("http://a.example/", (), ""),
        ("https://a.example:8443/", (), ""),
        ("https://www.a.example/", (), ""),
        (f"{B}/", (), "auth:b:b"),
        (f"{A}/", (f"{B}/",), ""),
        (f"{A}/", (f"{B}/", f"{A}/y"), ""),
        ("https://xn--bcher-kva.example/", (), "auth:idn"),
        ("http://[::1]:8080/", (), "auth:six"),
    ],
)
def test_auth_is_for_an_origin(url: str, locations: tuple[str, ...], sent: str) -> None:
    """Scheme, host and port are all of it; and only while the row is there, not where others lead it."""
    auth = {
        "https://a.example": ("auth", "a"),
        "https://b.example:443": ("auth", "b:b"),
        "https://b\u00fccher.example": ("auth", "idn"),
        "http://[::1]:8080": ("auth", "six"),
    }
    assert who(asking(auth=auth), url, *locations) == sent


@pytest.mark.parametrize(
    ("url", "locations", "sent"),
    [
        (f"{A}/", (), "net:rc"),
        ("https://a.example:8443/", (), "net:rc"),
        ("http://a.example/", (), ""),
        (f"{A}/", (f"{B}/",), ""),
        (f"{B}/", (f"{A}/",), ""),
        (f"{A}/", (f"{B}/", f"{A}/y"), ""),
        (f"{B}/", (), ""),
        ("https://default/", (), ""),
        ("http://127.0.0.1:8080/", (), "local:host"),
        ("http://[::1]/", (), "six:host"),
        ("http://127.0.0.2/", (), ""),
    ],
)
@pytest.mark.usefixtures("netrc")
def test_netrc_is_for_a_machine(url: str, locations: tuple[str, ...], sent: str) -> None:
    """Over https, or to this very machine; never in clear over a network, and never for just anybody."""
    assert who(asking(netrc=True), url, *locations) == sent
    assert who(asking(), url, *locations) == ""


@pytest.mark.parametrize(
    ("url", "locations", "sent"),
    [
        ("https://me:hush@a.example/x", (), "me:hush"),
        ("https://me:hush@a.example/x", ("y",), "me:hush"),
        ("https://me:hush@a.example/x", (f"{A}/y",), "me:hush"),
        ("https://me:hush@a.example/x", (f"{A}/y", "/z"), "me:hush"),
        ("https://me:hush@a.example/x", ("https://you@a.example/y",), "you:"),
        ("https://me:hush@a.example/x", (f"{B}/",), ""),
        ("https://me:hush@a.example/x", ("https://you:there@b.example/",), "you:there"),
        ("https://me:hush@a.example/x", (f"{B}/", f"{A}/y"), ""),
        ("https://me:hush@a.example/x", ("http://a.example/",), ""),
        ("https://me:hush@a.example/x", ("https://a.example:444/",), ""),
    ],
)
def test_userinfo_is_for_its_url(url: str, locations: tuple[str, ...], sent: str) -> None:
    """The row's user and password stay at its origin; those of a Location are the server's, and go as it says."""
    assert who(asking(), url, *locations) == sent


@pytest.mark.usefixtures("netrc")
def test_which_of_several() -> None:
    """The user's header goes before the URL, that before --auth, that before netrc."""
    both: dict[str, Any] = {"auth": {A: ("auth", "a")}, "netrc": True}
    own = asking({"authorization": "Bearer mine"}, **both)
    assert terms(own, f"{A}/").headers == {"authorization": "Bearer mine"}
    assert who(asking(**both), "https://me:hush@a.example/") == "me:hush"
    assert who(asking(**both), f"{A}/") == "auth:a"
    assert who(asking(**both), "https://a.example:8443/") == "net:rc"


def test_two_that_say_who_asks() -> None:
    """A URL with a user and a header that says otherwise is no request; away from home the header is not sent."""
    own = asking({"AUTHORIZATION": "Bearer mine"})
    for locations in ((), ("/y",), ("https://you@a.example/y",)):
        with pytest.raises(FetchFailed, match="both say who asks"):
            terms(own, "https://me:hush@a.example/", *locations)
    assert who(own, f"{A}/", "https://you@b.example/") == "you:"


def test_a_colon_in_the_user() -> None:
    """What Basic cannot say ends the row, and the password is not repeated."""
    with pytest.raises(FetchFailed, match="colon") as refused:
        terms(asking(), "https://m%3Ae:hush@a.example/")
    assert refused.value.class_ == "url.invalid"
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("place", ["a.example", "ftp://a.example", "", "https://"])
def test_auth_without_an_origin(place: str) -> None:
    """Credentials that belong nowhere are refused."""
    with pytest.raises(UsageError, match="is no origin"):
        asking(auth={place: ("u", "hush")})


@pytest.mark.parametrize(("user", "why"), [("a:b", "colon"), ("caf\udce9", "UTF-8")])
def test_auth_that_cannot_be_sent(user: str, why: str) -> None:
    """The same of users that Basic cannot say; the password is not repeated."""
    with pytest.raises(UsageError, match=why) as refused:
        asking(auth={A: (user, "hush")})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no"),
        (b"machine a.example login me pass hush\n", "not understood near line 1"),
        (b"hush\n", "not understood near line 2"),
        (b"machine a.example login me\xff password hush\xfe\n", "is no text|UTF-8"),
        (b"machine a.example login m:e password hush\n", "colon"),
    ],
    ids=["missing", "a wrong word", "no machine", "bytes", "a colon"],
)
def test_a_netrc_that_is_none(netrc: Path, content: bytes | None, why: str) -> None:
    """One sentence that names the file and the line; the word it stumbles over may be the password."""
    netrc.unlink()
    if content is not None:
        netrc.write_bytes(content)
    with pytest.raises(UsageError, match=why) as refused:
        asking(netrc=True)
    assert "hush" not in str(refused.value)
    assert str(netrc) in str(refused.value)


def test_a_netrc_that_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file at home must be its owner's alone, as for Python and ftp."""
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".netrc"
    path.write_text("machine a.example login net password rc\n")
    path.chmod(0o644)
    with pytest.raises(UsageError, match=r"chmod 600 ~/\.netrc"):
        asking(netrc=True)
    path.chmod(0o600)
    assert who(asking(netrc=True), f"{A}/") == "net:rc"


def test_the_users_headers_stay_at_home() -> None:
    """Each of them, in whatever spelling; a Range sent to nobody asks for no part."""
    said = {"AUTHORIZATION": "Bearer x", "cookie": "s=1", "X-Api-Key": "k", "RANGE": "bytes=0-1"}
    found = asking(said)
    for locations in ((), ("/y",)):
        assert dict(terms(found, f"{A}/", *locations).headers) == said
        assert terms(found, f"{A}/", *locations).wants_part
    for away in ((f"{B}/",), ("http://a.example/",), ("//a.example:444/",), (f"{B}/", f"{A}/y")):
        assert terms(found, f"{A}/", *away).headers == {}
        assert not terms(found, f"{A}/", *away).wants_part


def test_every_attempt_begins_at_home() -> None:
    """What a redirect took away is back when the row is asked anew."""
    found = asking({"X-Api-Key": "k"})
    away = follow(Request(0, f"{A}/"), 302, f"{B}/", 20)
    for request in (away.again(), away.uncounted()):
        assert found.terms(request, check(request.asked)).headers == {"X-Api-Key": "k"}


def test_what_is_no_rows_own_is_asked_bare() -> None:
    """A robots.txt is no row's URL, and may be of a host that others led to: nothing of the user's goes there."""
    found = asking({"X-Api-Key": "k"}, auth={A: ("auth", "a")})
    request = Request(0, "", target=f"{A}/robots.txt")
    for asked in (request, follow(request, 302, "/other", 20)):
        assert found.terms(asked, check(asked.asked)).headers == {}


def test_conditions_go_with_the_rest() -> None:
    """Whether our copy is current is asked wherever it came from, beside what else is sent."""
    request = Request(0, f"{A}/", held=Held(f"{A}/", '"a1"'))
    found = asking({"X-Api-Key": "k"}).terms(request, check(request.asked))
    assert found.headers == {"If-None-Match": '"a1"', "X-Api-Key": "k"}
    assert found.asks_for_change


def test_one_cookie_header(tmp_path: Path) -> None:
    """Cookies come from the header or from elsewhere: a request has one Cookie header (RFC 6265 5.4)."""
    path = tmp_path / "c"
    path.write_text("a.example\tFALSE\t/\tFALSE\t0\tn\t1\n")
    for more in ({"cookies": str(path)}, {"cookie_jar": "per-host"}):
        with pytest.raises(UsageError, match="--header Cookie"):
            asking({"cookie": "s=1"}, **more)
    assert terms(asking(cookies=str(path)), f"{A}/").headers == {"Cookie": "n=1"}


def test_what_servers_set_comes_back() -> None:
    """Set-Cookie reaches the jar, and the jar the next request."""
    found = asking(cookie_jar="per-host")
    found.heard(check(f"{B}/"), ["n=1; Path=/"])
    assert terms(found, f"{A}/", f"{B}/").headers == {"Cookie": "n=1"}
    assert terms(found, f"{A}/").headers == {}
