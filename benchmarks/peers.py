"""The programs we are measured against, and how to call them and ourselves for the same work.

Must never: touch the environment that ``scraper`` is installed in: img2dataset has one of its own, made on demand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ENVIRONMENTS = Path(__file__).parent / ".peers"

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
    python = sys.executable if sys.version_info[:2] in TRIED else _other_python()
    if python is None:
        print("img2dataset wants Python 3.10 to 3.12, and there is none here; measuring ours alone.")
        return None
    return environment("img2dataset", "img2dataset", _REQUIREMENTS, python)


def _other_python() -> str | None:
    return next(filter(None, map(shutil.which, OTHERS)), None)


def environment(name: str, program: str, requirements: Sequence[str], python: str = sys.executable) -> Path | None:
    """A program in an environment of its own under .peers/, made if it is not there; None where that fails."""
    folder = ENVIRONMENTS / name
    command = folder / "bin" / program
    if (folder / ".ready").exists():
        return command
    print(f"Installing {' '.join(requirements)} into {folder} …", flush=True)
    try:
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements]
        subprocess.run(pip, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"It could not be installed ({error}); measuring without it.")
        return None
    (folder / ".ready").touch()  # an installation that was broken off is made anew
    return command


def output(*command: str) -> str:
    """What a command prints; empty where it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def img2dataset_command(program: Path, urls: Path, out: Path, shard: int, *, extras: bool = True) -> list[str]:
    """256 px WebDataset, with hash and EXIF or without, two processes of 32 threads."""
    options = {
        "url_list": urls,
        "output_folder": out,
        "output_format": "webdataset",
        "number_sample_per_shard": shard,
        "image_size": 256,
        "resize_mode": "keep_ratio",
        "encode_format": "jpg",
        "encode_quality": 95,
        "compute_hash": "sha256" if extras else None,
        "extract_exif": extras,
        "processes_count": WORKERS,
        "thread_count": CONCURRENCY // WORKERS,
        "enable_wandb": False,
    }
    return [str(program), *(f"--{name}={value}" for name, value in options.items())]


def images_command(urls: Path, out: Path, shard: int, *, extras: bool = True) -> list[str]:
    """The same of ours. sha256 is taken in any case: the ledger has it of every row."""
    return [
        *[str(scraper()), "images", str(urls), "--out", str(out), "--progress", "none"],
        *["--output-format", "webdataset", "--number-sample-per-shard", str(shard)],
        *["--image-size", "256", "--resize-mode", "keep_ratio", "--encode-format", "jpg"],
        *["--encode-quality", "95", "--workers", str(WORKERS), *_fetching()],
        *([] if extras else ["--no-extract-exif"]),
    ]


def files_command(urls: Path, out: Path, *more: str) -> list[str]:
    """The bytes as they come."""
    return [str(scraper()), "files", str(urls), "--out", str(out), "--progress", "none", *_fetching(), *more]


def _fetching() -> list[str]:
    return ["--concurrency", str(CONCURRENCY), "--per-host", str(CONCURRENCY), "--allow-net", LOOPBACK]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
