"""The output folder: ours alone, one run at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scraper.errors import OutputLocked, UsageError
from scraper.outdir import OutputFolder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that is not there yet, nor the one above it."""
    return tmp_path / "deep" / "out"


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_it_is_made_and_laid_out(out: Path) -> None:
    """A missing folder is made, with its state folder, an empty tmp folder and a lock that names us."""
    with OutputFolder(out) as folder:
        assert folder.root == out
        assert folder.tmp_dir.is_dir()
        assert out / ".scraper" / "ledger.sqlite" == folder.ledger_path
        assert out / ".scraper" / "log.jsonl" == folder.log_path
        assert out / "report.html" == folder.report_path
        held = json.loads((out / ".scraper" / "lock").read_text())
        assert os.getpid() == held["pid"]
        assert {"pid", "host", "started"} == set(held)
        assert "locked by us" in repr(folder)
    assert (out / ".scraper" / "lock").read_text() == ""


def test_a_second_run_is_refused_while_the_first_lives(out: Path) -> None:
    """The error names the process that has the folder, and exits with 4; afterwards the folder is free."""
    with OutputFolder(out):
        with pytest.raises(OutputLocked, match=f"process {os.getpid()}") as refused, OutputFolder(out):
            pass
        assert refused.value.exit_code == 4
        # Being refused must not have taken the lock, or anything else, away from who has it.
        with pytest.raises(OutputLocked), OutputFolder(out, overwrite=True):
            pass
    with OutputFolder(out):
        pass


def test_the_lock_is_given_back_when_the_block_fails(out: Path) -> None:
    """An exception leaves no lock behind."""
    with pytest.raises(RuntimeError), OutputFolder(out):
        raise RuntimeError
    with OutputFolder(out):
        pass


_DYING = """
import os, signal, sys
from scraper.outdir import OutputFolder
folder = OutputFolder(sys.argv[1]).__enter__()
(folder.tmp_dir / "half").write_bytes(b"half")
print("locked", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_a_dead_run_is_taken_over(out: Path) -> None:
    """A run that was killed hinders nobody, though its lock file still names it, and its tmp files go."""
    died = subprocess.run([sys.executable, "-c", _DYING, str(out)], capture_output=True, check=False)
    assert died.stdout == b"locked\n"
    assert (out / ".scraper" / "lock").read_text()
    with OutputFolder(out) as folder:
        assert list(folder.tmp_dir.iterdir()) == []
        assert os.getpid() == json.loads((out / ".scraper" / "lock").read_text())["pid"]


@pytest.mark.parametrize("content", ["", "{", '{"pid": "x"}', "[]", '{"pid": 1, "host": "h", "started": 1e999}'])
def test_a_lock_file_that_says_nothing_still_locks(out: Path, content: str) -> None:
    """Whatever stands in the lock file of a live run, the second run is refused with a sentence."""
    with OutputFolder(out):
        (out / ".scraper" / "lock").write_text(content)
        with pytest.raises(OutputLocked, match="Another run is writing to"), OutputFolder(out):
            pass


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    """Somebody else's folder is not written to, and the sentence names what is in it."""
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"holds something else \(thesis.tex\)"):
            OutputFolder(tmp_path, overwrite=overwrite).__enter__()
    assert names(tmp_path) == ["thesis.tex"]


def test_what_file_systems_put_there_is_no_hindrance(tmp_path: Path) -> None:
    """A fresh mount is an empty folder."""
    (tmp_path / "lost+found").mkdir()
    with OutputFolder(tmp_path):
        pass


def test_a_file_is_refused(tmp_path: Path) -> None:
    """OUT, or a folder above it, being a file is a UsageError that says what to give."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file: give a folder"):
        OutputFolder(tmp_path / "file").__enter__()
    with pytest.raises(UsageError, match="choose another folder"):
        OutputFolder(tmp_path / "file" / "out").__enter__()


def test_an_unwritable_place_is_refused() -> None:
    """A place that the system does not let us write to is a UsageError with the system's reason."""
    with pytest.raises(UsageError, match="cannot be written to"):
        OutputFolder("/proc/scraper-out").__enter__()


def test_it_can_be_looked_at(out: Path) -> None:
    """Who looks sees what entering would say, and makes, locks and changes nothing."""
    OutputFolder(out).check()
    assert not out.parent.exists()
    (out.parent.parent / "file").write_text("")
    for path in (out.parent.parent / "file", out.parent.parent / "file" / "out"):
        with pytest.raises(UsageError):
            OutputFolder(path).check()
    assert not OutputFolder(out).is_held()
    with OutputFolder(out) as folder:
        assert folder.is_held()
        with pytest.raises(OutputLocked, match=f"process {os.getpid()}"):
            OutputFolder(out).check()
    assert not OutputFolder(out).is_held()
    fill(out)
    OutputFolder(out, overwrite=True).check()
    (out / "notes.txt").write_text("mine")
    OutputFolder(out).check()
    with pytest.raises(UsageError, match=r"also holds notes.txt"):
        OutputFolder(out, overwrite=True).check()
    assert (out / "00000.tar").exists()


def test_a_killed_run_holds_nothing(out: Path) -> None:
    """What a dead process left in the lock file does not count as being held."""
    subprocess.run([sys.executable, "-c", _DYING, str(out)], capture_output=True, check=False)
    assert (out / ".scraper" / "lock").read_text()
    assert not OutputFolder(out).is_held()
    OutputFolder(out).check()


def test_existing_is_for_reading(out: Path) -> None:
    """Commands that read get the folder of a run, without its lock, or a sentence."""
    with pytest.raises(UsageError, match="There is no run in"):
        OutputFolder.existing(out)
    with OutputFolder(out) as folder:
        folder.ledger_path.touch()
        assert folder.root == OutputFolder.existing(out).root
    assert not (out / "nothing").exists()


def fill(out: Path) -> None:
    """One of everything that runs write."""
    with OutputFolder(out) as folder:
        folder.ledger_path.touch()
        for name in (
            "00000.tar",
            "00000.parquet",
            "00000_stats.json",
            "00001.tar.part",
            "items.jsonl",
            "report.html",
        ):
            (out / name).write_bytes(b"x")
        (out / ".report.html.123.tmp").touch()
        (out / "00002").mkdir()
        (out / "00002" / "000020001.jpg").write_bytes(b"x")


def test_overwrite_removes_what_runs_wrote(out: Path) -> None:
    """``--overwrite`` starts from an empty folder, holding the lock meanwhile."""
    fill(out)
    with OutputFolder(out, overwrite=True) as folder:
        assert names(out) == [".scraper"]
        assert names(folder.state_dir) == ["lock", "tmp"]


@pytest.mark.parametrize("name", ["notes.txt", "1.tar", "00000.tar.bak", "items", "report.htm"])
def test_overwrite_removes_nothing_beside_something_else(out: Path, name: str) -> None:
    """With a file in the folder that no run wrote, ``--overwrite`` is refused and deletes nothing at all."""
    fill(out)
    (out / name).write_text("mine")
    before = names(out)
    with pytest.raises(UsageError, match=f"also holds {name}"):
        OutputFolder(out, overwrite=True).__enter__()
    assert before == names(out)
    assert (out / ".scraper" / "ledger.sqlite").exists()
    with OutputFolder(out):
        pass


def test_overwrite_does_not_follow_links(out: Path, tmp_path: Path) -> None:
    """A link under one of our names is not ours, and what it points to stays."""
    fill(out)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (out / "00003").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="also holds 00003"):
        OutputFolder(out, overwrite=True).__enter__()
    assert (elsewhere / "kept").exists()
