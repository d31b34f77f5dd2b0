"""EXIF: which way is up, wherever it is written, and what of it goes into the picture that is made."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from scraper.transforms import codecs, metadata
from scraper.transforms.sniff import sniff

MAKE, ORIENTATION, STRIPS, GEO_KEYS = 0x010F, 0x0112, 0x0111, 0x87AF
TIME, MAKER_NOTE, WIDTH, COLOUR_SPACE, EXPOSURE = 0x9003, 0x927C, 0xA002, 0xA001, 0x829A
LATITUDE = 2


def tags() -> Image.Exif:
    """What a camera writes, and more."""
    exif = Image.Exif()
    exif[MAKE], exif[ORIENTATION], exif[GEO_KEYS] = "Maker", 6, (1, 2, 3)
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {
            TIME: "2024:02:29 12:00:00",
            MAKER_NOTE: b"serial 4711",
            WIDTH: 4000,
            COLOUR_SPACE: 0xFFFF,
            EXPOSURE: TiffImagePlugin.IFDRational(1, 60),
        }
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo)[LATITUDE] = (52.0, 30.0, 0.0)
    return exif


def with_thumbnail() -> bytes:
    """A first block, and a second one that says where a thumbnail is."""
    first = struct.pack(">HHHIHHI", 1, ORIENTATION, 3, 1, 6, 0, 26)
    second = struct.pack(">HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, 9, 0)
    return b"Exif\x00\x00MM\x00*\x00\x00\x00\x08" + first + second + b"thumbnail"


def file(format_: str, **options: object) -> bytes:
    """A small picture of that format."""
    out = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 100, 50)).save(out, format_, **options)
    return out.getvalue()


def kept_of(body: bytes, **options: bool) -> bytes:
    """What is kept of a file's tags."""
    kind = sniff(body)
    assert kind is not None
    with codecs.opened(kind, body) as image:
        exif = metadata.exif_of(image)
        image.load()
    return metadata.kept(Image.new("RGB", (30, 20)), exif, **options)


def read(data: bytes) -> Image.Exif:
    """The tags anew."""
    exif = Image.Exif()
    exif.load(data)
    return exif


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_what_is_kept(format_: str) -> None:
    """Camera and time stay; what was true of the old file is put right or left out; places go unless asked for."""
    body = file(format_, exif=tags().tobytes())
    exif = read(kept_of(body))
    assert exif[MAKE] == "Maker"
    assert exif.get(ORIENTATION, 1) == 1
    assert not {STRIPS, GEO_KEYS, ExifTags.IFD.GPSInfo} & set(exif)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert details == {TIME: "2024:02:29 12:00:00", WIDTH: 30, COLOUR_SPACE: 1, EXPOSURE: (1 / 60)}
    assert read(kept_of(body, gps=True)).get_ifd(ExifTags.IFD.GPSInfo)[LATITUDE] == (52.0, 30.0, 0.0)


@pytest.mark.parametrize("encode_format", ["jpg", "png", "webp"])
def test_encoders_write_what_is_kept(encode_format: str) -> None:
    """And nothing else: a picture's own leftovers are not written."""
    picture = Image.new("RGB", (30, 20))
    picture.info = {"comment": b"private", "exif": with_thumbnail(), "icc_profile": b"x" * 200}
    data = codecs.encode(picture, encode_format, 6, exif=kept_of(file("JPEG", exif=tags())), icc=b"profile" * 30)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.getexif()[MAKE] == "Maker"
        assert image.info["icc_profile"] == b"profile" * 30
        assert not {"comment", "xmp"} & set(image.info)
    with Image.open(io.BytesIO(codecs.encode(picture, encode_format, 6))) as image:
        image.load()
        assert not {"exif", "icc_profile", "comment"} & set(image.info)


def test_thumbnails_are_left_out() -> None:
    """They show the picture as it was before it was cropped or blacked out."""
    assert b"thumbnail" in file("JPEG", exif=with_thumbnail())
    data = kept_of(file("JPEG", exif=with_thumbnail()))
    assert read(data)[ORIENTATION] == 1
    assert b"thumbnail" not in data
    assert read(data).get_ifd(ExifTags.IFD.IFD1) == {}


def test_nothing_to_keep_is_empty() -> None:
    """No empty block is written."""
    assert kept_of(file("PNG")) == b""
    only_a_place = Image.Exif()
    only_a_place.get_ifd(ExifTags.IFD.GPSInfo)[LATITUDE] = (52.0, 30.0, 0.0)
    assert kept_of(file("PNG", exif=only_a_place)) == b""


def test_tags_outlive_the_file() -> None:
    """Those of a TIFF of several pages too, of which Pillow reads the blocks when asked for them."""
    pages = [Image.new("RGB", (6, 4))]
    body = file("TIFF", exif=tags().tobytes(), save_all=True, append_images=pages)
    assert read(kept_of(body)).get_ifd(ExifTags.IFD.Exif)[TIME] == "2024:02:29 12:00:00"


def test_long_values_go_first() -> None:
    """Where all of them together do not fit, short ones stay."""
    exif = tags()
    exif[0x010E] = exif[0x0131] = exif[0x013B] = "x" * 30_000
    exif[0x8298] = "c" * 8_000
    found = read(kept_of(file("PNG", exif=exif)))
    assert {0x010E, 0x0131, 0x013B, 0x8298, MAKE} & set(found) == {0x8298, MAKE}


@pytest.mark.parametrize(("length", "stays"), [(60_000, True), (70_000, False)])
def test_what_is_kept_fits_into_a_jpeg(length: int, stays: bool) -> None:
    """A long value goes when the whole would be too long; the short ones stay."""
    exif = tags()
    exif[0x010E] = "x" * length
    found = read(kept_of(file("PNG", exif=exif)))
    assert (0x010E in found) is stays
    assert found[MAKE] == "Maker"
    many = tags()
    many.get_ifd(ExifTags.IFD.Exif).update(dict.fromkeys(range(0xB000, 0xB000 + 2000), b"y" * 60))
    data = kept_of(file("PNG", exif=many))
    assert len(data) <= 65_533


@pytest.mark.parametrize(
    "damage", [b"XX", b"II*\x00\xff\xff\xff\x7f", b"\xff" * 60, b"MM\x00*\x00\x00\x00\x08\xff\xff"]
)
def test_damaged_tags_cost_no_picture(damage: bytes) -> None:
    """Whatever cannot be read is not kept, and nothing is raised."""
    body = file("JPEG", exif=tags())
    start = body.index(b"Exif\x00\x00") + 6
    data = kept_of(body[:start] + damage + body[start + len(damage) :], gps=True)
    assert len(data) <= 65_533


def test_values_that_cannot_be_written_cost_their_tags() -> None:
    """A tag of the wrong type does not raise."""
    exif = tags()
    exif[MAKE] = object()
    assert isinstance(metadata.kept(Image.new("RGB", (1, 1)), exif), bytes)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_xmp_says_which_way_is_up_where_exif_does_not(format_: str) -> None:
    """Some editors write the orientation there only."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    if format_ == "PNG":
        from PIL import PngImagePlugin

        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        body = file(format_, pnginfo=text)
    else:
        body = file(format_, xmp=xmp)
    kind = sniff(body)
    assert kind is not None
    with codecs.opened(kind, body) as image:
        assert metadata.turn_of(image, metadata.exif_of(image)) is Image.Transpose.ROTATE_270


def test_orientations_that_are_none_are_upright() -> None:
    """0, 9 and words turn nothing."""
    for value in (0, 9, 65_535):
        exif = Image.Exif()
        exif[ORIENTATION] = value
        assert metadata.turn_of(Image.new("RGB", (2, 1)), exif) is None
