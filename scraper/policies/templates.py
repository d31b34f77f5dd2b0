"""What ``--name`` says: names of files made of a row's URL, headers and columns.

In: a template; a row, the extension of what came for it, and its Content-Disposition. Out: a path below the output
folder, without its extension; and back: the row that such a path belongs to.
Must never: lead out of the output folder; give two rows one path, or one row's file the name of another's folder,
on a system that takes ``a`` for ``A`` either; depend on which row ended first.

Every part of a path goes through ``names.safe_segment``. What keeps rows apart is the row's number, which is
never cut. It stands where a template has ``{row}`` or ``{key}``: at an end of the last part, set apart from other
digits, or as the first folder. Anywhere else, as in ``{stem}-{key}-{host}``, a name could be read two ways; there,
and where a template has neither, ``~KEY`` is appended.
"""

from __future__ import annotations

import difflib
import functools
import re
import string
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from scraper.errors import FetchFailed, UsageError
from scraper.policies.names import MAX_SEGMENT, RECORDS, clean_extension, folder_name, safe_segment
from scraper.policies.urls import check
from scraper.records import Request, key_of

DEFAULT = "{folder}/{key}"

MAX_FOLDERS = 16
MAX_PATH = 1024
"""Bytes of a path below the output folder: PATH_MAX of macOS, a quarter of Linux's. Deeper folders go."""

_ROOM = len("_12345678.data.") + 8
"""What is added to the last part: the number of a further item, and an extension."""

_NOT_BESIDE = {"key": "0123456789", "row": "0123456789_"}
"""What may not come before a number at the end. ``_8`` is the row's ninth item, and ``_000000008`` never is."""

_NOWHERE = (
    '<>:"\\|?*, what cannot be seen, dots and spaces at the ends, dashes and dollars in front, names of devices'
)

_OURS = frozenset({"report.html", RECORDS, f"{RECORDS}.part"})
"""Files at the top of the output folder: no host may be called like one."""

_EXTENSION = re.compile(r"(?<=.)\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,8}$", re.DOTALL)

_PARAMETER = re.compile(r"""(?:^|;)\s*([^\s=;"]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^;]*))?""", re.DOTALL)
"""One parameter of a header field (RFC 9110 5.6.6): a name, and a token or a quoted string. Lenient."""

_EXT_VALUE = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE)
"""A value with its character set (RFC 8187 3.2.1), of the two that were ever in use."""


class _Field(NamedTuple):
    name: str
    column: str = ""


class _Row(NamedTuple):
    """What fields are made of."""

    request: Request
    extension: str
    disposition: str


class Template:
    """A template that has been checked. Immutable; safe to be shared by threads.

    Args:
        text: what the user wrote: plain text, ``/`` for folders, and fields in braces.

    Raises:
        UsageError: there is no such field, a brace is alone, or a part is no name on every system.
    """

    def __init__(self, text: str = DEFAULT) -> None:
        self.text = text
        self._is_default = text == DEFAULT  # the only one in which a row's folder can be told from its number
        parts = list(_parsed(text))
        self.columns = frozenset(part.column for part in parts if isinstance(part, _Field) and part.column)
        """Columns of the list that it takes."""
        _check_literals(text, parts)
        self._head, self._mark, self._number = _split(parts)
        leading = None if self._number else _leading_number(self._head)
        self._has_first = self._number is None and leading is None
        self._file = _file_pattern(self._mark, self._number, leading)

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def stem(self, request: Request, extension: str, disposition: str = "") -> str:
        """The path of a row's first item without its extension, parted by ``/``, in at most MAX_PATH bytes.

        Args:
            request: the row; its own URL counts, not where that led.
            extension: of the item, taken from its content.
            disposition: the response's Content-Disposition.
        """
        if self._is_default:
            return f"{folder_name(request.row)}/{key_of(request.row)}"
        row = _Row(request, extension, disposition)
        text = "".join(part if isinstance(part, str) else _VALUES[part.name](row, part) for part in self._head)
        *folders, last = text.split("/")
        number = {None: "", "row": str(request.row), "key": key_of(request.row)}[self._number]
        tail = f"{self._mark}{number}"
        if last or not tail:
            last = safe_segment(last, MAX_SEGMENT - _ROOM - len(tail.encode()))
        return "/".join((*self._folders(folders), safe_segment(f"{last}{tail}")))

    def row_of(self, path: str) -> int | None:
        """The row that a path with its extension belongs to, if it is one that ``stem`` begins."""
        parts = path.split("/")
        named = self._file.fullmatch(parts[-1])
        if named is None or any(part != safe_segment(part) for part in parts):
            return None
        number = parts[0] if self._has_first and len(parts) > 1 else named["number"]
        if not re.fullmatch("[0-9]{1,18}", number):
            return None
        row = int(number)
        if number not in (str(row), key_of(row)) or (self._is_default and parts[:-1] != [folder_name(row)]):
            return None
        return row

    def _folders(self, texts: list[str]) -> Iterator[str]:
        left = MAX_PATH - MAX_SEGMENT
        for depth, text in enumerate(texts[:MAX_FOLDERS]):
            name = safe_segment(text, MAX_SEGMENT - 1)
            if self._is_like_a_file(name.casefold(), depth):
                name += "_"
            left -= len(name.encode()) + 1
            if left < 0:
                return
            yield name

    def _is_like_a_file(self, folded: str, depth: int) -> bool:
        """Whether a folder would be in the way of a row's file, or of ours: a URL can ask for such a name.

        Where the first folder is the row's own, there is no other row's file.
        """
        if depth == 0 and folded in _OURS:
            return True
        return not self._has_first and self._file.fullmatch(folded) is not None


# --- reading a template ---


def _parsed(text: str) -> Iterator[str | _Field]:
    """Plain text and fields, in order."""
    try:
        found = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UsageError(f"--name {text!r}: {_lowered(str(error))}; write {{{{ and }}}} for braces.") from None
    if not found:
        raise UsageError(f"--name is empty; the default is '{DEFAULT}'.")
    for literal, name, spec, conversion in found:
        if literal:
            yield literal
        if name is None:
            continue
        shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        if name == "column" and spec and not conversion:
            yield _Field(name, spec)
        elif name not in _VALUES or name == "column" or spec or conversion:
            raise UsageError(f"--name has no field {{{shown}}}; {_hint(name)}")
        else:
            yield _Field(name)


def _hint(name: str) -> str:
    shown = {each: "{column:NAME}" if each == "column" else f"{{{each}}}" for each in _VALUES}
    near = difflib.get_close_matches(name.lower(), shown, n=1, cutoff=0.5)
    return f"did you mean {shown[near[0]]}?" if near else f"there is: {', '.join(shown.values())}."


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _check_literals(text: str, parts: list[str | _Field]) -> None:
    """See that what is written out is a name everywhere: fields are made safe, the user's words stay as they are.

    Raises:
        UsageError: it is not.
    """
    folders = "".join(part if isinstance(part, str) else "1" for part in parts).split("/")
    if folders[0] == "":
        raise UsageError(f"--name {text!r} begins with /: names are below the output folder.")
    if "" in folders:
        raise UsageError(
            f"--name {text!r} has an empty part: write a name between its slashes, and after the last."
        )
    if len(folders) - 1 > MAX_FOLDERS:
        raise UsageError(f"--name has {len(folders) - 1} folders; at most {MAX_FOLDERS} are made.")
    if any(each != safe_segment(each, MAX_SEGMENT // 2) for each in folders):
        raise UsageError(
            f"--name {text!r} has a part that is no name on every system: leave out {_NOWHERE}, and parts of more "
            f"than {MAX_SEGMENT // 2} bytes."
        )


def _split(parts: list[str | _Field]) -> tuple[list[str | _Field], str, str | None]:
    """What comes before the row's number, the text that sets it apart, and the field that it is.

    The field is None where what comes first tells rows apart already.
    """
    last = parts[-1]
    if isinstance(last, _Field) and last.name in _NOT_BESIDE:
        before = "/" if len(parts) == 1 else parts[-2] if isinstance(parts[-2], str) else ""
        mark = re.sub(r".*[^ -.0-~]", "", before, flags=re.DOTALL)  # ASCII only: nothing grows together with that
        if before.endswith("/") or (mark and mark[-1] not in _NOT_BESIDE[last.name]):
            kept = before.removesuffix(mark) if len(parts) > 1 else ""
            return [*parts[:-2], *([kept] if kept else [])], mark, last.name
    if _leading_number(parts) or _is_first_folder(parts):
        return parts, "", None  # the head tells rows apart
    return parts, "~", "key"


def _leading_number(parts: list[str | _Field]) -> str | None:
    """The field of the number with which the last part begins, if it is set apart from what follows."""
    slash = max((at for at, part in enumerate(parts) if isinstance(part, str) and "/" in part), default=-1)
    if slash >= 0 and not str(parts[slash]).endswith("/"):
        return None
    first, after = [*parts[slash + 1 :], "-"][:2]
    # A path brings slashes of its own: what stands before it is then in a folder's name.
    is_apart = isinstance(after, str) and not after[0].isdigit() and _Field("path") not in parts[slash + 1 :]
    return first.name if isinstance(first, _Field) and first.name in _NOT_BESIDE and is_apart else None


def _is_first_folder(parts: list[str | _Field]) -> bool:
    first, after = parts[0], parts[1] if len(parts) > 1 else ""
    is_number = isinstance(first, _Field) and first.name in _NOT_BESIDE
    return is_number and isinstance(after, str) and after.startswith("/")


def _file_pattern(mark: str, number: str | None, leading: str | None) -> re.Pattern[str]:
    """What the names of files look like that a template gives; the row is the group ``number``."""
    digits = {"key": "[0-9]{9,}", "row": "[0-9]+", None: ""}
    if number is not None:
        stem = f"(?:.*?){re.escape(mark)}(?P<number>{digits[number]})"
    elif leading is not None:
        stem = f"(?P<number>{digits[leading]})(?:[^0-9].*?)?"
    else:
        stem = ".*?(?P<number>)"
    return re.compile(rf"{stem}(?:_[1-9][0-9]{{0,7}})?\.(?:data\.)?[a-z0-9]{{1,8}}", re.IGNORECASE | re.DOTALL)


# --- what the fields are ---


@functools.lru_cache(maxsize=64)  # asked for several times a row, by the fields of one template
def _address(url: str) -> tuple[str, tuple[str, ...]]:
    """The host of a URL, and the segments of its path, each decoded once."""
    try:
        checked = check(url)
    except FetchFailed:  # nothing was fetched from there, but a sink may be given anything
        return "", ()
    raw = checked.raw_path.split("/")
    return (checked.raw_host or "").lower().rstrip("."), tuple(_unquoted(segment) for segment in raw if segment)


def _unquoted(text: str) -> str:
    """Decoded once; bytes that are no UTF-8 become half characters, which no name keeps."""
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _without_extension(name: str) -> str:
    return _EXTENSION.sub("", name)


def _path(row: _Row) -> str:
    *folders, last = _address(row.request.url)[1] or ("",)
    return "/".join(safe_segment(segment) for segment in (*folders, _without_extension(last)))


def _last(row: _Row) -> str:
    return _without_extension((_address(row.request.url)[1] or ("",))[-1])


def _filename(row: _Row) -> str:
    """The name that the server gives (RFC 6266 4.3: of a path only the last part), else that in the URL."""
    told = _told_name(row.disposition) if row.disposition else ""
    return _without_extension(re.split(r"[/\\]", told.rstrip("/\\"))[-1]) or _last(row)


def _told_name(disposition: str) -> str:
    """``filename*``, else ``filename``, of a Content-Disposition (RFC 6266 4.1); empty if there is none."""
    plain = ""
    for name, value in _PARAMETER.findall(disposition):
        if name.lower() == "filename*" and (extended := _EXT_VALUE.fullmatch(value.strip().strip('"'))):
            with suppress(UnicodeError):  # then filename= is what is left
                return unquote_to_bytes(extended[2]).decode(extended[1])
        if name.lower() == "filename" and not plain:
            is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
            plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if is_quoted else value.strip()
    return plain


def _text(value: object) -> str:
    return "" if value is None else str(value)


_VALUES: dict[str, Callable[[_Row, _Field], str]] = {
    "row": lambda row, _: str(row.request.row),
    "key": lambda row, _: key_of(row.request.row),
    "folder": lambda row, _: folder_name(row.request.row),
    "host": lambda row, _: safe_segment(_address(row.request.url)[0]),
    "path": lambda row, _: _path(row),
    "stem": lambda row, _: safe_segment(_last(row)),
    "filename": lambda row, _: safe_segment(_filename(row)),
    "ext": lambda row, _: clean_extension(row.extension),
    "column": lambda row, field: safe_segment(_text(row.request.columns.get(field.column))),
    "caption": lambda row, _: safe_segment(_text(row.request.caption)),
}
"""Every field. What it gives has been made safe, so that only ``{path}`` has slashes, and no value is empty."""
