"""Content codings: whatever is served whole comes out whole, whatever is not says why, and nothing grows."""

from __future__ import annotations

import gzip
import itertools
import random
import sys
import zlib
from collections.abc import Callable, Sequence

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.decoding import MAX_CODINGS, STEP, Decoder
from scraper.errors import FetchFailed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"".join(b"<p>row %d of the list, and then some</p>\n" % n for n in range(9_000))
NOISE = random.Random(7).randbytes(90_000)
CAP = 4 * 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    """Deflate without the zlib wrapper."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", lambda data: bytes(brotli.compress(data, quality=5))),
    "zstd": ("zstd", zstd.compress),
}
EVERY = pytest.mark.parametrize(("coding", "encode"), ENCODERS.values(), ids=ENCODERS.keys())


def decode(coding: str, pieces: Sequence[bytes], cap: int = CAP) -> bytes:
    """Feed the pieces in turn; check that no output is larger than a step."""
    decoder = Decoder(coding, cap)
    out = [made for piece in pieces for made in decoder.feed(piece)]
    assert all(len(made) <= 2 * STEP for made in out)
    decoder.finish()
    return b"".join(out)


def cut(data: bytes, *places: int) -> list[bytes]:
    """The data in pieces."""
    edges = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


def failing(coding: str, pieces: Sequence[bytes], cap: int = CAP) -> str:
    """The outcome class that decoding ends with."""
    with pytest.raises(FetchFailed) as failed:
        decode(coding, pieces, cap)
    return failed.value.class_


@EVERY
@pytest.mark.parametrize("data", [b"", b"x", TEXT, NOISE], ids=["empty", "byte", "text", "noise"])
def test_every_coding_round_trips(coding: str, encode: Callable[[bytes], bytes], data: bytes) -> None:
    """A whole stream decodes to what was encoded, in one chunk or many."""
    packed = encode(data)
    assert decode(coding, [packed]) == data
    assert decode(coding, cut(packed, *range(0, len(packed), 997))) == data


@EVERY
def test_byte_by_byte(coding: str, encode: Callable[[bytes], bytes]) -> None:
    """Chunk edges may fall anywhere, heads and trailers included."""
    packed = encode(TEXT[:3_000])
    assert decode(coding, [bytes((byte,)) for byte in packed]) == TEXT[:3_000]


@EVERY
def test_cut_anywhere_is_truncated(coding: str, encode: Callable[[bytes], bytes]) -> None:
    """A stream that ends early is never called complete, wherever it was cut."""
    packed = encode(TEXT)
    near_ends = [*range(1, 40), *range(len(packed) - 40, len(packed))]
    for place in [*near_ends, *range(40, len(packed), max(1, len(packed) // 50))]:
        assert failing(coding, [packed[:place]]) == "body.truncated", place


@EVERY
def test_nothing_at_all_is_truncated(coding: str, encode: Callable[[bytes], bytes]) -> None:
    """A claimed coding with no bytes is no complete stream."""
    assert encode(b"")
    assert failing(coding, []) == "body.truncated"


@EVERY
def test_other_bytes_are_refused(coding: str, encode: Callable[[bytes], bytes]) -> None:
    """Bytes that are not in the coding they claim give body.encoding."""
    assert encode(b"")
    assert failing(coding, [b"\xff\xff<!doctype html><title>not what it says</title>" * 9]) == "body.encoding"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_checksum_is_checked(coding: str) -> None:
    """A flipped bit in the trailer's checksum is noticed."""
    packed = bytearray(gzip.compress(TEXT) if coding == "gzip" else zlib.compress(TEXT))
    packed[-5 if coding == "gzip" else -1] ^= 1
    assert failing(coding, [bytes(packed)]) == "body.encoding"


@EVERY
def test_bomb_ends_at_the_cap(coding: str, encode: Callable[[bytes], bytes]) -> None:
    """A bomb is stopped at the cap; no step makes more than a piece, and nothing is made unasked."""
    bomb = encode(bytes(40_000_000))
    decoder = Decoder(coding, CAP)
    pieces: list[int] = []
    with pytest.raises(FetchFailed) as failed:
        pieces.extend(len(piece) for piece in decoder.feed(bomb))
    assert failed.value.class_ == "body.bomb"
    assert max(pieces) <= 2 * STEP
    assert CAP - 2 * STEP <= sum(pieces) <= CAP


@EVERY
def test_at_the_cap_is_no_bomb(coding: str, encode: Callable[[bytes], bytes]) -> None:
    """The cap itself is allowed, one byte more is not."""
    packed = encode(TEXT)
    assert decode(coding, [packed], cap=len(TEXT)) == TEXT
    assert failing(coding, [packed], cap=len(TEXT) - 1) == "body.bomb"


def test_bomb_inside_a_chain_is_stopped_between_the_stages() -> None:
    """An inner stage that swallows its input cannot be fed without bound: every stage has the cap."""
    header_without_end = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 40_000_000  # a file name that never ends
    assert failing("gzip, br", [ENCODERS["br"][1](header_without_end)]) == "body.bomb"


@pytest.mark.parametrize("junk", [b"\x00" * 512, b"\x1f", b"\x1fzz", b"trailing", b"\r\n"])
def test_gzip_members_and_garbage(junk: bytes) -> None:
    """All members count (RFC 1952 2.2); what follows a complete one and is none is ignored."""
    packed = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two") + junk
    assert decode("gzip", [packed]) == b"one two"
    assert decode("gzip", [bytes((byte,)) for byte in packed]) == b"one two"


def test_gzip_second_member_cut() -> None:
    """A further member that ends early is truncated like the first."""
    packed = gzip.compress(b"one ") + gzip.compress(TEXT)
    assert failing("gzip", [packed[:-1]]) == "body.truncated"
    assert failing("gzip", [packed[: len(gzip.compress(b"one ")) + 5]]) == "body.truncated"


def test_zstd_frames_skippable_frames_and_garbage() -> None:
    """Frames follow one another (RFC 8878 3.1), skippable ones among them; garbage after them is ignored."""
    skippable = b"\x53\x2a\x4d\x18\x04\x00\x00\x00skip"
    packed = skippable + zstd.compress(b"one ") + skippable + zstd.compress(b"two") + b"garbage"
    assert decode("zstd", [packed]) == b"one two"
    assert decode("zstd", [bytes((byte,)) for byte in packed]) == b"one two"


def test_zstd_window_is_bounded() -> None:
    """A frame that asks for a window over 8 MiB is refused (RFC 9659 3): the window is memory."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    packed = packer.compress(TEXT) + packer.flush()
    assert failing("zstd", [packed]) == "body.encoding"


@pytest.mark.parametrize("coding", ["deflate", "br"])
def test_garbage_after_one_stream(coding: str) -> None:
    """Garbage after deflate is ignored as browsers do; brotli's own end makes more bytes an error."""
    encode = {"deflate": zlib.compress, "br": brotli.compress}[coding]
    packed = encode(b"whole")
    if coding == "deflate":
        assert decode(coding, [packed, b"garbage"]) == b"whole"
    else:
        assert failing(coding, [packed, b"garbage"]) == "body.encoding"


@pytest.mark.parametrize("value", ["", "identity", "Identity, identity", " , "])
def test_identity_needs_no_decoder(value: str) -> None:
    """Nothing to undo is false, and hands the bytes through."""
    decoder = Decoder(value, CAP)
    assert not decoder
    assert list(decoder.feed(b"as they came")) == [b"as they came"]
    decoder.finish()


def test_chains_are_undone_from_the_last() -> None:
    """Codings are listed in the order applied (RFC 9110 8.4), so the last is undone first."""
    packed = ENCODERS["br"][1](gzip.compress(TEXT))
    assert decode("gzip, identity,br", [packed]) == TEXT
    deep = TEXT
    for _ in range(MAX_CODINGS):
        deep = gzip.compress(deep)
    assert decode(",".join(["gzip"] * MAX_CODINGS), [deep]) == TEXT


def test_chain_cut_in_an_inner_stage() -> None:
    """Each stage of a chain must be complete, not only the outer one."""
    packed = gzip.compress(gzip.compress(TEXT)[:-9])
    assert failing("gzip, gzip", [packed]) == "body.truncated"


@pytest.mark.parametrize("value", ["gzip," * 6, "compress", "utf-8", "none", "gzip, sdch", "x" * 9_000])
def test_unknown_or_too_many_codings(value: str) -> None:
    """Unknown codings and more than five are refused before a byte is read, in a short sentence."""
    with pytest.raises(FetchFailed) as failed:
        Decoder(value, CAP)
    assert failed.value.class_ == "body.encoding"
    assert len(str(failed.value)) < 120


@given(st.data())
def test_any_chunks_and_any_coding(data: st.DataObject) -> None:
    """However a stream is cut into chunks, the result is the same; cut short, it is never complete."""
    coding, encode = ENCODERS[data.draw(st.sampled_from(sorted(ENCODERS)))]
    body = data.draw(st.binary(max_size=300)) * data.draw(st.integers(1, 900))
    packed = encode(body)
    places = data.draw(st.lists(st.integers(0, len(packed)), max_size=6))
    assert decode(coding, cut(packed, *places)) == body
    end = data.draw(st.integers(0, len(packed) - 1))
    assert failing(coding, cut(packed[:end], *[place for place in places if place < end])) == "body.truncated"


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip,br", "deflate,zstd"]))
def test_any_bytes_end_in_order(data: bytes, coding: str) -> None:
    """Junk of any kind ends as a classed failure or as bytes, never otherwise and never without end."""
    ended = "whole"
    try:
        decode(coding, [data])
    except FetchFailed as failed:
        ended = failed.class_
    assert ended in {"whole", "body.encoding", "body.truncated", "body.bomb"}


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_empty_members_are_counted(coding: str) -> None:
    """A body of nothing but empty streams is refused before it costs much time; a few of them are allowed."""
    encode = {"gzip": gzip.compress, "zstd": zstd.compress}[coding]
    assert decode(coding, [encode(b"") * 900 + encode(b"x")]) == b"x"
    with pytest.raises(FetchFailed, match=r"body\.bomb"):
        decode(coding, [encode(b"") * 2_000 + encode(b"x")])
