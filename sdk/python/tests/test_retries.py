"""Retries, rejections, backoff, queue limits and batching, for each response that a service may give."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monlight import ErrorClient, MetricsClient, _backoff
from monlight._backoff import RETRY_AFTER_MAX_S, Backoff, parse_retry_after
from scripted_server import ScriptedServer
from services import KEY, Collector, Tracker, run_script, wait_until

StartServer = Callable[..., ScriptedServer]
RATE_LIMITED = (429, {"Retry-After": "1"})


@pytest.fixture
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backoff, "BACKOFF_INITIAL_S", 0.02)


@pytest.mark.parametrize("response", [RATE_LIMITED, (503, {"Retry-After": "1"})])
def test_retry_after_delays_the_next_request(response: object, start_server: StartServer) -> None:
    server = start_server(response)
    errors = ErrorClient(server.url, KEY)
    for number in range(3):
        errors.capture_exception(ValueError(number))
    assert errors.flush()
    first, second, *_ = server.requests
    assert second.received_at - first.received_at >= 1
    assert second.headers["idempotency-key"] == first.headers["idempotency-key"]
    assert [request.json["message"] for request in server.requests] == ["0", "0", "1", "2"]
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 3


@pytest.mark.usefixtures("short_backoff")
@pytest.mark.parametrize("response", [500, 502, 503, 504, 408, 429, "close"])
def test_retries_reuse_the_idempotency_key(response: object, start_server: StartServer) -> None:
    # A closed connection is retried once without delay, so an attempt fails only after two closed connections.
    server = start_server(response, response, response)
    errors = ErrorClient(server.url, KEY)
    errors.capture_exception(ValueError("boom"))
    assert errors.flush()
    assert len(server.requests) == 4
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert len({request.body for request in server.requests}) == 1
    assert errors.dropped == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 301])
def test_rejected_report_is_dropped_with_a_warning(
    status: int, start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(status)
    errors = ErrorClient(server.url, KEY)
    errors.capture_exception(ValueError("boom"))
    errors.capture_exception(ValueError("bang"))
    assert not errors.flush(), "a report was dropped"
    assert errors.flush(), "no report was dropped since the previous flush"
    assert [request.json["message"] for request in server.requests] == ["boom", "bang"]
    assert errors.dropped == 1
    assert f"sending to /api/errors failed: status {status}" in caplog.text
    assert "1 item(s) dropped" in caplog.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_warning_about_a_redirect_names_its_target(
    status: int, start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server((status, {"Location": "https://u:pw@errors.example/api/errors"}))
    errors = ErrorClient(server.url, KEY)
    errors.capture_exception(ValueError("boom"))
    assert not errors.flush()
    assert f"status {status}: redirected to https://errors.example/api/errors" in caplog.text


def test_flush_with_a_wrong_key_or_an_earlier_rejection_fails(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, "wrong")
    errors.capture_exception(ValueError("boom"))
    wait_until(lambda: errors.dropped == 1, "a rejection by the background thread")
    assert not errors.flush()


def test_debug_mode_prints_what_was_rejected_and_changed_and_why(tracker: Tracker) -> None:
    script = """
import logging
logging.basicConfig(level=logging.CRITICAL)
from monlight import ErrorClient
errors = ErrorClient(errors_url, "wrong", debug=is_debug)
for _ in range(2):
    errors.capture_exception(ValueError("boom"), {"user_id": object()})
    errors.flush()
"""
    for is_debug in (True, False):
        output = run_script(f"is_debug = {is_debug}" + script, tracker).stderr
        expected = 2 if is_debug else 0
        assert output.count("user_id of type object cannot be used") == expected
        assert output.count("sending to /api/errors failed: status 401") == expected
        assert output.count('dropped: {"project":"default","exception_type":"ValueError","message":"boom"') == expected


@pytest.mark.usefixtures("short_backoff")
def test_report_that_always_fails_does_not_block_later_reports(start_server: StartServer) -> None:
    server = start_server(*[500] * 5)
    errors = ErrorClient(server.url, KEY)
    errors.capture_exception(ValueError("fails"))
    errors.capture_exception(ValueError("succeeds"))
    assert not errors.flush()
    assert [request.json["message"] for request in server.requests] == ["fails"] * 5 + ["succeeds"]
    assert errors.dropped == 1


def test_reports_share_one_connection(start_server: StartServer) -> None:
    server = start_server()
    errors = ErrorClient(server.url, KEY)
    for number in range(20):
        errors.capture_exception(ValueError(number))
    assert errors.flush()
    assert len({request.client for request in server.requests}) == 1


def test_closed_connection_is_replaced_without_delay(start_server: StartServer) -> None:
    server = start_server("close")
    errors = ErrorClient(server.url, KEY)
    errors.capture_exception(ValueError("boom"))
    assert errors.flush()
    first, second = server.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert second.received_at - first.received_at < _backoff.BACKOFF_INITIAL_S / 2


def test_shutdown_closes_the_connection(start_server: StartServer) -> None:
    server = start_server()
    metrics = MetricsClient(server.url, KEY)
    metrics.counter("orders_total")
    metrics.shutdown()
    wait_until(lambda: server.closed_connections == [server.requests[0].client], "a closed connection")


def test_restart_of_the_service_loses_no_report(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY)
    for count in (1, 2):
        errors.capture_exception(ValueError("boom"))
        assert errors.flush()
        assert tracker.count() == count
        tracker.kill()
        tracker.start()


def test_rate_limit_of_the_tracker_is_respected(tmp_path_factory: pytest.TempPathFactory) -> None:
    tracker = Tracker("error-tracker", tmp_path_factory.mktemp("rate_limited"), RATE_LIMIT="5", METRICS_OPEN="1")
    errors = ErrorClient(tracker.url, KEY)
    try:
        for number in range(8):
            errors.capture_exception(ValueError(number))
        wait_until(lambda: errors._sender._backoff.server_requested_delay, "a Retry-After header")
        assert errors._sender._backoff.delay_s(time.monotonic()) > 30
        assert not errors.flush(0.2)
        assert errors.dropped == 0
    finally:
        errors._sender._close_connection()
        errors._reset_in_child()
        tracker.kill()


def test_full_queue_keeps_the_first_reports(start_server: StartServer) -> None:
    server = start_server()
    server.pause_responses()
    errors = ErrorClient(server.url, KEY)
    errors.capture_exception(ValueError("first"))
    wait_until(lambda: server.requests, "the first request")
    for number in range(1_500):
        errors.capture_exception(ValueError(number))
    assert errors.dropped == 500
    server.resume_responses()
    assert not errors.flush(20), "reports were dropped"
    assert [request.json["message"] for request in server.requests] == ["first", *map(str, range(1_000))]


def test_queue_size_is_bounded_in_bytes(start_server: StartServer) -> None:
    server = start_server()
    server.pause_responses()
    errors = ErrorClient(server.url, KEY)
    for _ in range(200):
        errors.capture_exception(ValueError("boom"), {"extra": {str(number): "x" * 2_000 for number in range(60)}})
    assert errors._queued_bytes <= 8_000_000
    assert 100 < errors.dropped < 150
    server.resume_responses()
    assert not errors.flush(20), "reports were dropped"


def test_batches_have_at_most_a_thousand_points(start_server: StartServer, collector: Collector) -> None:
    server = start_server()
    for url in (server.url, collector.url):
        metrics = MetricsClient(url, KEY)
        for value in range(2_500):
            metrics.histogram("order_ms", value)
            metrics.counter("orders_total")
        metrics.flush()
    assert sorted(len(request.json) for request in server.requests) == [501, 1_000, 1_000]
    assert collector.value_count("order_ms") == 2_500
    assert collector.value_sum("order_ms") == sum(range(2_500))
    assert collector.value_sum("orders_total") == 2_500


def test_batches_do_not_exceed_the_body_limit_of_the_collector(start_server: StartServer, collector: Collector) -> None:
    server = start_server()
    labels = {f"label{number}": "ä" * 200 for number in range(30)}
    for url in (server.url, collector.url):
        metrics = MetricsClient(url, KEY)
        for value in range(300):
            metrics.histogram("order_ms", value, labels=labels)
        metrics.flush()
        assert metrics.dropped == 0
    assert max(len(request.body) for request in server.requests) <= 450_000
    assert collector.value_count("order_ms") == 300


def test_batches_rejected_as_too_large_are_split(tmp_path_factory: pytest.TempPathFactory) -> None:
    collector = Collector("metrics-collector", tmp_path_factory.mktemp("small_body_limit"), MAX_BODY_SIZE="4096")
    try:
        metrics = MetricsClient(collector.url, KEY)
        for value in range(1_000):
            metrics.histogram("order_ms", value)
        metrics.flush()
        assert metrics.dropped == 0
        assert collector.value_count("order_ms") == 1_000
        assert collector.value_sum("order_ms") == sum(range(1_000))
    finally:
        collector.kill()


def test_many_pending_values_trigger_an_early_flush(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY, flush_interval=3600)
    metrics.start()
    for value in range(50_000):
        metrics.histogram("order_ms", value)
    wait_until(lambda: collector.value_count("order_ms") == 50_000, "an early flush")
    metrics.shutdown()


def test_started_client_flushes_periodically_and_at_shutdown(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY, flush_interval=0.05)
    metrics.counter("orders_total")
    metrics.start()
    metrics.start()
    wait_until(lambda: collector.value_sum("orders_total") == 1, "the first flush")
    metrics.counter("orders_total")
    wait_until(lambda: collector.value_sum("orders_total") == 2, "the second flush")
    metrics.shutdown()
    wait_until(lambda: not metrics._sender.is_running, "the end of the thread")
    metrics.counter("orders_total")
    assert collector.value_sum("orders_total") == 2
    metrics.shutdown()
    assert collector.value_sum("orders_total") == 3
    metrics.start()
    metrics.counter("orders_total")
    wait_until(lambda: collector.value_sum("orders_total") == 4, "a flush after a restart")
    metrics.shutdown()


NOW = 1_800_000_000.0
RETRY_AFTER_HEADERS = [
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


@pytest.mark.parametrize(("value", "expected_s"), RETRY_AFTER_HEADERS)
def test_retry_after_is_parsed_in_both_forms(value: str | None, expected_s: float | None) -> None:
    assert parse_retry_after(value, NOW) == expected_s


@given(st.text())
def test_invalid_retry_after_does_not_raise(value: str) -> None:
    delay_s = parse_retry_after(value, NOW)
    assert delay_s is None or 0 < delay_s <= RETRY_AFTER_MAX_S


def test_backoff_doubles_up_to_thirty_seconds() -> None:
    backoff = Backoff()
    delays_s = []
    for _ in range(10):
        backoff.record_failure(100.0, None)
        delays_s.append(backoff.delay_s(100.0))
    expected_s = [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert all(0.75 * limit_s <= delay_s <= limit_s for delay_s, limit_s in zip(delays_s, expected_s, strict=True))
    backoff.reset()
    assert backoff.delay_s(100.0) == 0
