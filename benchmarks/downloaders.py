"""Programs that save URLs as files, each told to do the same work with as many fetches at once as ours.

URLs and a folder come in, a Downloader for each program goes out, or the sentence that says why there is none.
Must never: install a system's package; give a program less than its own documentation would.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.measuring import Run, run
from benchmarks.setting import LIMIT_S

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class Downloader:
    """A program that is here.

    Attributes:
        name: what the tables call it.
        version: as it says itself.
        go: fetches all rows into the folder given.
        place: where a row's file is, below that folder.
    """

    name: str
    version: str
    go: Callable[[Path], Run]
    place: Callable[[int], str] = str


@dataclass(frozen=True, slots=True)
class Missing:
    """A program that is not here, and what to do about it."""

    name: str
    why: str


def ours(listed: Path, folder: Path) -> list[Downloader]:
    """``scraper files`` into a file each. Its tars are counted in another way: see ``files``."""
    return [
        Downloader("scraper", version_of("scraper-pipelines"), partial(_run_ours, listed, folder, ()), _our_place),
        Downloader(
            "scraper, tar",
            version_of("scraper-pipelines"),
            partial(_run_ours, listed, folder, ("--output-format", "webdataset")),
        ),
    ]


def theirs(listed: Path, folder: Path) -> list[Downloader | Missing]:
    """Everybody else."""
    found: list[Downloader | Missing] = [*curls(listed, folder)]
    program = shutil.which("wget2")
    if program is None:
        found.append(Missing("wget2", "not installed (apt-get install wget2)"))
    else:
        command = partial(wget2_command, program, listed)
        found.append(Downloader("wget2", _version(program), partial(_run, folder, command), "{}.jpg".format))
    program = shutil.which("aria2c")
    if program is None:
        found.append(Missing("aria2c", "not installed (apt-get install aria2)"))
    else:
        command = partial(aria2c_command, program, listed, folder / "aria2.txt")
        found.append(Downloader("aria2c", _version(program), partial(_run, folder, command)))
    gather = partial(_recipe, sys.executable, "gather.py", listed)
    versions = f"aiohttp {version_of('aiohttp')}, aiofiles {version_of('aiofiles')}"
    found.append(Downloader("aiohttp gather", versions, partial(_run, folder, gather)))
    python = peers.environment("requests", "python", ["requests"])
    if python is None:
        found.append(Missing("requests, threads", "could not be installed"))
    else:
        threads = partial(_recipe, str(python), "threads.py", listed)
        version = peers.output(str(python), "-c", "import requests; print(requests.__version__)").strip()
        found.append(Downloader("requests, threads", f"requests {version}", partial(_run, folder, threads)))
    return found


def curls(listed: Path, folder: Path) -> list[Downloader | Missing]:
    """Curl as it is, and followed by the system's ``sync``."""
    program = shutil.which("curl")
    if program is None or "--parallel-max" not in peers.output(program, "--help", "all"):
        return [Missing("curl -Z", "no curl 7.66 or later (apt-get install curl)")]
    command = partial(curl_command, program, listed, folder / "curl.conf")
    alone = Downloader("curl -Z", _version(program), partial(_run, folder, command))
    return [alone, replace(alone, name="curl -Z; sync", go=partial(_run_and_sync, folder, command))]


def _run_ours(listed: Path, folder: Path, more: Sequence[str], out: Path) -> Run:
    return run(peers.files_command(listed, out, *more), folder=folder, stop_after_s=LIMIT_S)


def _our_place(row: int) -> str:
    return f"{row // 10_000:05d}/{row:09d}.jpg"


def _run(folder: Path, command: Callable[[Path], Sequence[str]], out: Path) -> Run:
    return run(command(out), folder=folder, stop_after_s=LIMIT_S)


def _run_and_sync(folder: Path, command: Callable[[Path], Sequence[str]], out: Path) -> Run:
    done = _run(folder, command, out)
    since = time.monotonic()
    os.sync()
    return replace(done, seconds=done.seconds + time.monotonic() - since)


def curl_config(urls: Iterable[str], out: Path) -> str:
    """A file for ``curl --config`` that fetches each URL into ``out/ROW``."""
    return "".join(f'url = "{url}"\noutput = "{out}/{row}"\n' for row, url in enumerate(urls))


def curl_command(program: str, listed: Path, config: Path, out: Path) -> list[str]:
    """Download what a config names."""
    out.mkdir()
    config.write_text(curl_config(listed.read_text().split(), out))
    parallel = ["--parallel", "--parallel-max", str(peers.CONCURRENCY)]
    return [program, "--silent", "--show-error", "--fail", *parallel, "--config", str(config)]


def wget2_command(program: str, listed: Path, out: Path) -> list[str]:
    """Files are called by the last part of their URLs."""
    threads = f"--max-threads={peers.CONCURRENCY}"
    plain = ["--no-config", "--quiet", "--no-directories", f"--directory-prefix={out}"]
    return [program, *plain, threads, f"--input-file={listed}"]


def aria2c_command(program: str, listed: Path, jobs: Path, out: Path) -> list[str]:
    """A connection for each file, since they are small; no space is allocated beforehand."""
    jobs.write_text("".join(f"{url}\n  out={row}\n" for row, url in enumerate(listed.read_text().split())))
    plain = ["--no-conf", "--quiet", f"--dir={out}", "--file-allocation=none", "--max-connection-per-server=1"]
    return [program, *plain, f"--max-concurrent-downloads={peers.CONCURRENCY}", f"--input-file={jobs}"]


def _recipe(python: str, name: str, listed: Path, out: Path) -> list[str]:
    threads = [str(peers.CONCURRENCY)] if name == "threads.py" else []
    return [python, str(RECIPES / name), str(listed), str(out), *threads]


def version_of(package: str) -> str:
    """Of a package that is installed beside ours, or ours."""
    return importlib.metadata.version(package)


def _version(program: str) -> str:
    """The first number of what it says: ``curl 7.88.1 (x86_64-…)``, ``GNU Wget2 1.99.1 - …``."""
    words = peers.output(program, "--version").split()
    return next((word for word in words if word[:1].isdigit()), "unknown")
