"""Which host is spoken to with which context, and that files that are no good are refused at the start."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from scraper.config import TlsConfig
from scraper.errors import UsageError
from scraper.tls import Contexts

HOST = "a.example"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates and keys, good and bad."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    leaf, other = authority.issue_cert(HOST), authority.issue_cert("b.example")
    certificate, key = leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    contents = {
        "authority": authority.cert_pem.bytes(),
        "both": key + certificate,
        "certificate": certificate,
        "key": key,
        "locked": locked,
        "both locked": locked + certificate,
        "other key": other.private_key_pem.bytes(),
        "der": ssl.PEM_cert_to_DER_cert(certificate.decode()),
        "half": authority.cert_pem.bytes() + broken,
        "empty": b"",
        "text": b"I am no certificate.\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    return folder


def client(files: Path, certificate: str, key: str = "", host: str = HOST) -> dict[str, tuple[str, str]]:
    """A client certificate for a host."""
    return {host: (str(files / certificate), str(files / key) if key else "")}


def test_everybody_is_verified_by_default() -> None:
    """Nothing is said: aiohttp's own context is used, which is made once for all and verifies host and chain."""
    from aiohttp.connector import _SSL_CONTEXT_VERIFIED

    assert Contexts(TlsConfig()).of(HOST) is True
    assert _SSL_CONTEXT_VERIFIED.check_hostname
    assert _SSL_CONTEXT_VERIFIED.verify_mode == ssl.CERT_REQUIRED
    # Debian's Python leaves the floor to OpenSSL; test_t9_… tries what that is.
    floors = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MINIMUM_SUPPORTED)
    assert _SSL_CONTEXT_VERIFIED.minimum_version in floors


@pytest.mark.parametrize(
    ("said", "dialled", "others"),
    [
        ("a.example", ("a.example", "a.example."), ("b.example", "www.a.example", "example", "")),
        ("A.Example.", ("a.example",), ("a.example.b.example",)),
        ("bücher.example", ("xn--bcher-kva.example",), ("bucher.example",)),
        ("XN--BCHER-KVA.example", ("xn--bcher-kva.example",), ()),
        ("127.0.0.1", ("127.0.0.1",), ("127.0.0.2", "localhost")),
        ("[::1]", ("::1",), ("::2",)),
        ("::1", ("::1",), ("::2",)),
        ("[0:0::0001]", ("::1",), ()),
    ],
)
def test_insecure_names_one_host(said: str, dialled: tuple[str, ...], others: tuple[str, ...]) -> None:
    """However its name is written, and no other host: neither above nor below nor beside it."""
    contexts = Contexts(TlsConfig(insecure=frozenset({said})))
    assert [contexts.of(host) for host in dialled] == [False] * len(dialled)
    assert [contexts.of(host) for host in others] == [True] * len(others)


@pytest.mark.parametrize(
    "said",
    ["", "*", "*.example", "a.example:443", "[::1]:443", "a/b", "me@a.example", "a b", "::1]/x@y", "a\\b", "."],
)
@pytest.mark.parametrize("option", ["--insecure", "--client-cert"])
def test_what_is_no_host_is_refused(option: str, said: str, files: Path) -> None:
    """A name that no URL could lead to would be a setting without effect; with another one, one too much."""
    insecure = frozenset({said}) if option == "--insecure" else frozenset()
    shown = client(files, "both", host=said) if option == "--client-cert" else {}
    with pytest.raises(UsageError, match=rf"^{option} '.*' is no host: .*\.$"):
        Contexts(TlsConfig(insecure, client=shown))


def test_own_authorities_stand_beside_the_systems(files: Path) -> None:
    """What the system trusts stays trusted, and everything is verified as before."""
    context = Contexts(TlsConfig(ca_file=str(files / "authority"))).of(HOST)
    assert isinstance(context, ssl.SSLContext)
    system = ssl.create_default_context().cert_store_stats()["x509_ca"]
    assert context.cert_store_stats()["x509_ca"] == system + 1
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_certificate_is_for_its_host_only(files: Path) -> None:
    """Every other host gets the context that has no certificate of ours."""
    contexts = Contexts(
        TlsConfig(client=client(files, "certificate", "key") | {"b.example": (str(files / "both"), "")})
    )
    mine, other = contexts.of(HOST), contexts.of("b.example")
    assert isinstance(mine, ssl.SSLContext)
    assert mine.verify_mode == ssl.CERT_REQUIRED
    assert other is not mine
    assert contexts.of("c.example") is True


def test_insecure_and_a_certificate_together(files: Path) -> None:
    """Both are said of one host: both hold for it, and neither for another."""
    contexts = Contexts(TlsConfig(frozenset({HOST}), str(files / "authority"), client(files, "both")))
    mine, others = contexts.of(HOST), contexts.of("b.example")
    assert isinstance(mine, ssl.SSLContext)
    assert isinstance(others, ssl.SSLContext)
    assert (mine.check_hostname, mine.verify_mode) == (False, ssl.CERT_NONE)
    assert (others.check_hostname, others.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_a_context_is_made_once(files: Path, tmp_path: Path) -> None:
    """Two runs of one process share it, until the file changes: certificates are renewed while schedulers run."""
    copy = tmp_path / "authority"
    copy.write_bytes((files / "authority").read_bytes())
    config = TlsConfig(ca_file=str(copy))
    first = Contexts(config).of(HOST)
    assert Contexts(config).of("b.example") is first
    copy.write_bytes(trustme.CA().cert_pem.bytes())
    os.utime(copy, ns=(0, 0))
    assert Contexts(config).of(HOST) is not first


@pytest.mark.parametrize("name", ["empty", "text", "der", "half", "key", "folder", "missing", "a\0b"])
def test_authorities_that_are_none_are_refused(name: str, files: Path) -> None:
    """At the start and in one sentence: without them the run would trust whoever it trusts by itself."""
    with pytest.raises(UsageError, match=r"^--ca-file .*(holds no certificates in PEM|cannot be read: ).*\.$"):
        Contexts(TlsConfig(ca_file=str(files / name)))


@pytest.mark.parametrize(
    ("certificate", "key", "says"),
    [
        ("certificate", "", "must hold a certificate and its key, in PEM"),
        ("key", "", "must hold a certificate and its key, in PEM"),
        ("empty", "", "must hold a certificate and its key, in PEM"),
        ("der", "key", "must hold a certificate in the first file and its key in the second, in PEM"),
        ("certificate", "empty", "must hold a certificate in the first file and its key in the second, in PEM"),
        ("certificate", "other key", "the key does not belong to the certificate"),
        ("missing", "", "cannot be read: No such file or directory"),
        ("certificate", "missing", "cannot be read: No such file or directory"),
        ("folder", "", "cannot be read: Is a directory"),
        ("certificate", "locked", "the key is encrypted"),
        ("both locked", "", "the key is encrypted"),
    ],
)
def test_a_certificate_that_cannot_be_shown_is_refused(files: Path, certificate: str, key: str, says: str) -> None:
    """At the start and in one sentence; nobody is asked for a password on a terminal that nobody may sit at."""
    with pytest.raises(UsageError, match=rf"^--client-cert .*{says}.*\.$"):
        Contexts(TlsConfig(client=client(files, certificate, key)))


def test_it_says_whom_it_makes_exceptions_for() -> None:
    """By name, as a debugger shows it."""
    assert repr(Contexts(TlsConfig(insecure=frozenset({HOST})))) == "<Contexts of their own for a.example>"
