"""The body as it came, under an extension that its content deserves.

A Response comes in, one Item goes out: the same bytes. Must never: fail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from scraper.records import Item, Response
from scraper.transforms.sniff import sniff

_BY_TYPE = {
    "application/atom+xml": "atom",
    "application/epub+zip": "epub",
    "application/geo+json": "geojson",
    "application/gzip": "gz",
    "application/javascript": "js",
    "application/json": "json",
    "application/ld+json": "jsonld",
    "application/msword": "doc",
    "application/pdf": "pdf",
    "application/rss+xml": "rss",
    "application/rtf": "rtf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/x-ndjson": "jsonl",
    "application/x-tar": "tar",
    "application/xhtml+xml": "xhtml",
    "application/xml": "xml",
    "application/yaml": "yaml",
    "application/zip": "zip",
    "audio/aac": "aac",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "font/otf": "otf",
    "font/ttf": "ttf",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/jpeg": "jpg",
    "image/jpg": "jpg",
    "image/jxl": "jxl",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tiff",
    "image/webp": "webp",
    "image/x-icon": "ico",
    "text/calendar": "ics",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "html",
    "text/javascript": "js",
    "text/markdown": "md",
    "text/tab-separated-values": "tsv",
    "text/xml": "xml",
    "video/mp4": "mp4",
    "video/mpeg": "mpg",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
}
"""Written out rather than taken from the system's mime.types: the same list gives the same names everywhere.

text/plain and application/octet-stream are not in it: servers send them for what they do not know.
"""

_BUILT_ON = {
    "gz": {"svgz", "tgz"},
    "ogg": {"oga", "ogv", "opus", "spx"},
    "ole": {"doc", "msi", "ppt", "xls"},
    "xml": {"atom", "gpx", "kml", "opml", "rdf", "rss", "svg", "xhtml", "xsd", "xsl"},
    "zip": {"apk", "docx", "epub", "jar", "kmz", "odp", "ods", "odt", "pptx", "whl", "xlsx", "xpi"},
}
"""Formats whose bytes say only what they are built on; a claim within the family is believed."""

_SUFFIX = re.compile(r"\.([a-z0-9]{1,8})$")


@dataclass(frozen=True)
class RawTransform:
    """Keeps the bytes. Runs on the loop: the hash is all there is to do."""

    inline: ClassVar[bool] = True

    def warm_up(self) -> None:
        """Nothing to load."""

    def __call__(self, response: Response) -> Sequence[Item]:
        """One item: the body and its extension."""
        return [Item(bytes(response.body), extension_of(response))]


def extension_of(response: Response) -> str:
    """The extension by content, then by Content-Type, then by the URL's path; ``bin`` if none of them tells."""
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    by_type = _BY_TYPE.get(media_type, "")
    by_url = _url_suffix(response.url)
    kind = sniff(response.body)
    if kind is not None:
        family = _BUILT_ON.get(kind.extension, set())
        return next((claim for claim in (by_type, by_url) if claim in family), kind.extension)
    return by_type or by_url or ("txt" if media_type == "text/plain" else "bin")


def _url_suffix(url: str) -> str:
    try:
        path = urlsplit(url).path.lower()
    except ValueError:
        return ""
    found = _SUFFIX.search(path.rpartition("/")[2])
    return found.group(1) if found else ""
