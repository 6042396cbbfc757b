"""What is summed before it is sent, against a model that keeps everything."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monlight import MetricsClient, _points
from monlight._points import Kind, PendingPoints
from services import KEY, Collector

KINDS: tuple[Kind, ...] = ("counter", "gauge", "histogram")
LABELS = st.none() | st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", 1, True, 1.0, None]))
CALLS = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(["x", "y"]),
    st.integers(-5, 5),
    LABELS,
    st.integers(0, 300),
)


def take_all(points: PendingPoints, points_max: int, bytes_max: int) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = []
    while batch := points.take(points_max, bytes_max):
        assert len(batch) <= points_max
        assert len(batch) == 1 or sum(len(point) + 1 for point in batch) <= bytes_max
        taken.extend(json.loads(point) for point in batch)
    assert len(points) == 0
    return taken


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(st.lists(CALLS), st.integers(1, 7), st.integers(1, 500))
@example([("counter", "x", 1, {"a": one}, 0) for one in (1, True, 1.0, "1")], 7, 500)
def test_nothing_is_lost_or_invented(
    calls: list[tuple[Kind, str, int, dict[str, Any] | None, int]], points_max: int, bytes_max: int
) -> None:
    moments = iter([float(moment) for *_, moment in calls])
    points = PendingPoints("shop")
    counters: defaultdict[Any, int] = defaultdict(int)
    gauges: dict[Any, int] = {}
    histograms: Counter[Any] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_points, "time", lambda: next(moments))
        for kind, name, value, labels, moment in calls:
            points.add(kind, name, value, labels)
            series = (name, tuple(sorted((key, text(value)) for key, value in (labels or {}).items())))
            if kind == "counter":
                counters[series, moment // 60] += value
            elif kind == "gauge":
                gauges[series, moment] = value
            else:
                histograms[series, moment // 60, value] += 1
    for point in take_all(points, points_max, bytes_max):
        assert point["project"] == "shop"
        series = (point["name"], tuple(sorted(point.get("labels", {}).items())))
        minutes, seconds = map(int, point["timestamp"][14:19].split(":"))
        if point["type"] == "counter":
            assert counters.pop((series, minutes)) == point["value"]
        elif point["type"] == "gauge":
            assert gauges.pop((series, minutes * 60 + seconds)) == point["value"]
        else:
            histograms[series, minutes, point["value"]] -= 1
    assert not counters
    assert not gauges
    assert not any(histograms.values())


@pytest.mark.parametrize(
    ("value", "sent"), [(3, "3"), (0.1, "0.1"), (True, "1.0"), (Decimal("2.5"), "2.5"), (2**60, repr(2.0**60))]
)
def test_numbers_go_out_as_they_are(value: Any, sent: str) -> None:
    points = PendingPoints(None)
    points.add("gauge", "x", value, None)
    (point,) = points.take(10, 10_000)
    assert f'"value":{sent},' in point.decode()


@pytest.mark.parametrize(
    ("name", "value", "labels"),
    [
        ("x", math.inf, None),
        ("x", math.nan, None),
        ("x", "three", None),
        ("x", None, None),
        ("x", 10**400, None),
        ("", 1, None),
        (None, 1, None),
        ("x", 1, "labels"),
    ],
)
def test_what_is_no_point_is_left_out_and_said(
    name: Any, value: Any, labels: Any, caplog: pytest.LogCaptureFixture, collector: Collector
) -> None:
    metrics = MetricsClient(collector.url, KEY)
    for record in (metrics.histogram, metrics.gauge):
        record(name, value, labels)
    metrics.counter(name, labels, value)
    metrics.counter("fine")
    metrics.flush()
    assert [name["name"] for name in collector.get("/api/metrics/names")["metrics"]] == ["fine"]
    assert "leaves out a metric" in caplog.text


@given(name=st.text(min_size=1), labels=st.dictionaries(st.text(), st.text(), max_size=40))
def test_every_text_is_within_the_collectors_limits(name: str, labels: dict[str, str]) -> None:
    points = PendingPoints(None)
    points.add("counter", name, 1, labels)
    (point,) = [json.loads(point) for point in points.take(10, 10**6)]
    texts = [point["name"], *point.get("labels", {}), *point.get("labels", {}).values()]
    assert all(len(one) <= 200 and "\0" not in one for one in texts)
    assert len(point.get("labels", {})) <= 32


STRANGE = ["\0", "\ud800", "a" * 500, "ä\n\"'\\", "name:value,other", "🦀" * 200, "\x7f\x1b[1m"]


def test_the_real_collector_takes_every_text(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY, project="\0strange\ud800" * 30)
    for strange in STRANGE:
        metrics.counter(strange, labels={strange: strange})
    metrics.flush()
    assert metrics.dropped == 0
    assert len(collector.get("/api/metrics/names")["metrics"]) == len(STRANGE)


def test_memory_is_bounded_and_the_oldest_minute_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points, "POINTS_MAX", 100)
    points = PendingPoints(None)
    for minute in range(4):
        monkeypatch.setattr(_points, "time", lambda minute=minute: minute * 60.0)
        for value in range(40):
            points.add("histogram", "x", minute * 100 + value, None)
        assert len(points) <= 100
    kept = [point["value"] for point in take_all(points, 1_000, 10**6)]
    assert sorted(kept) == [*range(200, 240), *range(300, 340)]
    assert points.lost == 80


def test_one_minute_that_is_too_full_keeps_what_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points, "POINTS_MAX", 100)
    points = PendingPoints(None)
    points.add("counter", "orders", 1, None)
    for value in range(150):
        points.add("histogram", "x", value, None)
        points.add("counter", "orders", 1, None)
    kept = take_all(points, 1_000, 10**6)
    assert [point["value"] for point in kept if point["name"] == "orders"] == [151], "what is summed needs no room"
    assert sorted(point["value"] for point in kept if point["name"] == "x") == list(range(99))
    assert points.lost == 51


def test_series_without_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points, "POINTS_MAX", 50)
    monkeypatch.setattr(_points, "SPELLINGS_MAX", 20)
    points = PendingPoints(None)
    for number in range(500):
        points.add("counter", "x", 1, {"user": str(number)})
    assert len(points) == 50
    assert len(points._spellings) <= 20


def test_threads_lose_no_count(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY, flush_interval=0.01)
    metrics.start()

    def count() -> None:
        for number in range(5_000):
            metrics.counter("orders_total", labels={"shop": str(number % 3)})

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.shutdown()
    assert collector.total("orders_total") == 40_000


def test_a_call_within_a_call_loses_no_count() -> None:
    points = PendingPoints(None)
    interruptions = 0

    class Interrupting(str):
        """Records the same metric whenever it is looked up, as a finaliser might."""

        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal interruptions
            if interruptions < 5:
                interruptions += 1
                points.add("counter", "x", 1, None)
            return super().__hash__()

    points.add("counter", Interrupting("x"), 1, None)
    (point,) = take_all(points, 10, 10**6)
    assert interruptions == 5
    assert point["value"] == 1 + interruptions


def test_a_signal_in_the_middle_of_a_call_loses_no_count_and_blocks_nothing() -> None:
    points = PendingPoints(None)
    signals = 0

    def interrupt(*_: object) -> None:
        nonlocal signals
        signals += 1
        points.add("counter", "x", 1, {"from": "signal"})

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0002)
    calls = 0
    try:
        while signals < 200:
            points.add("counter", "x", 1, {"from": "call"})
            calls += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    totals: Counter[str] = Counter()
    for point in take_all(points, 1_000, 10**6):
        totals[point["labels"]["from"]] += point["value"]
    assert totals == {"call": calls, "signal": signals}
