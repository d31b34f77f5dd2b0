"""How fast a group is asked: the window that grows and is halved, the pause beyond one at a time, and why."""

from __future__ import annotations

import pytest

from scraper.config import HostLimits
from scraper.policies.pace import Pace, Throttle, is_good


class Host:
    """A host that is asked as fast as its pace allows, a round trip after the other."""

    def __init__(self, *, adaptive: bool = True, **limits: float) -> None:
        self.pace = Pace(HostLimits(**limits), adaptive=adaptive)  # type: ignore[arg-type]
        self.now = 0.0

    def ends(
        self,
        class_: str = "ok",
        latency_s: float | None = 0.1,
        *,
        times: int = 1,
        out: int = 99,
        began: float | None = None,
    ) -> None:
        """Requests end that went out 2 s ago, or at that time."""
        began = self.now - 2.0 if began is None else began
        for _ in range(times):
            self.pace.ended(class_, latency_s, 10, self.now, began=began, out=out)

    def rounds(self, class_: str, count: int) -> list[int]:
        """So many round trips, 2 s each, in which all that are out end alike. The windows in between."""
        windows = []
        for _ in range(count):
            self.now += 2.0
            self.ends(class_, times=int(self.pace.window))
            windows.append(int(self.pace.window))
        return windows


def test_it_starts_with_two_and_doubles() -> None:
    """Each good answer is worth one more, so that each round trip doubles the window, up to the user's limit."""
    host = Host(per_host=20)
    assert host.pace.window == 2
    assert host.rounds("ok", 5) == [4, 8, 16, 20, 20]


@pytest.mark.parametrize("per_host", [1, 2])
def test_it_never_starts_above_the_limit(per_host: int) -> None:
    """Who allows one at a time gets one."""
    host = Host(per_host=per_host)
    assert host.pace.window == per_host
    assert host.rounds("ok", 3) == [per_host] * 3


def test_after_the_first_cut_it_grows_by_one_a_round() -> None:
    """Half as many, then one more each round trip: additive increase."""
    host = Host(per_host=16)
    host.rounds("ok", 3)
    host.now += 2
    host.ends("http.429")
    assert host.pace.window == 8
    grown = host.rounds("ok", 4)
    assert grown == [8, 9, 10, 11]  # 1/window an answer is a little less than one a round


@pytest.mark.parametrize("class_", ["http.429", "http.503", "timeout.stall", "timeout.total"])
def test_what_halves_it(class_: str) -> None:
    """A host that says it is too much, or falls silent, is asked for half as much, never for nothing."""
    host = Host(per_host=16)
    host.rounds("ok", 3)
    assert host.rounds(class_, 5) == [8, 4, 2, 1, 1]


@pytest.mark.parametrize(
    "class_", ["http.500", "connect.refused", "connect.timeout", "dns.temporary", "body.truncated", "url.invalid"]
)
def test_what_leaves_it_as_it_is(class_: str) -> None:
    """What says nothing of how much a host bears neither halves the window nor widens it."""
    host = Host(per_host=16)
    assert host.rounds(class_, 3) == [2, 2, 2]


@pytest.mark.parametrize(
    "class_", ["ok", "ok.not_modified", "http.404", "http.410", "redirect.loop", "body.too_large"]
)
def test_what_widens_it(class_: str) -> None:
    """An answer that was given readily is a good one, whatever it says."""
    assert is_good(class_)
    assert Host(per_host=8).rounds(class_, 2) == [4, 8]


def test_a_burst_of_refusals_is_one() -> None:
    """What was on its way when the window was cut is of the same burst; what goes out after it is not."""
    host = Host(per_host=16)
    host.rounds("ok", 3)
    host.now = 100.0
    host.ends("http.429", times=16)
    host.now = 100.9
    host.ends("http.429", times=16, began=99.99)
    assert host.pace.window == 8
    host.ends("http.429", began=100.0)
    host.ends("http.429", times=16, began=100.8)
    assert host.pace.window == 4


def test_below_one_at_a_time_there_is_a_pause() -> None:
    """Refused at one at a time, requests get further apart, to a minute; an answer brings them closer."""
    host = Host(per_host=2)
    host.rounds("http.429", 1)
    assert (host.pace.window, host.pace.gap_s) == (1, 0)
    gaps = []
    for _ in range(10):
        host.rounds("http.429", 1)
        gaps.append(host.pace.gap_s)
    assert gaps == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert host.pace.why(host.now) == "429 or 503"
    host.ends()
    assert host.pace.gap_s == 60.0  # too soon: where most are refused, one that is not says little
    host.now += 2.0
    host.ends()
    assert host.pace.gap_s == 54.0
    assert host.pace.window == 1
    host.ends(times=53)
    assert host.pace.gap_s == 0.0
    host.ends(times=10)
    assert host.pace.window == 2


def test_timeouts_make_no_pause() -> None:
    """A host that does not answer at all is the circuit's business."""
    host = Host(per_host=2)
    host.rounds("timeout.total", 9)
    assert (host.pace.window, host.pace.gap_s) == (1, 0)


def test_an_unused_window_does_not_grow() -> None:
    """With less than half of the window out, answers do not show that the host bears more."""
    host = Host(per_host=16)
    host.ends(times=2)
    host.ends(times=20, out=1)
    assert host.pace.window == 4
    host.ends(out=2)
    assert host.pace.window == 5


def test_not_adaptive_is_all_that_is_allowed() -> None:
    """From the beginning and whatever comes of it; what came is counted all the same."""
    host = Host(adaptive=False, per_host=16)
    assert host.pace.window == 16
    host.rounds("http.429", 5)
    assert (host.pace.window, host.pace.gap_s, host.pace.throttled) == (16, 0, 80)
    assert host.pace.why(host.now) == ""


@pytest.mark.parametrize(
    ("before", "after", "cut"),
    [
        (0.1, 0.55, False),  # five times, but not half a second more
        (0.1, 0.9, True),
        (1.0, 2.9, False),  # half a second more, but not three times
        (1.0, 4.5, True),
    ],
)
def test_much_slower_answers_halve_it(before: float, after: float, cut: bool) -> None:
    """Three times as long as in the long run, and half a second longer."""
    host = Host(per_host=16)
    host.ends(latency_s=before, times=150)
    host.now = 100.0
    host.ends(latency_s=after, times=8)
    assert host.pace.window == (8 if cut else 16)
    assert host.pace.why(host.now) == ("slower answers" if cut else "")


def test_one_slow_answer_is_no_jump() -> None:
    """A page that took a minute says nothing of the host; three such in a row do."""
    host = Host(per_host=16)
    host.ends(latency_s=0.1, times=40)
    for _ in range(5):
        host.now += 100.0
        host.ends(latency_s=60.0)
        host.ends(latency_s=0.1, times=8)
    assert host.pace.window == 16
    host.ends(latency_s=60.0, times=3)
    assert host.pace.window == 8


def test_the_first_answers_are_no_jump() -> None:
    """Before eight answers nobody knows how long they usually take."""
    host = Host(per_host=16)
    host.ends(latency_s=0.1, times=4)
    host.ends(latency_s=5.0, times=4)
    assert host.pace.window == 10


def test_what_is_slow_for_good_becomes_usual() -> None:
    """A host that has become slower is asked for more again, once that is how it is."""
    host = Host(per_host=16)
    host.ends(latency_s=0.1, times=40)
    windows = []
    for _ in range(400):
        host.now += 2.0
        host.ends(latency_s=2.0)
        windows.append(host.pace.window)
    assert min(windows) < 8
    assert windows[-1] == 16


@pytest.mark.parametrize(
    ("limits", "crawl_delay", "gap", "why"),
    [
        ({}, 0.0, 0.0, ""),
        ({"delay_s": 2.0}, 0.0, 2.0, "--delay"),
        ({"rate": 0.5}, 0.0, 2.0, "--rate"),
        ({"delay_s": 2.0, "rate": 1.0}, 3.0, 3.0, "robots.txt Crawl-delay"),
        ({"delay_s": 5.0, "rate": 1.0}, 3.0, 5.0, "--delay"),
        ({"delay_s": 1.0, "rate": 0.1}, 3.0, 10.0, "--rate"),
    ],
)
def test_the_longest_delay_is_in_force(limits: dict[str, float], crawl_delay: float, gap: float, why: str) -> None:
    """The user's, the rate's and robots.txt's delay are one, and the longest gives the reason."""
    host = Host(**limits)
    host.pace.crawl_delay(crawl_delay)
    host.pace.crawl_delay(0.0)  # another robots.txt of the group's, with less of a wish
    assert host.pace.gap_s == gap
    assert host.pace.why(0.0) == why


def test_the_reason_is_the_one_of_the_moment() -> None:
    """Retry-After while it lasts, then what cut the window, then nothing."""
    host = Host(per_host=4)
    host.rounds("ok", 1)
    host.rounds("timeout.stall", 1)
    host.pace.held_until = 50.0
    assert host.pace.why(49.0) == "Retry-After"
    assert host.pace.why(50.0) == "timeouts"
    host.rounds("ok", 9)
    assert host.pace.why(51.0) == ""


def test_it_counts() -> None:
    """Answers, refusals and bytes, of what was answered and what was not."""
    host = Host()
    host.ends("ok")
    host.ends("http.429")
    host.ends("http.503")
    host.ends("connect.refused", None)
    pace = host.pace
    assert (pace.answers, pace.throttled, pace.bytes) == (3, 2, 40)


def test_bytes_are_bounded_over_any_time() -> None:
    """Whoever waits as told reads no more than the bound, and what was not used before is not saved up."""
    throttle = Throttle(1000)
    assert throttle.spend(500, 0.0) == 0.5
    assert throttle.spend(500, 0.5) == 0.5
    assert throttle.spend(100, 100.0) == pytest.approx(0.1)
    assert throttle.spend(1000, 100.0) == pytest.approx(1.1)  # another reader at the same time waits for both
