"""Tar headers are what tarfile writes; members are found without reading what is between them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.sinks import tar
from scraper.sinks.readback import read_items


def _archive_of(members: dict[str, bytes]) -> bytes:
    header = tar.Headers(1_700_000_000)
    body = b"".join(header(name, len(data)) + data + tar.padding(len(data)) for name, data in members.items())
    return body + tar.ending(len(body))


@given(
    name=st.from_regex(r"[0-9a-z_.]{1,100}", fullmatch=True),
    size=st.integers(0, tar.MAX_MEMBER),
    mtime=st.integers(0, 2**33 - 1),
)
def test_a_header_is_what_tarfile_writes(name: str, size: int, mtime: int) -> None:
    """Byte for byte, for any name, size and time."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, mtime
    assert tar.Headers(mtime)(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 0), ("x", tar.MAX_MEMBER + 1), ("x", -1), ("ä", 0)])
def test_what_does_not_fit_a_header_is_refused(name: str, size: int) -> None:
    """A header that would lie is never made."""
    with pytest.raises(ValueError, match=r"fit|encode"):
        tar.Headers(0)(name, size)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 9_000, 10_240])
def test_an_archive_ends_as_tarfile_ends_it(size: int) -> None:
    """Two empty blocks and a whole number of records."""
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo("x")
        info.size, info.mtime = size, 1_700_000_000
        archive.addfile(info, io.BytesIO(bytes(size)))
    assert _archive_of({"x": bytes(size)}) == expected.getvalue()


def test_items_are_read_from_files_and_archives(tmp_path: Path) -> None:
    """Each place gives its bytes, in the order asked, None where there is nothing."""
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000/a.jpg").write_bytes(b"file")
    (tmp_path / "00000.tar").write_bytes(_archive_of({"a.jpg": b"first", "b.jpg": b"", "c.jpg": b"x" * 5_000}))
    places = [
        ("c.jpg", "00000.tar"),
        ("00000/a.jpg", None),
        ("nope.jpg", "00000.tar"),
        ("a.jpg", "00000.tar"),
        ("b.jpg", "00000.tar"),
        ("a.jpg", "00009.tar"),
    ]
    assert read_items(tmp_path, places) == [b"x" * 5_000, b"file", None, b"first", b"", None]


@pytest.mark.parametrize("cut", [3, 512, 1_030, 1_536])
def test_a_shard_in_progress_can_be_read_as_far_as_it_goes(tmp_path: Path, cut: int) -> None:
    """A .tar.part without an end gives the members that are whole, and None for the others."""
    whole = _archive_of({"a.jpg": b"A" * 500, "b.jpg": b"B" * 500})
    (tmp_path / "00000.tar.part").write_bytes(whole[:cut])
    expected = [b"A" * 500 if cut >= 1_012 else None, None]
    assert read_items(tmp_path, [("a.jpg", "00000.tar"), ("b.jpg", "00000.tar")]) == expected


def test_reading_back_stays_inside_the_output(tmp_path: Path) -> None:
    """A place that leads out of the folder, by dots or by a link, gives nothing."""
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (out / "link").symlink_to(tmp_path / "secret")
    places = [("../secret", None), (str(tmp_path / "secret"), None), ("link", None), ("x", "../secret")]
    assert read_items(out, places) == [None] * 4
