"""The origin's pages: a path in, HTML, robots.txt or a sitemap out. Pure: the same path, the same text.

The site is a tree of shop pages: page n links to pages 10n+1 … 10n+10, so page 0 reaches all of them,
the last ones in three steps. Must never link to what is not there.
"""

from __future__ import annotations

import hashlib
import html
import re

from scraper.origin.reply import LAST_MODIFIED, Reply, text

PAGES = 1111
"""Page 0, its 10 children, their 100, their 1,000."""

FAN_OUT = 10
HTML = "text/html; charset=utf-8"

_PAGE = re.compile(r"/page/(\d{1,6})\.html")
_PRIVATE = re.compile(r"/private/(\d{1,6})\.html")
_BYTES = re.compile(r"/bytes/(\d{1,9})")
MAX_BYTES = 64 * 1024 * 1024

_MAKERS = ("Alder", "Birch", "Cedar", "Hazel", "Juniper", "Larch", "Maple", "Rowan", "Spruce", "Willow")
_THINGS = ("Bench", "Chair", "Clock", "Lamp", "Ladle", "Mirror", "Shelf", "Stool", "Table", "Tray")
_WORDS = (
    "This {thing} was made by hand from one piece of {maker} and oiled twice.",
    "It is light enough to carry with one hand and stands on uneven floors.",
    "The joints are wedged, not glued, so that it can be taken apart and mended.",
    "Left in the sun it turns honey-coloured; kept out of it, it stays pale.",
    "Each one differs a little in grain and in weight.",
    "Wipe it with a damp cloth; it asks for nothing else.",
)


def page(path: str, base: str) -> Reply | None:
    """The page at a path, or None if there is none.

    Args:
        path: the request's path, without query.
        base: scheme, host and port that absolute links are made with.
    """
    if found := _PAGE.fullmatch(path):
        return _shop_page(int(found[1])) if int(found[1]) < PAGES else None
    if found := _PRIVATE.fullmatch(path):
        return _dated(text(_document(f"Private {found[1]}", "<p>robots.txt asks robots to stay out.</p>"), HTML))
    if found := _BYTES.fullmatch(path):
        return _noise(path, int(found[1]))
    maker = _FIXED.get(path)
    return _dated(maker(html.escape(base))) if maker else None


def _dated(reply: Reply) -> Reply:
    reply.headers["ETag"] = f'"{hashlib.blake2b(reply.body, digest_size=8).hexdigest()}"'
    reply.headers["Last-Modified"] = LAST_MODIFIED
    return reply


def _noise(path: str, size: int) -> Reply | None:
    if size > MAX_BYTES:
        return None
    body = hashlib.shake_128(path.encode()).digest(size)
    return _dated(Reply(body, headers={"Content-Type": "application/octet-stream"}))


def _document(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _shop_page(number: int) -> Reply:
    chance = int.from_bytes(hashlib.blake2b(b"page %d" % number, digest_size=8).digest(), "big")
    maker, thing = _MAKERS[chance % 10], _THINGS[chance // 10 % 10]
    cents = 499 + chance // 100 % 50_000
    said = " ".join(_WORDS[(chance // 7 + i) % len(_WORDS)] for i in range(3 + chance % 3))
    said = said.format(thing=thing.lower(), maker=maker.lower())
    children = [n for n in range(FAN_OUT * number + 1, FAN_OUT * number + FAN_OUT + 1) if n < PAGES]
    links = "\n".join(f'  <li><a class="more" href="/page/{n}.html">Item {n}</a></li>' for n in children)
    parent = (number - 1) // FAN_OUT if number else 0
    following = (number + 1) % PAGES
    name = f"{maker} {thing} No. {number}"
    body = (
        f"<h1>{name}</h1>\n"
        f'<p class="price">€{cents // 100}.{cents % 100:02d}</p>\n'
        f'<p class="desc">{said}</p>\n'
        f'<img src="/img/thumb/{number}.jpg" width="400" height="300" alt="{name}">\n'
        f'<a class="photo" href="/img/photo/{number}.jpg">Full picture</a>\n'
        f'<ul class="links">\n{links}\n</ul>\n'
        f'<nav><a rel="up" href="/page/{parent}.html">Up</a> <a rel="next" href="{following}.html">Next</a></nav>'
    )
    return _dated(text(_document(name, body), HTML))


def _home(_base: str) -> Reply:
    body = (
        "<h1>The built-in origin</h1>\n<ul>\n"
        '<li><a href="/page/0.html">Pages</a>, and their <a href="/sitemap.xml">sitemap</a></li>\n'
        '<li>Pictures: <a href="/img/thumb/0.jpg">thumb</a>, <a href="/img/photo/0.jpg">photo</a>, '
        '<a href="/img/large/0.jpg">large</a>; any number; .jpg, .png, .webp, .gif</li>\n'
        '<li><a href="/bytes/1000">A thousand bytes</a></li>\n'
        '<li><a href="/_stats">What was asked so far</a></li>\n</ul>'
    )
    return text(_document("The built-in origin", body), HTML)


def _robots(base: str) -> Reply:
    return text(f"User-agent: *\nDisallow: /private/\n\nSitemap: {base}/sitemap.xml\n")


def _sitemap(base: str) -> Reply:
    rows = "\n".join(f"<url><loc>{base}/page/{n}.html</loc></url>" for n in range(PAGES))
    return text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{rows}\n</urlset>\n',
        "application/xml",
    )


_FIXED = {"/": _home, "/robots.txt": _robots, "/sitemap.xml": _sitemap}
