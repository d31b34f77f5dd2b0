"""What tests in more than one file use."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import AddrInfoType
from aioresponses import aioresponses

from scraper.connector import Connector
from scraper.origin.process import OriginProcess


class _NothingToSend:
    """What a response asks of its request's body when there is none."""

    output_size = 0


class _FakedResponse(aiohttp.ClientResponse):
    """A ClientResponse that aioresponses can make.

    Since aiohttp 3.14 a response wants to know its request's stream writer, which aioresponses 0.7.9 does not
    pass (its issue 289). To be deleted with the release that does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", _NothingToSend())
        super().__init__(*args, **kwargs)


class _Answers(aioresponses):
    """``aioresponses`` whose answers are ``_FakedResponse`` unless they say otherwise."""

    def add(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("response_class", _FakedResponse)
        super().add(*args, **kwargs)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged may hold halves of characters; between test processes only text can travel."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def answers() -> Iterator[aioresponses]:
    """Answers of servers that are not there; nothing reaches the network."""
    with _Answers() as mocked:
        yield mocked


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that sockets are made for; one that is not on this machine is not used in any case."""
    found: list[str] = []
    make = Connector._socket

    def counting(self: Connector, address: AddrInfoType) -> socket.socket:
        made = make(self, address)
        host = str(address[4][0])
        found.append(host)
        if not host.startswith("127.") and host != "::1":
            made.close()
            raise OSError(f"a test dials {host}")
        return made

    monkeypatch.setattr(Connector, "_socket", counting)
    return found


@pytest.fixture(scope="session")
def shared_origin() -> Iterator[OriginProcess]:
    """One local web server for all tests that only read from it and do not count what was asked."""
    with OriginProcess() as origin:
        yield origin


@pytest.fixture(scope="session")
def plotless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that hides matplotlib, as where the extra ``report`` is not installed."""
    folder = tmp_path_factory.mktemp("plotless")
    (folder / "matplotlib.py").write_text("raise ImportError('left out by the test')\n")
    return folder


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch, plotless: Path) -> None:
    """Runs, and commands that are started, write no report page.

    For tests that look at the ledger and the files: what the page needs takes longer to load than their run does.
    """
    monkeypatch.setattr("scraper.api.warm_up", lambda: None)
    monkeypatch.setattr("scraper.api.write_page", lambda report, folder: None)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(plotless), before])))
