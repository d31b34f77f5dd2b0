"""From what the user typed to the lists that are meant; and one clear sentence for what cannot be."""

import gzip
import hashlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scraper.config import SourceConfig
from scraper.errors import MissingExtra, RunStopped, UsageError
from scraper.records import Outcome, Request
from scraper.sources import open_source

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLAIN = SourceConfig()
PACK = {"gz": gzip.compress, "zst": zstd.compress}


def write(path: Path, *urls: str) -> Path:
    """A txt list, compressed if its name says so."""
    data = "".join(f"http://a.example/{url}\n" for url in urls).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def tails(*inputs: str | Path, config: SourceConfig = PLAIN, stdin: bytes = b"") -> list[str]:
    """The ends of the URLs of these inputs, whose rows must be numbered without gaps."""
    rows = list(open_source(inputs, config, io.BytesIO(stdin)))
    assert [row.row for row in rows] == list(range(len(rows)))
    return [row.url.rpartition("/")[2] for row in rows]


def test_several_inputs_are_one_list(tmp_path: Path) -> None:
    """Files are read in the order given, standard input among them; lines are counted in each."""
    one, two = write(tmp_path / "one.txt", "1", "2"), write(tmp_path / "two.txt.gz", "3")
    assert tails(two, "-", one, stdin=b"http://a.example/9") == ["3", "9", "1", "2"]
    assert [row.line for row in open_source([two, one], PLAIN)] == [1, 1, 2]


def test_a_folder_is_its_lists_by_name(tmp_path: Path) -> None:
    """Files of known formats, sorted; hidden files, other files and folders inside are left alone."""
    write(tmp_path / "b.txt", "2")
    write(tmp_path / "a.TXT", "1")
    write(tmp_path / "c.txt.gz", "3")
    (tmp_path / "list.csv").write_text("url\nhttp://a.example/4\n")
    for name in ("._a.txt", "picture.jpg", "_SUCCESS"):
        (tmp_path / name).write_bytes(b"\xff\0")
    (tmp_path / "inner.txt").mkdir()
    assert tails(tmp_path) == ["1", "2", "3", "4"]
    assert tails(tmp_path, config=SourceConfig(input_format="csv")) == ["4"]


def test_a_glob_is_its_matches_by_name(tmp_path: Path) -> None:
    """A pattern is resolved where no file has that very name, across folders with ``**``."""
    (tmp_path / "x" / "y").mkdir(parents=True)
    write(tmp_path / "x" / "y" / "2.txt", "2")
    write(tmp_path / "x" / "1.txt", "1")
    assert tails(f"{tmp_path}/**/*.txt") == ["1", "2"]
    write(tmp_path / "[1].txt", "literal")
    assert tails(f"{tmp_path}/[1].txt") == ["literal"]


@pytest.mark.parametrize("codec", ["", ".gz", ".zst"])
def test_input_format_overrides_the_name(tmp_path: Path, codec: str) -> None:
    """``--input-format`` reads any file as what it says; a compression behind it, as elsewhere spelt, is fine."""
    path = tmp_path / "list.data"
    path.write_bytes(gzip.compress(b"url\nhttp://a.example/1\n"))
    assert tails(path, config=SourceConfig(input_format="csv" + codec)) == ["1"]


def test_compression_is_told_by_the_bytes_where_the_name_does_not(tmp_path: Path) -> None:
    """A compressed list on standard input, or under a plain name, is unpacked."""
    packed = write(tmp_path / "list.txt.gz", "1", "2").read_bytes()
    assert tails("-", stdin=packed) == ["1", "2"]
    (tmp_path / "plain.txt").write_bytes(packed)
    assert tails(tmp_path / "plain.txt") == ["1", "2"]


def test_a_named_pipe_is_read_as_standard_input_is(tmp_path: Path) -> None:
    """``<(command)`` has no size, no extension and one reading: it is a txt list of unknown length."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb") as typed:
        typed.write(b"http://a.example/1\n")
        typed.close()
        source = open_source([f"/dev/fd/{reader}"], PLAIN)
        assert (source.fraction(), source.fingerprint()) == (None, "")
        assert [row.url for row in source] == ["http://a.example/1"]
        with pytest.raises(UsageError, match="only once"):
            list(source)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("missing.txt", "missing.txt does not exist"),
        ("missing/list.txt", "list.txt does not exist"),
        ("list.txt/inside", "inside does not exist"),
        ("*.nothing", "matches no file"),
        ("empty", "is a folder with no list in it"),
        ("odd.xyz", "say --input-format txt, csv, tsv, jsonl, parquet or sitemap"),
        ("odd", "say --input-format"),
        ("packed.parquet.gz", "is cut or damaged as gz data"),
        ("not.parquet", "cannot be read as parquet"),
        ("not.txt.gz", "is cut or damaged as gz data"),
        ("not.txt.zst", "is cut or damaged as zst data"),
        ("hollow.txt.gz", "is cut or damaged as gz data"),
        ("bad\0name.txt", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, given: str, sentence: str) -> None:
    """Each mistake with a list is told when it is opened, in words that say what to do."""
    write(tmp_path / "list.txt", "1")
    (tmp_path / "empty").mkdir()
    for name in ("odd.xyz", "odd", "packed.parquet.gz", "not.parquet", "not.txt.gz", "not.txt.zst"):
        (tmp_path / name).write_bytes(b"http://a.example/\n")
    (tmp_path / "hollow.txt.gz").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        open_source([f"{tmp_path}/{given}"], PLAIN)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_on_the_web_is_refused_with_the_command_to_type() -> None:
    """Neither a URL nor nothing is a list; the sentence has the command to type, with the format if it shows."""
    with pytest.raises(UsageError, match="download it first, or pipe it") as caught:
        open_source(["https://a.example/list.csv.gz?x=1"], PLAIN)
    assert "curl -L 'https://a.example/list.csv.gz?x=1' | scraper images - --input-format csv" in str(caught.value)
    with pytest.raises(UsageError, match="copy the list to this machine"):
        open_source(["s3://bucket/list.txt"], PLAIN)
    with pytest.raises(UsageError, match="name is empty"):
        open_source([""], PLAIN)


def test_permission_denied_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is told by name."""
    path = write(tmp_path / "list.txt", "1")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match=r"list\.txt cannot be read: permission denied"):
        open_source([path], PLAIN)


def test_standard_input_has_its_own_limits() -> None:
    """It is read once and named once."""
    with pytest.raises(UsageError, match="only once"):
        open_source(["-", "-"], PLAIN)
    with pytest.raises(UsageError, match="--input-format xml is not known: use one of txt, csv"):
        open_source(["-"], SourceConfig(input_format="xml"))
    source = open_source(["-"], PLAIN, io.BytesIO(b"x"))
    assert len(list(source)) == 1
    with pytest.raises(UsageError, match="only once"):
        next(iter(source))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_parquet_from_a_pipe(pack: Callable[[bytes], bytes]) -> None:
    """Parquet is read from its end, so a pipe's is kept in a temporary file first; a cut one is no list."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"url": ["http://a.example/1", "http://a.example/2"]}), sink)
    config = SourceConfig(input_format="parquet")
    rows = list(open_source(["-"], config, io.BytesIO(pack(sink.getvalue()))))
    assert [row.url for row in rows] == ["http://a.example/1", "http://a.example/2"]
    with pytest.raises((UsageError, RunStopped), match=r"- (is cut|cannot be read)"):
        list(open_source(["-"], config, io.BytesIO(pack(sink.getvalue())[:-20])))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "has no column url; its columns are: URL, text. Did you mean --url-col URL?"),
        ({"url_col": "URL", "caption_col": "texts"}, "no column texts; its columns are: URL, text. Did you mean "),
        (
            {"url_col": "URL", "save_additional_columns": ("zzz",)},
            "Name one of them with --save-additional-columns.",
        ),
        (
            {"url_col": "URL", "save_additional_columns": ("key",)},
            "cannot take key: the output has columns of its own",
        ),
    ],
)
@pytest.mark.parametrize("second", [False, True])
def test_a_missing_column_names_the_ones_there_are(
    tmp_path: Path, config: dict[str, object], sentence: str, second: bool
) -> None:
    """A wrong column is told before the first row, with the nearest right one, in whichever list it is."""
    (tmp_path / "2.csv").write_text("URL,text\nhttp://a.example/,t\n")
    if second:
        (tmp_path / "1.jsonl").write_text('{"url": "http://a/", "URL": "http://a/", "texts": "", "zzz": 1}\n')
    with pytest.raises(UsageError) as caught:
        open_source([tmp_path], SourceConfig(**config))
    assert sentence in str(caught.value)


def test_a_txt_list_has_no_columns(tmp_path: Path) -> None:
    """Asking a txt list for a caption is refused; asking for all its other columns is none."""
    path = write(tmp_path / "list.txt", "1")
    with pytest.raises(UsageError, match="no column text: use csv, tsv, jsonl or parquet"):
        open_source([path], SourceConfig(caption_col="text"))
    assert list(open_source([path], SourceConfig(save_additional_columns=("*",)))) == [
        Request(0, "http://a.example/1", line=1)
    ]


def test_parquet_without_its_extra_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is missing, a parquet list says what to install, and other formats do not miss it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "scraper.sources.parquet", raising=False)
    (tmp_path / "list.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtra, match=r"pip install 'scraper-pipelines\[parquet\]'"):
        open_source([tmp_path / "list.parquet"], PLAIN)
    assert tails(write(tmp_path / "list.txt", "1")) == ["1"]


@pytest.mark.parametrize("codec", ["gz", "zst"])
@pytest.mark.parametrize("lost", [1, 9, 100_000])
def test_a_cut_compressed_list_is_never_taken_for_whole(tmp_path: Path, codec: str, lost: int) -> None:
    """A small list that breaks off is refused when opened; down a pipe, whole rows are followed by an error."""
    urls = [f"http://a.example/{hashlib.sha256(b'%d' % n).hexdigest()}" for n in range(20_000)]
    cut = tmp_path / f"cut.txt.{codec}"
    cut.write_bytes(PACK[codec]("\n".join(urls).encode())[:-lost])
    with pytest.raises(UsageError, match=rf"cut.txt.{codec} is cut or damaged as {codec} data after [\d,]+ bytes"):
        open_source([cut], PLAIN)
    rows: list[Request | Outcome] = []
    with (
        cut.open("rb") as stdin,
        pytest.raises(RunStopped, match="the rest of the list is missing: fetch or make"),
    ):
        rows.extend(open_source(["-"], PLAIN, stdin))
    assert [row.url for row in rows] == urls[: len(rows)]
    assert 1_000 < len(rows) < len(urls)


def test_a_list_damaged_after_the_check_stops_the_run(tmp_path: Path) -> None:
    """A later list that vanishes while an earlier one is read does not end the list in silence."""
    write(tmp_path / "1.txt", "1")
    write(tmp_path / "2.txt", "2")
    source = open_source([tmp_path], PLAIN)
    (tmp_path / "2.txt").unlink()
    with pytest.raises(RunStopped, match=r"2.txt cannot be read .* Rows from 1 on have not been read\."):
        list(source)


def test_fingerprints_know_content_and_url_column(tmp_path: Path) -> None:
    """The same bytes read by another column are other rows; a large list is told by its size and ends."""
    path = tmp_path / "list.csv"
    path.write_text("url,other\nhttp://a.example/,http://b.example/\n")
    by_url, by_other = (open_source([path], SourceConfig(url_col=name)) for name in ("url", "other"))
    assert by_url.fingerprint() != by_other.fingerprint()
    large = tmp_path / "large.txt"
    digests = set()
    for size, last in ((70, b"x"), (70, b"y"), (71, b"x")):
        with large.open("wb") as file:  # sparse: takes no room
            file.write(b"http://a.example/\n")
            file.seek(size * 1024 * 1024)
            file.write(last)
        source = open_source([large], PLAIN)
        digests.add(source.fingerprint())
    assert len(digests) == 3


def test_names_and_reprs_tell_what_is_read(tmp_path: Path) -> None:
    """Messages and debuggers see the list's name and how far it has come."""
    one, two = write(tmp_path / "1.txt", "1"), write(tmp_path / "2.txt", "2")
    source = open_source([one, two], PLAIN)
    assert source.name == f"{one} and 1 more"
    list(source)
    assert repr(source) == f"<ListSource {source.name!r} 1.0>"
    assert open_source(["-"], PLAIN, io.BytesIO()).name == "-"
    assert open_source([], PLAIN).name == "nothing"
