"""Benchmark of the time that a call of this package costs the application.

Run by `make bench`, with the path of the JSON file to write. Each row compares a call with a ceiling, the least work
that the call must do. Calls and ceilings alternate in the same run, so that a change in the machine's load affects
both, and each figure is the median of `ROUNDS` rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
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

ROWS: list[list[Any]] = []
RATIOS: list[dict[str, Any]] = []
NOTES: list[str] = []


def measure_alternating(calls: int, *functions: Callable[[], object]) -> list[list[float]]:
    """Returns, for each function, the mean duration of a call in microseconds in every round of `calls` calls."""
    durations_us: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, function_durations_us in zip(functions, durations_us, strict=True):
            start = perf_counter()
            for _ in range(calls):
                function()
            function_durations_us.append((perf_counter() - start) / calls * 1e6)
    return durations_us


def add_row(call: str, costs_us: list[float], ceiling: str, ceilings_us: list[float]) -> None:
    """Prints and stores the median costs of a call and its ceiling, and the median of their ratios."""
    cost_us, ceiling_us = statistics.median(costs_us), statistics.median(ceilings_us)
    ratio = statistics.median(least / cost for cost, least in zip(costs_us, ceilings_us, strict=True))
    print(f"{call:<42} {cost_us:8.2f} µs   {1 / ratio:5.1f} times {ceiling} ({ceiling_us:.2f} µs)")
    ROWS.append([call, cost_us, ceiling, ceiling_us, ratio])
    RATIOS.append({"row": call, "to": ceiling, "value": ratio})


def add_note(note: str) -> None:
    """Prints and stores a note."""
    print(f"{'':<42} {note}")
    NOTES.append(f"{note}.")


def measure_metrics(metrics: MetricsClient) -> None:
    sums: dict[Any, float] = {}
    lock = threading.Lock()

    def add_to_dict() -> None:
        key = ("http_requests_total", tuple(LABELS.items()))
        with lock:
            sums[key] = sums.get(key, 0) + 1

    counter, histogram, ceiling = measure_alternating(
        2_000,
        lambda: metrics.counter("http_requests_total", labels=LABELS),
        lambda: metrics.histogram("http_request_duration_seconds", 0.1, labels=LABELS),
        add_to_dict,
    )
    add_row("counter()", counter, "adding to a locked dict", ceiling)
    add_row("histogram()", histogram, "adding to a locked dict", ceiling)


def measure_reports(errors: ErrorClient) -> None:
    def raise_at_depth(depth: int) -> None:
        if depth:
            raise_at_depth(depth - 1)
        raise ValueError("boom")

    try:
        raise_at_depth(10)
    except ValueError as error:
        caught = error
    context = {"request_url": "/items/7?page=2", "request_headers": {f"x-{name}": "v" for name in range(12)}}

    def report() -> None:
        errors.report_error_sync(caught, context)

    # All reports fit in the queue, which the background thread empties meanwhile.
    cost, ceiling = measure_alternating(30, report, lambda: "".join(traceback.format_exception(caught)))
    add_row("report_error_sync(), tracker answering", cost, "formatting the traceback", ceiling)
    errors.flush(60)
    add_note(f"Dropped reports: {errors.dropped}")


def measure_middleware(metrics: MetricsClient, errors: ErrorClient) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def discard(message: Any) -> None:
        pass

    def request_to(app: Any) -> Callable[[], None]:
        def send_request() -> None:
            scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
            coroutine = app(scope, None, discard)
            try:
                coroutine.send(None)
            except StopIteration:
                return

        return send_request

    instrumented = MonlightMiddleware(application, metrics, errors)
    cost, ceiling = measure_alternating(1_000, request_to(instrumented), request_to(application))
    add_row("a request through the ASGI middleware", cost, "the application alone", ceiling)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tracker, collector = Tracker("error-tracker", Path(folder)), Collector("metrics-collector", Path(folder))
        try:
            metrics = MetricsClient(collector.url, KEY, flush_interval=1.0)
            metrics.start()
            errors = ErrorClient(tracker.url, KEY)
            measure_metrics(metrics)
            measure_middleware(metrics, errors)
            measure_reports(errors)
            metrics.shutdown()
            add_note(f"Dropped values: {metrics.dropped}")
        finally:
            tracker.kill()
            collector.kill()
    if len(sys.argv) > 1:
        write_results(Path(sys.argv[1]))


def write_results(path: Path) -> None:
    """Writes the results in the format of `benches/figures.py`."""
    columns = ["", "µs", "ceiling", "µs of the ceiling", "of the ceiling"]
    part = {
        "name": "python",
        "title": "The Python package",
        "command": "make bench ONLY=python",
        "order": 70,
        "notes": ["Time that a call costs the application, with the services running on the same machine.", *NOTES],
        "summary": [["`counter()` of the Python package, in the application", f"{ROWS[0][1]:.1f} µs"]],
        "tables": [{"title": "", "columns": columns, "rows": ROWS}],
        "ratios": RATIOS,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(part, indent=2))


if __name__ == "__main__":
    main()
