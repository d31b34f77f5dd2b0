"""What a body is, by its first bytes. Bytes come in; a Kind or None goes out.

A server's Content-Type and a URL's suffix are claims; magic numbers are what decoders go by.
Must never: read more than the first kilobytes, or decode anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of content.

    Attributes:
        extension: the usual file name extension, without its dot.
        label: what a message calls it, with its article.
        is_image: whether it is a picture, decodable or not.
    """

    extension: str
    label: str
    is_image: bool = False


def _image(extension: str, name: str) -> Kind:
    article = "an" if name[0] in "AEIOS" else "a"
    return Kind(extension, f"{article} {name} image", is_image=True)


JPEG, PNG, GIF = _image("jpg", "JPEG"), _image("png", "PNG"), _image("gif", "GIF")
WEBP, AVIF, HEIC = _image("webp", "WebP"), _image("avif", "AVIF"), _image("heic", "HEIC")
TIFF, BMP, SVG = _image("tiff", "TIFF"), _image("bmp", "BMP"), _image("svg", "SVG")
JP2, ICO = _image("jp2", "JPEG 2000"), _image("ico", "Windows icon")
DECODABLE = ("jpg", "png", "gif", "webp", "avif", "tiff", "bmp", "jp2", "ico")
"""Extensions of what ``scraper.transforms.codecs`` can decode, named where no Pillow is loaded."""
_MP4 = Kind("mp4", "an MP4 video")
_XML = Kind("xml", "an XML document")
_HTML = Kind("html", "an HTML page")
_JSON = Kind("json", "a JSON document")

_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"GIF87a", GIF),
    (0, b"GIF89a", GIF),
    (0, b"II*\x00", TIFF),
    (0, b"MM\x00*", TIFF),
    (0, b"II+\x00", TIFF),
    (0, b"MM\x00+", TIFF),
    (0, b"\x00\x00\x01\x00", ICO),
    (0, b"8BPS", _image("psd", "Photoshop")),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", JP2),
    (0, b"\xff\x4f\xff\x51", JP2),
    (0, b"\xff\x0a", _image("jxl", "JPEG XL")),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", _image("jxl", "JPEG XL")),
    (0, b"%!PS", _image("eps", "PostScript")),
    (0, b"\xc5\xd0\xd3\xc6", _image("eps", "PostScript")),
    (0, b"%PDF-", Kind("pdf", "a PDF document")),
    (0, b"PK\x03\x04", Kind("zip", "a zip archive")),
    (0, b"PK\x05\x06", Kind("zip", "a zip archive")),
    (0, b"\x1f\x8b\x08", Kind("gz", "a gzip file")),
    (0, b"\x28\xb5\x2f\xfd", Kind("zst", "a Zstandard file")),
    (0, b"BZh", Kind("bz2", "a bzip2 file")),
    (0, b"\xfd7zXZ\x00", Kind("xz", "an xz file")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("7z", "a 7-Zip archive")),
    (0, b"Rar!\x1a\x07", Kind("rar", "a RAR archive")),
    (257, b"ustar", Kind("tar", "a tar archive")),
    (0, b"OggS", Kind("ogg", "an Ogg file")),
    (0, b"fLaC", Kind("flac", "a FLAC file")),
    (0, b"ID3", Kind("mp3", "an MP3 file")),
    (0, b"\xff\xfb", Kind("mp3", "an MP3 file")),
    (0, b"\xff\xf3", Kind("mp3", "an MP3 file")),
    (0, b"\xff\xf2", Kind("mp3", "an MP3 file")),
    (0, b"FLV\x01", Kind("flv", "a Flash video")),
    (0, b"PAR1", Kind("parquet", "a Parquet file")),
    (0, b"SQLite format 3\x00", Kind("sqlite", "an SQLite database")),
    (0, b"wOFF", Kind("woff", "a font")),
    (0, b"wOF2", Kind("woff2", "a font")),
    (0, b"\x00asm", Kind("wasm", "a WebAssembly module")),
    (0, b"\x7fELF", Kind("elf", "a program")),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("ole", "an Office document")),
)

_RIFF = {b"WEBP": WEBP, b"WAVE": Kind("wav", "a WAV file"), b"AVI ": Kind("avi", "an AVI video")}

# Brands of the ISO base media file format, ISO/IEC 14496-12 4.3.
_BRANDS = {
    b"avif": AVIF,
    b"avis": AVIF,
    b"heic": HEIC,
    b"heix": HEIC,
    b"hevc": HEIC,
    b"mif1": HEIC,
    b"msf1": HEIC,
    b"qt  ": Kind("mov", "a QuickTime video"),
    b"M4A ": Kind("m4a", "an MPEG-4 audio file"),
}

_TEXT_WINDOW = 2048
_HTML_STARTS = (
    b"<!doctype html",
    b"<html",
    b"<head",
    b"<body",
    b"<title",
    b"<script",
    b"<meta",
    b"<table",
    b"<h1",
)


def sniff(body: bytes | memoryview) -> Kind | None:
    """What the body is, or None where its first bytes do not tell."""
    head = bytes(body[:_TEXT_WINDOW])
    for offset, magic, kind in _MAGIC:
        if head.startswith(magic, offset):
            return kind
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML; the DocType stands within the first few elements
        return Kind("webm", "a WebM video") if b"webm" in head[:64] else Kind("mkv", "a Matroska video")
    if head[:2] == b"BM" and head[6:10] == b"\x00\x00\x00\x00":  # two letters prove little; these are reserved
        return BMP
    return _sniff_text(head, bytes(body[-16:]))


def _by_brand(head: bytes) -> Kind:
    """By the major brand, else by the first compatible one we know: a generic major brand says little."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if AVIF in (known := [_BRANDS[brand] for brand in brands if brand in _BRANDS]):
        return AVIF  # says mif1 as well
    return known[0] if known else _MP4


def _sniff_text(head: bytes, tail: bytes) -> Kind | None:
    if b"\x00" in head:
        return None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    while start.startswith(b"<!--") and b"-->" in start:
        start = start.partition(b"-->")[2].lstrip()
    if start.startswith(_HTML_STARTS):
        return _HTML
    if start.startswith(b"<svg"):
        return SVG
    if start.startswith((b"<?xml", b"<!doctype", b"<rss", b"<feed")):
        if b"<svg" in start:
            return SVG
        return _HTML if b"<html" in start else _XML
    if start[:1] in (b"{", b"[") and tail.rstrip()[-1:] in (b"}", b"]"):
        return _JSON
    return None
