"""The half of the pool that runs in a worker process: parcels in, answers out, and nothing else escapes.

    Response ─pack─▶ parcel ═══ pipe ═══▶ unpack ─▶ Transform ─▶ answer ═══ pipe ═══▶ Transformed
        body in shared memory (``scraper.memory``) ─ lent ─▶┘

``pack`` and ``unpack``, ``_seal`` and ``opened`` are the one place that knows how bytes cross between the
processes, inside plain tuples, which cost a tenth of pickled records. A body in shared memory is read where it is;
one that is not goes through the pipe. What a transform made comes back through the pipe, since it is mostly much
smaller; but the body itself, as an item, does not: the loop has it.

Must never: raise for a bad item; print on the parent's standard output; outlive the parent; write to a body, which
another worker may have to try again.
"""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import gc
import hashlib
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Mapping, MutableSequence, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from scraper.allocator import tune_allocator
from scraper.errors import TransformFailed, outcome_class
from scraper.memory import BodyKept, Shared
from scraper.protocols import Transform
from scraper.records import Item, Place, Request, Response, Transformed

Parcel = tuple[int, str, str | None, Mapping[str, object] | None, int, str, int, Mapping[str, str], bytes | Place]
"""row, url, caption, columns, line, final URL, status, headers, body or where it is"""

Answer = tuple[list[tuple[bytes | None, str, dict[str, object]]], str | None, str, str, float]
"""items as (data, extension, fields) with None for the body as data, sha256, class of the failure or empty, its
message, busy seconds"""

READY = "ready"
"""What a worker reports once it is warm; anything else is a sentence on why it is not."""

ITEMS, BATCHES = 0, 1
"""Where in the memory shared with the loop a worker counts what it has begun."""

UNHEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal, a service manager or ``kill`` sends to the whole group: the parent decides what comes of it."""

STACKS_SIGNAL = signal.SIGUSR1
"""Has a worker write the stacks of its threads into the pipe of its first report."""

_NICENESS = 5  # the loop feeds every worker: where they compete for a core, it goes first
_MESSAGE_CHARS = 500
_PR_SET_PDEATHSIG = 1
_PLAIN = (type(None), bool, int, float, str, bytes)


# ---- what crosses --------------------------------------------------------------------------------------------


def pack(response: Response, *, is_shared: bool) -> Parcel:
    """A response as it goes to a worker. What only the loop needs (hops, timings, attempts) stays behind.

    Args:
        response: what is to go.
        is_shared: whether workers have the memory that ``response.place`` is in.

    Raises:
        TransformFailed: a column of the row holds something that cannot be sent.
    """
    request = response.request
    columns = dict(request.columns) if request.columns else None
    if columns:
        for name, value in columns.items():
            if type(value) not in _PLAIN:
                _check_sendable(name, value)
    place = response.place if is_shared else None
    return (
        request.row,
        request.url,
        request.caption,
        columns,
        request.line,
        response.url,
        response.status,
        response.headers if type(response.headers) is dict else dict(response.headers),
        place or bytes(response.body),
    )


def _check_sendable(name: str, value: object) -> None:
    # Checked here, because an object that cannot be unpickled over there would take the worker down with it.
    try:
        # Workers do not import the user's script (see scraper.pool), so its classes are unknown to them.
        if b"__main__" not in pickle.dumps(value):
            return
    except Exception:  # noqa: S110 - whatever a stranger's __reduce__ raises means: no
        pass
    kind = type(value).__name__
    raise TransformFailed("transform.error", f"Column {name!r} holds a {kind}, which cannot go to a worker.")


def unpack(parcel: Parcel, body: bytes | memoryview) -> Response:
    """The response again, on the worker's side."""
    row, url, caption, columns, line, final_url, status, headers, _ = parcel
    request = Request(row, url, caption, columns or {}, line)
    return Response(request, final_url, status, headers, body, len(body))


def _seal(done: Transformed, body: bytes | memoryview) -> Answer:
    error = done.error
    items = [
        (None if item.data is body else bytes(item.data), item.extension, dict(item.fields)) for item in done.items
    ]
    return items, done.sha256, error.class_ if error else "", error.message if error else "", done.busy_s


def failed(error: TransformFailed) -> Answer:
    """An answer that is a failure."""
    return [], None, error.class_, error.message, 0.0


def opened(answer: Answer, body: bytes | memoryview) -> Transformed:
    """An answer as a record again, on the loop's side, where ``body`` is what it is the answer to."""
    items, sha256, class_, message, busy_s = answer
    if class_:
        return Transformed((), sha256, TransformFailed(class_, message), busy_s)
    made = [Item(body if data is None else data, extension, fields) for data, extension, fields in items]
    return Transformed(made, sha256, None, busy_s)


# ---- one item ------------------------------------------------------------------------------------------------


def transformed(
    transform: Transform,
    response: Response,
    contained: tuple[type[BaseException], ...] = (Exception, SystemExit),
) -> Transformed:
    """Run the transform on one response, whatever happens: what comes back is made of plain values only.

    Args:
        transform: what to run.
        response: what to run it on.
        contained: what counts as the item's failure. A worker contains everything; on the event loop a
            KeyboardInterrupt is the user's and goes on.
    """
    since = time.perf_counter()
    sha256 = hashlib.sha256(response.body).hexdigest()
    try:
        items = [_plain_item(item, response.body) for item in transform(response)]
    except contained as error:
        return Transformed((), sha256, _failure(error), time.perf_counter() - since)
    return Transformed(items, sha256, None, time.perf_counter() - since)


def _failure(error: BaseException) -> TransformFailed:
    """The failure as a fresh error of ours: a foreign one may not survive pickling, nor its traceback."""
    if isinstance(error, TransformFailed):
        try:
            return TransformFailed(outcome_class(error.class_).name, _text(error.message))
        except (KeyError, TypeError, AttributeError):
            return TransformFailed("transform.error", f"The transform failed with no known class: {_text(error)}")
    if isinstance(error, BodyKept):
        return TransformFailed("transform.error", str(error))
    if isinstance(error, MemoryError):
        return TransformFailed("transform.error", "The transform ran out of memory.")
    return TransformFailed("transform.error", f"{type(error).__name__}: {_text(error)}")


def _text(value: object) -> str:
    try:
        return str(value)[:_MESSAGE_CHARS]
    except Exception:
        return "(no text)"


def _plain_item(item: Item, body: bytes | memoryview) -> Item:
    """The item with nothing in it but bytes, or the body itself, text and JSON values, as its record promises.

    Raises:
        TypeError: it holds something else.
    """
    fields = {str(name): _plain(value, name) for name, value in item.fields.items()}
    is_plain = type(item.data) is bytes or item.data is body
    return Item(item.data if is_plain else bytes(item.data), str(item.extension), fields)


def _plain(value: object, name: str) -> object:
    """The value as JSON knows it; subclasses (numpy's floats, enums) become what they are subclasses of."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = value.item()  # type: ignore[attr-defined] # its scalars have one
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, name) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, name) for inner in value]
    raise TypeError(f"field {name!r} holds a {type(value).__name__}, which is no JSON value")


# ---- the process ---------------------------------------------------------------------------------------------

_transform: Transform | None = None
_shared: Shared | None = None
_progress: MutableSequence[int] = [0, 0]
_report: Connection | None = None
_pid = 0


def run_batch(parcels: Sequence[Parcel]) -> list[Answer]:
    """What the executor calls: item by item, each with its own answer. How far it is can be seen by the loop."""
    assert _transform is not None
    _progress[BATCHES] += 1
    answers: list[Answer] = []
    for parcel in parcels:
        _progress[ITEMS] += 1
        answers.append(_answered(_transform, parcel))
        _leave_if_forked()
        # A timer that an item has left running must not end the next one.
        signal.setitimer(signal.ITIMER_REAL, 0)
    return answers


def _answered(transform: Transform, parcel: Parcel) -> Answer:
    body = parcel[-1]
    if isinstance(body, bytes):
        return _seal(transformed(transform, unpack(parcel, body), (BaseException,)), body)
    assert _shared is not None
    try:
        with _shared.lent(body) as lent:
            return _seal(transformed(transform, unpack(parcel, lent), (BaseException,)), lent)
    except (BodyKept, MemoryError, OSError) as error:
        return failed(_failure(error))


def _leave_if_forked() -> None:
    """End the process if the transform forked and this is its child, come back to where only the worker belongs.

    It would answer a second time, and, deaf to signals and with a hold on our pipes, outlive the run.
    """
    if os.getpid() != _pid:
        os._exit(1)


def start_worker(
    transform: bytes,
    memory_bytes: int,
    shared: Shared | None,
    progress: MutableSequence[int],
    report: Connection,
) -> None:
    """Initializer: make this process a worker, warm the transform up, and report."""
    global _transform, _shared, _progress, _report, _pid  # noqa: PLW0603 - a process is one worker: this is its state
    _pid = os.getpid()
    for number in UNHEEDED:
        signal.signal(number, signal.SIG_IGN)
    # They are blocked since the fork server started. What a transform starts is to have nothing blocked.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _die_with_the_parent()
    os.dup2(2, 1)  # what a transform prints, native code included, must not mix with the parent's output
    if sys.stdout is not None:
        sys.stdout = sys.stderr
    os.nice(_NICENESS)
    tune_allocator()
    try:
        _transform = pickle.loads(transform)  # noqa: S301 - the parent's own bytes, over a private pipe
        assert _transform is not None
        _transform.warm_up()
        _leave_if_forked()
        _limit_memory(memory_bytes, shared)
    except BaseException as error:
        report.send(f"{type(error).__name__}: {_text(error)}")
        os._exit(1)  # the report is the message; a traceback on stderr would be a second one
    _shared, _progress, _report = shared, progress, report
    faulthandler.register(STACKS_SIGNAL, file=report.fileno())
    gc.freeze()  # what is loaded now stays; collections need not look at it again
    report.send(READY)


def _limit_memory(address_space: int, shared: Shared | None = None) -> None:
    """Have what an item wants beyond so many bytes fail that item, before it fails the machine.

    Once warm, since libraries reserve more while they load than they need later. What is shared is mapped now, and
    takes nothing of what an item may have.

    Raises:
        MemoryError: it holds more than that already.
    """
    held = _address_space()
    if held >= address_space:
        raise MemoryError(
            f"a warm worker holds {held >> 20} MiB of address space, and the limit is {address_space >> 20} MiB; "
            "raise --worker-memory"
        )
    address_space += shared.attach() if shared else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = address_space if hard == resource.RLIM_INFINITY else min(address_space, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _address_space() -> int:
    """Bytes this process has mapped; 0 where there is no /proc to ask."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _die_with_the_parent() -> None:
    """Have the kernel end this process when the parent ends, even by SIGKILL, even within native code.

    Two parents count. The fork server is ours by descent: PR_SET_PDEATHSIG. The loop process is known by a
    pipe only; when its end closes, the kernel sends what F_SETSIG says, which reaches a stopped process as well.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
    if sys.platform.startswith("linux"):
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
    else:
        signal.signal(signal.SIGIO, signal.SIG_DFL)  # sent in its place; its default is to end us
    flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    if not parent.is_alive():  # it went before the kernel was told
        os._exit(1)
