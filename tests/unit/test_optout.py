"""X-Robots-Tag: which of its directives are said to us."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.config import OPT_OUTS
from scraper.policies.optout import opted_out

DATE = "unavailable_after: 25 Jun 2010 15:00:00 PST"
DAY = "unavailable_after: Friday, 25-Jun-10 15:00:00 UTC"

SAID_TO_US = [
    (["noai"], "noai"),
    (["NoAI"], "NoAI"),
    (["  noimageai  "], "noimageai"),
    (["noindex"], "noindex"),
    (["NOIMAGEINDEX"], "NOIMAGEINDEX"),
    (["noml"], "noml"),
    (["nofollow, noai"], "noai"),
    (["noai,noimageai"], "noai"),
    (["noai;noimageai"], "noai"),
    ([",, ,noai"], "noai"),
    (["none"], "none (noindex, nofollow)"),
    (["None"], "None (noindex, nofollow)"),
    (["all", "noai"], "noai"),
    (["index, follow", "nosnippet", "noindex"], "noindex"),
    (["*: noai"], "noai"),
    (["scraper: noai"], "noai"),
    (["Scraper:noai"], "noai"),
    (["SCRAPER : noindex"], "noindex"),
    (["scraper/1.2: noai"], "noai"),
    (["scraper: nofollow, noai"], "noai"),
    (["scraper: none"], "none (noindex, nofollow)"),
    (["otherbot: noindex, scraper: noai"], "noai"),
    (["otherbot: nofollow, *: noai"], "noai"),
    (["otherbot: noindex", "noai"], "noai"),
    (["otherbot: noai", "scraper: noml"], "noml"),
    ([f"{DATE}, noai"], "noai"),
    ([f"{DAY}, noai"], "noai"),
    ([f"noai, {DATE}"], "noai"),
    ([f"scraper: {DATE}, noai"], "noai"),
    ([f"scraper: {DAY}, noai"], "noai"),
    (["Unavailable_After: Fri, 25 Jun 2010 15:00:00 PST, NoAI"], "NoAI"),
    (["unavailable_after: 2010-06-25T15:00:00Z, noai"], "noai"),
    (["max-snippet: -1, noai"], "noai"),
    (["max-snippet:20, max-image-preview: large, max-video-preview:-1, noindex"], "noindex"),
    (["scraper: max-image-preview: none, noindex"], "noindex"),
]

NOT_SAID_TO_US = [
    [],
    [""],
    [","],
    [":"],
    ["all"],
    ["index, follow"],
    ["nofollow"],  # not one of the directives
    ["noarchive, nosnippet, notranslate, indexifembedded"],
    ["noaiplease"],
    ["no ai"],
    ["noindex nofollow"],  # one word that nobody knows
    ["otherbot: noai"],
    ["otherbot: noindex, nofollow"],
    ["otherbot: none"],
    ["otherbot:noai,noimageai"],
    ["scraper: nofollow, otherbot: noai"],
    ["scraperbot: noai"],
    ["scrap: noai"],
    ["scraper-images: noai"],
    ["my scraper: noai"],
    ["other bot: nofollow, noai"],
    ["360spider: noai"],
    ["noai: otherbot"],
    ["*: nofollow, otherbot: noai"],
    ["otherbot: noai", "anotherbot: noindex"],
    [DATE],
    [DAY],
    [f"otherbot: {DATE}, noai"],
    [f"otherbot: {DAY}, noai"],
    ["max-image-preview: none"],
    ["max-snippet: noindex"],
    ["\x00noai"],
    ["caf\udce9: noai"],
]


@pytest.mark.parametrize(("values", "found"), SAID_TO_US)
def test_a_no(values: list[str], found: str) -> None:
    """What is said to everybody or to us, in any header, case and company, is found and named as it is written."""
    assert opted_out(values, "scraper", OPT_OUTS) == found


@pytest.mark.parametrize("values", NOT_SAID_TO_US)
def test_not_a_no(values: list[str]) -> None:
    """What is said to others, and what is no opting out, is not taken for one."""
    assert opted_out(values, "scraper", OPT_OUTS) == ""


def test_the_user_says_which_directives_count() -> None:
    """Only the directives that were asked for end a row; ``none`` counts for the two it stands for."""
    assert opted_out(["noindex, noai"], "scraper", {"noai"}) == "noai"
    assert opted_out(["none"], "scraper", {"noai"}) == ""
    assert opted_out(["none"], "scraper", {"nofollow"}) == "none (noindex, nofollow)"
    assert opted_out(["noai"], "scraper", ()) == ""


def test_without_a_name() -> None:
    """A user agent that begins with no name is addressed with everybody only."""
    assert opted_out(["noai"], "", OPT_OUTS) == "noai"
    assert opted_out([": noai"], "scraper", OPT_OUTS) == ""
    assert opted_out(["x: noai"], "", OPT_OUTS) == ""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="noai:,;* \t-\udce9\x00x", max_size=30), max_size=4))
def test_nothing_breaks_it(values: list[str]) -> None:
    """Whatever a server sends: a directive that counts, or none."""
    found = opted_out(values, "ai", OPT_OUTS)
    assert found == "" or found.lower().partition(" ")[0] in (*OPT_OUTS, "none")
