"""What a call of this package costs the application, as a ratio to a ceiling that is measured in the same run.

Run by `make bench`, with a path to leave the figures at. Each row is the median of repeated rounds, in turns with its
ceiling, so that both have the same luck with the machine.
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


def in_turns(calls: int, *work: Callable[[], object]) -> list[list[float]]:
    """The microseconds of a call of each, in every round."""
    durations: list[list[float]] = [[] for _ in work]
    for _ in range(ROUNDS):
        for one, taken in zip(work, durations, strict=True):
            start = perf_counter()
            for _ in range(calls):
                one()
            taken.append((perf_counter() - start) / calls * 1e6)
    return durations


def row(what: str, costs_us: list[float], ceiling: str, ceilings_us: list[float]) -> None:
    cost_us, ceiling_us = statistics.median(costs_us), statistics.median(ceilings_us)
    ratio = statistics.median(least / cost for cost, least in zip(costs_us, ceilings_us, strict=True))
    print(f"{what:<42} {cost_us:8.2f} µs   {1 / ratio:5.1f} times {ceiling} ({ceiling_us:.2f} µs)")
    ROWS.append([what, cost_us, ceiling, ceiling_us, ratio])
    RATIOS.append({"row": what, "to": ceiling, "value": ratio})


def note(what: str) -> None:
    print(f"{'':<42} {what}")
    NOTES.append(f"{what}.")


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
    note(f"{errors.dropped} reports were left out")


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
            note(f"{metrics.dropped} values were left out")
        finally:
            tracker.kill()
            collector.kill()
    if len(sys.argv) > 1:
        leave(Path(sys.argv[1]))


def leave(path: Path) -> None:
    """Leaves the figures for `benches/figures.py`."""
    columns = ["", "µs", "ceiling", "µs of the ceiling", "of the ceiling"]
    part = {
        "name": "python",
        "title": "The Python package",
        "command": "make bench ONLY=python",
        "order": 70,
        "notes": ["What a call costs the application, the services running beside it.", *NOTES],
        "summary": [["`counter()` of the Python package, in the application", f"{ROWS[0][1]:.1f} µs"]],
        "tables": [{"title": "", "columns": columns, "rows": ROWS}],
        "ratios": RATIOS,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(part, indent=2))


if __name__ == "__main__":
    main()
