"""What is done with each answer that a service may give."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monlight import ErrorClient, MetricsClient, _pace
from monlight._pace import RETRY_AFTER_MAX_S, Pace, parse_retry_after
from scripted import ScriptedServer
from services import KEY, Collector, Tracker, wait_until

Scripted = Callable[..., ScriptedServer]
BUSY = (429, {"Retry-After": "1"})


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pace, "BACKOFF_FIRST_S", 0.02)


@pytest.mark.parametrize("answer", [BUSY, (503, {"Retry-After": "1"})])
def test_a_service_that_says_how_long_is_left_alone_for_so_long(answer: object, scripted: Scripted) -> None:
    server = scripted(answer)
    errors = ErrorClient(server.url, KEY)
    for number in range(3):
        errors.report_error_sync(ValueError(number))
    assert errors.flush()
    first, *others = server.seen
    assert others[0].at - first.at >= 1
    assert others[0].headers["idempotency-key"] == first.headers["idempotency-key"]
    assert [seen.json["message"] for seen in server.seen] == ["0", "0", "1", "2"]
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 3


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("answer", [500, 502, 503, 504, 408, 429, "close"])
def test_what_passes_is_tried_again_with_the_same_key(answer: object, scripted: Scripted) -> None:
    # A connection that breaks is tried once more at once, so it takes two to fail.
    server = scripted(answer, answer, answer)
    errors = ErrorClient(server.url, KEY)
    errors.report_error_sync(ValueError("boom"))
    assert errors.flush()
    assert len(server.seen) == 4
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 1
    assert len({seen.body for seen in server.seen}) == 1
    assert errors.dropped == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 301])
def test_what_is_refused_is_given_up_and_said(
    status: int, scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    server = scripted(status)
    errors = ErrorClient(server.url, KEY)
    errors.report_error_sync(ValueError("boom"))
    errors.report_error_sync(ValueError("bang"))
    assert errors.flush()
    assert [seen.json["message"] for seen in server.seen] == ["boom", "bang"]
    assert errors.dropped == 1
    assert f"refused by /api/errors: status {status}" in caplog.text


@pytest.mark.usefixtures("short_pauses")
def test_a_report_that_always_fails_does_not_block_the_others(scripted: Scripted) -> None:
    server = scripted(*[500] * 5)
    errors = ErrorClient(server.url, KEY)
    errors.report_error_sync(ValueError("poison"))
    errors.report_error_sync(ValueError("fine"))
    assert errors.flush()
    assert [seen.json["message"] for seen in server.seen] == ["poison"] * 5 + ["fine"]
    assert errors.dropped == 1


def test_all_reports_share_one_connection(scripted: Scripted) -> None:
    server = scripted()
    errors = ErrorClient(server.url, KEY)
    for number in range(20):
        errors.report_error_sync(ValueError(number))
    assert errors.flush()
    assert len({seen.client for seen in server.seen}) == 1


def test_a_connection_that_breaks_is_replaced_at_once(scripted: Scripted) -> None:
    server = scripted("close")
    errors = ErrorClient(server.url, KEY)
    errors.report_error_sync(ValueError("boom"))
    assert errors.flush()
    first, second = server.seen
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert second.at - first.at < _pace.BACKOFF_FIRST_S / 2


def test_shutdown_gives_the_connection_back(scripted: Scripted) -> None:
    server = scripted()
    metrics = MetricsClient(server.url, KEY)
    metrics.counter("orders_total")
    metrics.shutdown()
    wait_until(lambda: server.closed == [server.seen[0].client], "the connection is closed")


def test_a_connection_that_was_closed_meanwhile_costs_nothing(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY)
    for count in (1, 2):
        errors.report_error_sync(ValueError("boom"))
        assert errors.flush()
        assert tracker.count() == count
        tracker.kill()
        tracker.start()


def test_the_limit_of_the_real_tracker_is_honoured(tmp_path_factory: pytest.TempPathFactory) -> None:
    tracker = Tracker("error-tracker", tmp_path_factory.mktemp("limited"), RATE_LIMIT="5", METRICS_OPEN="1")
    errors = ErrorClient(tracker.url, KEY)
    try:
        for number in range(8):
            errors.report_error_sync(ValueError(number))
        wait_until(lambda: errors._sender._pace.is_told, "the tracker says when")
        assert errors._sender._pace.pause_s(time.monotonic()) > 30
        assert not errors.flush(0.2)
        assert errors.dropped == 0
    finally:
        errors._sender._close()
        errors._forget()
        tracker.kill()


def test_a_queue_that_is_full_keeps_the_first_reports(scripted: Scripted) -> None:
    server = scripted()
    server.held.clear()
    errors = ErrorClient(server.url, KEY)
    errors.report_error_sync(ValueError("first"))
    wait_until(lambda: server.seen, "the first one is on its way")
    for number in range(1_500):
        errors.report_error_sync(ValueError(number))
    assert errors.dropped == 500
    server.held.set()
    assert errors.flush(20)
    assert [seen.json["message"] for seen in server.seen] == ["first", *map(str, range(1_000))]


def test_a_queue_is_bounded_in_bytes_too(scripted: Scripted) -> None:
    server = scripted()
    server.held.clear()
    errors = ErrorClient(server.url, KEY)
    for _ in range(200):
        errors.report_error_sync(ValueError("boom"), {"extra": {str(number): "x" * 2_000 for number in range(60)}})
    assert errors._queued_bytes <= 8_000_000
    assert 100 < errors.dropped < 150
    server.held.set()
    assert errors.flush(20)


def test_batches_are_split_at_a_thousand(scripted: Scripted, collector: Collector) -> None:
    server = scripted()
    for url in (server.url, collector.url):
        metrics = MetricsClient(url, KEY)
        for value in range(2_500):
            metrics.histogram("order_ms", value)
            metrics.counter("orders_total")
        metrics.flush()
    assert sorted(len(seen.json) for seen in server.seen) == [501, 1_000, 1_000]
    assert collector.count("order_ms") == 2_500
    assert collector.total("order_ms") == sum(range(2_500))
    assert collector.total("orders_total") == 2_500


def test_batches_are_split_at_what_the_collector_takes(scripted: Scripted, collector: Collector) -> None:
    server = scripted()
    labels = {f"label{number}": "ä" * 200 for number in range(30)}
    for url in (server.url, collector.url):
        metrics = MetricsClient(url, KEY)
        for value in range(300):
            metrics.histogram("order_ms", value, labels=labels)
        metrics.flush()
        assert metrics.dropped == 0
    assert max(len(seen.body) for seen in server.seen) <= 450_000
    assert collector.count("order_ms") == 300


def test_batches_that_are_too_large_are_halved(tmp_path_factory: pytest.TempPathFactory) -> None:
    collector = Collector("metrics-collector", tmp_path_factory.mktemp("small"), MAX_BODY_SIZE="4096")
    try:
        metrics = MetricsClient(collector.url, KEY)
        for value in range(1_000):
            metrics.histogram("order_ms", value)
        metrics.flush()
        assert metrics.dropped == 0
        assert collector.count("order_ms") == 1_000
        assert collector.total("order_ms") == sum(range(1_000))
    finally:
        collector.kill()


def test_a_crowded_client_flushes_before_its_time(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY, flush_interval=3600)
    metrics.start()
    for value in range(50_000):
        metrics.histogram("order_ms", value)
    wait_until(lambda: collector.count("order_ms") == 50_000, "an early flush")
    metrics.shutdown()


def test_start_flushes_at_its_interval_and_shutdown_sends_the_rest(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY, flush_interval=0.05)
    metrics.counter("orders_total")
    metrics.start()
    metrics.start()
    wait_until(lambda: collector.total("orders_total") == 1, "a flush")
    metrics.counter("orders_total")
    wait_until(lambda: collector.total("orders_total") == 2, "another flush")
    metrics.shutdown()
    wait_until(lambda: not metrics._sender.is_running, "the thread ends")
    metrics.counter("orders_total")
    assert collector.total("orders_total") == 2
    metrics.shutdown()
    assert collector.total("orders_total") == 3
    metrics.start()
    metrics.counter("orders_total")
    wait_until(lambda: collector.total("orders_total") == 4, "a flush after a new start")
    metrics.shutdown()


NOW = 1_800_000_000.0
RETRY_AFTER = [
    (None, None),
    ("7", 7.0),
    (" 7 ", 7.0),
    ("0", 0.1),
    ("99999999999999", RETRY_AFTER_MAX_S),
    (formatdate(NOW + 20, usegmt=True), 20.0),
    (formatdate(NOW - 20, usegmt=True), 0.1),
    ("soon", None),
    ("-3", None),
    ("", None),
    ("²", None),
]


@pytest.mark.parametrize(("value", "expected"), RETRY_AFTER)
def test_retry_after_is_read_in_both_forms(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, NOW) == expected


@given(st.text())
def test_no_retry_after_raises(value: str) -> None:
    wait_s = parse_retry_after(value, NOW)
    assert wait_s is None or 0 < wait_s <= RETRY_AFTER_MAX_S


def test_pauses_double_to_half_a_minute() -> None:
    pace = Pace()
    pauses = []
    for _ in range(10):
        pace.failed(100.0, None)
        pauses.append(pace.pause_s(100.0))
    assert all(
        0.75 * full <= pause <= full for pause, full in zip(pauses, [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30], strict=True)
    )
    pace.delivered()
    assert pace.pause_s(100.0) == 0
