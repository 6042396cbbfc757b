"""Typical FastAPI application with the published client's middleware and its own metrics.

Arguments: URL of the collector, API key. Prints its port. When its standard input is closed, it prints one line of JSON
with the expected aggregates of everything that it sent, per minute and per hour, and exits.
"""

import json
import logging
import math
import random
import socket
import sys
import threading
from collections import defaultdict
from datetime import datetime, timedelta
from urllib.parse import urlencode

import httpx
import uvicorn
from fastapi import FastAPI
from monlight import MetricsClient, metrics_client
from monlight.integrations.fastapi import setup_monlight

logging.disable()
url, key = sys.argv[1:3]
sent_points = []


class RecordingClient(httpx.Client):
    """HTTP client that records the points it sends, with the timestamps that the Monlight client added."""

    def post(self, url, **options):
        response = super().post(url, **options)
        assert response.status_code == 202, response.text
        sent_points.extend(options["json"])
        return response


class ShiftedClock(datetime):
    """Replacement for `datetime` in the Monlight client, whose current time lies `ago` in the past."""

    ago = timedelta()

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) - cls.ago


httpx.Client = RecordingClient
metrics_client.datetime = ShiftedClock


def send_points(minutes: int) -> int:
    """Sends points for each of the last `minutes` minutes, and returns their number."""
    rng = random.Random(7)
    client = MetricsClient(base_url=url, api_key=key, project="shop")
    points = 0
    for minute in reversed(range(minutes)):
        ShiftedClock.ago = timedelta(minutes=minute)
        for shop, typical_ms in [("east", 20), ("west", 3_000)]:
            client.counter("orders_total", labels={"shop": shop}, value=rng.randint(1, 5))
            for _ in range(rng.randint(1, 40)):
                client.histogram("order_ms", rng.lognormvariate(math.log(typical_ms), 1.5), labels={"shop": shop})
                points += 1
        client.gauge("queue_depth", rng.uniform(-10, 10))
        client.gauge("queue_depth", rng.uniform(-10, 10))
        points += 4
        if minute % 10 == 0:
            client.flush()
    client.shutdown()
    return points


def nearest_rank(values: list[float], q: float) -> float:
    return sorted(values)[math.ceil(q * len(values)) - 1]


def last_value(points: list[dict]) -> float:
    """Returns the value with the latest timestamp. Of several points in one second, the one sent last counts."""
    # `max` returns the first maximum, so the order is reversed.
    return max(reversed(points), key=lambda point: point["timestamp"])["value"]


def bucket_start(timestamp: str, resolution: str) -> str:
    return timestamp[:17] + "00Z" if resolution == "minute" else timestamp[:14] + "00:00Z"


def expected_buckets() -> list[dict]:
    """Returns the expected buckets of each query: for single series, and for all series of a metric together."""
    buckets = defaultdict(list)
    for point in sent_points:
        assert point["project"] == "shop"
        labels = ",".join(f"{name}:{value}" for name, value in point.get("labels", {}).items())
        for resolution in ["minute", "hour"]:
            for label_filter in {labels, ""}:
                query = urlencode({"name": point["name"], "labels": label_filter, "resolution": resolution})
                buckets[query, point["type"], bucket_start(point["timestamp"], resolution)].append(point)
    rows = []
    for (query, metric_type, start), points in sorted(buckets.items()):
        values = [float(point["value"]) for point in points]
        is_histogram = metric_type == "histogram"
        rows.append({
            "query": query,
            "bucket": start,
            "count": len(values),
            "sum": math.fsum(values),
            "min": min(values),
            "max": max(values),
            "percentiles": [nearest_rank(values, q) for q in [0.50, 0.95, 0.99]] if is_histogram else None,
            "last": last_value(points) if metric_type == "gauge" else None,
        })
    return rows


app = FastAPI()
client = setup_monlight(app, metrics_collector_url=url, api_key=key, project="shop", flush_interval=0.2)


@app.get("/items/{item}")
async def item(item: int) -> dict[str, int]:
    return {"item": item, "sum": sum(range(item * 1_000))}


@app.post("/broken")
async def broken() -> None:
    raise ValueError("it is broken")


listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))


def exit_when_stdin_closes() -> None:
    sys.stdin.read()
    server.should_exit = True


points = send_points(minutes=150)
assert points == len(sent_points), f"{len(sent_points)} of {points} points were sent"
threading.Thread(target=exit_when_stdin_closes, daemon=True).start()
print(listener.getsockname()[1], flush=True)
server.run(sockets=[listener])
client["metrics_client"].shutdown()
# A periodic flush may still run in the client's timer thread.
for thread in threading.enumerate():
    if isinstance(thread, threading.Timer):
        thread.join()
print(json.dumps(expected_buckets()), flush=True)
