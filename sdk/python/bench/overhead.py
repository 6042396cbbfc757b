"""What a call of this package costs the application, as a ratio to a ceiling that is measured in the same run.

Run by `make bench`. Each row is the median of repeated rounds, in turns with its ceiling, so that both have the same
luck with the machine.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from monlight import ErrorClient, MetricsClient
from monlight.integrations.asgi import MonlightMiddleware
from services import KEY, Collector, Tracker

ROUNDS = 15
LABELS = {"method": "GET", "endpoint": "/items/{id}", "status": "200"}


def in_turns(calls: int, *work: Callable[[], object]) -> list[float]:
    """The median microseconds of a call of each."""
    durations: list[list[float]] = [[] for _ in work]
    for _ in range(ROUNDS):
        for one, taken in zip(work, durations, strict=True):
            start = perf_counter()
            for _ in range(calls):
                one()
            taken.append((perf_counter() - start) / calls * 1e6)
    return [statistics.median(taken) for taken in durations]


def row(what: str, cost_us: float, ceiling: str, ceiling_us: float) -> None:
    print(f"{what:<42} {cost_us:8.2f} µs   {cost_us / ceiling_us:5.1f} times {ceiling} ({ceiling_us:.2f} µs)")


def metric_calls(metrics: MetricsClient) -> None:
    totals: dict[Any, float] = {}
    lock = threading.Lock()

    def least() -> None:
        key = ("http_requests_total", tuple(LABELS.items()))
        with lock:
            totals[key] = totals.get(key, 0) + 1

    counter, histogram, ceiling = in_turns(
        2_000,
        lambda: metrics.counter("http_requests_total", labels=LABELS),
        lambda: metrics.histogram("http_request_duration_seconds", 0.1, labels=LABELS),
        least,
    )
    row("counter()", counter, "adding to a locked dict", ceiling)
    row("histogram()", histogram, "adding to a locked dict", ceiling)


def reports(errors: ErrorClient) -> None:
    def raise_deeply(depth: int) -> None:
        if depth:
            raise_deeply(depth - 1)
        raise ValueError("boom")

    try:
        raise_deeply(10)
    except ValueError as error:
        caught = error
    context = {"request_url": "/items/7?page=2", "request_headers": {f"x-{name}": "v" for name in range(12)}}

    def report() -> None:
        errors.report_error_sync(caught, context)

    # As many as fit in the queue, which the background thread empties meanwhile.
    cost, ceiling = in_turns(30, report, lambda: "".join(traceback.format_exception(caught)))
    row("report_error_sync(), tracker answering", cost, "formatting the traceback", ceiling)
    errors.flush(60)
    print(f"{'':<42} {errors.dropped} reports left out")


def requests(metrics: MetricsClient, errors: ErrorClient) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def nowhere(message: Any) -> None:
        pass

    def visit(app: Any) -> Callable[[], None]:
        def run() -> None:
            scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
            coroutine = app(scope, None, nowhere)
            try:
                coroutine.send(None)
            except StopIteration:
                return

        return run

    watched, bare = in_turns(1_000, visit(MonlightMiddleware(answer, metrics, errors)), visit(answer))
    row("a request through the ASGI middleware", watched, "the application alone", bare)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tracker, collector = Tracker("error-tracker", Path(folder)), Collector("metrics-collector", Path(folder))
        try:
            metrics = MetricsClient(collector.url, KEY, flush_interval=1.0)
            metrics.start()
            errors = ErrorClient(tracker.url, KEY)
            metric_calls(metrics)
            requests(metrics, errors)
            reports(errors)
            metrics.shutdown()
            print(f"{'':<42} {metrics.dropped} values left out")
        finally:
            tracker.kill()
            collector.kill()


if __name__ == "__main__":
    main()
