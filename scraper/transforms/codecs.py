"""Which of Pillow's decoders and encoders are used, and what their errors mean.

In: bytes, or a picture. Out: a picture that is open, its pixels not read yet; or the bytes of one.
Must never: let a decoder run that was not asked for by the body's magic number; let an error of Pillow's through.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

# The plugins are imported for their registration: with them there, Pillow never loads the other forty.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from scraper.errors import TransformFailed
from scraper.transforms.containers import ends_early, is_damaged
from scraper.transforms.sniff import Kind

_FORMATS = {
    "avif": AvifImagePlugin.AvifImageFile.format,
    "bmp": BmpImagePlugin.BmpImageFile.format,
    "gif": GifImagePlugin.GifImageFile.format,
    "jpg": JpegImagePlugin.JpegImageFile.format,  # MPO, several JPEGs in one, comes with it
    "png": PngImagePlugin.PngImageFile.format,
    "tiff": TiffImagePlugin.TiffImageFile.format,
    "webp": WebPImagePlugin.WebPImageFile.format,
}
_ENCODERS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
LONGEST_SIDE = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383}
"""Most pixels of a side, of the formats themselves."""


def warm_up(encode_format: str) -> None:
    """Settle Pillow's globals for a worker process, and run each codec once."""
    # Our own cap is exact, and settable per transform; Pillow's would refuse what the user allowed.
    Image.MAX_IMAGE_PIXELS = None
    # One process per core decodes one picture at a time; the codec's own threads would only compete.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # Of the kind "corrupt EXIF data"; what matters raises.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    data = encode(Image.new("RGB", (16, 16)), encode_format, 6)
    with Image.open(io.BytesIO(data)) as image:
        image.resize((8, 8), Image.Resampling.BICUBIC)


@contextlib.contextmanager
def opened(kind: Kind, body: bytes | memoryview) -> Iterator[Image.Image]:
    """The picture, of which the header has been read. All that is done with it belongs into the block.

    Raises:
        TransformFailed: image.truncated, image.decode or image.bomb, for whatever goes wrong in the block.
    """
    if is_damaged(kind, body):
        raise TransformFailed("image.decode", f"The body is {kind.label} that is damaged (wrong checksum).")
    with _mapped(kind, body), Image.open(io.BytesIO(body), formats=[_FORMATS[kind.extension]]) as image:
        yield image


def encode(image: Image.Image, format_: str, quality: int) -> bytes:
    """The picture's bytes in that format, without any metadata."""
    image.info = {}  # encoders write profiles and texts they find there
    out = io.BytesIO()
    if format_ == "png":
        image.save(out, _ENCODERS[format_], compress_level=quality)
    else:
        image.save(out, _ENCODERS[format_], quality=quality)
    return out.getvalue()


@contextlib.contextmanager
def _mapped(kind: Kind, body: bytes | memoryview) -> Iterator[None]:
    """The one place where Pillow's errors become ours."""
    try:
        yield
    except (TransformFailed, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TransformFailed("image.bomb", f"{error}") from error
    except Exception as error:
        # A stranger's bytes meet seven parsers: any exception at all may come out, and means the same.
        text = f"{error}".lower()
        cut = isinstance(error, EOFError) or "truncated" in text or "unexpected end" in text
        if cut or ends_early(kind, body):
            sentence = f"The body is {kind.label} that ends after {len(body)} bytes, before the picture does."
            raise TransformFailed("image.truncated", sentence) from error
        unreadable = isinstance(error, UnidentifiedImageError)  # its text holds an address
        detail = "its header cannot be read" if unreadable else f"{type(error).__name__}: {error}"
        raise TransformFailed("image.decode", f"The body is {kind.label} that is damaged ({detail}).") from error
