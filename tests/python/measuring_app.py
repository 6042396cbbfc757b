"""An application as people write them: FastAPI with the published client's middleware, and metrics of its own.

Started with the collector's URL and key; prints its port. When its standard input closes it prints one line of JSON,
what there was in each minute and hour of all that it has sent, and ends.
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
sent = []


class Recording(httpx.Client):
    """Remembers what goes over the wire, where the client's own clock has been read."""

    def post(self, to, **options):
        answer = super().post(to, **options)
        assert answer.status_code == 202, answer.text
        sent.extend(options["json"])
        return answer


class Clock(datetime):
    """What the client takes for the time."""

    ago = timedelta()

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) - cls.ago


httpx.Client = Recording
metrics_client.datetime = Clock


def measure(minutes: int) -> int:
    """Sends points of each of the last minutes; answers how many."""
    draw = random.Random(7)
    client = MetricsClient(base_url=url, api_key=key, project="shop")
    points = 0
    for minute in reversed(range(minutes)):
        Clock.ago = timedelta(minutes=minute)
        for shop, typical_ms in [("east", 20), ("west", 3_000)]:
            client.counter("orders_total", labels={"shop": shop}, value=draw.randint(1, 5))
            for _ in range(draw.randint(1, 40)):
                client.histogram("order_ms", draw.lognormvariate(math.log(typical_ms), 1.5), labels={"shop": shop})
                points += 1
        client.gauge("queue_depth", draw.uniform(-10, 10))
        client.gauge("queue_depth", draw.uniform(-10, 10))
        points += 4
        if minute % 10 == 0:
            client.flush()
    client.shutdown()
    return points


def nearest_rank(values: list[float], q: float) -> float:
    return sorted(values)[math.ceil(q * len(values)) - 1]


def bucket(timestamp: str, resolution: str) -> str:
    return timestamp[:17] + "00Z" if resolution == "minute" else timestamp[:14] + "00:00Z"


def summary() -> list[dict]:
    """By question, of one series and of all of a name, what is to be answered for each bucket."""
    buckets = defaultdict(list)
    for point in sent:
        assert point["project"] == "shop"
        labels = ",".join(f"{name}:{value}" for name, value in point.get("labels", {}).items())
        for resolution in ["minute", "hour"]:
            for chosen in {labels, ""}:
                query = urlencode({"name": point["name"], "labels": chosen, "resolution": resolution})
                buckets[query, point["type"], bucket(point["timestamp"], resolution)].append(point)
    rows = []
    for (query, kind, start), points in sorted(buckets.items()):
        values = [float(point["value"]) for point in points]
        histogram = kind == "histogram"
        rows.append({
            "query": query,
            "bucket": start,
            "count": len(values),
            "sum": math.fsum(values),
            "min": min(values),
            "max": max(values),
            "percentiles": [nearest_rank(values, q) for q in [0.50, 0.95, 0.99]] if histogram else None,
            # Of two in one second the one that was sent later; max would take the first.
            "last": max(reversed(points), key=lambda point: point["timestamp"])["value"] if kind == "gauge" else None,
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


def end_with_stdin() -> None:
    sys.stdin.read()
    server.should_exit = True


points = measure(minutes=150)
assert points == len(sent), f"{len(sent)} of {points} points were sent"
threading.Thread(target=end_with_stdin, daemon=True).start()
print(listener.getsockname()[1], flush=True)
server.run(sockets=[listener])
client["metrics_client"].shutdown()
# A flush that had begun before the last one goes on in its own thread.
for thread in threading.enumerate():
    if isinstance(thread, threading.Timer):
        thread.join()
print(json.dumps(summary()), flush=True)
