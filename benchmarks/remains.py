"""What lies in an output folder, read as strictly as can be: for comparing two runs, and for finding what is torn.

Must never: take half of something for the whole of it; skip what it does not know.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scraper.ledger import LedgerReader
from scraper.ledger_reader import NoRun
from scraper.records import Outcome

_CHANGING = re.compile(r"report[.]html|[.]scraper/(ledger[.]sqlite(-wal|-shm)?|lock|log[.]jsonl|seen[.]sqlite)")
"""Files of every complete output that say when and how often it was worked on; two of them come with reading."""

_STATS = "_stats.json"
_END = 2 * tarfile.BLOCKSIZE
"""Two empty blocks end a tar (POSIX.1-2001, ustar)."""


@dataclass(frozen=True, slots=True)
class Remains:
    """A complete output.

    Attributes:
        items: what there is for each name: of a file or a tar's member the digest, of a table the row itself.
        twice: names that there is more than one thing for.
        files: every file but those that say when it was made.
    """

    items: dict[str, str]
    twice: list[str]
    files: set[str]


def read(out: Path) -> Remains:
    """Everything in ``out``.

    Raises:
        tarfile.TarError: a tar is torn.
        ValueError: a line or a table is, or a tar does not end where its file does.
    """
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    files = [name for name in files if not _CHANGING.fullmatch(name)]
    found = [item for name in files for item in _items(out, name)]
    count = Counter(name for name, _ in found)
    return Remains(dict(found), [name for name, times in count.items() if times > 1], set(files))


def torn(out: Path, whole: Remains) -> list[str]:
    """Names that stand in ``out``, though what is there is not what a complete output has under that name.

    What has not got its final name yet, and what is in the state folder, is work in hand and not looked at.
    """
    wrong = []
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if (
            not path.is_file()
            or name.startswith(".scraper/")
            or name.endswith(".part")
            or _CHANGING.fullmatch(name)
        ):
            continue
        try:
            wrong += [f"{name}: {item}" for item, value in _items(out, name) if whole.items.get(item) != value]
        except (tarfile.TarError, ValueError, OSError) as error:
            wrong.append(f"{name}: {error}")
    return wrong


def outcomes(out: Path) -> dict[int, Outcome]:
    """What the ledger holds; nothing if there is none yet."""
    try:
        with LedgerReader(out / ".scraper" / "ledger.sqlite") as reader:
            return {recorded.outcome.row: recorded.outcome for recorded in reader.rows()}
    except NoRun:
        return {}


def _items(out: Path, name: str) -> Iterator[tuple[str, str]]:
    """Name and value of each thing in a file."""
    path = out / name
    if name.endswith(".tar"):
        yield from _members(path)
    elif name.endswith(".jsonl"):
        *lines, rest = path.read_bytes().split(b"\n")
        if rest:
            raise ValueError("the last line is cut")
        for line in lines:
            yield f"line {json.loads(line)['key']}", line.decode()
    elif name.endswith(".parquet"):
        from pyarrow import parquet

        for row in parquet.read_table(path).to_pylist():
            yield f"row {row['key']}", json.dumps(row, sort_keys=True)
    elif name.endswith(_STATS):
        json.loads(path.read_bytes())  # which rows a shard has, and when, differs from run to run
    else:
        yield name, hashlib.sha256(path.read_bytes()).hexdigest()


def _members(path: Path) -> Iterator[tuple[str, str]]:
    end = 0
    with tarfile.open(path, "r:", errorlevel=2) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                raise ValueError(f"{member.name} is no file")
            data = file.read()
            if len(data) != member.size:
                raise ValueError(f"{member.name} is cut")
            end = member.offset_data + len(data)
            yield f"member {member.name}", hashlib.sha256(data).hexdigest()
    rest = path.read_bytes()[end:]
    if len(rest) < _END or rest.strip(b"\0") or (end + len(rest)) % tarfile.RECORDSIZE:
        raise ValueError(f"the {len(rest)} bytes after its last member are no end of a tar")
