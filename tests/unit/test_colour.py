"""Colour profiles, printing inks, transparency and depth: what comes out is sRGB as people see it."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import pytest
from PIL import Image

from scraper.transforms import codecs, colour
from scraper.transforms.sniff import sniff

Column = tuple[float, float, float]
SRGB: tuple[Column, Column, Column] = (
    (0.43607, 0.22249, 0.01392),
    (0.38515, 0.71687, 0.09708),
    (0.14307, 0.06061, 0.71410),
)
"""XYZ of red, green and blue, to the profile's white D50."""
DISPLAY_P3: tuple[Column, Column, Column] = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
COLOURS = [(r, g, b) for r in (40, 128, 220) for g in (60, 128, 200) for b in (50, 128, 210)]


def fixed(*values: float) -> bytes:
    """Numbers as ICC.1:2022, 4.6 has them."""
    return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))


def icc(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 profile with these tags."""
    table, data = b"", b""
    start = 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", start + len(data), b"", 0x02400000, kind, space, connection, b"", b"acsp"
    )
    header += bytes(28) + fixed(0.9642, 1.0, 0.8249) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + data


def gamma(exponent: float) -> bytes:
    """A curve."""
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256)) + bytes(2)


def rgb_profile(columns: Sequence[Column], exponent: float) -> bytes:
    """A monitor's: a curve, then a matrix."""
    tags = {
        name + b"XYZ": b"XYZ " + bytes(4) + fixed(*column)
        for name, column in zip((b"r", b"g", b"b"), columns, strict=True)
    }
    tags |= {name + b"TRC": gamma(exponent) for name in (b"r", b"g", b"b")}
    return icc(b"RGB ", b"mntr", b"XYZ ", tags | {b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249)})


def grey_profile(exponent: float) -> bytes:
    """A curve alone."""
    return icc(
        b"GRAY",
        b"mntr",
        b"XYZ ",
        {b"kTRC": gamma(exponent), b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249)},
    )


def table_profile(space: bytes, corners: Sequence[tuple[int, int, int]]) -> bytes:
    """What the corners of the device's space look like on yellowish paper, in Lab; in between it is even."""
    channels, ramp = len(space.strip()), bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([channels, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * channels
    table += bytes(sample for corner in corners for sample in corner) + ramp * 3
    paper = b"XYZ " + bytes(4) + fixed(0.82, 0.86, 0.6)
    return icc(space, b"prtr", b"Lab ", {b"A2B0": table, b"A2B1": table, b"wtpt": paper})


def press_profile() -> bytes:
    """A press on which cyan ink prints red, black ink black, and the others nothing."""
    white, red, black = (255, 128, 128), (140, 200, 190), (0, 128, 128)
    return table_profile(b"CMYK", [*[white, black] * 4, *[red, black] * 4])


def to_srgb(columns: Sequence[Column], exponent: float, pixel: tuple[int, ...]) -> list[float]:
    """By formula: the curve, the matrix, sRGB's matrix undone (Cramer), sRGB's curve (IEC 61966-2-1)."""
    linear = [(sample / 255) ** exponent for sample in pixel]
    xyz = [sum(columns[each][axis] * linear[each] for each in range(3)) for axis in range(3)]

    def volume(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> float:
        return (
            a[0] * (b[1] * c[2] - b[2] * c[1])
            - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0])
        )

    red, green, blue = SRGB
    whole = volume(red, green, blue)
    back = [volume(xyz, green, blue) / whole, volume(red, xyz, blue) / whole, volume(red, green, xyz) / whole]
    back = [min(1.0, max(0.0, each)) for each in back]
    return [255 * (12.92 * each if each <= 0.0031308 else 1.055 * each ** (1 / 2.4) - 0.055) for each in back]


def flat(pixels: Sequence[tuple[int, ...]], mode: str = "RGB") -> Image.Image:
    """These pixels in a row."""
    return Image.frombytes(mode, (len(pixels), 1), bytes(sample for pixel in pixels for sample in pixel))


def through(image: Image.Image, format_: str, profile: bytes, **options: object) -> tuple[Image.Image, list[str]]:
    """The picture after a file with that profile; and what was remarked."""
    out = io.BytesIO()
    image.save(out, format_, icc_profile=profile, **options)
    kind = sniff(out.getvalue())
    assert kind is not None
    remarks: list[str] = []
    with codecs.opened(kind, out.getvalue(), remarks=remarks) as opened:
        opened.load()
        return colour.plain(opened, keep_alpha=True), remarks


def near(found: object, wanted: Sequence[float], by: float = 2) -> bool:
    """Whether two colours are alike."""
    assert isinstance(found, tuple)
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("columns", "exponent"), [(DISPLAY_P3, 2.2), (SRGB, 1.8), (SRGB[1::-1] + SRGB[2:], 2.2)])
def test_a_profile_is_applied(format_: str, columns: tuple[Column, ...], exponent: float) -> None:
    """A wide gamut, a bright curve, and red where others have green: all become sRGB, by formula."""
    options = {"lossless": True} if format_ == "WEBP" else {}
    image, remarks = through(flat(COLOURS), format_, rgb_profile(columns, exponent), **options)
    for at, pixel in enumerate(COLOURS):
        assert near(image.getpixel((at, 0)), to_srgb(columns, exponent, pixel)), pixel
    assert remarks == []


@pytest.mark.parametrize("after", [False, True])
def test_a_profile_may_be_applied_after_resizing(after: bool) -> None:
    """The steps give, on an even colour, what plain gives; transparency stays as it is."""
    image = Image.new("RGBA", (64, 64), (200, 60, 90, 128))
    image.info["icc_profile"] = profile = rgb_profile(DISPLAY_P3, 2.2)
    if after:
        small = colour.to_srgb(colour.samples(image).resize((8, 8)), profile)
    else:
        small = colour.plain(image, keep_alpha=True).resize((8, 8))
    assert small.mode == "RGBA"
    assert near(small.getpixel((4, 4)), [*to_srgb(DISPLAY_P3, 2.2, (200, 60, 90)), 128])
    wanted = [
        (each * 128 + background * 127) / 255
        for each, background in zip(to_srgb(DISPLAY_P3, 2.2, (200, 60, 90)), (0, 0, 255), strict=True)
    ]
    assert near(colour.flat(small, (0, 0, 255)).getpixel((4, 4)), wanted)


def test_profiles_that_are_srgb_are_skipped() -> None:
    """Whatever they are called: the pixels are those of the file."""
    from PIL import ImageCms

    for profile in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), sampled_srgb()):
        image, remarks = through(flat(COLOURS), "PNG", profile)
        assert image.tobytes() == flat(COLOURS).tobytes()
        assert remarks == []
        assert colour._conversion(profile, "RGB") is None


def sampled_srgb() -> bytes:
    """The primaries of sRGB under its own curve, sampled."""
    samples = [each / 1023 for each in range(1024)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in samples]
    curve = b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *(round(each * 65_535) for each in linear))
    tags = {
        name + b"XYZ": b"XYZ " + bytes(4) + fixed(*column)
        for name, column in zip((b"r", b"g", b"b"), SRGB, strict=True)
    }
    return icc(b"RGB ", b"mntr", b"XYZ ", tags | {name + b"TRC": curve for name in (b"r", b"g", b"b")})


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profiles(mode: str) -> None:
    """A grey of gamma 1.0 is brighter in sRGB; transparency is left alone."""
    pixels = [(55,), (128,), (200,)] if mode == "L" else [(55, 10), (128, 128), (200, 255)]
    image, remarks = through(flat(pixels, mode), "PNG", grey_profile(1.0))
    assert image.mode == ("L" if mode == "L" else "RGBA")
    for at, pixel in enumerate(pixels):
        grey = to_srgb(SRGB, 1.0, pixel[:1] * 3)
        found = image.convert("RGBA").getpixel((at, 0))
        assert near(found, [*grey, pixel[1] if mode == "LA" else 255])
    assert remarks == []


def test_a_grey_picture_may_carry_an_rgb_profile() -> None:
    """As many JPEGs do: its greys go by the profile's curve."""
    image, remarks = through(flat([(55,), (128,), (200,)], "L"), "TIFF", rgb_profile(SRGB, 1.0))
    assert [
        near((image.getpixel((at, 0)),), to_srgb(SRGB, 1.0, (sample,) * 3)[:1])
        for at, sample in enumerate((55, 128, 200))
    ] == [True] * 3
    assert remarks == []


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_inks_go_through_their_profile(format_: str) -> None:
    """Where the press prints red with its first ink, red it is; JPEG stores inks inverted."""
    pixels = [(0, 0, 0, 0)] * 16 + [(255, 0, 0, 0)] * 16 + [(0, 0, 0, 255)] * 16
    options = {"quality": 100} if format_ == "JPEG" else {}
    image, remarks = through(flat(pixels, "CMYK").resize((48, 16)), format_, press_profile(), **options)
    assert image.mode == "RGB"
    assert near(image.getpixel((8, 8)), (255, 255, 255), 4)
    red = image.getpixel((24, 8))
    assert isinstance(red, tuple)
    assert red[0] > 150 > 80 > max(red[1:]), red
    assert near(image.getpixel((40, 8)), (0, 0, 0), 4)
    assert remarks == []


def test_paper_is_white_and_the_darkest_there_is_is_black() -> None:
    """Relative colorimetric, with black point compensation, on yellowish paper with greyish ink."""
    greyish, white = (60, 128, 128), (255, 128, 128)
    profile = table_profile(b"RGB ", [greyish] * 7 + [white])
    image, _ = through(flat([(255, 255, 255), (0, 0, 0)]), "TIFF", profile)
    assert near(image.getpixel((0, 0)), (255, 255, 255))
    assert near(image.getpixel((1, 0)), (0, 0, 0))


def test_inks_without_a_profile_go_by_formula() -> None:
    """R = (255 - C)(255 - K) / 255, and so on, whatever the file order."""
    pixels = [(10, 100, 200, 50), (0, 0, 0, 0), (255, 255, 255, 255), (0, 0, 0, 128)]
    image = colour.plain(flat(pixels, "CMYK"), keep_alpha=False)
    for at, (*inks, black) in enumerate(pixels):
        assert near(image.getpixel((at, 0)), [(255 - ink) * (255 - black) / 255 for ink in inks], 1)


@pytest.mark.parametrize(
    ("profile", "mode", "sentence"),
    [
        (b"profile" * 40, "RGB", "it is none"),
        (rgb_profile(SRGB, 1.0)[:200], "RGB", "it is damaged"),
        (rgb_profile(SRGB, 1.0)[:150] + b"\xff" * 300, "RGB", "it is damaged"),
        (grey_profile(1.0), "RGB", "it is for GRAY, and the picture is in RGB"),
        (press_profile(), "RGB", "it is for CMYK, and the picture is in RGB"),
        (rgb_profile(SRGB, 1.0), "CMYK", "it is for RGB, and the picture is in CMYK"),
        (icc(b"RGB ", b"link", b"RGB ", {}), "RGB", "it is none, or none for pictures"),
        (icc(b"Lab ", b"mntr", b"XYZ ", {}), "RGB", "it is for Lab"),
    ],
)
def test_profiles_of_no_use_are_ignored_and_remarked(profile: bytes, mode: str, sentence: str) -> None:
    """The picture comes out as if there were none, and the row says why."""
    source = flat([(10, 100, 200, 50)[: len(mode)]], mode)
    wanted = colour.plain(source, keep_alpha=True)
    for _ in range(2):  # made, and known
        image, remarks = through(source, "TIFF", profile)
        assert image.tobytes() == wanted.tobytes()
        (remark,) = remarks
        assert sentence in remark


@pytest.mark.filterwarnings("ignore:The colour profile")
def test_conversions_are_kept_and_bounded() -> None:
    """A profile that is used again and again is made once; many different ones do not stay."""
    image = Image.new("RGB", (1, 1), (9, 99, 199))
    profile = rgb_profile(SRGB, 1.0)
    colour.to_srgb(image, profile)
    made = colour._conversion(profile, "RGB")
    assert made is not None
    for at in range(100):
        colour.to_srgb(image, b"none" + bytes([at]))
        assert colour._conversion(profile, "RGB") is made
    assert len(colour._conversions) == 32


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa", "P", "P-many", "L", "RGB", "1"])
def test_every_way_to_be_transparent(mode: str) -> None:
    """Half of it grey, half of it not there: kept, or over the background asked for."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 4, 8))
    if mode in ("P", "P-many"):
        image = image.convert("L").convert("P")
        image.info["transparency"] = 0 if mode == "P" else bytes([0] + [255] * 255)
    elif mode in ("L", "RGB", "1"):
        image = image.convert(mode)
        image.info["transparency"] = (0, 0, 0) if mode == "RGB" else 0
    elif mode == "PA":
        alpha = image.getchannel("A")
        image = image.convert("L").convert("P").convert("PA")
        image.putalpha(alpha)
    else:
        image = image.convert("LA").convert(mode) if mode == "La" else image.convert(mode)
    kept = colour.plain(image, keep_alpha=True)
    assert kept.mode == "RGBA"
    assert kept.getpixel((1, 1)) == (255, 255, 255, 255)
    found = kept.getpixel((6, 6))
    assert isinstance(found, tuple)
    assert found[3] == 0
    over = colour.plain(image, keep_alpha=False, background=(10, 20, 200))
    assert over.mode == "RGB"
    assert (over.getpixel((1, 1)), over.getpixel((6, 6))) == ((255, 255, 255), (10, 20, 200))


@pytest.mark.parametrize("reducing_gap", [None, 2.0])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_under_transparent_pixels_does_not_bleed(mode: str, reducing_gap: float | None) -> None:
    """Resizing what samples gives weighs colours by their opacity: no dark seams around a white figure."""
    image = Image.new("RGBA", (90, 90), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (31, 31, 61, 61))
    small = colour.samples(image.convert(mode)).resize((10, 10), reducing_gap=reducing_gap)
    for found in colour.to_srgb(small, None).get_flattened_data():
        assert isinstance(found, tuple)
        assert found[3] == 0 or min(found[:3]) >= 250, found


@pytest.mark.parametrize(
    ("mode", "values", "wanted"),
    [
        ("I", (0, 128, 255), (0, 128, 255)),
        ("I", (0, 32_768, 65_535), (0, 128, 255)),
        ("I", (-5, 500_000, 1_000_000), (0, 128, 255)),
        ("F", (0.0, 0.5, 1.0), (0, 128, 255)),
        ("F", (0.0, 128.0, 255.0), (0, 128, 255)),
        ("F", (-1.0, 0.25, 0.5), (0, 64, 128)),
        ("F", (0.0, 0.5, float("inf")), (0, 128, 255)),
    ],
)
def test_deep_samples_are_scaled(mode: str, values: tuple[float, ...], wanted: tuple[int, ...]) -> None:
    """By the next usual white above the brightest; what is below black is black."""
    image = Image.new(mode, (3, 1))
    for at, value in enumerate(values):
        image.putpixel((at, 0), value)
    found = colour.plain(image, keep_alpha=False)
    assert found.mode == "L"
    assert all(abs(a - b) <= 1 for a, b in zip(found.tobytes(), wanted, strict=True)), found.tobytes()


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bits_are_rounded(mode: str) -> None:
    """To the nearest of 256 steps, for samples on both sides of each border."""
    samples = [step * 257 + off for step in range(255) for off in (0, 128, 129)] + [65_535]
    code = ">" if mode == "I;16B" else "<"
    data = struct.pack(f"{code}{len(samples)}{'i' if mode == 'I' else 'H'}", *samples)
    image = Image.frombytes(mode, (len(samples), 1), data)
    assert colour.plain(image, keep_alpha=False).tobytes() == bytes((each + 128) // 257 for each in samples)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV"])
def test_other_colour_spaces(mode: str) -> None:
    """They become RGB, as Pillow knows them."""
    assert colour.plain(Image.new(mode, (2, 2), (120, 60, 40)), keep_alpha=False).mode == "RGB"
