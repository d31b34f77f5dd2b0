"""Memory that the loop and its workers share: one anonymous file, mapped whole by each of them.

    loop     memory.take(expected) ─▶ Block | Spill ─ write ─ view ─ free
    worker   Shared, sent to it when it starts ─ attach ─ lent(place) ─▶ the bytes, where they are

The file has no name (memfd_create(2)), so nothing is left of it once our processes have ended, however they did.
Its descriptor goes to a worker as its pipes do, with no need for /proc. Pages come as they are first written to.

The file has two parts. The first is mapped, and ``scraper.buddies`` says which of it is whose: twice the budget,
since rooms are powers of two, of which nothing but what is written takes memory. The pages of its upper half go
back to the kernel when they are free. Beyond it each body that found no room, or is too large for one, has a
stretch of its own, which is written to and read by system calls and goes back when it is free: several times as
slow, and still cheaper than a pipe.

Must never: have two bodies in one place; make a file that has a name; end the process where memory runs out.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from scraper.buddies import LARGEST, Buddies, room_for
from scraper.records import Place

_STRETCH = 1 << 40
"""From one stretch to the next, in bytes of the file, which has holes: more than any machine has memory for."""

_PUNCH = 0x01 | 0x02
"""FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE, from linux/falloc.h."""

_MAP_FAILED = ctypes.c_void_p(-1).value

_STRICT = "2"
"""Of vm.overcommit_memory: a page may be refused when it is touched, which ends the process by SIGBUS."""


class BodyKept(Exception):
    """Somebody still has a part of a body that was lent, and whose memory another one will get."""

    def __init__(self) -> None:
        super().__init__(
            "The transform keeps a part of response.body, whose memory is used again after the item; "
            "have it keep a copy: bytes(...)."
        )


def shared_memory(budget: int) -> Memory | None:
    """Memory for ``budget`` bytes of bodies; None where there is none that can be shared, or none that is safe to.

    Then bodies are ordinary bytes and go through pipes.
    """
    # On Windows there is no such file, on macOS none without a name.
    if not sys.platform.startswith("linux") or _overcommit() == _STRICT:
        return None
    try:
        return Memory(budget)
    except (
        AttributeError,
        OSError,
        ValueError,
    ):  # an old C library; too little address space, ulimit -f, descriptors
        return None


def _overcommit() -> str:
    try:
        return Path("/proc/sys/vm/overcommit_memory").read_text().strip()
    except OSError:
        return ""


class Memory:
    """The loop's side, and the only one that writes.

    Args:
        budget: bytes of bodies that are to find room.

    Attributes:
        shared: what a worker is to be started with.

    Raises:
        OSError: there is no such memory.
        ValueError: the same.
    """

    def __init__(self, budget: int) -> None:
        self._kept = max(1, -(-budget // LARGEST)) * LARGEST
        self._buddies = Buddies(2 * self._kept)
        self._fd = os.memfd_create("scraper-arena")
        try:
            os.ftruncate(self._fd, self._buddies.size)
            self._map = mmap.mmap(self._fd, self._buddies.size)
        except BaseException:
            os.close(self._fd)
            raise
        self._view = memoryview(self._map).toreadonly()
        self._fallocate = _c("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        self._spills: set[int] = set()
        self.shared = Shared(self._fd, self._buddies.size)

    def __repr__(self) -> str:
        return f"<Memory {self._buddies.size - self._buddies.free} bytes in rooms, {len(self._spills)} spilled>"

    @property
    def resident(self) -> int:
        """Bytes of memory that it takes now: pages that were written to, and not given back."""
        return os.fstat(self._fd).st_blocks * 512  # the unit of st_blocks (stat(2))

    def close(self) -> None:
        """Let go. What is still looked at remains until nobody looks."""
        self._view.release()
        with contextlib.suppress(BufferError):  # bodies of a run that was cut short: with them the rest goes
            self._map.close()
        os.close(self._fd)
        self._fd = -1  # the number may soon be another file's

    def take(self, expected: int) -> Block | Spill:
        """A place for a body of so many bytes, which may turn out to have more."""
        room = room_for(expected)
        if room <= LARGEST and (place := self._buddies.take(room)) is not None:
            return Block(self, place, room)
        return Spill(self)


class Block:
    """A room in what is mapped."""

    __slots__ = ("_memory", "_room", "place")

    def __init__(self, memory: Memory, place: int, room: int) -> None:
        self._memory = memory
        self.place = place
        self._room = room

    def for_total(self, total: int, filled: int) -> Block | Spill:
        """A place for ``total`` bytes that has the same ``filled`` bytes in it: this one, if it can be.

        Raises:
            OSError: there is no memory for it; this one is as it was.
        """
        while self._room < total and self._memory._buddies.double(self.place, self._room):
            self._room *= 2
        if total <= self._room:
            return self
        larger = self._memory.take(total)
        with self.view(filled) as view:
            try:
                larger.write(0, view)
            except OSError:
                larger.free(0)
                raise
        self.free(filled)
        return larger

    def write(self, at: int, data: bytes | memoryview) -> None:
        """Put bytes at an offset."""
        begin = self.place + at
        self._memory._map[begin : begin + len(data)] = data

    def view(self, size: int) -> memoryview:
        """The first bytes, not to be written to."""
        return self._memory._view[self.place : self.place + size]

    def read(self, size: int) -> bytes:
        """A copy of the first bytes."""
        return self._memory._map[self.place : self.place + size]

    def free(self, filled: int) -> None:
        """Give the room back. ``filled`` is what was written to it."""
        del filled
        memory = self._memory
        place, room = memory._buddies.give(self.place, self._room)
        if room == LARGEST and place >= memory._kept:
            memory._fallocate(memory._fd, _PUNCH, place, room)


class Spill:
    """A stretch of the file beyond what is mapped."""

    __slots__ = ("_map", "_memory", "_number", "place")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._number = next(n for n in range(len(memory._spills) + 1) if n not in memory._spills)
        self._map: mmap.mmap | None = None
        self.place = memory._buddies.size + self._number * _STRETCH
        memory._spills.add(self._number)

    def for_total(self, total: int, filled: int) -> Spill:
        """It has room for any body."""
        del total, filled
        return self

    def write(self, at: int, data: bytes | memoryview) -> None:
        """Put bytes at an offset.

        Raises:
            OSError: there is no memory for them.
        """
        left = memoryview(data)
        while left:  # the kernel takes 2 GiB at once at most
            taken = os.pwrite(self._memory._fd, left, self.place + at)
            left, at = left[taken:], at + taken

    def view(self, size: int) -> memoryview:
        """The first bytes, not to be written to.

        Raises:
            OSError: they cannot be mapped.
        """
        self._map = mmap.mmap(self._memory._fd, size, access=mmap.ACCESS_READ, offset=self.place)
        return memoryview(self._map)

    def read(self, size: int) -> bytes:
        """A copy of the first bytes."""
        return _read_at(self._memory._fd, self.place, size)

    def free(self, filled: int) -> None:
        """Give the pages back to the kernel. ``filled`` is what was written."""
        memory = self._memory
        self._map = None
        memory._spills.discard(self._number)
        if filled:
            memory._fallocate(memory._fd, _PUNCH, self.place, filled + -filled % mmap.PAGESIZE)


class Shared:
    """A worker's side, which only reads. Made by the loop, and sent when the worker starts: not later.

    Args:
        fd: of the file.
        size: bytes of it that are to be mapped.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._mapped: Any = None  # the type of all that is mapped
        self._address = 0

    def __reduce__(self) -> tuple[Callable[..., Shared], tuple[object, ...]]:
        return _received, (DupFd(self._fd), self._size)

    def attach(self) -> int:
        """Map it. Without that bodies are read, which takes longer. Bytes of address space that it takes."""
        c_map = _c(
            "mmap",
            ctypes.c_void_p,
            *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
        )
        # By hand, since what Python maps only to be read tells nobody where it is. A stranger's native code that
        # writes here ends its own process.
        address = c_map(None, self._size, mmap.PROT_READ, mmap.MAP_SHARED, self._fd, 0)
        if address in (None, _MAP_FAILED):
            return 0
        self._address, self._mapped = address, ctypes.c_ubyte * self._size
        return self._size

    @contextlib.contextmanager
    def lent(self, place: Place) -> Iterator[bytes | memoryview]:
        """A body, while the block lasts. A view that is kept beyond it raises ValueError when it is looked at.

        Raises:
            BodyKept: a part of it is kept, which cannot be taken away from whoever has it.
            MemoryError: it has to be copied, and there is no memory for it.
            OSError: it cannot be read.
        """
        at, size = place
        if self._mapped is None or at >= self._size:
            yield _read_at(self._fd, at, size)
            return
        # All views of the body hold on to this object, and nothing else does: it goes with the last of them.
        owner = self._mapped.from_address(self._address)
        is_kept = weakref.ref(owner)
        view = memoryview(owner).cast("B")[at : at + size].toreadonly()
        del owner
        try:
            yield view
        finally:
            with contextlib.suppress(BufferError):  # an array of somebody's is made of it
                view.release()
            del view
        if is_kept() is not None:
            gc.collect()  # it may be an error's traceback that goes round in circles
        if is_kept() is not None:
            raise BodyKept


def _read_at(fd: int, at: int, size: int) -> bytes:
    """Bytes of a file.

    Raises:
        OSError: it ends before.
    """
    pieces = []
    while size > 0:  # the kernel gives 2 GiB at once at most
        piece = os.pread(fd, size, at)
        if not piece:
            raise OSError("there is less in the file than was written to it")
        pieces.append(piece)
        at, size = at + len(piece), size - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _received(fd: Any, size: int) -> Shared:
    """What was sent, in the worker."""
    number = fd.detach()
    os.set_inheritable(number, False)  # not for what a transform starts
    return Shared(number, size)


def _c(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the C library."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.restype, function.argtypes = result, arguments
    return function
