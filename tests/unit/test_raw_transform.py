"""The transform that keeps bytes: what it calls them."""

from __future__ import annotations

import pytest

from scraper.records import Response
from scraper.testing.transform import TransformContract, response
from scraper.transforms.raw import RawTransform


class TestRawKeepsTheContract(TransformContract):
    def make(self) -> RawTransform:
        """The transform under test."""
        return RawTransform()

    def good_response(self) -> Response:
        """A page."""
        return response(b"<!doctype html><p>" + b"words " * 100, content_type="text/html")


@pytest.mark.parametrize(
    ("body", "content_type", "url", "extension"),
    [
        (b"\xff\xd8\xff\xe0", "text/html", "http://h/a.png", "jpg"),  # content over claims
        (b"PK\x03\x04", "application/octet-stream", "http://h/report.DOCX", "docx"),  # built on zip
        (b"PK\x03\x04", "application/epub+zip", "http://h/book", "epub"),
        (b"PK\x03\x04", "image/jpeg", "http://h/a.jpg", "zip"),  # not built on zip
        (b"a,b\n1,2", "text/csv; charset=utf-8", "http://h/export", "csv"),
        (b"a,b\n1,2", "Text/CSV", "http://h/export.php", "csv"),
        (b"words", "text/plain", "http://h/README.md?x=.exe", "md"),
        (b"words", "text/plain", "http://h/README", "txt"),
        (b"words", "application/octet-stream", "http://h/data.b64", "b64"),
        (b"words", "", "http://h/", "bin"),
        (b"words", "", "http://h/a.toolongsuffix", "bin"),
        (b"words", "", "http://h/a.p%68p", "bin"),
        (b"words", "", "http://h/.hidden/file", "bin"),
        (b"words", "", "http://[broken", "bin"),
    ],
)
def test_the_extension_is_the_contents(body: bytes, content_type: str, url: str, extension: str) -> None:
    """Content decides, then the Content-Type, then the URL's suffix, and only plain ones of either."""
    (item,) = RawTransform()(response(body, url=url, content_type=content_type))
    assert (item.data, item.extension) == (body, extension)
