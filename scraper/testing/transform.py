"""What any transform must keep, as tests, and a transform that misbehaves to order.

class TestMine(TransformContract):
    def make(self): return MyTransform()
    def good_response(self): return response(b"...")
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import ClassVar, NoReturn

from scraper.errors import TransformFailed
from scraper.protocols import Transform
from scraper.records import Item, Request, Response


def response(body: bytes | memoryview, *, row: int = 0, url: str = "", content_type: str = "") -> Response:
    """A response with this body, and nothing remarkable about it."""
    url = url or f"http://127.0.0.1/{row}"
    headers = {"content-type": content_type} if content_type else {}
    return Response(Request(row, url), url, 200, headers, body, len(body))


class TransformContract:
    """The promises of ``scraper.protocols.Transform``. Subclass, and fill in the two methods that raise."""

    def make(self) -> Transform:
        """The transform under test, made anew."""
        raise NotImplementedError

    def good_response(self) -> Response:
        """A response that it accepts."""
        raise NotImplementedError

    def ready(self) -> Transform:
        """The transform as a worker has it: pickled, unpickled and warm."""
        transform: Transform = pickle.loads(pickle.dumps(self.make()))
        transform.warm_up()
        return transform

    def test_survives_pickling(self) -> None:
        """What a worker unpickles equals what was sent."""
        made = self.make()
        assert pickle.loads(pickle.dumps(made)) == made
        assert isinstance(made.inline, bool)

    def test_what_is_to_be_preloaded_exists(self) -> None:
        """Each module named in ``preload``, if the transform has one, can be found: unknown names are skipped."""
        preload: tuple[str, ...] = getattr(self.make(), "preload", ())
        assert isinstance(preload, tuple)
        assert [name for name in preload if importlib.util.find_spec(name) is None] == []

    def test_a_good_response_becomes_items(self) -> None:
        """Items have bytes or the body itself, a bare extension and JSON fields."""
        good = self.good_response()
        items = self.ready()(good)
        assert len(items) >= 1
        for item in items:
            assert type(item.data) is bytes or item.data is good.body
            assert item.extension
            assert item.extension.isalnum()
            json.dumps(dict(item.fields), allow_nan=False)

    def test_same_input_gives_same_bytes(self) -> None:
        """A second worker answers as the first did, so that a run can be repeated."""
        assert list(self.ready()(self.good_response())) == list(self.ready()(self.good_response()))

    def test_a_view_of_shared_memory_is_as_good_as_bytes(self) -> None:
        """The body may be a memoryview, is not written to, and no part of it is kept; whole, it may be an item."""
        good = self.good_response()
        memory = bytearray(good.body)
        with memoryview(memory) as view:
            items = [
                replace(item, data=bytes(view)) if item.data is view else item
                for item in self.ready()(replace(good, body=view))
            ]
        memory.append(0)  # BufferError while anybody keeps a part
        memory[:] = bytes(len(memory))  # the place is used again
        assert items == list(self.ready()(good))

    def test_read_only_bodies_are_enough(self) -> None:
        """The response is as it was before."""
        good = self.good_response()
        before = bytes(good.body)
        self.ready()(replace(good, body=memoryview(before).toreadonly()))
        assert before == bytes(good.body)

    def test_garbage_fails_as_a_row_and_not_otherwise(self) -> None:
        """Whatever the bytes, it returns items or raises TransformFailed."""
        transform, good = self.ready(), self.good_response()
        for body in garbage(bytes(good.body)):
            with contextlib.suppress(TransformFailed):
                items = transform(replace(good, body=body))
                assert all(type(item.data) is bytes or item.data is body for item in items)


def garbage(good: bytes) -> Iterator[bytes]:
    """Bodies that servers send in place of ``good``: nothing, noise, pages, the half of it, damaged ones."""
    noise = random.Random(7)
    yield b""
    yield b"\x00"
    yield bytes(10_000)
    yield noise.randbytes(5_000)
    yield b"<!doctype html><html><body>Not here.</body></html>"
    yield b'{"error": "not here"}'
    yield "naïve text, ünfinished".encode("latin-1")
    for share in (0.01, 0.1, 0.5, 0.9, 0.999):
        yield good[: int(len(good) * share)]
    yield good[:16] + bytes([0xFF]) * 64 + good[80:]  # a header that claims the moon
    for _ in range(10):
        damaged = bytearray(good)
        for _ in range(20):
            damaged[noise.randrange(len(damaged))] = noise.randrange(256)
        yield bytes(damaged)


_kept: list[bytes] = []


_held: list[object] = []


@dataclass(frozen=True)
class Borrower:
    """Does with the body that it is lent what the body's first word says, and says what it has of the last one.

    Words: ``view`` (kept), ``part`` (a slice of it, kept), ``export`` (something that reads it, kept), ``circle``
    (a slice, kept by an error that refers to itself), ``pass`` (on: the item is the body), ``pass-part``; any
    other body is echoed.
    """

    inline: ClassVar[bool] = False

    def warm_up(self) -> None:
        """Nothing to load."""

    def __call__(self, response: Response) -> Sequence[Item]:
        """Obey the body."""
        body = response.body
        word = bytes(body[:64]).partition(b" ")[0]
        before = [_what_is_left(each) for each in _held]
        _held.clear()
        match word:
            case b"view":
                _held.append(body)
            case b"part":
                _held.append(body[1:4])
            case b"export":
                _held.append(re.finditer(b".", body))
            case b"circle":
                error = ValueError(body[1:])
                error.__context__ = RuntimeError(error)
        data = {b"pass": body, b"pass-part": body[1:]}.get(word, bytes(body))
        return [Item(data, "txt", {"before": before, "is_view": isinstance(body, memoryview)})]


def _what_is_left(of: object) -> str:
    try:
        return bytes(of).decode() if isinstance(of, (bytes, memoryview)) else type(of).__name__
    except ValueError:
        return "gone"


class Unpicklable(Exception):
    """An error that no process can send to another."""

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not picklable")


@dataclass(frozen=True)
class Obedient:
    """Does to its worker what the body's first word says; any other body is echoed.

    Words: ``exit N``, ``abort``, ``segfault``, ``kill``, ``sysexit``, ``interrupt``, ``hang`` (in native code
    that holds the GIL; ``hang masked``: with every signal blocked), ``stop`` (as SIGSTOP does), ``memory``,
    ``allocate MIB``, ``keep MIB`` (a leak), ``raise``, ``unpicklable``, ``odd-class``, ``odd-field``, ``print``,
    ``pid``, ``burn MS`` (of CPU), ``nap MS``, ``timer`` (one that goes off after the item), ``close-fds``,
    ``half`` (of its answer is sent, then it dies; ``half forked``: its child lives on with its pipes), ``child``
    (what a process that it starts says of its signals), ``fork`` (and the child comes back, too).

    Attributes:
        warm: what ``warm_up`` does: a body as above, empty for nothing.
    """

    warm: bytes = b""
    inline: ClassVar[bool] = False

    def warm_up(self) -> None:
        """Obey ``warm``."""
        if self.warm:
            self(response(self.warm))

    def __call__(self, response: Response) -> Sequence[Item]:
        """Obey the body."""
        word, _, rest = bytes(response.body[:64]).partition(b" ")
        action = getattr(self, "_do_" + word.decode("ascii", "replace").replace("-", "_"), None)
        fields = action(rest) if action else None
        return [Item(bytes(response.body), "txt", fields or {})]

    def _do_exit(self, code: bytes) -> None:
        os._exit(int(code))

    def _do_abort(self, _: bytes) -> None:
        os.abort()

    def _do_segfault(self, _: bytes) -> None:
        ctypes.string_at(0)

    def _do_kill(self, _: bytes) -> None:
        os.kill(os.getpid(), 9)

    def _do_sysexit(self, _: bytes) -> None:
        sys.exit(3)

    def _do_interrupt(self, _: bytes) -> None:
        raise KeyboardInterrupt

    def _do_hang(self, how: bytes) -> None:
        if how == b"masked":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:  # a signal that has a handler ends the sleep
            ctypes.PyDLL(None).sleep(600)

    def _do_nap(self, ms: bytes) -> None:
        time.sleep(int(ms) / 1000)

    def _do_stop(self, _: bytes) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def _do_allocate(self, mib: bytes) -> None:
        bytearray(int(mib) << 20)

    def _do_keep(self, mib: bytes) -> None:
        _kept.append(b"x" * (int(mib) << 20))

    def _do_burn(self, ms: bytes) -> None:
        ends_at = time.process_time() + int(ms) / 1000
        while time.process_time() < ends_at:
            pass

    def _do_timer(self, _: bytes) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    def _do_close_fds(self, _: bytes) -> None:
        os.closerange(3, 4096)

    def _do_half(self, how: bytes) -> None:
        if how.startswith(b"forked") and os.fork() == 0:
            os.closerange(0, 3)  # not the worker's pipes
            time.sleep(8)
            os._exit(0)

        def send_half(self: Connection, sent: memoryview | bytes) -> None:
            if len(sent) > 8:  # the header goes whole
                os.write(self.fileno(), sent[: len(sent) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(self.fileno(), sent)

        Connection._send = send_half  # type: ignore[attr-defined]  # there is no other way to be sure of the half

    def _do_child(self, _: bytes) -> dict[str, object]:
        said = subprocess.run(["cat", "/proc/self/status"], capture_output=True, check=True).stdout.decode()
        return {"blocked": said.partition("SigBlk:")[2].split()[0]}

    def _do_fork(self, _: bytes) -> dict[str, object]:
        return {"child": os.fork()}

    def _do_memory(self, _: bytes) -> None:
        raise MemoryError

    def _do_raise(self, text: bytes) -> None:
        raise ValueError(text.decode())

    def _do_unpicklable(self, text: bytes) -> None:
        raise Unpicklable(text.decode())

    def _do_odd_class(self, text: bytes) -> None:
        raise TransformFailed("no.such.class", text.decode())

    def _do_odd_field(self, _: bytes) -> dict[str, object]:
        return {"field": object()}

    def _do_print(self, text: bytes) -> None:
        sys.stdout.write(f"printed {text.decode()}\n")
        sys.stdout.flush()
        os.write(1, b"written\n")

    def _do_pid(self, _: bytes) -> dict[str, object]:
        return {"pid": os.getpid()}
