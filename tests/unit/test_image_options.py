"""What the options of pictures do beside sizes: bounds, formats, filters, several sizes, blur, passing through."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image, ImageStat
from PIL.PngImagePlugin import PngInfo

from scraper.errors import TransformFailed, UsageError
from scraper.records import Item, Request, Response
from scraper.transforms.image import ImageTransform

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(width: int = 80, height: int = 40) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def encoded(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture."""
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def items(body: bytes, columns: dict[str, object] | None = None, **settings: object) -> list[Item]:
    """What a transform with these settings makes of a body."""
    transform = ImageTransform(**settings)  # type: ignore[arg-type] # the point of some tests
    transform.warm_up()
    request = Request(0, "http://a.test/", columns=columns or {})
    return list(transform(Response(request, "http://a.test/", 200, {}, body)))


def picture(item: Item) -> Image.Image:
    """What an item shows."""
    return Image.open(io.BytesIO(item.data))


def failure(body: bytes, **settings: object) -> TransformFailed:
    """Why there is nothing."""
    with pytest.raises(TransformFailed) as error:
        items(body, **settings)
    return error.value


@pytest.mark.parametrize(
    ("settings", "class_"),
    [
        ({"min_image_size": 41}, "filtered.size"),
        ({"max_image_area": 3199}, "filtered.pixels"),
        ({"max_aspect_ratio": 1.99}, "filtered.aspect"),
        ({"accept_formats": ("jpg", "webp")}, "filtered.type"),
    ],
)
def test_what_is_not_wanted_is_left_out(settings: dict[str, object], class_: str) -> None:
    """Beyond the bound it ends as what it is; at the bound itself it does not."""
    body = encoded(halves())
    assert failure(body, **settings).class_ == class_
    bounds = {"min_image_size": 40, "max_image_area": 3200, "max_aspect_ratio": 2, "accept_formats": ("png",)}
    assert len(items(body, **bounds)) == 1


def test_bounds_are_of_the_upright_picture() -> None:
    """A phone's portrait stored on its side has the aspect that people see; the area is the same either way."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (item,) = items(encoded(halves(), "JPEG", exif=exif), resize_mode="no", max_aspect_ratio=2)
    assert (item.fields["original_width"], item.fields["original_height"]) == (40, 80)


def test_several_sizes_come_from_one_row() -> None:
    """The first is the row's picture and has the fields; the others are called after their size."""
    made = items(encoded(halves(800, 400), "JPEG"), image_size=(64, 200, 32), resize_mode="keep_ratio")
    assert [each.extension for each in made] == ["jpg", "200.jpg", "32.jpg"]
    assert [picture(each).size for each in made] == [(128, 64), (400, 200), (64, 32)]
    assert (made[0].fields["width"], made[0].fields["original_width"]) == (128, 800)
    assert dict(made[1].fields) == {"width": 400, "height": 200}


@pytest.mark.parametrize("filter_", ["nearest", "area", "linear", "hamming", "bicubic", "lanczos"])
def test_each_filter_is_the_one_that_pillow_calls_so(filter_: str) -> None:
    """Smaller and larger: what comes out of a picture decoded whole is that filter's result, to the last bit."""
    image = Image.effect_noise((90, 60), 80).convert("RGB")
    own = {"area": "BOX", "linear": "BILINEAR"}.get(filter_, filter_.upper())
    for size in (30, 120):
        (item,) = items(
            encoded(image), image_size=size, resize_mode="keep_ratio", encode_format="png",
            downscale_interpolation=filter_, upscale_interpolation=filter_,
        )  # fmt: skip
        wanted = image.resize((size * 3 // 2, size), Image.Resampling[own])
        assert picture(item).tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("name", "colour"), [("black", (0, 0, 0)), ("#f00", RED), ("0000FF", BLUE), ("grey", (128, 128, 128))]
)
def test_the_background_is_the_users(name: str, colour: tuple[int, int, int]) -> None:
    """Round a picture in border, and behind what is transparent."""
    clear = Image.new("RGBA", (80, 40), (9, 9, 9, 0))
    (item,) = items(encoded(clear), image_size=80, background=name, encode_quality=100)
    for at in ((40, 2), (40, 40)):
        assert all(abs(a - b) <= 3 for a, b in zip(picture(item).getpixel(at), colour, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image_size": ()}, "--image-size must be at least 1"),
        ({"image_size": (64, 64)}, "--image-size has one size twice"),
        ({"image_size": (64, 32), "resize_mode": "no"}, "several with --resize-mode no"),
        ({"background": "sky"}, "--background is white, black, grey, gray or #rrggbb, not 'sky'"),
        ({"accept_formats": ("svg",)}, "--accept-formats is one of"),
        ({"accept_formats": ()}, "--accept-formats must name a format"),
        ({"downscale_interpolation": "best"}, "--downscale-interpolation is one of auto, nearest"),
        ({"upscale_interpolation": "auto"}, "--upscale-interpolation is one of nearest"),
        ({"max_aspect_ratio": 0.5}, "--max-aspect-ratio must be 1 or more"),
        ({"max_image_area": float("nan")}, "--max-image-area and"),
    ],
)
def test_impossible_options_are_refused(settings: dict[str, object], sentence: str) -> None:
    """One sentence that says what is possible, before anything is fetched."""
    with pytest.raises(UsageError, match=sentence):
        ImageTransform(**settings)  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.parametrize("format_", ["jpg", "png", "webp"])
def test_what_fits_passes_through_unchanged(format_: str) -> None:
    """Format and size as asked for: the same bytes, not a copy of a copy. With any difference it is made anew."""
    pillow = {"jpg": "JPEG"}.get(format_, format_.upper())
    body = encoded(halves(), pillow, **{"png": {"compress_level": 1}}.get(format_, {}))
    asked = {"resize_mode": "keep_ratio", "resize_only_if_bigger": True, "encode_format": format_}
    (item,) = items(body, **asked, skip_reencode=True)
    assert item.data == body
    assert (item.fields["width"], item.fields["height"]) == (80, 40)
    for change in (
        {"skip_reencode": False},
        {"image_size": 39},
        {"encode_format": "png" if format_ != "png" else "jpg"},
    ):
        (other,) = items(body, **asked | {"skip_reencode": True} | change)
        assert other.data != body


def _with_segment(body: bytes, marker: int, data: bytes) -> bytes:
    return body[:2] + bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data + body[2:]


def test_nothing_but_pixels_passes() -> None:
    """Whatever may hold a position or a text keeps a picture from passing, wherever it stands."""
    plain = encoded(Image.effect_noise((80, 40), 50).convert("RGB"), "JPEG")
    texts = PngInfo()
    texts.add_text("Location", "48.2 N, 16.4 E")
    bodies = [
        (_with_segment(plain, marker, b"anything"), "jpg") for marker in (0xE1, 0xE2, 0xE4, 0xEC, 0xED, 0xFE)
    ]
    bodies += [(_with_segment(plain, marker, b"48.2 N, 16.4 E" * 9), "jpg") for marker in (0xE0, 0xEE)]
    bodies += [(plain + plain, "jpg"), (plain + b"behind", "jpg"), (encoded(halves(), pnginfo=texts), "png")]
    bodies += [(encoded(halves()) + b"behind", "png"), (encoded(halves(), "WEBP", xmp=b"<x/>"), "webp")]
    for body, format_ in bodies:
        asked = {"resize_mode": "no", "skip_reencode": True, "encode_format": format_}
        assert items(body, **asked)[0].data != body
        assert items(body, **asked, metadata="keep")[0].data != body
        assert items(body, **asked, metadata="keep-gps")[0].data == body
    progressive = encoded(Image.effect_noise((80, 40), 50).convert("RGB"), "JPEG", progressive=True)
    for body in (plain, progressive):
        assert items(body, resize_mode="no", skip_reencode=True)[0].data == body


def test_exif_is_copied_as_asked() -> None:
    """Left out, kept without where it was taken, or kept with it: in the result that is written."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    body = encoded(halves(), "JPEG", exif=exif)
    found = {}
    for asked in ("strip", "keep", "keep-gps"):
        kept = picture(items(body, metadata=asked)[0]).getexif()
        found[asked] = (kept.get(0x010F), bool(kept.get_ifd(0x8825)))
    assert found == {"strip": (None, False), "keep": ("Maker", False), "keep-gps": ("Maker", True)}
    assert items(body, extract_exif=True)[0].fields["exif"] is not None
    assert items(body, extract_exif=False)[0].fields["exif"] is None


def test_animations_are_left_out_on_request() -> None:
    """The first frame, or none."""
    body = encoded(halves(), "GIF", save_all=True, append_images=[halves().rotate(180)])
    assert failure(body, animated="refuse").class_ == "filtered.type"
    assert len(items(body, animated="first")) == 1
    assert len(items(encoded(halves(), "GIF"), animated="refuse")) == 1


def test_bounds_are_asked_before_a_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every format, PNG too, whose EXIF may stand behind the pixels."""

    def load(_: object) -> None:
        raise AssertionError("decoded")

    bounded = {
        "filtered.pixels": ImageTransform(max_image_area=100),
        "image.bomb": ImageTransform(image_size=70_000, resize_mode="keep_ratio"),
    }
    for format_ in ("PNG", "JPEG", "WEBP", "GIF"):
        body = encoded(halves(), format_)
        for class_, transform in bounded.items():
            response = Response(Request(0, "http://a.test/"), "http://a.test/", 200, {}, body)
            with monkeypatch.context() as patch:
                patch.setattr("PIL.ImageFile.ImageFile.load", load)
                with pytest.raises(TransformFailed) as error:
                    transform(response)
            assert error.value.class_ == class_


@pytest.mark.parametrize("what", ["turned", "gps", "profile", "grey-alpha", "cut"])
def test_what_is_not_as_we_would_write_it_does_not_pass(what: str) -> None:
    """Pictures on their side, with positions, in other colours are made anew; one that is cut off is a failure."""
    options: dict[str, object] = {}
    exif = Image.Exif()
    if what == "turned":
        exif[0x0112] = 3
    elif what == "gps":
        exif.get_ifd(0x8825)[1] = "N"
    image = Image.effect_noise((80, 40), 50).convert("CMYK" if what == "profile" else "RGB")
    body = encoded(image, "JPEG", exif=exif, **options)
    asked = {"resize_mode": "no", "skip_reencode": True}
    if what == "cut":
        assert failure(body[: len(body) * 2 // 3], **asked).class_ == "image.truncated"
    elif what == "grey-alpha":
        grey = encoded(Image.new("LA", (8, 8), (9, 99)))
        assert items(grey, **asked, encode_format="png")[0].data != grey
    else:
        assert items(body, **asked)[0].data != body
        assert (items(body, **asked, metadata="keep-gps")[0].data == body) is (what == "gps")


def test_boxes_are_blurred() -> None:
    """Inside a box the edge between the halves is gone; far from it, every pixel is as it was."""
    body = encoded(halves(400, 200))
    asked = {"image_size": 200, "resize_mode": "keep_ratio", "encode_format": "png", "bbox_col": "faces"}
    for faces in ([[0.4, 0.0, 0.6, 0.3]], json.dumps([[0.6, 0.3, 0.4, 0.0]])):
        (item,) = items(body, {"faces": faces}, **asked)
        image = picture(item)
        assert 60 < image.getpixel((200, 20))[0] < 200  # type: ignore[index] # RGB
        assert (image.getpixel((195, 150)), image.getpixel((205, 150))) == (RED, BLUE)
        assert (image.getpixel((20, 20)), image.getpixel((380, 20))) == (RED, BLUE)


def test_boxes_follow_the_picture() -> None:
    """They are parts of the upright picture, wherever orientation and crop put them."""
    exif = Image.Exif()
    exif[0x0112] = 6  # its left is stored at the bottom
    noise = Image.effect_noise((400, 300), 100).convert("RGB")
    body = encoded(noise.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    asked = {"image_size": 150, "resize_mode": "center_crop", "encode_format": "png", "bbox_col": "faces"}
    image = picture(items(body, {"faces": [[0.0, 0.0, 0.5, 1.0]]}, **asked)[0]).convert("L")
    spread = [ImageStat.Stat(image.crop((x, 0, x + 30, 150))).stddev[0] for x in (0, 120)]
    assert spread[0] < spread[1] / 3


@pytest.mark.parametrize("faces", [None, "", [], "[]"])
def test_a_row_without_boxes_is_left_alone(faces: object) -> None:
    """Nothing to blur is no failure."""
    body = encoded(halves())
    plain = items(body, encode_format="png")[0].data
    assert items(body, {"faces": faces}, encode_format="png", bbox_col="faces")[0].data == plain


_TWICE = json.dumps(json.dumps([[0.2, 0.2, 0.6, 0.6]]))


@pytest.mark.parametrize(
    "faces",
    ["nonsense", 7, [[0.1, 0.2]], [["a", 0, 1, 1]], [[0, 0, float("nan"), 1]], [7], [[100, 100, 300, 300]], _TWICE,
     '""', b"", [[0.5, 0.5, 0.5, 0.9]], [[10**400, 0, 1, 1]], "[" * 100_000, [[0, 0, 1, 1]] * 1_001],
    ids=lambda it: repr(it)[:30],
)  # fmt: skip
def test_boxes_that_cannot_be_read_are_a_failure(faces: object) -> None:
    """A face that was to be blurred is not published because of a typo."""
    with pytest.raises(TransformFailed, match="'faces' is to hold boxes") as error:
        items(encoded(halves()), {"faces": faces}, bbox_col="faces")
    assert error.value.class_ == "input.invalid"


def test_a_box_grows_before_it_is_blurred() -> None:
    """By a tenth on each side: a detector's box ends at the skin. Beyond, the picture is as it was."""
    stripes = Image.new("L", (400, 200))
    stripes.paste(255, (0, 0, 200, 200))
    for x in range(0, 400, 4):
        stripes.paste(255 * (x // 4 % 2), (x, 0, x + 4, 200))
    asked = {"resize_mode": "no", "encode_format": "png", "bbox_col": "faces"}
    image = picture(items(encoded(stripes), {"faces": [[0.4, 0.25, 0.6, 0.75]]}, **asked)[0]).convert("L")
    near, far = image.crop((153, 90, 160, 110)), image.crop((60, 90, 100, 110))
    assert ImageStat.Stat(near).stddev[0] < 90 < 120 < ImageStat.Stat(far).stddev[0]


def test_a_row_that_lacks_the_column_is_a_failure() -> None:
    """The same where there is no such column at all."""
    with pytest.raises(TransformFailed, match="faces"):
        items(encoded(halves()), {}, bbox_col="faces")
