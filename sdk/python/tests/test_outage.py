"""Outages: while the services are down, the application keeps responding, and no report or value is lost."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Event

import pytest

from monlight import MetricsClient
from services import (
    KEY,
    TIMEOUT_S,
    Collector,
    Tracker,
    base_url,
    http_client,
    run_script,
    running_application,
    wait_until,
)

UVICORN = ["uvicorn", "--port", "0", "--no-access-log", "fastapi_app:app"]
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:0", "--workers", "4", "--preload", "flask_app:app"]
REPORTS = 40
DIFFERENCE_MAX_MS = 0.5


@pytest.mark.parametrize(("command", "ready_text"), [(UVICORN, "running on"), (GUNICORN, "Listening at")])
def test_application_keeps_responding_and_loses_nothing_during_an_outage(
    command: list[str], ready_text: str, tracker: Tracker, collector: Collector
) -> None:
    with running_application(command, ready_text, tracker, collector) as process:
        with http_client(base_url(process)) as client:
            stop_event = Event()

            def send_requests(_: int) -> list[float]:
                """Sends requests until `stop_event` is set, and returns the duration of each in seconds."""
                durations = []
                while not stop_event.is_set():
                    start = time.perf_counter()
                    assert client.get("/api/items/1").status_code == 200
                    durations.append(time.perf_counter() - start)
                return durations

            with ThreadPoolExecutor(2) as pool:
                futures = [pool.submit(send_requests, number) for number in range(2)]
                try:
                    for number in range(REPORTS):
                        if number == REPORTS // 4:
                            tracker.kill()
                            collector.kill()
                        if number == REPORTS * 3 // 4:
                            tracker.start()
                            collector.start()
                        assert client.post(f"/api/broken/{number}").status_code == 500
                    wait_until(lambda: tracker.count() == REPORTS, "all reports")
                finally:
                    stop_event.set()
            durations = [duration for future in futures for duration in future.result()]
        output = process.stop()
    assert tracker.count() == REPORTS, output
    requests_by_status = collector.sums_by_label("http_requests_total", "status")
    assert requests_by_status == {"200": len(durations), "500": REPORTS}, output
    assert statistics.median(durations) < 0.1
    assert max(durations) < 2, "no request waits for the services"


def median_difference_ms(urls: list[str], requests: int) -> float:
    """Returns the median duration of requests to the second URL minus that of requests to the first, in milliseconds.

    The requests alternate between the URLs, so that a change in the machine's load affects both.
    """
    durations: tuple[list[float], list[float]] = ([], [])
    for _ in range(requests):
        for url, url_durations in zip(urls, durations, strict=True):
            connection = HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
            start = time.perf_counter()
            connection.request("GET", "/api/items/1")
            response = connection.getresponse()
            response.read()
            url_durations.append(time.perf_counter() - start)
            connection.close()
            assert response.status == 200
    return (statistics.median(durations[1]) - statistics.median(durations[0])) * 1_000


def minimum_difference_ms(urls: list[str]) -> float:
    """Returns the smallest result of up to three measurements.

    Other load on the machine may distort one measurement, but the cost of this package is part of each.
    """
    differences: list[float] = []
    while len(differences) < 3 and min(differences, default=DIFFERENCE_MAX_MS) >= DIFFERENCE_MAX_MS:
        differences.append(median_difference_ms(urls, requests=200))
    return min(differences)


@pytest.mark.alone
@pytest.mark.parametrize(("command", "ready_text"), [(UVICORN, "running on"), (GUNICORN, "Listening at")])
def test_requests_are_not_slower_with_the_middleware(
    command: list[str], ready_text: str, tracker: Tracker, collector: Collector
) -> None:
    with (
        running_application(command, ready_text, tracker, collector) as instrumented,
        running_application(command, ready_text, DISABLE_MONLIGHT="1") as plain,
    ):
        urls = [base_url(process) for process in (plain, instrumented)]
        median_difference_ms(urls, requests=20)
        difference_ms = minimum_difference_ms(urls)
        tracker.kill()
        collector.kill()
        outage_difference_ms = minimum_difference_ms(urls)
    print(f"added median latency: {difference_ms:.3f} ms, and {outage_difference_ms:.3f} ms during an outage")
    assert max(difference_ms, outage_difference_ms) < DIFFERENCE_MAX_MS


def test_memory_is_bounded_during_an_outage() -> None:
    script = """
import resource
from monlight import ErrorClient, MetricsClient
errors, metrics = ErrorClient("http://127.0.0.1:1", key), MetricsClient("http://127.0.0.1:1", key, flush_interval=0.1)
metrics.start()
metrics.counter("warmup")
errors.capture_exception(ValueError("warmup"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(300_000):
    metrics.histogram("order_ms", number, labels={"shop": str(number % 7)})
for number in range(3_000):
    errors.capture_exception(ValueError("x" * 5_000))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, metrics.dropped, errors.dropped)
"""
    grown_mb, values_dropped, reports_dropped = map(float, run_script(script).stdout.split())
    assert grown_mb < 40
    assert values_dropped >= 199_000
    assert reports_dropped >= 1_999


def test_values_are_kept_after_failed_flushes_and_counted_once(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY, project="shop", timeout=1.0)
    collector.kill()
    for round_number in range(3):
        for value in range(700):
            metrics.counter("orders_total", value=2)
            metrics.histogram("order_ms", value)
        metrics.gauge("depth", round_number)
        metrics.flush()
    collector.start()
    metrics.flush()
    assert metrics.dropped == 0
    assert collector.value_sum("orders_total") == 3 * 700 * 2
    assert collector.value_count("order_ms") == 3 * 700
    assert collector.value_sum("order_ms") == 3 * sum(range(700))
    assert collector.buckets("depth")[-1]["last"] == 2
