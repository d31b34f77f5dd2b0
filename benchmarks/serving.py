"""A web server on loopback with the built-in origin's pictures: nginx where it is installed, else the origin.

How many pictures of which size are wanted comes in, a base address goes out. Both serve the same paths.
Must never: leave the server running, or listen on anything but loopback.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.measuring import processes_cpu
from scraper.origin import pictures
from scraper.origin.process import OriginProcess

HOST = "127.0.0.1"
START_S = 10.0
TINY_BYTES = 1024

_CONF = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    log_not_found off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 10000000;
    types {{ image/jpeg jpg; image/png png; image/webp webp; }}
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen {host}:{port} backlog=1024; root {folder}/www; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running web server.

    Attributes:
        base: ``http://127.0.0.1:PORT``.
        name: what it is, for the reader of the numbers.
        folder: where nginx's files lie; empty for the built-in origin.
        pid: nginx's, 0 for the built-in origin.
    """

    base: str
    name: str
    folder: Path | None
    pid: int = 0

    def picture(self, size: str, number: int) -> str:
        """The URL of a picture."""
        return f"{self.base}/img/{size}/{number}.jpg"

    def tiny(self, number: int) -> str:
        """The URL of a file of a kilobyte; all numbers give the same one."""
        return f"{self.base}/bytes/{TINY_BYTES}?tag={number}"

    def offer(self, size: str, count: int) -> None:
        """See that pictures 0 to ``count`` - 1 of a size are there. A size's first time takes some seconds."""
        if self.folder is None:
            return  # the origin paints what it is asked for
        there = self.folder / "www" / "img" / size
        there.mkdir(parents=True, exist_ok=True)
        first = min(count, pictures.SIZES[size].scenes)
        _multiply(there, [(f"{number}.jpg", partial(developed, size, number)) for number in range(first)], count)

    def lay_out(self, files: Sequence[tuple[str, Callable[[], bytes]]], count: int) -> list[str] | None:
        """URLs of ``count`` files: those given, by extension and content, again and again under other names.

        None where nginx is missing: the built-in origin serves nothing but its own.
        """
        if self.folder is None:
            return None
        there = self.folder / "www" / "mix"
        there.mkdir(parents=True, exist_ok=True)
        first = [(f"{number}.{extension}", make) for number, (extension, make) in enumerate(files[:count])]
        return [f"{self.base}/mix/{name}" for name in _multiply(there, first, count)]

    def cpu_s(self) -> float | None:
        """CPU seconds that it has taken so far; None where that is not known."""
        return processes_cpu(self.pid) if self.pid else None


def developed(size: str, number: int) -> bytes:
    """A picture as the origin serves it."""
    data = pictures.Album(pictures.cache_folder()).develop(pictures.key_of(size, number, "jpg"))
    return pictures.stamped(data, number, "jpg")


def _multiply(there: Path, files: Sequence[tuple[str, Callable[[], bytes]]], count: int) -> list[str]:
    """As many names as rows, as many files as there are."""
    names = []
    for number in range(count):
        original, make = files[number % len(files)]
        path = there / f"{number}{Path(original).suffix}"
        names.append(path.name)
        if path.exists():
            continue
        if number < len(files):
            path.write_bytes(make())
        else:
            path.hardlink_to(there / original)
    return names


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve for the length of the block; ``folder`` is the server's own."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        with OriginProcess() as origin:
            for size in ("thumb", "photo"):
                origin.warm(size)
            yield Server(origin.base, "the built-in origin", None)
        return
    port = _free_port()
    (folder / "www" / "bytes").mkdir(parents=True, exist_ok=True)
    (folder / "www" / "bytes" / str(TINY_BYTES)).write_bytes(bytes(range(256)) * (TINY_BYTES // 256))
    conf = folder / "nginx.conf"
    # Started by root its workers are somebody else, who may not read a temporary folder.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    conf.write_text(_CONF.format(folder=folder, host=HOST, port=port, user=user))
    child = subprocess.Popen([program, "-c", str(conf), "-p", str(folder), "-e", "stderr"])
    try:
        _await(port, child)
        yield Server(f"http://{HOST}:{port}", _version(program), folder, child.pid)
    finally:
        child.terminate()
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _await(port: int, child: subprocess.Popen[bytes]) -> None:
    patience = time.monotonic() + START_S
    while child.poll() is None and time.monotonic() < patience:
        connection = http.client.HTTPConnection(HOST, port, timeout=START_S)
        try:
            connection.request("GET", f"/bytes/{TINY_BYTES}")
            if len(connection.getresponse().read()) == TINY_BYTES:
                return
        except ConnectionError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise SystemExit("nginx did not start; its own message is above.")


def _version(program: str) -> str:
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
    return said.stderr.strip().rpartition(": ")[2]  # "nginx version: nginx/1.22.1"
