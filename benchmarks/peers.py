"""The programs we are measured against, and how to call them and ourselves for the same work.

Must never: touch the environment that ``scraper`` is installed in: img2dataset has one of its own, made on demand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ENVIRONMENT = Path(__file__).parent / ".peers"

IMG2DATASET = "1.47.0"
_REQUIREMENTS = (f"img2dataset=={IMG2DATASET}", "setuptools<81")  # what it imports still wants pkg_resources

IMG2DATASET_ENVIRONMENT: Mapping[str, str] = {"NO_ALBUMENTATIONS_UPDATE": "1"}
"""Without it every process asks the internet for a newer version at start."""

TRIED = ((3, 11), (3, 12))
OTHERS = ("python3.11", "python3.12", "python3.10")
"""img2dataset imports ``imghdr``, which Python 3.13 no longer has."""

CONCURRENCY = 64
WORKERS = 2

LOOPBACK = "127.0.0.0/8"
"""What ours must be told to open, with ``--allow-net``, to ask a server on this machine. Peers need no such."""


def scraper() -> Path:
    """Our command, from the environment that runs this."""
    return Path(sys.executable).with_name("scraper")


def img2dataset() -> Path | None:
    """Its command, installed if it is not yet; None where that cannot be done."""
    command = ENVIRONMENT / "bin" / "img2dataset"
    if command.exists():
        return command
    print(f"Installing img2dataset {IMG2DATASET} into {ENVIRONMENT} …", flush=True)
    try:
        _make_environment()
        pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", *_REQUIREMENTS]
        subprocess.run(pip, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"It could not be installed ({error}); measuring ours alone.")
        return None
    return command


def _make_environment() -> None:
    python = (
        sys.executable if sys.version_info[:2] in TRIED else next(filter(None, map(shutil.which, OTHERS)), None)
    )
    if python is None:
        raise FileNotFoundError("img2dataset wants Python 3.10 to 3.12")
    subprocess.run([python, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)


def curl() -> str | None:
    """The command, if it is installed and can fetch in parallel."""
    found = shutil.which("curl")
    if found is None or "--parallel-max" not in _output(found, "--help", "all"):
        print("There is no curl 7.66 or later here (Debian package curl); measuring ours alone.")
        return None
    return found


def curl_version() -> str:
    """As it names itself: ``curl 7.88.1``."""
    return " ".join(_output("curl", "--version").split()[:2]) if shutil.which("curl") else "no curl"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def curl_config(urls: Iterable[str], out: Path) -> str:
    """A file for ``curl --config`` that fetches each URL into ``out/ROW``."""
    return "".join(f'url = "{url}"\noutput = "{out}/{row}"\n' for row, url in enumerate(urls))


def curl_command(program: str, config: Path) -> list[str]:
    """Download what a config names, as many at once as we do."""
    parallel = ["--parallel", "--parallel-max", str(CONCURRENCY)]
    return [program, "--silent", "--show-error", "--fail", *parallel, "--config", str(config)]


def img2dataset_command(program: Path, urls: Path, out: Path, shard: int) -> list[str]:
    """256 px WebDataset, with hash and EXIF, two processes of 32 threads."""
    options = {
        "url_list": urls,
        "output_folder": out,
        "output_format": "webdataset",
        "number_sample_per_shard": shard,
        "image_size": 256,
        "resize_mode": "keep_ratio",
        "encode_format": "jpg",
        "encode_quality": 95,
        "compute_hash": "sha256",
        "extract_exif": True,
        "processes_count": WORKERS,
        "thread_count": CONCURRENCY // WORKERS,
        "enable_wandb": False,
    }
    return [str(program), *(f"--{name}={value}" for name, value in options.items())]


def images_command(urls: Path, out: Path, shard: int) -> list[str]:
    """The same of ours. Hash and EXIF are always taken."""
    return [
        *[str(scraper()), "images", str(urls), "--out", str(out), "--progress", "none"],
        *["--output-format", "webdataset", "--number-sample-per-shard", str(shard)],
        *["--image-size", "256", "--resize-mode", "keep_ratio", "--encode-format", "jpg"],
        *["--encode-quality", "95", "--workers", str(WORKERS), *_fetching()],
    ]


def files_command(urls: Path, out: Path, *more: str) -> list[str]:
    """The bytes as they come."""
    return [str(scraper()), "files", str(urls), "--out", str(out), "--progress", "none", *_fetching(), *more]


def _fetching() -> list[str]:
    return ["--concurrency", str(CONCURRENCY), "--per-host", str(CONCURRENCY), "--allow-net", LOOPBACK]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
