"""Every resize mode x format x orientation x depth and colour mode, against formulas.

The scenes are functions of a place in [0, 1] x [0, 1]. The test writes their samples as each format stores them,
and asks of the result that each pixel has the colour the scene has there. No decoder, rotation or filter stands on
the side of what is expected: turning is a table of indices, scaling is evaluating the function elsewhere.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from PIL import Image

from scraper.policies.resize import RESIZE_MODES
from scraper.testing.transform import response
from scraper.transforms.image import ImageTransform

WIDTH, HEIGHT = 48, 32
Colour = tuple[float, float, float, float]  # red, green, blue, opacity, each 0 to 1
Scene = Callable[[float, float], Colour]
Rows = list[list[Colour]]


def hills(u: float, v: float) -> Colour:
    """Soft, and different in all four corners and in all channels."""
    return 0.15 + 0.7 * u, 0.1 + 0.75 * v, 0.2 + 0.3 * u + 0.3 * (1 - v) * u, 1


def fog(u: float, v: float) -> Colour:
    """The same in grey."""
    grey = 0.1 + 0.35 * u + 0.4 * v
    return grey, grey, grey, 1


def glass(u: float, v: float) -> Colour:
    """Ever less transparent to the right; its colour goes the other way."""
    return 0.8 - 0.5 * v, 0.3 + 0.2 * v, 0.25, 0.1 + 0.8 * u


def grey_glass(u: float, v: float) -> Colour:
    """The same in grey."""
    return 0.7 - 0.5 * v, 0.7 - 0.5 * v, 0.7 - 0.5 * v, 0.1 + 0.8 * u


def corner(u: float, v: float) -> Colour:
    """White but for a black quarter."""
    return (0, 0, 0, 1) if u < 0.5 and v < 0.5 else (1, 1, 1, 1)


def hole(u: float, v: float) -> Colour:
    """Mid grey but for a quarter that is not there."""
    return (0.35, 0.35, 0.35, 0) if u < 0.5 and v < 0.5 else (0.68, 0.68, 0.68, 1)


def whole(scene: Rows, top: int) -> list[list[tuple[int, int, int, int]]]:
    """The samples as integers up to ``top``."""
    return [
        [(round(r * top), round(g * top), round(b * top), round(a * top)) for r, g, b, a in row] for row in scene
    ]


def stored(scene: Scene, orientation: int) -> Rows:
    """The rows of the file, of which the first row and column stand where EXIF 2.32, 4.6.4 says."""
    last_x, last_y = WIDTH - 1, HEIGHT - 1
    upright = [[scene((x + 0.5) / WIDTH, (y + 0.5) / HEIGHT) for x in range(WIDTH)] for y in range(HEIGHT)]
    place: Callable[[int, int], tuple[int, int]] = {
        1: lambda r, c: (c, r),
        2: lambda r, c: (last_x - c, r),
        3: lambda r, c: (last_x - c, last_y - r),
        4: lambda r, c: (c, last_y - r),
        5: lambda r, c: (r, c),
        6: lambda r, c: (last_x - r, c),
        7: lambda r, c: (last_x - r, last_y - c),
        8: lambda r, c: (r, last_y - c),
    }[orientation]
    height, width = (WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH)
    return [[upright[y][x] for x, y in (place(r, c) for c in range(width))] for r in range(height)]


def exif(orientation: int) -> bytes:
    """EXIF with that tag alone, as TIFF bytes."""
    return b"MM\x00*\x00\x00\x00\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def packed(values: list[int], bits: int) -> bytes:
    """Samples of 1 to 16 bits, big end first, filled up to a byte at the end of the row."""
    number = 0
    for value in values:
        number = number << bits | value
    size = (len(values) * bits + 7) // 8
    return (number << (size * 8 - len(values) * bits)).to_bytes(size, "big")


def png(
    rows: Rows, orientation: int, bits: int, channels: str, *, trns: Colour | None = None, lace: bool = False
) -> bytes:
    """A PNG as the standard describes it; channels L, LA, RGB or RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    picked = {"L": [0], "LA": [0, 3], "RGB": [0, 1, 2], "RGBA": [0, 1, 2, 3]}[channels]
    samples = whole(rows, 2**bits - 1)
    data = b""
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for left, upper, wide, high in steps if lace else [(0, 0, 1, 1)]:
        for row in samples[upper::high]:
            data += b"\x00" + packed([pixel[at] for pixel in row[left::wide] for at in picked], bits)
    kind = {"L": 0, "LA": 4, "RGB": 2, "RGBA": 6}[channels]
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, kind, 0, 0, lace))]
    if trns is not None:
        key = whole([[trns]], 2**bits - 1)[0][0]
        parts.append(chunk(b"tRNS", struct.pack(f">{len(picked)}H", *(key[at] for at in picked))))
    parts += [chunk(b"eXIf", exif(orientation)), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(
    rows: Rows,
    orientation: int,
    bits: int,
    channels: str,
    *,
    order: str = ">",
    negative: bool = False,
    extra: int = 2,
) -> bytes:
    """An uncompressed TIFF; 32 bits are floats; negative is WhiteIsZero; extra 1 says premultiplied."""
    picked = {"L": [0], "RGB": [0, 1, 2], "RGBA": [0, 1, 2, 3]}[channels]
    if extra == 1:
        rows = [[(r * a, g * a, b * a, a) for r, g, b, a in row] for row in rows]
    top = 2**bits - 1
    data = b""
    for row in rows if bits == 32 else whole(rows, top):
        values = [pixel[at] for pixel in row for at in picked]
        if bits in (16, 32):
            data += struct.pack(
                f"{order}{len(values)}{'H' if bits == 16 else 'f'}", *(top - v if negative else v for v in values)
            )
        else:
            data += packed([int(top - v if negative else v) for v in values], bits)
    photometric = 2 if len(picked) > 1 else 0 if negative else 1
    entries = [(256, 4, len(rows[0])), (257, 4, len(rows)), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    entries += [(274, 3, orientation), (277, 3, len(picked)), (279, 4, len(data))]
    if len(picked) == 4:
        entries.append((338, 3, extra))
    if bits == 32:
        entries.append((339, 3, 3))
    where = 8 + len(data)
    after = where + 2 + 12 * (len(entries) + 1) + 4
    depth = struct.pack(order + "HHI", 258, 3, len(picked))
    depth += struct.pack(order + "I", after) if len(picked) > 2 else struct.pack(order + "HH", bits, 0)
    table = [
        struct.pack(order + ("HHIHxx" if kind == 3 else "HHII"), tag, kind, 1, value)
        for tag, kind, value in entries
    ]
    table.insert(2, depth)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, where)
    tail = struct.pack(order + "H", len(table)) + b"".join(table) + bytes(4)
    return head + data + tail + struct.pack(f"{order}{len(picked)}H", *[bits] * len(picked))


def drawn(rows: Rows, mode: str) -> Image.Image:
    """The samples as a picture of Pillow's, for its encoders."""
    size = (len(rows[0]), len(rows))
    flat = [pixel for row in whole(rows, 255) for pixel in row]
    if mode == "1":
        return drawn(rows, "L").convert("1")
    if mode == "CMYK":  # all the grey there is as black ink
        inks = []
        for pixel in flat:
            light = max(pixel[:3]) or 1
            inks += [round(255 - 255 * sample / light) for sample in pixel[:3]] + [255 - light]
        return Image.frombytes("CMYK", size, bytes(inks))
    if mode == "P":  # the colours of the scene by 16 steps each way
        palette = [
            each for i in range(256) for each in whole([[hills((i % 16) / 15, i // 16 / 15)]], 255)[0][0][:3]
        ]
        image = Image.frombytes("P", size, bytes(nearest(pixel) for row in rows for pixel in row))
        image.putpalette(palette)
        return image
    picked = {"L": [0], "LA": [0, 3], "RGB": [0, 1, 2], "RGBA": [0, 1, 2, 3]}[mode]
    return Image.frombytes(mode, size, bytes(pixel[at] for pixel in flat for at in picked))


def nearest(colour: Colour) -> int:
    """The palette's entry for a colour of ``hills``: red tells how far right it is, and green how low."""
    return round((colour[0] - 0.15) / 0.7 * 15) + 16 * round((colour[1] - 0.1) / 0.75 * 15)


def by_pillow(format_: str, mode: str, **options: object) -> Callable[[Rows, int], bytes]:
    """A writer of that format."""

    def write(rows: Rows, orientation: int) -> bytes:
        out = io.BytesIO()
        if orientation != 1:
            options["exif"] = b"Exif\x00\x00" + exif(orientation)
        drawn(rows, mode).save(out, format_, **options)
        return out.getvalue()

    return write


def ycck(rows: Rows, orientation: int) -> bytes:
    """A CMYK JPEG whose first three inks are in YCbCr, as Photoshop writes them (Adobe TN 5116)."""
    cyan, magenta, yellow, black = drawn(rows, "CMYK").split()
    luma = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    # The encoder stores 255 less what it is given, and calls it CMYK.
    planes = [plane.point(lambda sample: 255 - sample) for plane in luma]
    out = io.BytesIO()
    tags = b"Exif\x00\x00" + exif(orientation)
    Image.merge("CMYK", (*planes, black)).save(out, "JPEG", quality=95, exif=tags)
    body = bytearray(out.getvalue())
    assert body[body.index(b"Adobe") + 11] == 0
    body[body.index(b"Adobe") + 11] = 2
    return bytes(body)


@dataclass(frozen=True)
class Case:
    """A way to store a picture; ``by`` is the tolerance in 1/255, on top of what resizing takes."""

    name: str
    scene: Scene
    write: Callable[[Rows, int], bytes]
    by: int = 1
    turns: bool = True


def each_png() -> list[Case]:
    """All depths and colour types of PNG, with and without transparency."""
    cases = [Case("png-rgb-8-laced", hills, lambda r, o: png(r, o, 8, "RGB", lace=True))]
    cases.append(Case("png-grey-1", corner, lambda r, o: png(r, o, 1, "L")))
    scenes = {"L": fog, "LA": grey_glass, "RGB": hills, "RGBA": glass}
    for channels, depths in {"L": (2, 4, 8, 16), "LA": (8, 16), "RGB": (8, 16), "RGBA": (8, 16)}.items():
        for bits in depths:
            write = lambda r, o, b=bits, c=channels: png(r, o, b, c)  # noqa: E731
            cases.append(Case(f"png-{channels}-{bits}", scenes[channels], write, 255 // 2**bits + 1))
    for channels, bits in (("L", 2), ("L", 4), ("L", 8), ("L", 16), ("RGB", 8), ("RGB", 16)):
        write = lambda r, o, b=bits, c=channels: png(r, o, b, c, trns=hole(0, 0))  # noqa: E731
        cases.append(Case(f"png-{channels}-{bits}-trns", hole, write, 4 if bits < 8 else 1))
    cases.append(Case("png-palette", hills, by_pillow("PNG", "P"), 8))
    return cases


def each_tiff() -> list[Case]:
    """What people's scanners and microscopes write."""
    return [
        Case("tiff-grey-1", corner, lambda r, o: tiff(r, o, 1, "L")),
        Case("tiff-grey-4", fog, lambda r, o: tiff(r, o, 4, "L"), 16),
        Case("tiff-grey-8-inverse", fog, lambda r, o: tiff(r, o, 8, "L", negative=True)),
        Case("tiff-grey-12", fog, lambda r, o: tiff(r, o, 12, "L", order="<")),
        Case("tiff-grey-16", fog, lambda r, o: tiff(r, o, 16, "L")),
        Case("tiff-grey-16-little-inverse", fog, lambda r, o: tiff(r, o, 16, "L", order="<", negative=True)),
        Case("tiff-float", fog, lambda r, o: tiff(r, o, 32, "L")),
        Case("tiff-rgb-8", hills, lambda r, o: tiff(r, o, 8, "RGB")),
        Case("tiff-rgb-16", hills, lambda r, o: tiff(r, o, 16, "RGB")),
        Case("tiff-rgba-8", glass, lambda r, o: tiff(r, o, 8, "RGBA")),
        Case("tiff-rgba-8-premultiplied", glass, lambda r, o: tiff(r, o, 8, "RGBA", extra=1), 2),
        Case("tiff-rgba-16", glass, lambda r, o: tiff(r, o, 16, "RGBA", order="<")),
        Case("tiff-cmyk", hills, by_pillow("TIFF", "CMYK"), 2),
        Case("tiff-palette", hills, by_pillow("TIFF", "P"), 8),
        Case("tiff-lzw", hills, by_pillow("TIFF", "RGB", compression="tiff_lzw")),
        Case("tiff-jpeg", hills, by_pillow("TIFF", "RGB", compression="jpeg", quality=95), 5),
        Case("tiff-fax", corner, by_pillow("TIFF", "1", compression="group4")),
    ]


CASES = [
    *each_png(),
    *each_tiff(),
    Case("jpeg-rgb", hills, by_pillow("JPEG", "RGB", quality=95), 4),
    Case("jpeg-progressive", hills, by_pillow("JPEG", "RGB", quality=95, progressive=True), 4),
    Case("jpeg-grey", fog, by_pillow("JPEG", "L", quality=95), 3),
    Case("jpeg-cmyk", hills, by_pillow("JPEG", "CMYK", quality=95), 5),
    Case("jpeg-ycck", hills, ycck, 6),
    Case("webp-rgb", hills, by_pillow("WEBP", "RGB", lossless=True)),
    Case("webp-lossy", hills, by_pillow("WEBP", "RGB", quality=95), 6),
    Case("webp-rgba", glass, by_pillow("WEBP", "RGBA", lossless=True, exact=True)),
    Case("avif-rgb", hills, by_pillow("AVIF", "RGB", quality=95, speed=10), 5),
    Case("avif-rgba", glass, by_pillow("AVIF", "RGBA", quality=95, speed=10), 6),
    Case("gif-palette", hills, by_pillow("GIF", "P"), 8, turns=False),
    Case("gif-grey", fog, by_pillow("GIF", "L"), turns=False),
    Case("bmp-rgb", hills, by_pillow("BMP", "RGB"), turns=False),
    Case("bmp-grey", fog, by_pillow("BMP", "L"), turns=False),
    Case("bmp-palette", hills, by_pillow("BMP", "P"), 8, turns=False),
    Case("bmp-1", corner, by_pillow("BMP", "1"), turns=False),
]

AT = (0.25, 0.38, 0.62, 0.75)
"""Where the result is looked at, either way: inside every crop, and off the edges of the scenes that have some."""


def expected_place(mode: str, size: int) -> tuple[tuple[int, int], tuple[float, float], tuple[float, float]]:
    """By the words of the modes: the result's size; where the scene begins in it; how large all of it is there."""
    if mode == "no":
        return (WIDTH, HEIGHT), (0, 0), (WIDTH, HEIGHT)
    deciding = HEIGHT if mode in ("keep_ratio", "center_crop") else WIDTH
    scaled = (round(WIDTH * size / deciding), round(HEIGHT * size / deciding))
    if mode in ("keep_ratio", "keep_ratio_largest"):
        return scaled, (0, 0), scaled
    return (size, size), ((size - scaled[0]) / 2, (size - scaled[1]) / 2), scaled


def compare(image: Image.Image, scene: Scene, mode: str, size: int, by: float, *, opaque: bool) -> None:
    """Each pixel looked at has the scene's colour there, over white where the result is to be opaque."""
    wanted_size, (left, upper), (wide, high) = expected_place(mode, size)
    assert image.size == wanted_size
    for v in AT:
        for u in AT:
            x, y = int(left + u * wide), int(upper + v * high)
            *colours, opacity = scene((x + 0.5 - left) / wide, (y + 0.5 - upper) / high)
            found = image.getpixel((x, y))
            assert isinstance(found, tuple)
            if opaque:
                wanted = [255 * (opacity * each + 1 - opacity) for each in colours]
            else:
                wanted = [255 * each for each in colours]
                assert abs((found[3] if len(found) == 4 else 255) - 255 * opacity) <= by
            if opaque or opacity > 0.2:  # colours under little opacity have few levels left
                most = by if opaque else by + 0.5 / opacity
                assert max(abs(a - b) for a, b in zip(found[:3], wanted, strict=True)) <= most, (
                    u,
                    v,
                    found,
                    wanted,
                )
    if mode == "border" and opaque:
        assert min(image.getpixel((size // 2, 0))) >= 250  # type: ignore[arg-type]  # three bands


def made(body: bytes, **settings: object) -> Image.Image:
    """What the transform makes of it, decoded."""
    (item,) = ImageTransform(**settings)(response(body))  # type: ignore[arg-type]  # checked by the class itself
    image = Image.open(io.BytesIO(item.data))
    image.load()
    return image


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_mode_and_orientation(case: Case) -> None:
    """All five modes, eight orientations, smaller and larger: pixels stand where they belong, in their colours.

    Tolerances: what the depth or the lossy format itself takes, and 3/255 for resizing, which weighs neighbours.
    """
    ImageTransform(encode_format="png").warm_up()
    for orientation in range(1, 9) if case.turns else (1,):
        body = case.write(stored(case.scene, orientation), orientation)
        for mode in RESIZE_MODES:
            for size in (24, 64):
                image = made(body, image_size=size, resize_mode=mode, encode_format="png", encode_quality=1)
                try:
                    compare(image, case.scene, mode, size, case.by + 3, opaque=image.mode == "RGB")
                except AssertionError as error:
                    raise AssertionError(f"orientation {orientation}, {mode}, {size}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("encode_format", ["jpg", "webp", "png"])
@pytest.mark.parametrize("scene", [hills, fog, glass, grey_glass], ids=lambda scene: scene.__name__)
def test_every_output_format(scene: Scene, encode_format: str) -> None:
    """What is opaque looks the same in all of them; transparency is kept where the format can, else over white."""
    channels = {"hills": "RGB", "fog": "L", "glass": "RGBA", "grey_glass": "LA"}[scene.__name__]
    body = png(stored(scene, 6), 6, 8, channels)
    for mode in RESIZE_MODES:
        image = made(body, image_size=24, resize_mode=mode, encode_format=encode_format)
        assert image.mode == ("RGBA" if "A" in channels and encode_format != "jpg" else "RGB")
        compare(image, scene, mode, 24, 12, opaque=image.mode == "RGB")


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_smaller_pictures_are_left_alone(mode: str) -> None:
    """With resize_only_if_bigger the result is the picture, pixel for pixel."""
    body = png(stored(hills, 8), 8, 8, "RGB")
    image = made(body, image_size=64, resize_mode=mode, encode_format="png", resize_only_if_bigger=True)
    assert image.tobytes() == drawn(stored(hills, 1), "RGB").tobytes()
