"""What img2dataset gets wrong with pictures, by its sources and its users' reports: here it is right."""

from __future__ import annotations

import io
import json
import struct
import zlib

import pytest
from PIL import Image, PngImagePlugin

from scraper.errors import TransformFailed
from scraper.testing.transform import response
from scraper.transforms.image import ImageTransform


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    """The picture as a server would send it."""
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def made(body: bytes, **settings: object) -> tuple[Image.Image, dict[str, object]]:
    """What the transform makes of it, decoded, and its fields."""
    (item,) = ImageTransform(**settings)(response(body))  # type: ignore[arg-type]  # checked by the class itself
    image = Image.open(io.BytesIO(item.data))
    image.load()
    return image, dict(item.fields)


def test_defect_1_phone_photographs_stand_upright() -> None:
    """The tag is obeyed and then gone; theirs ignores it, drops it, and the photograph stays on its side."""
    upright = Image.new("RGB", (60, 80), "blue")
    upright.paste("red", (0, 0, 60, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    body = encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    image, fields = made(body, resize_mode="no")
    assert image.size == (fields["width"], fields["height"]) == (60, 80)
    top, bottom = image.getpixel((30, 5)), image.getpixel((30, 70))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200 > 60 > top[2]
    assert bottom[2] > 200 > 60 > bottom[0]
    assert image.getexif().get(0x0112, 1) == 1
    assert json.loads(str(fields["exif"])) == {"Image Orientation": "6"}


@pytest.mark.parametrize("encode_format", ["jpg", "png", "webp"])
def test_defect_2_sixteen_bits_are_not_washed_out(encode_format: str) -> None:
    """Half of white stays half of white; theirs cuts samples off at 255 and gives white."""
    for sample in (0, 300, 32_768, 65_535):
        image, _ = made(encoded(Image.new("I;16", (40, 40), sample), "PNG"), encode_format=encode_format)
        found = image.convert("RGB").getpixel((20, 128))
        assert isinstance(found, tuple)
        assert max(abs(each - sample / 257) for each in found) <= 2


def test_defect_2_alpha_of_sixteen_bits_is_not_taken_for_eight() -> None:
    """Half transparent over white is half as dark; theirs divides by 255 whatever the depth."""
    row = b"\x00" + struct.pack(">4H", 0, 0, 0, 32_768) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, 6, 0, 0, 0)
    body = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row * 8))
        + chunk(b"IEND", b"")
    )
    image, _ = made(body, resize_mode="no")
    found = image.getpixel((4, 4))
    assert isinstance(found, tuple)
    assert max(abs(each - 127) for each in found) <= 2


def test_defect_3_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 million pixels of 50 kB are counted in the header; theirs decodes them to see if they are too many."""
    rows = zlib.compressobj()
    data = b"".join(rows.compress(bytes(2_501 * 100)) for _ in range(200)) + rows.flush()
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    assert len(body) < 100_000
    ImageTransform().warm_up()
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("was decoded"))
    with pytest.raises(TransformFailed) as caught:
        ImageTransform()(response(body))
    assert caught.value.class_ == "image.bomb"
    assert "20000 x 20000" in caught.value.message


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError(1), RuntimeError("x"), OSError("x"), ZeroDivisionError()]
)
def test_defect_6_an_unexpected_error_is_a_failed_row(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever a decoder raises has a class and a sentence; theirs prints it, and the row is nowhere."""

    def fails(self: object) -> None:
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", fails)
    with pytest.raises(TransformFailed) as caught:
        ImageTransform()(response(encoded(Image.new("RGB", (8, 8)), "PNG")))
    assert caught.value.class_ == "image.decode"
    assert type(error).__name__ in caught.value.message


def test_defect_6_a_picture_that_cannot_be_resized_is_a_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the decoder was content: theirs lost 9,997 of 10,000 rows so, and ended with 0."""

    def fails(self: object, *args: object, **options: object) -> None:
        raise TypeError("changed its arguments")

    monkeypatch.setattr(Image.Image, "resize", fails)
    with pytest.raises(TransformFailed) as caught:
        ImageTransform()(response(encoded(Image.new("RGB", (8, 8)), "PNG")))
    assert caught.value.class_ == "image.decode"


def test_defect_11_small_pictures_need_not_be_enlarged_or_padded() -> None:
    """One option leaves them as they are; without it, border does what img2dataset's users are used to."""
    body = encoded(Image.new("RGB", (40, 30), "red"), "PNG")
    assert made(body, resize_only_if_bigger=True)[0].size == (40, 30)
    image, _ = made(body, encode_format="png")
    assert image.size == (256, 256)
    assert (image.getpixel((128, 10)), image.getpixel((128, 128))) == ((255, 255, 255), (255, 0, 0))
    assert made(body, resize_mode="keep_ratio_largest")[0].size == (256, 192)
