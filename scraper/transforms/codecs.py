"""Which of Pillow's decoders and encoders are used, and what their errors and warnings mean.

In: bytes, or a picture. Out: a picture that is open, its pixels not read yet; or the bytes of one.
Must never: let a decoder run that was not asked for by the body's magic number; start a program, as Pillow's EPS
decoder does; let an error of Pillow's through.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import TextIO

# The plugins are imported for their registration: with them there, Pillow never loads the other forty.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from scraper.errors import TransformFailed
from scraper.transforms import containers
from scraper.transforms.sniff import DECODABLE, GIF, JPEG, PNG, TIFF, Kind

KNOWN = DECODABLE
"""Extensions of all that can be decoded here, without a program or a library beside Pillow's own."""

_FORMATS = {
    "avif": AvifImagePlugin.AvifImageFile.format,
    "bmp": BmpImagePlugin.BmpImageFile.format,
    "gif": GifImagePlugin.GifImageFile.format,
    "ico": IcoImagePlugin.IcoImageFile.format,
    "jp2": Jpeg2KImagePlugin.Jpeg2KImageFile.format,
    "jpg": JpegImagePlugin.JpegImageFile.format,  # MPO, several JPEGs in one, comes with it
    "png": PngImagePlugin.PngImageFile.format,
    "tiff": TiffImagePlugin.TiffImageFile.format,
    "webp": WebPImagePlugin.WebPImageFile.format,
}
_BITS, _COMPRESSION, _PLANAR, _SAMPLES = 258, 259, 284, 339
"""Tags of TIFF 6.0: BitsPerSample, Compression, PlanarConfiguration, SampleFormat."""

_PLANES = 2

_ENCODERS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
LONGEST_SIDE = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383}
"""Most pixels of a side, of the formats themselves."""
_MOST_REMARKS, _MOST_CHARS = 8, 200


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
def opened(kind: Kind, body: bytes | memoryview, *, remarks: list[str] | None = None) -> Iterator[Image.Image]:
    """The picture, of which the header has been read. All that is done with it belongs into the block.

    Args:
        kind: what ``sniff`` says of the body; its extension is in KNOWN.
        body: the bytes.
        remarks: gets what was odd but no failure, in the words of Pillow's warnings and of ours (a profile that
            cannot be read): at most 8 different texts of at most 200 characters. libjpeg's own warnings about
            damaged data do not get as far as Pillow: see ``containers``.

    Raises:
        TransformFailed: image.truncated, image.decode or image.bomb, for whatever goes wrong in the block.
    """
    try:
        containers.check_parts(kind, body)
        if not _ends_in_eoi(kind, body) and containers.ends_early(kind, body):
            raise _truncated(kind, body)
        if containers.is_damaged(kind, body):
            raise TransformFailed("image.decode", f"The body is {kind.label} that is damaged (wrong checksum).")
    except containers.TooManyParts:
        sentence = f"The body is {kind.label} in so many parts that it would take minutes to read."
        raise TransformFailed("image.decode", sentence) from None
    found: list[str] = [] if remarks is None else remarks
    with (
        _mapped(kind, body),
        _heard(found),
        Image.open(io.BytesIO(body), formats=[_FORMATS[kind.extension]]) as image,
    ):
        _refuse_misread(image)
        _widen_transparency(image)
        yield image


def _refuse_misread(image: Image.Image) -> None:
    """Refuse what Pillow 13 decodes to other pixels than are in the file, without a word.

    Raises:
        TransformFailed: image.format.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    bits, layout = tags.get(_BITS, (1,)), tags.get(_PLANAR, 1)
    if layout == _PLANES and max(bits) > 8 and len(bits) > 1 and tags.get(_COMPRESSION, 1) == 1:
        raise TransformFailed("image.format", "The body is a TIFF image of deep colours in planes of their own.")
    if bits == (32,) and tags.get(_SAMPLES, (1,)) == (1,):
        raise TransformFailed("image.format", "The body is a TIFF image of whole numbers of 32 bits.")


def check_rows(image: Image.Image, kind: Kind, body: bytes | memoryview) -> None:
    """See that a picture, its pixels read, has all its rows. Only of PNG does the decoder make black ones up.

    Its data is unpacked once more for that where the last row is black, or the order of the rows another one.

    Raises:
        TransformFailed: image.truncated.
    """
    if kind is not PNG:
        return
    last = image.crop((0, image.height - 1, *image.size))
    if (image.info.get("interlace") or last.getbbox(alpha_only=False) is None) and containers.lacks_rows(body):
        raise TransformFailed("image.truncated", f"The body is {kind.label} whose data ends before its last row.")


def frames(image: Image.Image) -> int:
    """How many pictures or pages there are. Ask before the pixels are read: nothing is decoded for it.

    1 for an MPO, whose further pictures are other views of the first, and for a TIFF's smaller copies of a page.
    """
    if isinstance(image, GifImagePlugin.GifImageFile | TiffImagePlugin.TiffImageFile):
        # Pillow seeks from frame to frame: 0.2 s for 100,000 of them, and it counts a TIFF's thumbnails.
        assert isinstance(image.fp, io.BytesIO)
        with image.fp.getbuffer() as body:
            return containers.frames(GIF if image.format == "GIF" else TIFF, body)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    return int(getattr(image, "n_frames", 1))


def encode(
    image: Image.Image, format_: str, quality: int, *, exif: bytes = b"", icc: bytes | None = None
) -> bytes:
    """The picture's bytes in that format, with no metadata but these.

    Args:
        image: pixels in a mode the format knows.
        format_: jpg, png or webp.
        quality: 1 to 100, or for png the compression 0 to 9.
        exif: tags as ``metadata.kept`` gives them, or none.
        icc: a colour profile, or None: then the pixels are sRGB, which is what readers take them for.
    """
    image.info = {}  # encoders write profiles and texts they find there
    options: dict[str, object] = {"compress_level" if format_ == "png" else "quality": quality}
    if exif:
        options["exif"] = exif
    if icc:
        options["icc_profile"] = icc
    out = io.BytesIO()
    image.save(out, _ENCODERS[format_], **options)
    return out.getvalue()


def _widen_transparency(image: Image.Image) -> None:
    """Bring the colour that a PNG calls transparent to the depth that Pillow brings the pixels to.

    Pillow 13 widens the samples of 2- and 4-bit grey and narrows 16-bit colour, and compares the result with what
    the file says as it stands: nothing matches. Narrowed, it matches colours next to it too, 1 part in 256 away.
    """
    key = image.info.get("transparency")
    if key is None or not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return
    rawmode = image.tile[0].args
    if rawmode in ("L;2", "L;4"):
        image.info["transparency"] = (key & 3) * 85 if rawmode == "L;2" else (key & 15) * 17
    elif rawmode == "RGB;16B":
        image.info["transparency"] = tuple(sample >> 8 for sample in key)


def _ends_in_eoi(kind: Kind, body: bytes | memoryview) -> bool:
    """Whether this is a JPEG with nothing behind its last marker, as most have it; looking for that takes longer.

    Should those two bytes end something else, a thumbnail say, the decoder will find its data missing.
    """
    return kind is JPEG and bytes(body[-2:]) == b"\xff\xd9"


@contextlib.contextmanager
def _heard(remarks: list[str]) -> Iterator[None]:
    """Collect what is warned of in the block.

    Python's warning filters belong to the process, not to a thread. A worker has one thread: safe there.
    """

    def hear(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = "".join(char if char.isprintable() else " " for char in f"{message}"[:_MOST_CHARS]).strip()
        if text not in remarks and len(remarks) < _MOST_REMARKS:
            remarks.append(text)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = hear
        yield


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
        # A stranger's bytes meet nine parsers: any exception at all may come out, and means the same.
        text = f"{error}".lower()
        cut = isinstance(error, EOFError) or "truncated" in text or "unexpected end" in text
        if cut or containers.ends_early(kind, body):
            raise _truncated(kind, body) from error
        unreadable = isinstance(error, UnidentifiedImageError)  # its text holds an address
        detail = "its header cannot be read" if unreadable else f"{type(error).__name__}: {error}"
        raise TransformFailed("image.decode", f"The body is {kind.label} that is damaged ({detail}).") from error


def _truncated(kind: Kind, body: bytes | memoryview) -> TransformFailed:
    sentence = f"The body is {kind.label} that ends after {len(body)} bytes, before the picture does."
    return TransformFailed("image.truncated", sentence)
