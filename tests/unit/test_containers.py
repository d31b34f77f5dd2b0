"""Bodies that stop early, hold several pictures, or are hostile: what containers say, and what Pillow may do."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import sys
import warnings
import zlib
from typing import ClassVar

import pytest
from PIL import Image

from scraper.errors import TransformFailed
from scraper.transforms import codecs, containers, sniff
from scraper.transforms.sniff import Kind

NOISE = Image.frombytes("RGB", (20, 20), random.Random(5).randbytes(20 * 20 * 3))
TURNED = NOISE.rotate(90)


def encoded(format_: str, image: Image.Image = NOISE, **options: object) -> bytes:
    """A picture that does not compress to nothing."""
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def exif() -> bytes:
    """Some tags, one of them long."""
    tags = Image.Exif()
    tags[0x010F] = "Maker" * 10
    return tags.tobytes()


def bmp_runs() -> bytes:
    """A BMP of run lengths, which Pillow reads but does not write: two rows of 4 pixels, each row ended."""
    runs = b"\x04\x01\x00\x00" + b"\x04\x02\x00\x00" + b"\x00\x01"
    palette = bytes(256 * 4)
    offset = 54 + len(palette)
    head = b"BM" + struct.pack(
        "<IIIIiiHHIIIIII", offset + len(runs), 0, offset, 40, 4, 2, 1, 8, 1, len(runs), 0, 0, 256, 0
    )
    return head + palette + runs


WHOLE = {
    "jpeg": encoded("JPEG"),
    "jpeg-full": encoded("JPEG", subsampling=0),
    "jpeg-grey": encoded("JPEG", NOISE.convert("L")),
    "jpeg-progressive": encoded("JPEG", progressive=True),
    "jpeg-restarts": encoded("JPEG", restart_marker_rows=1),
    "jpeg-cmyk": encoded("JPEG", NOISE.convert("CMYK"), icc_profile=b"profile" * 30),
    "png": encoded("PNG"),
    "png-exif": encoded("PNG", exif=exif()),
    "apng": encoded("PNG", save_all=True, append_images=[TURNED]),
    "gif": encoded("GIF"),
    "gif-moving": encoded("GIF", save_all=True, append_images=[TURNED]),
    "webp": encoded("WEBP"),
    "webp-lossless": encoded("WEBP", lossless=True),
    "webp-exif": encoded("WEBP", exif=exif()),
    "webp-moving": encoded("WEBP", save_all=True, append_images=[TURNED]),
    "avif": encoded("AVIF"),
    "avif-exif": encoded("AVIF", exif=exif()),
    "avif-moving": encoded("AVIF", save_all=True, append_images=[TURNED]),
    "tiff": encoded("TIFF"),
    "tiff-big": encoded("TIFF", big_tiff=True),
    "tiff-lzw": encoded("TIFF", compression="tiff_lzw"),
    "tiff-deflate": encoded("TIFF", compression="tiff_adobe_deflate", exif=exif()),
    "tiff-jpeg": encoded("TIFF", compression="jpeg"),
    "tiff-packbits": encoded("TIFF", compression="packbits"),
    "tiff-fax": encoded("TIFF", NOISE.convert("1"), compression="group4"),
    "tiff-pages": encoded("TIFF", save_all=True, append_images=[TURNED]),
    "bmp": encoded("BMP"),
    "bmp-1": encoded("BMP", NOISE.convert("1").crop((0, 0, 17, 20))),
    "bmp-runs": bmp_runs(),
    "jp2": encoded("JPEG2000"),
    "jp2-bare": encoded("JPEG2000", no_jp2=True),
    "ico": encoded("ICO", sizes=[(16, 16)]),
    "ico-bmp": encoded("ICO", sizes=[(16, 16)], bitmap_format="bmp"),
}


def kind_of(name: str) -> Kind:
    """What the body with that name is."""
    kind = sniff.sniff(WHOLE[name])
    assert kind is not None
    return kind


def decode(kind: Kind, body: bytes) -> Image.Image:
    """All its pixels."""
    with codecs.opened(kind, body) as image:
        image.load()
        return image.copy()


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_every_cut_is_truncated(name: str) -> None:
    """A body without its last bytes, however few or many, is image.truncated and gives no picture."""
    kind, whole = kind_of(name), WHOLE[name]
    decode(kind, whole)
    # Four bytes at the end of Pillow's TIFFs of several pages belong to nothing.
    least_loss = 5 if name == "tiff-pages" else 1
    for length in range(12, len(whole) - least_loss + 1):
        with pytest.raises(TransformFailed) as caught:
            decode(kind, whole[:length])
        assert (length, caught.value.class_) == (length, "image.truncated")


@pytest.mark.parametrize("name", [each for each in WHOLE if not each.startswith("avif") and each != "jp2"])
def test_what_stands_behind_the_end_does_not_matter(name: str) -> None:
    """Junk after the picture, or a zip file hidden there, is no damage. (AVIF and JP2 are boxes up to the end.)"""
    whole = WHOLE[name]
    for junk in (b"\x00" * 40, b"PK\x03\x04" + b"junk" * 9):
        assert decode(kind_of(name), whole + junk).tobytes() == decode(kind_of(name), whole).tobytes()


def test_further_views_of_an_mpo_may_be_missing() -> None:
    """It is a JPEG with others behind its end."""
    whole = encoded("MPO", save_all=True, append_images=[TURNED])
    first = whole.index(b"\xff\xd9") + 2
    assert not containers.ends_early(sniff.JPEG, whole[: first + 100])
    with codecs.opened(sniff.JPEG, whole) as image:
        assert codecs.frames(image) == 1


@pytest.mark.parametrize("name", WHOLE)
def test_how_many_pictures_there_are(name: str) -> None:
    """Two where two were written, known before any is decoded."""
    with codecs.opened(kind_of(name), WHOLE[name]) as image:
        assert codecs.frames(image) == (2 if name in ("apng", "tiff-pages") or "moving" in name else 1)
        image.load()


def test_smaller_copies_in_a_tiff_are_no_pages() -> None:
    """Nor are masks: bits 0 and 2 of NewSubfileType."""
    body = bytearray(WHOLE["tiff-pages"])
    at = struct.unpack_from("<I", body, 4)[0]
    entries = struct.unpack_from("<H", body, at)[0]
    second = struct.unpack_from("<I", body, at + 2 + 12 * entries)[0]
    for value, pages in ((0, 2), (1, 1), (2, 2), (4, 1)):
        body[second + 2 : second + 14] = struct.pack("<HHII", 254, 4, 1, value)
        assert containers.frames(sniff.TIFF, bytes(body)) == pages


def test_many_frames_are_counted_at_once() -> None:
    """100,000 frames of a GIF, and pages of a TIFF that come back to the first, end soon."""
    one = encoded("GIF", Image.new("P", (1, 1)))
    start = one.index(b",", 13)
    assert containers.frames(sniff.GIF, one[:-1] + one[start:-1] * 99_999 + b";") == 100_000
    loop = b"II*\x00" + struct.pack("<IHI", 8, 0, 8)
    assert containers.frames(sniff.TIFF, loop) == 1
    assert not containers.ends_early(sniff.TIFF, loop)


def test_a_tiff_cannot_ask_for_much() -> None:
    """Of 600 pages that share one long table, so many are walked that 300,000 strips were seen."""
    body = bytearray(b"II*\x00" + struct.pack("<I", 1000) + bytes(500_000))
    places = range(1000, 19_000, 30)
    behind_the_end = 1 << 30
    for at, then in zip(places, [*places[1:], behind_the_end], strict=True):
        body[at : at + 18] = struct.pack("<HHHIII", 1, 273, 4, 100_000, 50_000, then)
    assert containers.frames(sniff.TIFF, bytes(body)) < 10
    assert not containers.ends_early(sniff.TIFF, bytes(body))


def test_a_box_that_is_cut_within_its_header_is_cut() -> None:
    """Even where all pixels stand before it."""
    assert not containers.ends_early(sniff.AVIF, WHOLE["avif"] + b"\x00\x00\x00\x08free")
    assert containers.ends_early(sniff.AVIF, WHOLE["avif"] + b"\x00\x00\x00\x08fre")


@pytest.mark.parametrize("name", WHOLE)
def test_damage_never_raises_anything_else(name: str) -> None:
    """Whatever bytes are wrong: a picture, or one of our failures."""
    chance, kind, whole = random.Random(name), kind_of(name), WHOLE[name]
    for _ in range(60):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            body[chance.randrange(4, len(body))] = chance.choice((0, 255, chance.randrange(256)))
        containers.frames(kind, bytes(body))
        with contextlib.suppress(TransformFailed), codecs.opened(kind, bytes(body)) as image:
            if image.width * image.height < 100_000:
                image.load()


def test_bodies_are_read_in_place() -> None:
    """A memoryview does, and is free again afterwards."""
    for name, whole in WHOLE.items():
        body = bytearray(whole)
        with memoryview(body) as view:
            assert not containers.ends_early(kind_of(name), view)
            assert not containers.is_damaged(kind_of(name), view)
            containers.frames(kind_of(name), view)
        body.append(0)  # raises where somebody still holds the bytes


def test_remarks_are_bounded() -> None:
    """What is warned of in the block is collected: 8 texts of 200 characters, one line each, none twice."""
    remarks: list[str] = []
    with codecs.opened(sniff.PNG, WHOLE["png"], remarks=remarks):
        for at in range(100):
            warnings.warn(f"{at // 2}\nodd\x1b[0m {'x' * 1000}", stacklevel=1)
    assert len(remarks) == 8
    assert [len(each) for each in remarks] == [200] * 8
    assert len(set(remarks)) == 8
    assert remarks[0].startswith("0 odd [0m xxx")


def test_decoder_warnings_are_remarked() -> None:
    """An APNG of no frames is a PNG, and the row says what was odd."""
    body = WHOLE["apng"]
    at = body.index(b"acTL") + 4
    block = b"acTL" + bytes(8)
    body = body[: at - 4] + block + struct.pack(">I", zlib.crc32(block)) + body[at + 12 :]
    remarks: list[str] = []
    with codecs.opened(sniff.PNG, body, remarks=remarks) as image:
        image.load()
    assert remarks == ["Invalid APNG, will use default PNG image if possible"]


class Programs:
    """Counts what this process starts, from when it is first asked; an audit hook cannot be taken away again."""

    started: ClassVar[list[str] | None] = None

    @classmethod
    def watch(cls) -> list[str]:
        """A fresh list that fills."""
        if cls.started is None:
            sys.addaudithook(cls._hear)
        cls.started = []
        return cls.started

    @classmethod
    def _hear(cls, event: str, args: object) -> None:
        starts = (
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "os.fork",
            "os.forkpty",
            "os.posix_spawn",
            "os.spawn",
        )
        if event in starts and cls.started is not None:
            cls.started.append(event)


@pytest.mark.parametrize(
    "hostile",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(%pipe%id) (r) file\n%%EOF\n",
        b"\xc5\xd0\xd3\xc6"
        + struct.pack("<6I", 30, 90, 0, 0, 0, 0)
        + b"\xff\xff%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"\xd7\xcd\xc6\x9a" + bytes(60),
        b"push graphic-context\nfill 'url(https://127.0.0.1/\"|id\")'\n",
    ],
    ids=["eps", "eps-dos", "svg", "wmf", "mvg"],
)
def test_no_program_is_ever_started(hostile: bytes) -> None:
    """Pillow would run Ghostscript for some; whatever they are passed off as, only our decoders see them."""
    from PIL import EpsImagePlugin, WmfImagePlugin

    assert {"EPS", "WMF"} <= set(Image.OPEN), (EpsImagePlugin, WmfImagePlugin)
    found = sniff.sniff(hostile)
    assert found is None or found.extension not in codecs.KNOWN
    started = Programs.watch()
    for name in WHOLE:
        for body in (hostile, WHOLE[name][:12] + hostile, WHOLE[name][:60] + hostile):
            with contextlib.suppress(TransformFailed):  # some are the pixels of a picture now, and fine
                decode(kind_of(name), body)
    assert started == []
    os.system("true")
    assert started == ["os.system"]  # which is how we know that it would have been heard


def test_what_can_be_decoded_is_known() -> None:
    """The names users may allow are those there is a decoder for."""
    assert set(codecs.KNOWN) == {kind_of(name).extension for name in WHOLE}
    assert not {"eps", "svg", "psd", "pdf", "heic"} & set(codecs.KNOWN)
