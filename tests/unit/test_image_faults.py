"""Bodies that are no pictures, or not whole ones: each has its class, and none gives a picture."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image, ImageCms

from scraper.errors import TransformFailed
from scraper.testing.transform import response
from scraper.transforms.containers import lacks_rows
from scraper.transforms.image import ImageTransform

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP"]


def encoded(format_: str, **options: object) -> bytes:
    """A picture that does not compress to nothing."""
    out = io.BytesIO()
    noise = Image.frombytes("RGB", (64, 64), bytes((i * i * 31 + i // 7) % 256 for i in range(64 * 64 * 3)))
    noise.save(out, format_, **options)
    return out.getvalue()


def failure(body: bytes, **settings: object) -> TransformFailed:
    """How the transform fails on it."""
    transform = ImageTransform(**settings)  # type: ignore[arg-type]  # checked by the class itself
    transform.warm_up()
    with pytest.raises(TransformFailed) as caught:
        transform(response(body))
    return caught.value


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks."""
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_claiming(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """The start of a PNG of that size, and nothing of its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return png((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))


@pytest.mark.parametrize(
    ("body", "class_", "text"),
    [
        (b"", "image.not_image", "empty"),
        (b"<!doctype html><title>404</title>", "image.not_image", "an HTML page, not a picture"),
        (b'{"error": 404}', "image.not_image", "a JSON document"),
        (b"%PDF-1.7", "image.not_image", "a PDF document"),
        (b"\x00" * 100, "image.not_image", "100 bytes of no known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image.format", "an SVG image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "image.format", "a PostScript image"),
        (b"8BPS\x00\x01", "image.format", "a Photoshop image"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "image.format", "a HEIC image"),
    ],
)
def test_what_is_no_accepted_picture_is_named(body: bytes, class_: str, text: str) -> None:
    """The message says what the body is instead."""
    error = failure(body)
    assert error.class_ == class_
    assert text in error.message


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97, 1.0])
def test_a_picture_that_is_cut_off_is_none(format_: str, share: float) -> None:
    """Whatever is missing at the end, a byte or all, there is no output, and the class says truncated."""
    whole = encoded(format_)
    error = failure(whole[: int((len(whole) - 1) * share)])
    assert error.class_ == "image.truncated"
    assert "before the picture does" in error.message


@pytest.mark.parametrize("format_", FORMATS)
def test_a_cut_within_the_header_is_no_crash(format_: str) -> None:
    """From 16 bytes on, each format fails as a picture fails."""
    whole = encoded(format_)
    for length in range(16, 64, 3):
        assert failure(whole[:length]).class_ in ("image.truncated", "image.decode")


def test_damaged_data_is_told_from_missing_data() -> None:
    """A PNG of which one bit of any chunk is wrong, but which is all there, is damaged."""
    whole = encoded("PNG")
    for at in (17, whole.index(b"IDAT") + 40, len(whole) - 20):
        error = failure(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert error.class_ == "image.decode"
        assert "a PNG image that is damaged" in error.message


@pytest.mark.parametrize(
    "body",
    [
        png_claiming(8, 8, depth=0),
        png_claiming(8, 8, depth=3),
        png_claiming(8, 8, colour=1),
        png_claiming(8, 8, colour=9),
        png_claiming(0, 8),
        png_claiming(8, 0),
        png((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)), (b"IEND", b"")),
        png((b"IDAT", zlib.compress(bytes(200))), (b"IEND", b"")),
        encoded("PNG").replace(b"\r\n", b"\n", 1),
        encoded("PNG").replace(b"\x1a", b"", 1),
    ],
    ids=lambda body: f"{len(body)}",
)
def test_impossible_headers_are_no_pictures(body: bytes) -> None:
    """Depths, colours and sizes there are none of, no pixels, no header, a signature that a transfer changed."""
    assert failure(body).class_ in ("image.decode", "image.truncated", "image.not_image")


def test_a_body_is_what_it_begins_as() -> None:
    """A zip file hidden behind a photograph is a photograph; a page within a GIF's comment is a GIF."""
    assert len(ImageTransform()(response(encoded("JPEG") + b"PK\x03\x04hidden"))) == 1
    assert len(ImageTransform()(response(encoded("GIF", comment=b"<html><script>alert(1)</script>")))) == 1


def test_damaged_texts_cost_no_picture() -> None:
    """A wrong checksum over what stands behind the pixels is left alone."""
    whole = encoded("PNG")
    text = b"\x00\x00\x00\x04tEXtk\x00vv" + bytes(4)
    assert len(ImageTransform()(response(whole[:-12] + text + whole[-12:]))) == 1


def test_messages_repeat() -> None:
    """Two runs over the same bytes say the same, so that reports can be compared."""
    broken = encoded("PNG")[:8] + b"\x00" * 60 + b"IEND" + bytes(4)
    assert failure(broken).message == failure(broken).message


@pytest.mark.parametrize("mode", ["no", "border"])
def test_a_bomb_is_refused_by_its_header(mode: str) -> None:
    """A header that claims a billion pixels ends the row before memory is asked for."""
    error = failure(png_claiming(40_000, 40_000), resize_mode=mode)
    assert error.class_ == "image.bomb"
    assert "40000 x 40000" in error.message


def test_the_pixel_limit_is_the_users() -> None:
    """One pixel over it is refused, exactly at it is not."""
    assert failure(encoded("PNG"), max_image_pixels=64 * 64 - 1).class_ == "image.bomb"
    transform = ImageTransform(image_size=8, max_image_pixels=64 * 64)
    assert len(transform(response(encoded("PNG")))) == 1


@pytest.mark.parametrize(
    ("width", "encode_format"), [(2_000_000, "jpg"), (70_000, "jpg"), (20_000, "webp"), (2_000_000, "png")]
)
def test_a_long_thin_picture_does_not_grow_without_bounds(width: int, encode_format: str) -> None:
    """Scaling the short side up may make more pixels, or a longer side, than can be had."""
    out = io.BytesIO()
    Image.new("RGB", (width, 1), "red").save(out, "PNG")
    error = failure(out.getvalue(), resize_mode="keep_ratio", image_size=64, encode_format=encode_format)
    assert error.class_ == "image.bomb"


def test_a_long_thin_picture_can_be_cropped() -> None:
    """The centre of one line is enlarged without enlarging the line."""
    out = io.BytesIO()
    Image.new("RGB", (1_000_000, 1), "red").save(out, "PNG")
    (item,) = ImageTransform(resize_mode="center_crop")(response(out.getvalue()))
    assert (item.fields["width"], item.fields["height"]) == (256, 256)


def test_postscript_is_never_run() -> None:
    """Not even where the body begins as a picture that is accepted."""
    assert failure(b"\xc5\xd0\xd3\xc6" + bytes(100)).class_ == "image.format"
    assert failure(b"BM" + bytes(20) + b"%!PS-Adobe").class_ in ("image.decode", "image.truncated")


def _png(rows: int, data: bytes, *, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", 40, rows, 8, 2, 0, 0, interlace)
    return png((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))


@pytest.mark.parametrize("interlace", [0, 1])
def test_a_png_of_too_few_rows_is_truncated(interlace: int) -> None:
    """Its checksums are right and its end is there: what is missing is found by unpacking it."""
    row = b"\x00" + b"\x90" * 120
    assert failure(_png(30, row * 12, interlace=interlace)).class_ == "image.truncated"
    assert failure(_png(30, row * 29 + row[:60], interlace=interlace)).class_ == "image.truncated"
    if not interlace:
        black = b"\x00" * 121
        ImageTransform()(response(_png(30, row * 29 + black)))  # a last row may be black


@pytest.mark.parametrize("rows", [1023, 1024, 1025, 1030, 1040, 2048, 2050])
def test_a_png_that_is_black_to_its_end_is_whole(rows: int) -> None:
    """A row is a kilobyte: so what is unpacked at once may end anywhere, and the packed data before it."""
    body = io.BytesIO()
    Image.new("RGB", (341, rows)).save(body, "PNG")
    assert not lacks_rows(body.getvalue())
    cut = struct.pack(">IIBBBBB", 341, rows, 8, 2, 0, 0, 0)
    assert lacks_rows(png((b"IHDR", cut), (b"IDAT", zlib.compress(bytes(1024 * rows - 1))), (b"IEND", b"")))


def test_a_tiff_of_too_few_strips_is_truncated() -> None:
    """3,000 rows by the header, and strips for 64."""
    body = bytearray(encoded("TIFF"))
    entry = body.index(struct.pack("<HHI", 257, 4, 1))  # ImageLength, one long
    body[entry + 8 : entry + 12] = struct.pack("<I", 3_000)
    assert failure(bytes(body)).class_ == "image.truncated"


@pytest.mark.parametrize("what", ["png chunks", "gif blocks", "jpeg segments", "jpeg scans"])
def test_countless_parts_are_refused_at_once(what: str) -> None:
    """A small download that is cut into millions of parts occupies no worker."""
    if what == "png chunks":
        body = png_claiming(40, 30)[:33] + png((b"teXt", b""))[8:] * 150_000
    elif what == "gif blocks":
        body = encoded("GIF")[: 13 + 768] + b"\x21\xfe" + b"\x01x" * 1_500_000 + b"\x00;"
    elif what == "jpeg segments":
        body = b"\xff\xd8" + b"\xff\xe5\x00\x02" * 50_000 + encoded("JPEG")[2:]
    else:
        image = encoded("JPEG", progressive=True)
        body = image[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" * 600 + b"\xff\xd9"
    error = failure(body)
    assert error.class_ == "image.decode"
    assert "in so many parts" in error.message


def test_a_costly_profile_is_left_alone() -> None:
    """Chains of processing elements are not applied; the picture is made as if it had no profile."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = int.from_bytes(profile[136:140], "big")
    profile[place : place + 4] = b"mpet"
    (item,) = ImageTransform()(response(encoded("PNG", icc_profile=bytes(profile))))
    assert "is not applied" in str(item.fields["decoder_warnings"])


@pytest.mark.parametrize(
    ("bits", "planes"), [((16, 16, 16), 2), ((32,), 1)], ids=["16 bits in planes", "32 bits unsigned"]
)
def test_what_would_be_misread_is_refused(bits: tuple[int, ...], planes: int) -> None:
    """Pillow 13 makes other pixels of these, and says nothing."""
    pixels = b"\x00\x80" * 64 * 3
    entries = [(256, 8), (257, 8), (259, 1), (262, 2 if len(bits) == 3 else 1)]
    entries += [(277, len(bits)), (278, 8), (284, planes)]
    data_at = 8 + 2 + 12 * (len(entries) + 3) + 4
    strips = len(bits) if planes == 2 else 1
    more = struct.pack(f"<{len(bits)}H", *bits)
    places, sizes = data_at + 16, data_at + 40
    body = b"II*\x00" + struct.pack("<IH", 8, len(entries) + 3)
    rows = [struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries]
    rows.append(struct.pack("<HHII", 258, 3, len(bits), data_at if len(bits) > 2 else bits[0]))
    rows.append(struct.pack("<HHII", 273, 4, strips, places if strips > 1 else data_at + 64))
    rows.append(struct.pack("<HHII", 279, 4, strips, sizes if strips > 1 else 256))
    body += b"".join(sorted(rows, key=lambda it: struct.unpack("<H", it[:2]))) + struct.pack("<I", 0)
    body += more.ljust(16, b"\x00")
    body += struct.pack("<3I", *(data_at + 64 + 128 * n for n in range(3))).ljust(24, b"\x00")
    body += struct.pack("<3I", 128, 128, 128).ljust(24, b"\x00") + pixels
    assert failure(body).class_ == "image.format"
