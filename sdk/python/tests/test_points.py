"""Buffer of pending metric points, compared with a model that keeps every point."""

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
from monlight._points import MetricType, PendingPoints
from services import KEY, Collector

METRIC_TYPES: tuple[MetricType, ...] = ("counter", "gauge", "histogram")
LABELS = st.none() | st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", 1, True, 1.0, None]))
CALLS = st.tuples(
    st.sampled_from(METRIC_TYPES),
    st.sampled_from(["x", "y"]),
    st.integers(-5, 5),
    LABELS,
    st.integers(0, 300),
)


def drain(points: PendingPoints, points_max: int, bytes_max: int) -> list[dict[str, Any]]:
    decoded: list[dict[str, Any]] = []
    while batch := points.take_batch(points_max, bytes_max):
        assert len(batch) <= points_max
        assert len(batch) == 1 or sum(len(point) + 1 for point in batch) <= bytes_max
        decoded.extend(json.loads(point) for point in batch)
    assert len(points) == 0
    return decoded


def label_string(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(st.lists(CALLS), st.integers(1, 7), st.integers(1, 500))
@example([("counter", "x", 1, {"a": label}, 0) for label in (1, True, 1.0, "1")], 7, 500)
def test_aggregates_equal_the_model(
    calls: list[tuple[MetricType, str, int, dict[str, Any] | None, int]], points_max: int, bytes_max: int
) -> None:
    timestamps = iter([float(timestamp) for *_, timestamp in calls])
    points = PendingPoints("shop")
    counters: defaultdict[Any, int] = defaultdict(int)
    gauges: dict[Any, int] = {}
    histograms: Counter[Any] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_points, "time", lambda: next(timestamps))
        for metric_type, name, value, labels, timestamp in calls:
            points.add(metric_type, name, value, labels)
            series = (name, tuple(sorted((key, label_string(value)) for key, value in (labels or {}).items())))
            if metric_type == "counter":
                counters[series, timestamp // 60] += value
            elif metric_type == "gauge":
                gauges[series, timestamp] = value
            else:
                histograms[series, timestamp // 60, value] += 1
    for point in drain(points, points_max, bytes_max):
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
    ("value", "encoded"), [(3, "3"), (0.1, "0.1"), (True, "1.0"), (Decimal("2.5"), "2.5"), (2**60, repr(2.0**60))]
)
def test_numbers_are_encoded_without_loss(value: Any, encoded: str) -> None:
    points = PendingPoints(None)
    points.add("gauge", "x", value, None)
    (point,) = points.take_batch(10, 10_000)
    assert f'"value":{encoded},' in point.decode()


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
def test_invalid_points_are_dropped_with_a_warning(
    name: Any, value: Any, labels: Any, caplog: pytest.LogCaptureFixture, collector: Collector
) -> None:
    metrics = MetricsClient(collector.url, KEY)
    for record in (metrics.histogram, metrics.gauge):
        record(name, value, labels)
    metrics.counter(name, labels, value)
    metrics.counter("valid")
    metrics.flush()
    assert [name["name"] for name in collector.get("/api/metrics/names")["metrics"]] == ["valid"]
    assert "failed to record a metric" in caplog.text


@given(name=st.text(min_size=1), labels=st.dictionaries(st.text(), st.text(), max_size=40))
def test_strings_are_within_the_limits_of_the_collector(name: str, labels: dict[str, str]) -> None:
    points = PendingPoints(None)
    points.add("counter", name, 1, labels)
    (point,) = [json.loads(point) for point in points.take_batch(10, 10**6)]
    strings = [point["name"], *point.get("labels", {}), *point.get("labels", {}).values()]
    assert all(len(string) <= 200 and "\0" not in string for string in strings)
    assert len(point.get("labels", {})) <= 32


UNUSUAL_STRINGS = ["\0", "\ud800", "a" * 500, "ä\n\"'\\", "name:value,other", "🦀" * 200, "\x7f\x1b[1m"]


def test_collector_accepts_unusual_strings(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY, project="\0unusual\ud800" * 30)
    for string in UNUSUAL_STRINGS:
        metrics.counter(string, labels={string: string})
    metrics.flush()
    assert metrics.dropped == 0
    assert len(collector.get("/api/metrics/names")["metrics"]) == len(UNUSUAL_STRINGS)


def test_full_buffer_evicts_the_oldest_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points, "POINTS_MAX", 100)
    points = PendingPoints(None)
    for minute in range(4):
        monkeypatch.setattr(_points, "time", lambda minute=minute: minute * 60.0)
        for value in range(40):
            points.add("histogram", "x", minute * 100 + value, None)
        assert len(points) <= 100
    kept = [point["value"] for point in drain(points, 1_000, 10**6)]
    assert sorted(kept) == [*range(200, 240), *range(300, 340)]
    assert points.dropped == 80


def test_full_buffer_with_one_minute_drops_new_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points, "POINTS_MAX", 100)
    points = PendingPoints(None)
    points.add("counter", "orders", 1, None)
    for value in range(150):
        points.add("histogram", "x", value, None)
        points.add("counter", "orders", 1, None)
    kept = drain(points, 1_000, 10**6)
    assert [point["value"] for point in kept if point["name"] == "orders"] == [151], (
        "adding to an existing counter needs no space"
    )
    assert sorted(point["value"] for point in kept if point["name"] == "x") == list(range(99))
    assert points.dropped == 51


def test_number_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points, "POINTS_MAX", 50)
    monkeypatch.setattr(_points, "SERIES_CACHE_MAX", 20)
    points = PendingPoints(None)
    for number in range(500):
        points.add("counter", "x", 1, {"user": str(number)})
    assert len(points) == 50
    assert len(points._series_cache) <= 20


def test_concurrent_calls_lose_no_value(collector: Collector) -> None:
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
    assert collector.value_sum("orders_total") == 40_000


def test_reentrant_call_loses_no_value() -> None:
    points = PendingPoints(None)
    interruptions = 0

    class Interrupting(str):
        """String that records the same metric when it is hashed, as a finalizer might do at any time."""

        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal interruptions
            if interruptions < 5:
                interruptions += 1
                points.add("counter", "x", 1, None)
            return super().__hash__()

    points.add("counter", Interrupting("x"), 1, None)
    (point,) = drain(points, 10, 10**6)
    assert interruptions == 5
    assert point["value"] == 1 + interruptions


def test_call_in_a_signal_handler_loses_no_value_and_does_not_deadlock() -> None:
    points = PendingPoints(None)
    signals = 0

    def interrupt(*_: object) -> None:
        nonlocal signals
        signals += 1
        points.add("counter", "x", 1, {"from": "signal"})

    previous_handler = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0002)
    calls = 0
    try:
        while signals < 200:
            points.add("counter", "x", 1, {"from": "call"})
            calls += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
    totals: Counter[str] = Counter()
    for point in drain(points, 1_000, 10**6):
        totals[point["labels"]["from"]] += point["value"]
    assert totals == {"call": calls, "signal": signals}
