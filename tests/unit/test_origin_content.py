"""What the origin serves: pictures, pages and lists, without a server."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from scraper.errors import UsageError
from scraper.origin import faults, lists, pages
from scraper.origin.pictures import CONTENT_TYPES, SIZES, Album, Key, encode, key_of, stamped
from scraper.origin.scenes import KINDS, paint
from scraper.origin.settings import OriginConfig

URLS = Path(__file__).parents[2] / "urls"


@pytest.mark.parametrize("ext", CONTENT_TYPES)
def test_numbered_pictures_are_valid(ext: str) -> None:
    """Pictures of one scene differ in bytes and not in pixels, and are whole files of their format."""
    data = encode(Key("thumb", 3, ext))
    first, second = stamped(data, 3, ext), stamped(data, 131, ext)
    assert first != second
    assert len(first) == len(second)
    for number, each in ((3, first), (131, second)):
        assert b"picture %012d" % number in each
        with Image.open(io.BytesIO(each)) as picture:
            picture.verify()
    shown = [Image.open(io.BytesIO(each)).convert("RGB").tobytes() for each in (first, second)]
    assert shown[0] == shown[1]


def test_every_kind_of_scene_is_a_picture() -> None:
    """Each kind paints in any size, the same each time, and not one flat colour."""
    for scene in range(2 * len(KINDS)):
        for size in ((400, 300), (64, 48)):
            picture = paint(f"thumb/{scene}", size, 7)
            assert picture.size == size
            assert min(high - low for low, high in picture.getextrema()) > 60  # type: ignore[misc]  # RGB: three pairs
        assert picture.tobytes() == paint(f"thumb/{scene}", (64, 48), 7).tobytes()


def test_thumbs_weigh_what_they_should() -> None:
    """A 400x300 JPEG is 36 KB, give or take half."""
    weights = [len(encode(Key("thumb", scene, "jpg"))) for scene in range(16)]
    assert all(24_000 < weight < 56_000 for weight in weights)
    assert 32_000 < sum(weights) / len(weights) < 42_000


@pytest.mark.slow
def test_big_pictures_weigh_what_they_should() -> None:
    """A 1280x960 JPEG is 350 KB and a 4000x3000 one 3 MB, give or take a quarter."""
    weights = [len(encode(Key("photo", scene, "jpg"))) for scene in range(4)]
    assert 290_000 < sum(weights) / len(weights) < 400_000
    assert 2_300_000 < len(encode(Key("large", 1, "jpg"))) < 3_700_000


def test_album_paints_once_and_mends() -> None:
    """Scenes repeat after as many as there are, and no further key is made."""
    assert key_of("photo", SIZES["photo"].scenes + 2, "jpg") == Key("photo", 2, "jpg")


def test_album_keeps_what_it_paints(tmp_path: Path) -> None:
    """A painted scene is kept on disk; a damaged file is painted again; no other file is left."""
    key = Key("thumb", 1, "jpg")
    painted = Album(tmp_path).develop(key)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:99] + b"?" + whole[100:]):
        kept.write_bytes(damaged)
        assert Album(tmp_path).develop(key) == painted
        assert kept.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [kept]


def test_album_needs_no_folder(tmp_path: Path) -> None:
    """A cache folder that cannot be made costs nothing but time."""
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    assert Album(blocker / "folder").develop(Key("thumb", 1, "jpg")).startswith(b"\xff\xd8")


def test_album_forgets_the_longest_unused(tmp_path: Path) -> None:
    """Memory is bounded in bytes; what was used last stays."""
    album = Album(tmp_path, memory_bytes=250)
    a, b, c = (Key("thumb", scene, "jpg") for scene in range(3))
    album.hold(a, bytes(100))
    album.hold(b, bytes(100))
    assert album.held(a) is not None
    album.hold(c, bytes(100))
    assert [album.held(key) is not None for key in (a, b, c)] == [True, False, True]
    assert repr(album).startswith("<Album 2 pictures in memory, room for 50 bytes")


def test_page_zero_reaches_every_page() -> None:
    """Following links from page 0 visits all pages, and no link leads nowhere."""
    seen, ahead = {"/page/0.html"}, ["/page/0.html"]
    for path in ahead:
        reply = pages.page(path, "http://h")
        assert reply is not None
        fresh = [
            href for href in re.findall(r'<a class="more" href="([^"]+)"', reply.body.decode()) if href not in seen
        ]
        seen.update(fresh)
        ahead.extend(fresh)
    assert len(seen) == pages.PAGES
    assert pages.page(f"/page/{pages.PAGES}.html", "http://h") is None


def test_pages_hold_what_selectors_ask_for() -> None:
    """A page has one title, h1, price and description, the same each time."""
    reply = pages.page("/page/7.html", "http://h")
    assert reply is not None
    text = reply.body.decode()
    for pattern in (
        r"<title>[^<]+</title>",
        r"<h1>[^<]+</h1>",
        r'class="price">€\d+\.\d\d<',
        r'class="desc">[^<]+<',
    ):
        assert len(re.findall(pattern, text)) == 1
    assert reply == pages.page("/page/7.html", "http://other")


def test_robots_and_sitemap() -> None:
    """robots.txt forbids /private/ and names the sitemap, which names every page with the base asked for."""
    robots, sitemap = pages.page("/robots.txt", "http://h:1"), pages.page("/sitemap.xml", "http://h:1")
    assert robots is not None
    assert b"Disallow: /private/\n" in robots.body
    assert b"Sitemap: http://h:1/sitemap.xml\n" in robots.body
    assert sitemap is not None
    locations = [
        element.text for element in ElementTree.fromstring(sitemap.body).iter() if element.tag.endswith("loc")
    ]
    assert locations == [f"http://h:1/page/{n}.html" for n in range(pages.PAGES)]


def test_demo_and_seed_lists_are_up_to_date() -> None:
    """The lists in urls/ are the ones that the code makes."""
    for name, urls in (
        ("demo.txt", lists.demo_urls()),
        ("faulty.txt", lists.faulty_urls()),
        ("seed-26.txt", lists.seed_urls()),
    ):
        lines = (URLS / name).read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not line.startswith("#")] == urls
    assert len(lists.demo_urls()) == 500
    assert len(lists.seed_urls()) == 26
    faults = {url.partition("?")[2] for url in lists.faulty_urls()} - {""}
    assert faults == {*lists.FAULTY_QUERIES, *lists.ODD_QUERIES}


def test_public_lists_say_what_they_are() -> None:
    """Each list of real URLs opens with its terms, and holds distinct https URLs."""
    for path in URLS.glob("public-*.txt"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# ")
        assert any("Nobody checks" in line for line in lines)
        urls = [line for line in lines if not line.startswith("#")]
        assert all(url.startswith("https://") for url in urls)
        assert len(set(urls)) == len(urls) >= 10


def test_rewrite_moves_a_list_to_another_port() -> None:
    """Only lines of the default port move."""
    lines = ["# http://127.0.0.1:8765/ is the default", "http://127.0.0.1:8765/img/a", "http://127.0.0.1:87651/b"]
    assert list(lists.rewrite(lines, "http://127.0.0.1:9")) == [lines[0], "http://127.0.0.1:9/img/a", lines[2]]


def test_faulty_lists(tmp_path: Path) -> None:
    """A list has its share of faults, of every kind, in the same rows each time, and no URL twice."""
    path, again, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    failing = lists.write_list(path, rows=2000, faults=0.05, size="thumb")
    lists.write_list(again, rows=2000, faults=0.05, size="thumb")
    lists.write_list(other, rows=2000, faults=0.05, size="thumb", seed=1)
    assert path.read_bytes() == again.read_bytes() != other.read_bytes()
    urls = path.read_text().splitlines()
    queries = [url.partition("?")[2] for url in urls if "?" in url]
    assert (len(urls), len(set(urls)), len(queries)) == (2000, 2000, 100)
    assert set(queries) == {*lists.FAULTY_QUERIES, *lists.ODD_QUERIES}
    assert failing == sum(query in lists.FAULTY_QUERIES for query in queries)


def test_lists_use_every_fault_that_ends() -> None:
    """Every fault but those without an end, and those that need a target, is in the lists."""
    used = {name for query in (*lists.FAULTY_QUERIES, *lists.ODD_QUERIES) for name, _ in faults.parse(query)}
    assert set(faults.FAULTS) - used == {"hang", "redirect_to", "bomb"}


def test_config_is_checked() -> None:
    """A port or a latency out of range is the user's mistake, in words."""
    with pytest.raises(UsageError, match="--port"):
        OriginConfig(port=70000)
    with pytest.raises(UsageError, match="--latency"):
        OriginConfig(latency_s=-1)
