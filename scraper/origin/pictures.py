"""The origin's photographs: size, number and format in, encoded bytes out; painted once, then kept.

The same path gives the same bytes wherever Pillow and its codecs are the same; another version of an
encoder may pack the same pixels differently. Must never serve a torn file from the cache: each carries
its digest, and what does not match is painted again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import sys
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import PIL
from PIL import Image, PngImagePlugin, features

from scraper.origin import brush, scenes

MEMORY_BYTES = 256 * 1024 * 1024
"""Encoded pictures held in memory; every JPEG of every size takes a fifth of it."""

NUMBER_DIGITS = 12
_MARK = b"picture " + b"0" * NUMBER_DIGITS
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class PictureSize:
    """One size of picture.

    Attributes:
        width: pixels across.
        height: pixels down.
        scenes: how many different ones are painted; picture n shows scene n modulo this.
        grain: camera noise in percent. With ``quality`` it is tuned so that JPEGs weigh what real ones do.
        quality: JPEG quality.
    """

    width: int
    height: int
    scenes: int
    grain: int
    quality: int


SIZES = {
    "thumb": PictureSize(400, 300, 128, 7, 90),  # 37 KB
    "photo": PictureSize(1280, 960, 64, 7, 90),  # 350 KB
    "large": PictureSize(4000, 3000, 8, 7, 90),  # 3 MB
}

CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}


class Key(NamedTuple):
    """What is painted once: a scene in a size and a format."""

    size: str
    scene: int
    ext: str


def key_of(size: str, number: int, ext: str) -> Key:
    """The scene that picture ``number`` shows."""
    return Key(size, number % SIZES[size].scenes, ext)


@functools.cache
def fingerprint() -> str:
    """What the bytes depend on besides the path: our brushes, Pillow, and the codecs it was built with."""
    seen = hashlib.blake2b(digest_size=6)
    for module in (brush, scenes):
        assert module.__file__ is not None
        seen.update(Path(module.__file__).read_bytes())
    codecs = [features.version(name) for name in ("jpg", "libjpeg_turbo", "zlib", "webp")]
    seen.update(repr((PIL.__version__, codecs, SIZES)).encode())
    return seen.hexdigest()


def cache_folder() -> Path:
    """Where painted pictures are kept between runs, under the user's cache folder."""
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "scraper" / f"origin-{fingerprint()}"


class Album:
    """Pictures, painted when first asked for. ``develop`` may be called from several threads at once."""

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._room = memory_bytes
        self._held: OrderedDict[Key, bytes] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Album {len(self._held)} pictures in memory, room for {self._room} bytes, {self._folder}>"

    def held(self, key: Key) -> bytes | None:
        """The scene, if it is in memory; call from the loop's thread only."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def hold(self, key: Key, data: bytes) -> None:
        """Keep a scene in memory, dropping the longest unused; call from the loop's thread only."""
        if key in self._held:
            return
        self._held[key] = data
        self._room -= len(data)
        while self._room < 0 and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self._room += len(dropped)

    def develop(self, key: Key) -> bytes:
        """Read a scene from disk, or paint it and keep it there; up to a second's work.

        A folder that cannot be read or written costs time and nothing else.
        """
        path = self._folder / f"{key.size}-{key.scene}.{key.ext}"
        with contextlib.suppress(OSError):
            kept = path.read_bytes()
            data, digest = kept[:-_DIGEST_BYTES], kept[-_DIGEST_BYTES:]
            if _digest(data) == digest:
                return data
        data = encode(key)
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}.part")
            partial.write_bytes(data + _digest(data))
            partial.replace(path)
        return data


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def encode(key: Key) -> bytes:
    """Paint a scene and encode it, with a comment in it that ``stamped`` can number."""
    size = SIZES[key.size]
    picture = scenes.paint(f"{key.size}/{key.scene}", (size.width, size.height), size.grain)
    out = io.BytesIO()
    if key.ext == "jpg":
        picture.save(out, "JPEG", quality=size.quality, comment=_MARK)
    elif key.ext == "png":
        comment = PngImagePlugin.PngInfo()
        comment.add_text("Comment", _MARK.decode())
        picture.save(out, "PNG", compress_level=2, pnginfo=comment)
    elif key.ext == "gif":
        palette = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette.save(out, "GIF", comment=_MARK)
    else:
        note = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!--%b--></x:xmpmeta>' % _MARK
        picture.save(out, "WEBP", quality=size.quality, method=1, xmp=note)
    return out.getvalue()


def stamped(data: bytes, number: int, ext: str) -> bytes:
    """The picture with its number in its comment: same pixels, other bytes, still a valid file."""
    at = data.find(_MARK)
    end = at + len(_MARK)
    mark = b"picture %0*d" % (NUMBER_DIGITS, number)
    if ext != "png":
        return b"".join((data[:at], mark, data[end:]))
    # A PNG chunk's checksum covers its type and its data, and follows them (PNG 5.3).
    chunk = data[data.rindex(b"tEXt", 0, at) : at] + mark
    return b"".join((data[:at], mark, zlib.crc32(chunk).to_bytes(4, "big"), data[end + 4 :]))
