"""Whose certificates are believed, and which is shown to whom. In: a TlsConfig. Out: an SSL context for each host.

    nothing said            aiohttp's own context, made once: host and chain verified, the system's authorities
    --insecure HOST         aiohttp's own that looks at no certificate: that host, on all its ports, and no other
    --ca-file               a context of ours that believes the file's authorities beside the system's
    --client-cert HOST=…    one more for each such host

aiohttp keeps connections apart by context, so one that was made without a look at the certificate is never used
where such a look is wanted. All contexts take TLS 1.2 and later, and what OpenSSL's level of security allows.
Whether a certificate was revoked is not asked: that would be a question to one more stranger for each host.

Must never: leave a certificate unverified that the user has not named the host of; show one to another host; ask
for a password on the terminal.
"""

from __future__ import annotations

import functools
import os
import re
import ssl
from dataclasses import dataclass
from typing import NoReturn

from scraper.config import TlsConfig
from scraper.errors import FetchFailed, UsageError
from scraper.policies.urls import check

_HOST = re.compile(r"[^\s*/:@?#\[\]\\]+|\[[0-9A-Fa-f:.]+\]")

CONTEXTS = 128
"""Contexts that are kept. One takes 20 ms to make, for the system's authorities, and nearly a megabyte."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was when it was looked at: one that was renewed is read again by the next run of a process.

    Attributes:
        path: empty for none.
        stamp: changes with its content.
    """

    path: str = ""
    stamp: tuple[int, ...] = ()


class Contexts:
    """The contexts of a run. Files are read here and now, so that one that is no good is known before all else.

    Args:
        config: whom to believe.

    Raises:
        UsageError: a host is none, or a file cannot be used.
    """

    def __init__(self, config: TlsConfig) -> None:
        insecure = {_dialled(host, "--insecure") for host in config.insecure}
        authorities = _file(config.ca_file, "--ca-file")
        self._others: ssl.SSLContext | bool = _context(authorities) if authorities.path else True
        self._of: dict[str, ssl.SSLContext | bool] = dict.fromkeys(insecure, False)
        for said, (certificate, key) in config.client.items():
            host = _dialled(said, "--client-cert")
            files = _file(certificate, "--client-cert"), _file(key, "--client-cert")
            self._of[host] = _context(authorities, *files, verified=host not in insecure)

    def __repr__(self) -> str:
        return f"<Contexts of their own for {', '.join(sorted(self._of)) or 'nobody'}>"

    def of(self, host: str) -> ssl.SSLContext | bool:
        """What to speak TLS with to a host, as aiohttp takes it: True for its own default, False for unverified.

        Args:
            host: as it is dialled: in ASCII and lower case, an IPv6 address without brackets.
        """
        return self._of.get(host.rstrip("."), self._others) if self._of else self._others


def _dialled(host: str, option: str) -> str:
    """A host as the user writes it → as it is dialled."""
    bare = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    if not _HOST.fullmatch(bare):
        raise UsageError(f"{option} {host!a} is no host: write example.com, which is all its ports.")
    try:
        # By the parser of the URLs that lead there: there is no second opinion on what a spelling means.
        return (check(f"https://{bare}/").raw_host or "").rstrip(".")
    except FetchFailed as error:
        raise UsageError(f"{option} {host!a} is no host: {error.message}") from None


def _file(path: str, option: str) -> _File:
    if not path:
        return _File()
    try:
        now = os.stat(path)  # noqa: PTH116 - the path is the user's text, and is passed on as that
    except (OSError, ValueError) as error:
        raise _unusable(option, path, error) from None
    return _File(path, (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns))


@functools.lru_cache(maxsize=CONTEXTS)
def _context(
    authorities: _File, certificate: _File | None = None, key: _File | None = None, *, verified: bool = True
) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # which Debian's Python leaves to OpenSSL's own floor
    context.set_alpn_protocols(("http/1.1",))  # as aiohttp's own
    if authorities.path:
        _believe(context, authorities.path)
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        _show(context, certificate.path, (key or _File()).path)
    return context


def _believe(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise UsageError(f"--ca-file {path!a} holds no certificates in PEM, or a damaged one.") from None
    except (OSError, ValueError) as error:
        raise _unusable("--ca-file", path, error) from None


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    files = ",".join(filter(None, (certificate, key)))
    said = f"--client-cert {files!a}"

    def no_password() -> NoReturn:
        # Without this OpenSSL would ask on the terminal, and a run that nobody watches would wait for ever.
        raise UsageError(
            f"{said}: the key is encrypted. Write it out without its password: openssl pkey -in KEY -out NEW."
        )

    try:
        context.load_cert_chain(certificate, key or None, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"{said}: the key does not belong to the certificate.") from None
        where = "a certificate in the first file and its key in the second" if key else "a certificate and its key"
        raise UsageError(f"{said} must hold {where}, in PEM.") from None
    except (OSError, ValueError) as error:
        raise _unusable("--client-cert", files, error) from None


def _unusable(option: str, path: str, error: Exception) -> UsageError:
    says = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UsageError(f"{option} {path!a} cannot be read: {says}.")
