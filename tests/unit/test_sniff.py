"""What bodies are, by their first bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.transforms.sniff import sniff


@pytest.mark.parametrize(
    ("body", "extension"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "jpg"),
        (b"\x89PNG\r\n\x1a\n\x00", "png"),
        (b"GIF89a\x01", "gif"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "webp"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "wav"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00mif1miaf", "avif"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avif", "avif"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "heic"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2", "mp4"),
        (b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  ", "mov"),
        (b"BM\x36\x00\x00\x00\x00\x00\x00\x00\x36", "bmp"),
        (b"BMW is a car maker", None),
        (b"II*\x00\x08\x00\x00\x00", "tiff"),
        (b"MM\x00*\x00\x00\x00\x08", "tiff"),
        (b"8BPS\x00\x01", "psd"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "eps"),
        (b"%PDF-1.7", "pdf"),
        (b"PK\x03\x04\x14\x00", "zip"),
        (b"\x1f\x8b\x08\x00", "gz"),
        (b"\x28\xb5\x2f\xfd\x04", "zst"),
        (b"ID3\x04\x00", "mp3"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", "webm"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska", "mkv"),
        (b" \n<!DOCTYPE html><html>", "html"),
        (b"\xef\xbb\xbf<!-- generated --> <HTML>", "html"),
        (b"<?xml version='1.0'?><rss/>", "xml"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        (b'{"a": [1, 2]}\n', "json"),
        (b"[1, 2]", "json"),
        (b"[section]\nkey = 1", None),
        (b"plain words", None),
        (b"", None),
        (b"x" * 257 + b"ustar\x0000", "tar"),
    ],
)
def test_each_type_by_example(body: bytes, extension: str | None) -> None:
    """Magic numbers and openings give the usual extension, look-alikes give none."""
    kind = sniff(body)
    assert (kind.extension if kind else None) == extension


@given(st.binary(max_size=400))
def test_any_bytes_have_an_answer(body: bytes) -> None:
    """Nothing raises, and a view of the bytes gives what the bytes give."""
    assert sniff(memoryview(body)) == sniff(body)


@given(
    st.sampled_from([b"<!--", b"{", b"<?xml", b"\x00\x00\x00\x00ftyp", b"RIFF", b"<!-- a --><!--"]), st.binary()
)
def test_openings_without_a_rest_have_an_answer(start: bytes, rest: bytes) -> None:
    """A body that begins like something and goes on like nothing raises nothing."""
    assert sniff(start + rest) is None or sniff(start + rest) is not None
