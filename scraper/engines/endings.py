"""How a row's end becomes its Outcome, for every engine alike. Pure: what happened in, Result out."""

from __future__ import annotations

from dataclasses import replace

from scraper.answers import NotModified
from scraper.errors import FetchFailed
from scraper.records import Outcome, Request, Response, Result, Timings, Transformed


def of_bad_row(outcome: Outcome) -> Result:
    """A row that the source could not read as one."""
    return Result(Request(outcome.row, outcome.url, line=outcome.line), outcome)


def of_duplicate(request: Request, first: int) -> Result:
    """A row that asks for what row ``first`` asks for."""
    outcome = Outcome(
        row=request.row,
        url=request.url,
        class_="duplicate.url",
        message=f"Row {first} asks for the same.",
        line=request.line,
    )
    return Result(request, outcome)


def as_duplicate(result: Result, class_: str, message: str) -> Result:
    """A row that was fetched, and whose content another row gave already: nothing of it is written."""
    return replace(result, outcome=replace(result.outcome, class_=class_, message=message), items=())


def of_not_modified(request: Request, answer: NotModified) -> Result:
    """A row of which the server says that the copy we hold is current."""
    outcome = Outcome(
        row=request.row,
        url=request.url,
        class_="ok.not_modified",
        status=304,
        attempts=request.attempt,
        timings=answer.timings,
        final_url=answer.url if answer.url != request.url else None,
        line=request.line,
        etag=answer.headers.get("etag"),
        last_modified=answer.headers.get("last-modified"),
    )
    return Result(request, outcome)


_ASKED_NOBODY = ("url.", "address.")


def of_failure(
    request: Request, error: FetchFailed, timings: Timings, url: str, *, was_asked: bool = True
) -> Result:
    """A row whose last attempt failed.

    Args:
        request: what was to be asked.
        error: how it failed.
        timings: where the time went.
        url: what was asked last.
        was_asked: the attempt came as far as the host.
    """
    was_asked = bool(request.hops) or (was_asked and not error.class_.startswith(_ASKED_NOBODY))
    outcome = Outcome(
        row=request.row,
        url=request.url,
        class_=error.class_,
        status=error.status,
        attempts=request.attempt if was_asked else request.attempt - 1,
        timings=timings,
        final_url=url if url != request.url else None,
        message=error.message,
        line=request.line,
    )
    return Result(request, outcome)


def of_answer(response: Response, answer: Transformed) -> Result:
    """A row that was fetched, and what the transform said to it."""
    request, error = response.request, answer.error
    outcome = Outcome(
        row=request.row,
        url=request.url,
        class_=error.class_ if error else "ok",
        status=response.status,
        attempts=request.attempt,
        bytes=len(response.body),
        sha256=answer.sha256,
        timings=response.timings,
        final_url=response.url if response.url != request.url else None,
        message=error.message if error else "",
        line=request.line,
        etag=response.headers.get("etag"),
        last_modified=response.headers.get("last-modified"),
    )
    return Result(request, outcome, answer.items, response.headers.get("content-disposition", ""))
