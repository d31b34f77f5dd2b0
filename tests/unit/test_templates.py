"""``--name``: what files are called after, what is refused, and that no two rows ever share a name."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scraper.errors import UsageError
from scraper.policies.names import item_suffix, safe_segment
from scraper.policies.templates import MAX_FOLDERS, MAX_PATH, Template
from scraper.records import Request

URL = "https://Photos.Example:8443/Albums/2024%20May/IMG_1.tar.gz?size=l#top"


def _stem(template: str, url: str = URL, disposition: str = "", row: int = 17, **columns: object) -> str:
    return Template(template).stem(Request(row, url, "A  caption/1", columns), "JPG", disposition)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{folder}/{key}", "00000/000000017"),
        ("{row}", "17"),
        ("{key}", "000000017"),
        ("{host}/{path}", "photos.example/Albums/2024 May/IMG_1.tar~000000017"),
        ("{stem}", "IMG_1.tar~000000017"),
        ("{filename}-{key}", "IMG_1.tar-000000017"),
        ("{ext}/{row}", "jpg/17"),
        ("{caption}", "A  caption_1~000000017"),
        ("{column:By whom}/{key}", "Ann_Bo/000000017"),
        ("{column:year}/{key}", "2024/000000017"),
        ("{column:missing}/{key}", "_/000000017"),
        ("{{{stem}}}", "{IMG_1.tar}~000000017"),
        ("all/{stem}_x", "all/IMG_1.tar_x~000000017"),
    ],
)
def test_each_field_is_what_it_says(template: str, expected: str) -> None:
    """Of the row's own URL, its columns and what came for it; extensions are left to the content."""
    columns: dict[str, object] = {"By whom": "Ann/Bo", "year": 2024, "missing": None}
    assert _stem(template, **columns) == expected


@pytest.mark.parametrize(
    ("template", "is_appended"),
    [
        ("{key}", False),
        ("{stem}-{key}", False),
        ("{stem}_{key}", False),
        ("img{row}", False),
        ("{host}/{row}", False),
        ("{key}-{stem}", False),
        ("{host}/{row} {stem}", False),
        ("{key}/{path}", False),
        ("{row}/x", False),
        ("{stem}", True),
        ("{stem}_{row}", True),  # a_1_2: item 2 of row 1, or row 2 of a_1
        ("{stem}\u0301{row}", True),  # grows together with a letter before it
        ("{row} {path}", True),  # the number may end up in a folder's name
        ("{stem}{key}", True),
        ("{key}{stem}", True),
        ("{stem}2{row}", True),
        ("{stem}-{key}-{host}", True),
        ("{path}/{key}/{stem}", True),
        ("{host}/{key}/{stem}", True),
    ],
)
def test_the_key_is_appended_unless_the_name_tells_rows_apart(template: str, is_appended: bool) -> None:
    """A row's number counts where it cannot be misread: at an end of the last part, or as the first folder."""
    assert _stem(template).endswith("~000000017") is is_appended


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        ('attachment; filename="holiday.jpeg"', "holiday"),
        ("attachment; filename=holiday.jpeg", "holiday"),
        ("inline;FILENAME = holiday.jpeg ; size=3", "holiday"),
        ('filename="no type.png"', "no type"),
        ('attachment; filename="a \\"b\\".jpg"', "a _b_"),
        ("attachment; filename=\"plain.jpg\"; filename*=UTF-8''%e2%82%ac%20rates.pdf", "€ rates"),
        ("attachment; filename*=iso-8859-1'en'%A3.txt; filename=other", "£"),
        ("attachment; filename*=UTF-8''%ff%fe; filename=other.txt", "other"),
        ("attachment; filename*=klingon''x; filename=other.txt", "other"),
        ('attachment; title="; filename=evil.sh"; filename=good.txt', "good"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\temp\\\\x.exe"', "x"),
        ("attachment; filename*=UTF-8''..%2f..%2fetc%2fpasswd", "passwd"),
        ("attachment; filename*=UTF-8''..%5c.bashrc", "_bashrc"),
        ('attachment; filename="NUL.txt"', "_NUL"),
        ('attachment; filename="a\x00b\u202e\udc80.txt"', "a_b__"),
        ('attachment; filename=""', "IMG_1.tar"),
        ('attachment; filename="/"', "IMG_1.tar"),
        ("attachment", "IMG_1.tar"),
        ("\udcff;;=;filename", "IMG_1.tar"),
        ("", "IMG_1.tar"),
    ],
)
def test_a_file_name_is_what_the_server_says_else_what_the_url_does(disposition: str, expected: str) -> None:
    """RFC 6266: filename* before filename, of a path only the last part, and never a way out."""
    assert _stem("{filename}-{key}", disposition=disposition) == f"{expected}-000000017"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "_"),
        ("/", "_"),
        ("/docs/", "docs"),
        ("//a///b.html", "a/b"),
        ("/../../etc/passwd", "etc/passwd"),
        ("/%2e%2e/%2E%2E/x", "x"),
        ("/..%2f..%2fetc/passwd", "_._.._etc/passwd"),
        ("/%252e%252e%252fx", "%2e%2e%2fx"),
        ("/a%5c..%5cb", "a_.._b"),
        ("/C:%5Cx", "C__x"),
        ("/%00/%1b[2J", "_/_[2J"),
        ("/.git/config", "_git/config"),
        ("/.bashrc", "_bashrc"),
        ("/-rf", "_rf"),
        ("/con/nul.jpg", "_con/_nul"),
        ("/a./b%20/c", "a_/b_/c"),
        ("/$Mft:$DATA", "_Mft_$DATA"),
        ("/%E2%80%AEgpj.exe", "_gpj"),
        ("/%ff%fe", "__"),
        ("/cafe%CC%81", "café"),
        ("/v1.5", "v1.5"),
        ("/x.mp4", "x"),
        ("/x~000000001.jpg/y", "x~000000001.jpg_/y"),
        ("/x~000000001_2.data.JPG/y", "x~000000001_2.data.JPG_/y"),
        ("/x~000000001.ti\ufb00/y", "x~000000001.ti\ufb00_/y"),
    ],
)
def test_a_path_is_decoded_once_and_then_made_safe(path: str, expected: str) -> None:
    """No spelling leads out, hides, or makes a folder where another row's file is to be."""
    assert _stem("{path}", f"http://a.example{path}") == f"{expected}~000000017"


def test_a_host_is_not_called_like_a_file_of_ours() -> None:
    """The report keeps its name, whatever a list asks for."""
    assert _stem("{host}/{key}", "http://Report.HTML/x") == "report.html_/000000017"
    assert _stem("{host}/{key}", "http://[::1]/x") == "__1/000000017"
    assert _stem("{host}/{key}", "no URL at all") == "_/000000017"


def test_depth_and_length_are_bounded_and_the_key_is_never_cut() -> None:
    """What is too deep or too long loses its middle or its end, and stays apart by its number."""
    deep = _stem("{path}", "http://a.example" + "/d" * 100 + "/last.jpg")
    assert deep == "d/" * MAX_FOLDERS + "last~000000017"
    long = _stem("{path}", "http://a.example/" + "/".join(["ü" * 200] * 10))
    assert len(f"{long}_12345678.data.geojsonx".encode()) <= MAX_PATH
    assert long.endswith("ü~000000017")
    assert all(len(part.encode()) <= 255 for part in long.split("/"))
    assert len(f"{_stem('{stem}-{key}', 'http://a.example/' + 'x' * 999)}_12345678.data.geojsonx") == 255


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("", "--name is empty; the default is '{folder}/{key}'"),
        ("{hots}/{key}", "--name has no field {hots}; did you mean {host}?"),
        ("{column}", "did you mean {column:NAME}?"),
        ("{colum:a}", "{colum:a}; did you mean {column:NAME}?"),
        ("{key:05d}", "no field {key:05d}; did you mean {key}?"),
        ("{key!r}", "no field {key!r}; did you mean {key}?"),
        ("{row.__class__}", "no field {row.__class__}"),
        ("{0}", "there is: {row}, {key}, {folder}"),
        ("{}", "there is: {row}, {key}, {folder}"),
        ("{key", "expected '}' before end of string; write {{ and }} for braces"),
        ("key}", "single '}' encountered"),
        ("/{key}", "begins with /: names are below the output folder"),
        ("a//{key}", "has an empty part"),
        ("{host}/", "has an empty part"),
        ("../{key}", "no name on every system"),
        ("{host}/../{key}", "no name on every system"),
        (".hidden/{key}", "no name on every system"),
        ("-{key}", "no name on every system"),
        ("C:\\{key}", "no name on every system"),
        ("C:{key}", "no name on every system"),
        ("{key}\x00", "no name on every system"),
        ("{stem}\u202e-{key}", "no name on every system"),
        ("con/{key}", "no name on every system"),
        ("com{row}", "no name on every system"),
        ("{key}. ", "no name on every system"),
        ("x" * 128, "more than 127 bytes"),
        ("a/" * 17 + "{key}", "has 17 folders; at most 16"),
    ],
)
def test_a_template_that_is_none_is_refused(template: str, sentence: str) -> None:
    """One sentence with what is wrong, and the field that was probably meant."""
    with pytest.raises(UsageError, match=re.escape(sentence)):
        Template(template)


def test_a_template_knows_its_columns() -> None:
    """So that a run can see whether the list gives them."""
    assert Template("{column:a}/{column:b b}-{key}").columns == {"a", "b b"}


TEMPLATES = [
    "{folder}/{key}", "{key}", "{row}", "{stem}", "{path}", "{host}/{path}", "{stem}-{key}", "{stem}_{key}",
    "{stem}_{row}", "{stem}-{row}", "{key}-{stem}", "{row}-{stem}", "{row} {path}", "{key}{stem}", "{stem}{row}",
    "{key}/{path}", "{row}/{filename}", "{caption}/{filename}", "{path}/{row}", "{path}-{key}", "IMG{row}",
    "{caption}.{key}", "{row}.{caption}", "{filename}\u0301-{row}", "{path}/{key}/{stem}-{ext}",
]  # fmt: skip

_TRICKY = st.lists(
    st.sampled_from(
        ["a", "A", "1", "_1", "-", "~", "/", ".", "000000001", "1000000001", ".jpg", ".JSON", ".data", "%2f", "_",
         "e", "\u0301", "\ufb00", "ß", "con", " ", "%2e"]
    ),
    max_size=6,
).map("".join)  # fmt: skip
_TEXT = st.one_of(_TRICKY, st.text(max_size=20))
_ROWS = st.one_of(
    st.sampled_from([0, 1, 2, 11, 12, 21, 100_000_000, 1_000_000_000, 1_000_000_001]), st.integers(0, 10**12)
)
_ROW = st.tuples(_ROWS, _TRICKY, _TEXT, _TEXT, st.sampled_from(["jpg", "json", "TXT", ""]))


def _files(template: Template, row: tuple[int, str, str, str, str]) -> set[str]:
    """Everything that one row may write: two items with their sidecars."""
    number, path, caption, disposition, extension = row
    request = Request(number, f"http://a.example/{path}", caption)
    stem = template.stem(request, extension, f'attachment; filename="{disposition}"')
    suffixes = {item_suffix(extension, sidecars=True), item_suffix(extension), "txt", "json"}
    return {f"{stem}{index}.{suffix}" for index in ("", "_1", "_21") for suffix in suffixes}


@pytest.mark.slow
@given(st.sampled_from(TEMPLATES), _ROW, _ROW)
@example("{stem}{row}", (12, "3", "", "", "jpg"), (1, "31", "", "", "jpg"))
@example("{stem}_{row}", (17, "a", "", "", "jpg"), (1, "a_17", "", "", "jpg"))
@example("{path}", (1, "x", "", "", "jpg"), (2, "x~000000001.jpg/y", "", "", "jpg"))
@example("{path}", (1, "x", "", "", "jpg"), (2, "X~000000001.JPG/y", "", "", "jpg"))
def test_no_two_rows_share_a_name_or_stand_in_each_others_way(
    template: str, one: tuple[int, str, str, str, str], other: tuple[int, str, str, str, str]
) -> None:
    """On a system that takes ``a`` for ``A`` too: no file of one is a file, or a folder, of the other."""
    made = Template(template)
    mine, theirs = ({name.casefold() for name in _files(made, row)} for row in (one, other))
    if one[0] != other[0]:
        assert not mine & theirs
        assert not any(his.startswith(f"{name}/") for name in mine for his in theirs)
        assert not any(name.startswith(f"{his}/") for name in mine for his in theirs)


@pytest.mark.slow
@given(st.sampled_from(TEMPLATES), _ROW)
def test_a_name_stays_inside_and_says_whose_it_is(template: str, row: tuple[int, str, str, str, str]) -> None:
    """Each part is safe, the whole is short enough, the same again gives the same, and leads back to the row."""
    made = Template(template)
    for name in _files(made, row):
        assert len(name.encode()) <= MAX_PATH
        assert all(part == safe_segment(part) for part in name.split("/"))
        assert len(name.split("/")) <= MAX_FOLDERS + 1
        assert made.row_of(name) == row[0]
    assert _files(made, row) == _files(Template(template), row)


@pytest.mark.parametrize(
    "path",
    ["", "x", "../x~000000001.jpg", "/x~000000001.jpg", "a/../x~000000001.jpg", "a//x~000000001.jpg",
     ".scraper/x~000000001.jpg", "x~1.jpg", "x~000000001", "x~000000001.jpg\x00",
     "x~" + "\u0660" * 8 + "\u0661.jpg"],
)  # fmt: skip
def test_a_path_that_no_template_gives_belongs_to_nobody(path: str) -> None:
    """Whatever a ledger or a folder says: only names of the template's own form are heeded."""
    assert Template("{path}").row_of(path) is None
