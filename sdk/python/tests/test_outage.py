"""The services are killed and started again in the middle: the application answers, and nothing is lost."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Event

import pytest

from monlight import MetricsClient
from services import KEY, PATIENCE_S, Collector, Tracker, address, application, run_script, visitor, wait_until

UVICORN = ["uvicorn", "--port", "0", "--no-access-log", "fastapi_app:app"]
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:0", "--workers", "4", "--preload", "flask_app:app"]
REPORTS = 40
DIFFERENCE_MAX_MS = 0.5


@pytest.mark.parametrize(("command", "ready"), [(UVICORN, "running on"), (GUNICORN, "Listening at")])
def test_an_application_outlives_its_monitoring(
    command: list[str], ready: str, tracker: Tracker, collector: Collector
) -> None:
    with application(command, ready, tracker, collector) as process:
        with visitor(address(process)) as client:
            over = Event()

            def visit(_: int) -> list[float]:
                """Visits until it is told to end; answers how long each visit took, in seconds."""
                durations = []
                while not over.is_set():
                    start = time.perf_counter()
                    assert client.get("/api/items/1").status_code == 200
                    durations.append(time.perf_counter() - start)
                return durations

            with ThreadPoolExecutor(2) as pool:
                visits = [pool.submit(visit, number) for number in range(2)]
                try:
                    for number in range(REPORTS):
                        if number == REPORTS // 4:
                            tracker.kill()
                            collector.kill()
                        if number == REPORTS * 3 // 4:
                            tracker.start()
                            collector.start()
                        assert client.post(f"/api/broken/{number}").status_code == 500
                    wait_until(lambda: tracker.count() == REPORTS, "every report arrives")
                finally:
                    over.set()
            durations = [duration for visit in visits for duration in visit.result()]
        output = process.end()
    assert tracker.count() == REPORTS, output
    totals = collector.totals("http_requests_total", "status")
    assert totals == {"200": len(durations), "500": REPORTS}, output
    assert statistics.median(durations) < 0.1
    assert max(durations) < 2, "no visitor waits for the monitoring"


def difference_ms(bases: list[str], visits: int) -> float:
    """How much longer the median visit of the second takes than of the first; in turns, for the same luck."""
    durations: tuple[list[float], list[float]] = ([], [])
    for _ in range(visits):
        for base, taken in zip(bases, durations, strict=True):
            connection = HTTPConnection(base.removeprefix("http://"), timeout=PATIENCE_S)
            start = time.perf_counter()
            connection.request("GET", "/api/items/1")
            answer = connection.getresponse()
            answer.read()
            taken.append(time.perf_counter() - start)
            connection.close()
            assert answer.status == 200
    return (statistics.median(durations[1]) - statistics.median(durations[0])) * 1_000


def least_difference_ms(bases: list[str]) -> float:
    """Of at most three attempts: the machine may have other business in one, but what this package costs is in each."""
    differences: list[float] = []
    while len(differences) < 3 and min(differences, default=DIFFERENCE_MAX_MS) >= DIFFERENCE_MAX_MS:
        differences.append(difference_ms(bases, visits=200))
    return min(differences)


@pytest.mark.alone
@pytest.mark.parametrize(("command", "ready"), [(UVICORN, "running on"), (GUNICORN, "Listening at")])
def test_no_request_is_slower_for_it(command: list[str], ready: str, tracker: Tracker, collector: Collector) -> None:
    with (
        application(command, ready, tracker, collector) as watched,
        application(command, ready, PLAIN="1") as plain,
    ):
        bases = [address(process) for process in (plain, watched)]
        difference_ms(bases, visits=20)
        up = least_difference_ms(bases)
        tracker.kill()
        collector.kill()
        away = least_difference_ms(bases)
    print(f"median with less median without: {up:.3f} ms, and {away:.3f} ms while the services are away")
    assert max(up, away) < DIFFERENCE_MAX_MS


def test_memory_is_bounded_while_the_services_are_away() -> None:
    script = """
import resource
from monlight import ErrorClient, MetricsClient
errors, metrics = ErrorClient("http://127.0.0.1:1", key), MetricsClient("http://127.0.0.1:1", key, flush_interval=0.1)
metrics.start()
metrics.counter("warm")
errors.report_error_sync(ValueError("warm"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(300_000):
    metrics.histogram("order_ms", number, labels={"shop": str(number % 7)})
for number in range(3_000):
    errors.report_error_sync(ValueError("x" * 5_000))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, metrics.dropped, errors.dropped)
"""
    grown_mb, values_dropped, reports_dropped = map(float, run_script(script).stdout.split())
    assert grown_mb < 40
    assert values_dropped >= 199_000
    assert reports_dropped >= 1_999


def test_values_survive_failed_flushes_and_count_once(collector: Collector) -> None:
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
    assert collector.total("orders_total") == 3 * 700 * 2
    assert collector.count("order_ms") == 3 * 700
    assert collector.total("order_ms") == 3 * sum(range(700))
    assert collector.buckets("depth")[-1]["last"] == 2
