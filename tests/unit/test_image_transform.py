"""Pictures in, pictures out: sizes, orientation, colours, depth, metadata."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image, ImageChops, ImageStat, TiffImagePlugin

from scraper.errors import UsageError
from scraper.policies.resize import RESIZE_MODES
from scraper.records import Item, Response
from scraper.testing.transform import TransformContract, response
from scraper.transforms.image import ImageTransform

_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores an upright scene that it marks with that orientation (EXIF 2.32, 4.6.4)."""

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 160, 30), (30, 30, 200), (255, 255, 255)


def quadrants(width: int, height: int) -> Image.Image:
    """Red, green over blue, white: every turn and mirror image of it looks different."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


def photo(width: int, height: int) -> Image.Image:
    """Something with soft and hard parts, grain included."""
    bands = [Image.radial_gradient("L"), Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90)]
    image = Image.merge("RGB", bands).resize((width, height), Image.Resampling.BICUBIC)
    grain = Image.linear_gradient("L").resize((width // 8, height // 8)).rotate(45, expand=True)
    image.paste(quadrants(width // 4, height // 4), (width // 3, height // 3))
    return Image.blend(image, grain.resize((width, height)).convert("RGB"), 0.2)


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    """The picture as a server would send it."""
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def made(body: bytes, **settings: object) -> tuple[Image.Image, Item]:
    """What the transform makes of it, decoded."""
    transform = ImageTransform(**settings)  # type: ignore[arg-type]  # checked by the class itself
    transform.warm_up()
    (item,) = transform(response(body))
    image = Image.open(io.BytesIO(item.data))
    image.load()
    assert image.size == (item.fields["width"], item.fields["height"])
    return image, item


def near(found: object, wanted: tuple[int, ...], by: int = 12) -> bool:
    """Whether two colours are alike, up to what lossy encoding does."""
    assert isinstance(found, tuple)
    return len(found) == len(wanted) and all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


class TestImageKeepsTheContract(TransformContract):
    def make(self) -> ImageTransform:
        """The transform under test."""
        return ImageTransform(image_size=64)

    def good_response(self) -> Response:
        """A photograph."""
        return response(encoded(photo(160, 120), "JPEG"), content_type="image/jpeg")


class TestPngToWebpKeepsTheContract(TransformContract):
    def make(self) -> ImageTransform:
        """Other codecs on both sides."""
        return ImageTransform(image_size=64, encode_format="webp", resize_mode="keep-ratio")

    def good_response(self) -> Response:
        """A drawing with transparency."""
        return response(encoded(photo(160, 120).convert("RGBA"), "PNG"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"resize_mode": "stretch"}, "--resize-mode is one of no, border"),
        ({"encode_format": "gif"}, "--encode-format is one of jpg, png, webp"),
        ({"encode_quality": 101}, "a quality from 1 to 100 for jpg, not 101"),
        ({"encode_format": "png", "encode_quality": 95}, "compression level from 0 to 9 for png"),
        ({"image_size": 0}, "--image-size"),
        ({"max_image_pixels": 0}, "--max-image-pixels"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], sentence: str) -> None:
    """Each is one sentence that says what is possible."""
    with pytest.raises(UsageError, match=sentence):
        ImageTransform(**settings)  # type: ignore[arg-type]  # the mistakes under test


def test_quality_has_a_default_for_each_format() -> None:
    """Left out, it is what each format's users expect."""
    qualities = {each: ImageTransform(encode_format=each).encode_quality for each in ("jpg", "png", "webp")}
    assert qualities == {"jpg": 95, "png": 6, "webp": 95}


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize(("width", "height"), [(200, 120), (120, 200), (30, 20), (64, 64)])
def test_each_mode_against_a_plain_reference(mode: str, width: int, height: int) -> None:
    """The quadrants stand where scaling whole and then cutting or padding puts them."""
    size = 64
    source = quadrants(width, height)
    longest, shortest = max(width, height), min(width, height)
    factor = {"no": 1.0, "keep_ratio": size / shortest, "center_crop": size / shortest}.get(mode, size / longest)
    scaled = source.resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    expected = scaled
    if mode in ("center_crop", "border"):
        left, upper = (size - scaled.width) // 2, (size - scaled.height) // 2
        expected = Image.new("RGB", (size, size), "white")
        expected.paste(scaled, (left, upper))
    image, item = made(encoded(source, "PNG"), image_size=size, resize_mode=mode, encode_format="png")
    assert image.size == expected.size
    assert (item.fields["original_width"], item.fields["original_height"]) == (width, height)
    assert max(ImageStat.Stat(ImageChops.difference(image, expected)).mean) < 2.5


@pytest.mark.parametrize("mode", ["no", "border", "center_crop"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_out_upright(orientation: int, mode: str) -> None:
    """Whatever way a camera was held: upright pixels, upright sizes, and no tag that would turn them again."""
    turns = Image.Transpose
    stored = {
        1: None,
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }[orientation]
    upright = quadrants(160, 96)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format_ in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        body = encoded(upright.transpose(stored) if stored is not None else upright, format_, exif=exif)
        image, item = made(body, image_size=80, resize_mode=mode)
        assert (item.fields["original_width"], item.fields["original_height"]) == (160, 96)
        assert image.size == ((160, 96) if mode == "no" else (80, 80))
        width, height = image.size
        upper, lower = (height * 2 // 5, height * 3 // 5)
        corners = [image.getpixel(at) for at in [(9, upper), (width - 9, upper), (9, lower), (width - 9, lower)]]
        for found, wanted in zip(corners, (RED, GREEN, BLUE, WHITE), strict=True):
            assert near(found, wanted, 30), (format_, corners)
        assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["border", "keep_ratio", "center_crop"])
def test_pictures_that_are_shrunk_come_out_upright(orientation: int, mode: str) -> None:
    """The same as from a picture that is stored upright, though the decoder has left out most of its pixels."""
    upright = photo(480, 320)
    stored = upright if orientation == 1 else upright.transpose(_STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    wanted, _ = made(encoded(upright, "JPEG", quality=95), image_size=24, resize_mode=mode)
    found, _ = made(encoded(stored, "JPEG", quality=95, exif=exif), image_size=24, resize_mode=mode)
    assert found.size == wanted.size
    assert max(ImageStat.Stat(ImageChops.difference(found, wanted)).mean) < 4


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1280, 960), (1900, 1201)])
def test_shrinking_while_decoding_looks_like_decoding_whole(width: int, height: int) -> None:
    """The fast path differs from a full decode and Lanczos by less than anyone sees."""
    body = encoded(photo(width, height), "JPEG", quality=90)
    image, _ = made(body, image_size=200, resize_mode="keep_ratio_largest", encode_format="png")
    slow = Image.open(io.BytesIO(body)).convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
    difference = ImageStat.Stat(ImageChops.difference(image, slow))
    assert max(difference.mean) < 1.5
    assert max(difference.rms) < 4


@pytest.mark.parametrize(
    ("format_", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("GIF", "P"),
        ("GIF", "L"),
        ("WEBP", "RGB"),
        ("WEBP", "RGBA"),
        ("AVIF", "RGB"),
        ("TIFF", "RGB"),
        ("TIFF", "CMYK"),
        ("TIFF", "RGBA"),
        ("BMP", "RGB"),
        ("BMP", "L"),
        ("MPO", "RGB"),
    ],
)
@pytest.mark.parametrize("encode_format", ["jpg", "png", "webp"])
def test_every_format_and_mode_comes_out_in_colour(format_: str, mode: str, encode_format: str) -> None:
    """All that people publish becomes RGB (RGBA where there is transparency to keep), looking as it did."""
    source = quadrants(96, 96).quantize(8) if mode == "P" else quadrants(96, 96).convert(mode)
    options: dict[str, object] = {"quality": 95} if format_ in ("WEBP", "AVIF", "JPEG") else {}
    if format_ == "MPO":
        options = {"save_all": True, "append_images": [Image.new("RGB", (96, 96))]}
    image, _ = made(encoded(source, format_, **options), image_size=48, encode_format=encode_format)
    # WebP drops a transparency that is nowhere used, coming and going.
    has_alpha = mode in ("RGBA", "LA") and "WEBP" not in (format_, encode_format.upper())
    assert image.mode == ("RGBA" if has_alpha and encode_format == "png" else "RGB")
    expected = source.convert("RGB")
    for x, y in [(20, 20), (70, 20), (20, 70), (70, 70)]:
        wanted = expected.getpixel((x, y))
        assert isinstance(wanted, tuple)
        assert near(image.convert("RGB").getpixel((x // 2, y // 2)), wanted, 25)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white_in_jpg_and_kept_elsewhere(mode: str) -> None:
    """What is see-through becomes paper, not the colour that happens to be stored there."""
    source = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    source.paste((90, 90, 90, 255), (0, 0, 40, 80))
    if mode == "P":
        palette = Image.new("P", (80, 80), 0)
        palette.putpalette([0, 0, 0, 90, 90, 90])
        palette.paste(1, (0, 0, 40, 80))
        body = encoded(palette, "PNG", transparency=0)
    else:
        body = encoded(source.convert(mode), "PNG")
    flat, _ = made(body, image_size=40)
    assert near(flat.getpixel((5, 20)), (90, 90, 90))
    assert near(flat.getpixel((35, 20)), WHITE, 3)
    for encode_format in ("png", "webp"):
        kept, _ = made(body, image_size=40, encode_format=encode_format)
        assert near(kept.getpixel((5, 20)), (90, 90, 90, 255))
        found = kept.getpixel((35, 20))
        assert isinstance(found, tuple)
        assert found[3] == 0


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_are_scaled_and_not_clipped(format_: str, mode: str) -> None:
    """Half of white in 16 bits is half of white in 8."""
    if (format_, mode) == ("PNG", "I;16B"):
        mode = "I;16"
    source = Image.new(mode, (60, 60), 32_768)
    image, _ = made(encoded(source, format_), image_size=30)
    assert near(image.getpixel((15, 15)), (128, 128, 128), 2)


def test_thirty_two_bits_go_by_their_brightest_sample() -> None:
    """Floats to 1.0 and integers to 65535 come out as people see them."""
    for mode, value, top in (("F", 0.5, 1.0), ("I", 32_768, 65_535)):
        source = Image.new(mode, (60, 60), value)
        source.paste(top, (0, 0, 10, 10))
        image, _ = made(encoded(source, "TIFF"), resize_mode="no", encode_format="png")
        assert near(image.getpixel((40, 40)), (128, 128, 128), 2)
        assert near(image.getpixel((5, 5)), WHITE, 2)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "AVIF", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format_: str) -> None:
    """Moving pictures are still ones here."""
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, GREEN, BLUE)]
    body = encoded(frames[0], format_, save_all=True, append_images=frames[1:])
    image, _ = made(body, image_size=20)
    assert near(image.getpixel((10, 10)), RED, 20)


def test_metadata_is_reported_and_left_out() -> None:
    """EXIF goes into the record as text by name, positions excepted; the picture itself carries none."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769)[0x829A] = TiffImagePlugin.IFDRational(1, 60)
    exif.get_ifd(0x8769)[0x927C] = b"\x00\x01blob"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    body = encoded(photo(64, 64), "JPEG", exif=exif, icc_profile=b"profile" * 20, comment=b"private")
    for encode_format in ("jpg", "png", "webp"):
        image, item = made(body, encode_format=encode_format)
        known = json.loads(str(item.fields["exif"]))
        assert known == {"Image Make": "Maker", "Image Orientation": "6", "EXIF ExposureTime": "1/60"}
        assert not {"exif", "icc_profile", "comment", "xmp"} & set(image.info)


def test_no_exif_is_none() -> None:
    """The field is there all the same, so that every row has it."""
    assert made(encoded(photo(64, 64), "JPEG"))[1].fields["exif"] is None


def test_damaged_exif_costs_no_picture() -> None:
    """Metadata that cannot be read is left out; the pixels are fine."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    whole = encoded(photo(64, 64), "JPEG", exif=exif)
    start = whole.index(b"Exif\x00\x00") + 6
    for damage in (b"XX", b"II*\x00\xff\xff\xff\x7f", b"\xff" * 20):
        body = whole[:start] + damage + whole[start + len(damage) :]
        assert made(body, image_size=32)[0].size == (32, 32)


def test_exif_is_bounded() -> None:
    """A file cannot make the record as large as it likes."""
    exif = Image.Exif()
    for tag in (0x010E, 0x010F, 0x0110, 0x0131, 0x013B):
        exif[tag] = "x" * 10_000
    item = made(encoded(photo(64, 64), "JPEG", exif=exif))[1]
    assert 500 < len(str(item.fields["exif"])) < 2_000


def test_small_pictures_are_left_alone_on_request() -> None:
    """With resize_only_if_bigger nothing is enlarged, cropped or padded."""
    body = encoded(quadrants(40, 30), "PNG")
    for mode in RESIZE_MODES:
        assert made(body, resize_mode=mode, resize_only_if_bigger=True)[0].size == (40, 30)


def test_quality_reaches_the_encoder() -> None:
    """A lower quality, or a higher compression, is a smaller file."""
    body = encoded(photo(200, 200), "PNG")
    for encode_format, low, high in (("jpg", 40, 95), ("webp", 40, 95), ("png", 9, 0)):
        small, large = (
            len(made(body, encode_format=encode_format, encode_quality=quality)[1].data) for quality in (low, high)
        )
        assert small < large
